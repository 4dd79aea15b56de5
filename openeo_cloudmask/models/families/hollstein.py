"""The decision tree of Hollstein et al. (2016) on single pixels.

Hollstein et al. (2016), Remote Sensing 8(8), 666: the classical decision tree with six classes,
on top-of-atmosphere reflectance of Sentinel-2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import HOLLSTEIN_SIX, ClassScheme
from openeo_cloudmask.errors import BandError
from openeo_cloudmask.inference import Window
from openeo_cloudmask.models.devices import choose_device
from openeo_cloudmask.models.entry import Family, Licence, LoadRequest, ModelEntry, ModelKind

_CLEAR, _WATER, _SNOW, _CIRRUS, _CLOUD, _SHADOW = (
    HOLLSTEIN_SIX.index(name)
    for name in ("clear", "water", "snow", "cirrus", "cloud", "cloud-shadow")
)
_NEEDED = ("B01", "B02", "B03", "B05", "B06", "B07", "B8A", "B09", "B11")


@dataclass(frozen=True, slots=True, kw_only=True)
class HollsteinDetector:
    """The decision tree; without B10 (Level-2A) two of its tests are replaced.

    Raises:
        BandError: A band of the tree is missing.
    """

    band_names: tuple[str, ...]
    window: Window
    scheme: ClassScheme = HOLLSTEIN_SIX

    def __post_init__(self) -> None:
        """Check the bands."""
        missing = [name for name in _NEEDED if name not in self.band_names]
        if missing:
            raise BandError(
                f"hollstein needs the bands {', '.join(_NEEDED)}; missing: {', '.join(missing)}"
            )

    def predict_windows(
        self,
        windows: NDArray[np.float32],
        valid: NDArray[np.bool_],  # noqa: ARG002 - each pixel stands for itself
    ) -> NDArray[np.float32]:
        """Return 1 for the class of each pixel and 0 for the others; see ``Detector``."""
        bands = dict(zip(self.band_names, np.moveaxis(windows, 1, 0), strict=True))
        classes = classify_hollstein(bands)
        planes = np.arange(len(self.scheme.classes), dtype=np.uint8)[:, np.newaxis, np.newaxis]
        one_hot: NDArray[np.float32] = (classes[:, np.newaxis] == planes).astype(np.float32)
        return one_hot


def classify_hollstein(bands: dict[str, NDArray[np.float32]]) -> NDArray[np.uint8]:
    """Return the class of each pixel, in the order of ``HOLLSTEIN_SIX``.

    Args:
        bands: Band name (B01 ... B11) -> reflectance 0-1, float32, all of one shape. Without
            B10, ``B02 / B10 < 14.689`` becomes ``B02 < 0.2`` and ``B11 - B10 < 0.255`` becomes
            ``B11 < 0.3``, as in the public openEO process for Level-2A.

    Returns:
        uint8 of that shape.
    """
    b01, b02, b03, b05 = bands["B01"], bands["B02"], bands["B03"], bands["B05"]
    b06, b07, b8a = bands["B06"], bands["B07"], bands["B8A"]
    b09, b11, b10 = bands["B09"], bands["B11"], bands.get("B10")
    if b10 is None:
        faint_cirrus, low_swir = b02 < 0.2, b11 < 0.3
    else:
        faint_cirrus, low_swir = _ratio(b02, b10) < 14.689, b11 - b10 < 0.255

    dark = b8a < 0.166
    flat = b03 - b07 < 0.027
    in_low_green = _select(
        dark,
        _select(
            flat,
            _select(b09 - b11 < -0.097, _CLEAR, _SHADOW),
            _select(b09 - b11 < 0.021, _WATER, _SHADOW),
        ),
        _select(
            faint_cirrus,
            _select(_ratio(b02, b09) < 0.788, _CLEAR, _CIRRUS),
            _CLEAR,
        ),
    )
    in_high_green = _select(
        _ratio(b05, b11) < 4.330,
        _select(
            low_swir,
            _select(b06 - b07 < -0.016, _CLOUD, _CIRRUS),
            _select(b01 < 0.300, _CLEAR, _CLOUD),
        ),
        _select(
            b03 < 0.525,
            _select(_ratio(b01, b05) < 1.184, _CLEAR, _SHADOW),
            _SNOW,
        ),
    )
    return _select(b03 < 0.319, in_low_green, in_high_green)


def _select(
    test: NDArray[np.bool_], yes: NDArray[np.uint8] | int, no: NDArray[np.uint8] | int
) -> NDArray[np.uint8]:
    return np.where(test, np.asarray(yes, np.uint8), np.asarray(no, np.uint8))


def _ratio(over: NDArray[np.float32], under: NDArray[np.float32]) -> NDArray[np.float32]:
    """``over / under``, infinite where ``under`` is 0 or less: such reflectance is not physical."""
    infinite = np.full(np.shape(over), np.inf, np.float32)
    return np.divide(over, under, out=infinite, where=under > 0)


def _load(request: LoadRequest) -> HollsteinDetector:
    choose_device(request.device, gpus=0, runtime="hollstein")
    return HollsteinDetector(band_names=request.model_input.band_names, window=request.entry.window)


RULE = ModelKind(
    id="rule",
    architecture="Decision tree",
    load=_load,
    framework="NumPy",
    extra=None,
    accelerator="amd64",
    artifact="python",
    asset_title="A rule without weights, run by the function",
)

_HOLLSTEIN = ModelEntry(
    id="hollstein",
    title="Hollstein et al. (2016) decision tree",
    family="Hollstein",
    kind=RULE,
    summary="A decision tree on single pixels with six classes: clear, water, snow, cirrus, cloud, "
    "shadow. No weights. Without B10 (Level-2A) its two tests on B10 are replaced by tests on B02 "
    "and B11. Each pixel has one class for certain, so its probabilities are 0 or 1.",
    inputs={
        "sentinel-2-l1c": (
            "B01",
            "B02",
            "B03",
            "B05",
            "B06",
            "B07",
            "B8A",
            "B09",
            "B10",
            "B11",
        ),
        "sentinel-2-l2a": ("B01", "B02", "B03", "B05", "B06", "B07", "B8A", "B09", "B11"),
    },
    scheme_name="hollstein-6-class",
    window=Window(size_px=512, multiple_px=1, pixelwise=True),
    licence=Licence(spdx="Apache-2.0", url="https://www.apache.org/licenses/LICENSE-2.0"),
    citation=(
        "Hollstein, A. et al. (2016): Ready-to-Use Methods for the Detection of Clouds, Cirrus, "
        "Snow, Shadow, Water and Clear Sky Pixels in Sentinel-2 MSI Images. Remote Sensing 8(8), "
        "666."
    ),
    doi="10.3390/rs8080666",
    source_url="https://doi.org/10.3390/rs8080666",
)

FAMILY = Family(order=40, models=(_HOLLSTEIN,))
