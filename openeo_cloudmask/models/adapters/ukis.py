"""ukis-csmask of the German Aerospace Center (Apache-2.0), its ONNX networks on our windows.

The networks take 256 x 256 pixels and tell clear, cloud and shadow. A window of 512 pixels is cut
into overlapping tiles whose middles count most, as the package does with whole images.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import FOUR_CLASS, ClassScheme
from openeo_cloudmask.errors import BandError, InputError, MissingExtraError
from openeo_cloudmask.inference import Window
from openeo_cloudmask.models.onnx_session import open_session

if TYPE_CHECKING:
    from openeo_cloudmask.models.entry import ModelEntry
    from openeo_cloudmask.sensors import Sensor

_TILE_PX = 256
_STEP_PX = 128
# Planes of the network's answer -> our classes: background, clouds, cloud shadows.
_CLASSES = (
    FOUR_CLASS.index("clear"),
    FOUR_CLASS.index("thick-cloud"),
    FOUR_CLASS.index("cloud-shadow"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UkisDetector:
    """A ``Detector``; thin cloud always has probability 0."""

    session: Any
    mean: NDArray[np.float32]
    """(band, 1, 1) float32, reflectance."""
    std: NDArray[np.float32]
    band_names: tuple[str, ...]
    window: Window
    scheme: ClassScheme = FOUR_CLASS

    def predict_windows(
        self,
        windows: NDArray[np.float32],
        valid: NDArray[np.bool_],  # noqa: ARG002 - the network sees 0 there
    ) -> NDArray[np.float32]:
        """Return class probabilities; see ``Detector``. Sizes are multiples of 256 pixels."""
        count, _, height, width = windows.shape
        if height % _TILE_PX or width % _TILE_PX:
            raise InputError(
                f"ukis-csmask was given windows of {height} x {width} pixels; "
                f"expected multiples of {_TILE_PX}"
            )
        out = np.zeros((count, len(self.scheme.classes), height, width), np.float32)
        for window, planes in zip(windows, out, strict=True):
            planes[list(_CLASSES)] = self._predict_window((window - self.mean) / self.std)
        return out

    def _predict_window(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """(band, y, x) normalised -> (3, y, x) probabilities."""
        _, height, width = pixels.shape
        corners = [
            (row, column)
            for row in range(0, height - _TILE_PX + 1, _STEP_PX)
            for column in range(0, width - _TILE_PX + 1, _STEP_PX)
        ]
        tiles = np.stack([pixels[:, r : r + _TILE_PX, c : c + _TILE_PX] for r, c in corners])
        name = self.session.get_inputs()[0].name
        total = np.zeros((len(_CLASSES), height, width), np.float32)
        weight = np.zeros((height, width), np.float32)
        blend = _blend()
        for (row, column), logits in zip(
            corners, self.session.run(None, {name: tiles})[0], strict=True
        ):
            place = (slice(row, row + _TILE_PX), slice(column, column + _TILE_PX))
            total[:, *place] += _softmax(logits) * blend
            weight[place] += blend
        return total / weight


def load_ukis(
    entry: ModelEntry, sensor: Sensor, band_names: tuple[str, ...], device: str
) -> UkisDetector:
    """The detector for these bands: six or four of them, Level-2A or top of atmosphere.

    Raises:
        MissingExtraError: ukis-csmask or onnxruntime is not installed.
        BandError: The bands are not those of one of its networks.
    """
    folder = _package_folder()
    level = "l2a" if sensor.level == "L2A" else "l1c"
    path = folder / f"model_{len(band_names)}b_{level}.onnx"
    if len(band_names) not in (4, 6):
        raise BandError(
            f"ukis-csmask was given {len(band_names)} bands; expected blue, green, red and near "
            "infrared, or these and both short-wave infrared bands"
        )
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    mean, std = (
        np.asarray(values, np.float32)[:, np.newaxis, np.newaxis]
        for values in about["data"]["dataset_statistics"]["img"]
    )
    return UkisDetector(
        session=open_session(path, device),
        mean=mean,
        std=std,
        band_names=band_names,
        window=entry.window,
    )


def _package_folder() -> Path:
    spec = find_spec("ukis_csmask")
    if spec is None or spec.origin is None or find_spec("onnxruntime") is None:
        raise MissingExtraError.for_extra("ukis", "The model 'ukis-csmask'")
    return Path(spec.origin).parent


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    raised = np.exp(logits - logits.max(axis=0))
    probabilities: NDArray[np.float32] = raised / raised.sum(axis=0)
    return probabilities


@lru_cache(maxsize=1)
def _blend() -> NDArray[np.float32]:
    """(256, 256) float32, small at the border; tiles half a tile apart sum to 1."""
    ramp = np.sin(np.pi * (np.arange(_TILE_PX) + 0.5) / _TILE_PX) ** 2
    return np.outer(ramp, ramp).astype(np.float32)
