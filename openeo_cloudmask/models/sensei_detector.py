"""Detectors of the SEnSeIv2 family on torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from openeo_cloudmask.classes import ClassScheme
from openeo_cloudmask.inference import Window
from openeo_cloudmask.inference.detector import check_bands
from openeo_cloudmask.models.networks.prepare import (
    exact_arithmetic,
    resolve_device,
    resolve_precision,
)
from openeo_cloudmask.models.networks.segmenter import FixedChannels
from openeo_cloudmask.models.networks.sensei import SenseiNetwork
from openeo_cloudmask.models.torch_detector import device_window

if TYPE_CHECKING:
    from openeo_cloudmask.models.networks.prepare import Precision

_CALIBRATION_PX = 256
_CALIBRATION_SEEDS = (20, 21)
#: ``auto`` takes bf16 only where at most this part of the calibration's classes changes. The
#: promise is 0.5 %; the rest is margin for scenes that are not like the calibration.
_CALIBRATION_LIMIT = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class SenseiDetector:
    """A network of the SEnSeIv2 family in its inference form as a ``Detector``."""

    network: SenseiNetwork | FixedChannels
    vectors: torch.Tensor | None
    """(band, feature) float32, what SEnSeI gets about the bands; None without SEnSeI."""
    device: torch.device
    precision: Precision
    band_names: tuple[str, ...]
    scheme: ClassScheme
    window: Window

    def predict_windows(
        self, windows: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return class probabilities; see ``Detector``. Any size of at least 32 pixels."""
        count, bands, height, width = windows.shape
        check_bands("the windows have", bands, self.band_names)
        out = np.empty((count, len(self.scheme.classes), height, width), np.float32)
        step = self.window.batch
        for start in range(0, count, step):
            # A last short batch is filled up: libraries choose their arithmetic by its size.
            taken = [min(index, count - 1) for index in range(start, start + step)]
            answer = self._run(windows[taken], valid[taken])
            out[start : start + step] = answer[: count - start]
        return out

    def _run(self, windows: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
        pixels = torch.from_numpy(np.ascontiguousarray(windows, np.float32)).to(self.device)
        with torch.inference_mode(), exact_arithmetic:
            if self.vectors is None:
                answer = self.network(pixels)
            else:
                seen = torch.from_numpy(np.ascontiguousarray(valid)).to(self.device)
                answer = self.network(pixels, self.vectors, seen)
            probabilities: NDArray[np.float32] = answer.cpu().numpy()
        return probabilities


def make_detector(
    network: SenseiNetwork | FixedChannels,
    descriptors: list[dict[str, object]],
    *,
    band_names: tuple[str, ...],
    scheme: ClassScheme,
    window: Window,
    device: str = "auto",
    precision: str = "auto",
) -> SenseiDetector:
    """Return a detector of ``network``, which is left as it was.

    Args:
        network: In its published form, with its weights.
        descriptors: One dictionary per band; not used by a network without SEnSeI.
        band_names: Names of the planes, in order.
        scheme: Its classes.
        window: The window it wants.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:<number>``.
        precision: ``fp32``, ``bf16``, or ``auto``: bf16 where the hardware has it and where it
            changes next to no class of a synthetic scene.

    Raises:
        OptionError: No such device or precision.
    """
    target = resolve_device(device)
    vectors = None
    if isinstance(network, SenseiNetwork):
        vectors = network.descriptor_vectors(descriptors).to(target)
    chosen = resolve_precision(precision, target)
    arranged = _arrange(network, chosen, target)
    if precision == "auto" and chosen == "bf16":
        exact = _arrange(network, "fp32", target)
        if _changed_classes(exact, arranged, vectors, len(band_names), target) > _CALIBRATION_LIMIT:
            arranged, chosen = exact, "fp32"
    return SenseiDetector(
        network=arranged,
        vectors=vectors,
        device=target,
        precision=chosen,
        band_names=band_names,
        scheme=scheme,
        # One by one on a CPU: a window fills all of its threads, and takes much memory.
        window=device_window(window, target, on_cpu=1),
    )


def _arrange(
    network: SenseiNetwork | FixedChannels, precision: Precision, device: torch.device
) -> SenseiNetwork | FixedChannels:
    return network.inference_form(precision).requires_grad_(False).to(device)


def _changed_classes(
    exact: SenseiNetwork | FixedChannels,
    other: SenseiNetwork | FixedChannels,
    vectors: torch.Tensor | None,
    bands: int,
    device: torch.device,
) -> float:
    """Return the part of the pixels of synthetic scenes whose class ``other`` changes."""
    scenes = torch.stack([_made_up_scene(seed, bands) for seed in _CALIBRATION_SEEDS])
    changed = []
    with torch.inference_mode():
        for scene in scenes.to(device).unsqueeze(1):
            arguments = (scene,) if vectors is None else (scene, vectors)
            one, two = (net(*arguments).argmax(dim=1) for net in (exact, other))
            changed.append((one != two).float().mean().item())
    return float(max(changed))


def _made_up_scene(seed: int, bands: int) -> torch.Tensor:
    """Return (band, y, x) float32: smooth reflectance 0-1 with bright patches, from a seed."""
    generator = torch.Generator().manual_seed(seed)
    side = (_CALIBRATION_PX, _CALIBRATION_PX)
    ground = 0.35 * torch.rand((1, bands, 17, 17), generator=generator)
    cloud = (torch.rand((1, 1, 9, 9), generator=generator) - 0.4).clamp(min=0.0) * 1.5
    scene = sum(
        torch.nn.functional.interpolate(part, side, mode="bilinear", align_corners=True)
        for part in (ground, cloud)
    )
    noise = 0.02 * torch.randn((1, bands, *side), generator=generator)
    scene = (scene + noise).clamp(0.0, 1.2)
    return scene.squeeze(0)
