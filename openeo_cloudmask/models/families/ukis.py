"""ukis-csmask of the German Aerospace Center (Apache-2.0), its ONNX networks on our windows.

The networks take 256 x 256 pixels and tell clear, cloud and shadow. A window of 512 pixels is cut
into overlapping tiles whose middles count most, as the package does with whole images.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import FOUR_CLASS, ClassScheme
from openeo_cloudmask.errors import BandError, InputError, MissingExtraError
from openeo_cloudmask.inference import Window
from openeo_cloudmask.models.entry import (
    Family,
    Licence,
    LoadRequest,
    ModelEntry,
    ModelKind,
    TiledFile,
    WeightsSource,
)
from openeo_cloudmask.models.onnx_session import open_session
from openeo_cloudmask.models.tiles import blend_tiles
from openeo_cloudmask.sensors import CommonBands

_TILE_PX = 256
_PLANES = ("clear", "thick-cloud", "cloud-shadow")
"""Planes of the network's answer in our classes: background, clouds, cloud shadows."""
_CLASSES = [FOUR_CLASS.index(name) for name in _PLANES]


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
            pixels = (window - self.mean) / self.std
            planes[_CLASSES] = blend_tiles(self._predict_tile, pixels, _TILE_PX, len(_CLASSES))
        return out

    def _predict_tile(self, tile: NDArray[np.float32]) -> NDArray[np.float32]:
        """(band, 256, 256) normalised -> (3, 256, 256) probabilities."""
        name = self.session.get_inputs()[0].name
        return _softmax(self.session.run(None, {name: tile[np.newaxis]})[0][0])


def load_ukis(request: LoadRequest) -> UkisDetector:
    """The detector for these bands: six or four of them, Level-2A or top of atmosphere.

    Raises:
        MissingExtraError: ukis-csmask or onnxruntime is not installed.
        BandError: The bands are not those of one of its networks.
        OptionError: No such device.
    """
    sensor, band_names = request.model_input.sensor, request.model_input.band_names
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
        session=open_session(path, request.device),
        mean=mean,
        std=std,
        band_names=band_names,
        window=request.entry.window,
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


_BANDS = CommonBands(
    takes=("blue", "green", "red", "nir"),
    optional=(("swir16", "swir22"), ()),
    levels=("L1C", "L2A", "L1"),
)
UKIS = ModelKind(
    id="ukis-csmask",
    architecture="U-Net with EfficientNet-B4 encoder",
    load=load_ukis,
    framework="ONNX",
    extra="ukis",
    accelerator="amd64",
    artifact="onnx",
    asset_title="Weights for six bands of Level-1C, one of four files in the package ukis-csmask",
    brought=WeightsSource(
        host="github",
        repo="dlr-eoc/ukis-csmask",
        revision="bcd8ea0ec73f588a8b58b334a92b85c96b00b6a2",
        file="ukis_csmask/model_6b_l1c.onnx",
        sha256="aa79e9a0f02ff8e0243d93771d1daf6a8d1166b7ac06c3771560b83367c6c573",
        size_bytes=39603414,
    ),
    tiled=TiledFile(
        input_name="input",
        tile_px=_TILE_PX,
        step_px=_TILE_PX // 2,
        mean=(
            *(0.27552253007888794, 0.2556644380092621, 0.269801527261734),
            *(0.33431220054626465, 0.20851291716098785, 0.15826508402824402),
        ),
        std=(
            *(0.24488002061843872, 0.22757470607757568, 0.2537152171134949),
            *(0.23213787376880646, 0.148738831281662, 0.12604215741157532),
        ),
        classes=_PLANES,
    ),
)

_UKIS = ModelEntry(
    id="ukis-csmask",
    title="UKIS cloud and shadow mask",
    family="ukis-csmask",
    kind=UKIS,
    summary="U-Net with an EfficientNet-B4 encoder for Sentinel-2 and Landsat, of the German "
    "Aerospace Center; its weights come with the package ukis-csmask, so it works offline. Clear, "
    "cloud and shadow; it has no thin cloud. Made for pixels of about 30 m.",
    inputs=_BANDS.inputs,
    alternatives=_BANDS.alternatives,
    window=Window(size_px=512, multiple_px=256),
    licence=Licence(spdx="Apache-2.0", url="https://www.apache.org/licenses/LICENSE-2.0"),
    citation=(
        "Wieland, M., Fichtner, F., Martinis, S. (2022): UKIS-CSMASK: A Python package for "
        "multi-sensor cloud and cloud shadow segmentation. Int. Arch. Photogramm. Remote Sens. "
        "Spatial Inf. Sci. XLIII-B3-2022, 217-222."
    ),
    doi="10.5194/isprs-archives-XLIII-B3-2022-217-2022",
    source_url="https://github.com/dlr-eoc/ukis-csmask",
    trained_on=("SPARCS", "CloudSEN12+"),
    untold=("thin-cloud",),
)

FAMILY = Family(order=50, models=(_UKIS,))
