"""Detectors over torch networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from openeo_cloudmask.classes import ClassScheme
from openeo_cloudmask.errors import WeightsError
from openeo_cloudmask.inference import Window
from openeo_cloudmask.inference.detector import check_bands
from openeo_cloudmask.inference.windows import mirror_indices
from openeo_cloudmask.models.networks.prepare import (
    exact_arithmetic,
    prepare,
    resolve_device,
    resolve_precision,
)
from openeo_cloudmask.models.state_dict import load_torchscript
from openeo_cloudmask.models.threads import for_each

if TYPE_CHECKING:
    from torch import Tensor, nn

    from openeo_cloudmask.models.entry import LoadRequest, ModelEntry

CPU_BATCH, CUDA_BATCH = 4, 8
"""Windows per call on a CPU, where they run side by side, and on a GPU, which one does not fill."""

_PROBE_PX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchDetector:
    """A network in its inference form as a ``Detector``.

    Windows go through the network one by one on a CPU, side by side; on a GPU ``window.batch`` at
    a time, a last short batch filled up with zeros: libraries choose their arithmetic by the
    batch's size, and so it never changes.
    """

    network: nn.Module
    """(n, band, y, x) float32 -> (n, class, y, x) float32 on ``device``."""
    device: torch.device
    band_names: tuple[str, ...]
    scheme: ClassScheme
    window: Window
    gives_probabilities: bool = False
    """True where the network ends in a softmax of its own."""

    def predict_windows(
        self,
        windows: NDArray[np.float32],
        valid: NDArray[np.bool_],  # noqa: ARG002 - the network sees 0 there
    ) -> NDArray[np.float32]:
        """Return class probabilities; see ``Detector``. Any size: borders are mirrored to fit."""
        count, bands, height, width = windows.shape
        check_bands("the windows have", bands, self.band_names)
        rows = _mirrored(height, self.window.multiple_px)
        columns = _mirrored(width, self.window.multiple_px)
        if len(rows) != height or len(columns) != width:
            windows = windows[:, :, rows[:, np.newaxis], columns]
        out = np.empty((count, len(self.scheme.classes), height, width), np.float32)
        top, left = (len(rows) - height) // 2, (len(columns) - width) // 2
        inside = (slice(None), slice(None), slice(top, top + height), slice(left, left + width))

        def run(start: int, step: int) -> None:
            part = torch.from_numpy(np.ascontiguousarray(windows[start : start + step]))
            out[start : start + step] = self._run(part, step)[inside].cpu().numpy()

        if self.device.type == "cpu":
            for_each(lambda index: run(index, 1), count)
        else:
            for start in range(0, count, self.window.batch):
                run(start, self.window.batch)
        return out

    def _run(self, part: Tensor, batch: int) -> Tensor:
        """Probabilities of at most ``batch`` windows."""
        filled = part
        if len(part) < batch:
            filled = part.new_zeros((batch, *part.shape[1:]))
            filled[: len(part)] = part
        with torch.inference_mode(), exact_arithmetic:
            answer: Tensor = self.network(filled.to(self.device))[: len(part)].float()
            return answer if self.gives_probabilities else torch.softmax(answer, dim=1)


def _mirrored(size: int, multiple: int) -> NDArray[np.intp]:
    """Indices that widen ``size`` pixels to a multiple, mirrored, half of it on each side."""
    total = -(-size // multiple) * multiple
    before = (total - size) // 2
    return mirror_indices(before, before + size - 1, total) - before


def device_window(window: Window, device: torch.device, *, on_cpu: int = CPU_BATCH) -> Window:
    """The window with the batch that suits the device."""
    if device.type != "cpu":
        return replace(window, batch=CUDA_BATCH)
    # Two calls share the threads of ``for_each``, which one thread alone does without.
    overlaps = on_cpu > 1 and torch.get_num_threads() > 1
    return replace(window, batch=on_cpu, overlaps=overlaps)


def prepare_detector(
    request: LoadRequest,
    network: nn.Module,
    wrap: Callable[[nn.Module], nn.Module] = lambda prepared: prepared,
) -> TorchDetector:
    """The detector of a network that has its weights, in its inference form.

    Args:
        request: Which bands, device and precision.
        network: Gives logits; it is left as it was.
        wrap: Puts something around the inference form.

    Raises:
        OptionError: No such device or precision.
    """
    target = resolve_device(request.device)
    return TorchDetector(
        network=wrap(prepare(network, target, request.precision)),
        device=target,
        band_names=request.model_input.band_names,
        scheme=request.entry.scheme,
        window=device_window(request.entry.window, target),
    )


def load_script_detector(request: LoadRequest) -> TorchDetector:
    """The detector of a model that was published as TorchScript.

    It runs as published, in fp32: its arithmetic is baked in, and ``auto`` and ``bf16`` do not
    change it.

    Raises:
        WeightsError: The file is no TorchScript, or not of this model's bands and classes.
        OptionError: No such device or precision.
    """
    target = resolve_device(request.device)
    resolve_precision(request.precision, target)
    entry, names, weights = request.entry, request.model_input.band_names, request.weights_file
    script = load_torchscript(weights, target)
    probabilities = _probe_script(script, entry, len(names), target, weights)
    return TorchDetector(
        network=script,
        device=target,
        band_names=names,
        scheme=entry.scheme,
        window=device_window(entry.window, target),
        gives_probabilities=probabilities,
    )


def _probe_script(
    script: nn.Module, entry: ModelEntry, bands: int, device: torch.device, path: Path
) -> bool:
    """Run a synthetic window; return whether the answers are probabilities already."""
    generator = torch.Generator().manual_seed(0)
    probe = torch.rand((1, bands, _PROBE_PX, _PROBE_PX), generator=generator).to(device)
    expected = (1, len(entry.scheme.classes), _PROBE_PX, _PROBE_PX)
    try:
        with torch.inference_mode():
            answer = script(probe)
    except RuntimeError as err:
        raise WeightsError(
            f"the TorchScript in {path} does not take {bands} bands, as model {entry.id!r} does; "
            "it belongs to another model"
        ) from err
    if not isinstance(answer, torch.Tensor) or tuple(answer.shape) != expected:
        given = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise WeightsError(
            f"the TorchScript in {path} answers with {given}, expected {expected} for model "
            f"{entry.id!r}; it belongs to another model"
        )
    total = answer.float().sum(dim=1)
    return bool((answer >= 0).all() and torch.allclose(total, torch.ones_like(total), atol=1e-3))
