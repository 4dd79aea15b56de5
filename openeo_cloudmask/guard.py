"""Guards at run time: warnings about masks that look plausible and are probably wrong."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import CLOUD_NONCLOUD, ClassScheme, mapping
from openeo_cloudmask.sensors import BandKind, Sensor
from openeo_cloudmask.sensors.radiometry import SCALES

BRIGHT_REFLECTANCE = 0.4
"""A window whose mean visible reflectance is above this is bright."""
CLEAR_SHARE = 0.99
"""Share of a window's pixels above which calling them neither cloud nor snow is doubtful."""
LEAST_SHARE = 1 / 16
"""Windows of which the scene has less, at its edges, say too little."""
DOUBT = (
    f"a window is bright (mean visible reflectance above {BRIGHT_REFLECTANCE}) and over "
    f"{CLEAR_SHARE:.0%} of it is neither cloud nor snow in the mask: look at the image. Unless it "
    "shows snow, ice, salt or sand, the scale of the input is wrong or the model is"
)
"""The warning. It is the same on every cut of a scene."""
DOUBT_CODE = "CloudMaskDoubtful"
"""What kind of warning it is, in the log of a job."""
OFFSET_MISSING = (
    "hardly a pixel is darker than reflectance 0.1 in any band, and some are just above: the "
    "offset of Sentinel-2 products from baseline 04.00 on seems not to be applied; pass "
    "offset=-0.1 (--offset -0.1)"
)
"""The warning of a scene whose dark end lies where count 0 of a newer Sentinel-2 product does."""
_DARK, _JUST_ABOVE = 0.095, 0.16
_SAMPLE_STEP = 4
_LEAST_PIXELS, _DARK_SHARE, _ABOVE_SHARE = 1000, 0.001, 0.01
"""Pixels to judge by; share that is darker at most, share just above at least. Measured on
simulated scenes of all landscapes: without the offset missing, dark are over 1 % or, under cloud
from edge to edge, none is just above."""
_VISIBLE = ("blue", "green", "red")
SCALE_LARGE = (
    "most pixels are brighter than any cloud (reflectance above 1.3), so the scale or the offset "
    f"is wrong. {SCALES}"
)
"""The warning of counts that were multiplied by too large a number."""
SCALE_SMALL = (
    "hardly a pixel is brighter than reflectance 0.005 in any band, or most are below 0: the scale "
    "seems to be applied twice, or the offset is wrong. Leave scale and offset out where the file "
    "or its reader has applied them"
)
"""The warning of reflectance that was taken for counts."""
_GLARING, _DIM, _BRIGHTER_SHARE, _MOST = 1.3, 0.005, 0.001, 0.5
"""Clouds have up to 1.1 in their brightest band, clear deep water at least 0.01 in blue."""


class BrightGuard:
    """Looks at windows and their classes; ``doubt`` says whether one of them was doubtful.

    A window's answer depends on the window alone, and so does the doubt: parts of a scene together
    have it where the whole scene has it.
    """

    def __init__(self, sensor: Sensor, band_names: tuple[str, ...], scheme: ClassScheme) -> None:
        """Take the bands of the windows, in their order, and the classes of the answers."""
        names = [sensor.band(name).common_name for name in band_names]
        self._visible = [place for place, name in enumerate(names) if name in _VISIBLE]
        cloud = mapping(scheme, CLOUD_NONCLOUD)
        self._bare = np.array(
            [
                value != CLOUD_NONCLOUD.values[1] and item.name != "snow"
                for value, item in zip(cloud, scheme.classes, strict=True)
            ]
        )
        self.doubt = False

    def warnings(self) -> tuple[str, ...]:
        """Return the warnings about the windows seen so far."""
        return (DOUBT,) if self.doubt else ()

    def look(
        self,
        window: NDArray[np.float32],
        valid: NDArray[np.bool_],
        probabilities: NDArray[np.float32],
        own_share: float,
    ) -> None:
        """Look at a window.

        Args:
            window: (band, y, x) float32, reflectance 0-1, 0 where not valid.
            valid: (y, x) bool.
            probabilities: (class, y, x) float32.
            own_share: share of the window that the scene has, 0-1.
        """
        if self.doubt or not self._visible or own_share < LEAST_SHARE:
            return
        count = np.count_nonzero(valid)
        light = np.mean([window[place].sum(dtype=np.float64) for place in self._visible])
        if light > BRIGHT_REFLECTANCE * count:
            bare = self._bare[probabilities.argmax(axis=0)] & valid
            self.doubt = bool(np.count_nonzero(bare) > CLEAR_SHARE * count)


class ScaleGuard:
    """Looks at the brightest band of each pixel: the range of reflectance is known.

    Counts multiplied by another product's scale, or reflectance multiplied once more, give masks
    of one class throughout.
    """

    def __init__(self, sensor: Sensor, band_names: tuple[str, ...]) -> None:
        """Take the bands of the windows, in their order."""
        self._optical = _optical_places(sensor, band_names)
        self._seen = self._glaring = self._brighter = self._negative = 0

    def warnings(self) -> tuple[str, ...]:
        """Return the warnings about the windows seen so far."""
        if self._seen < _LEAST_PIXELS:
            return ()
        if self._glaring > _MOST * self._seen:
            return (SCALE_LARGE,)
        dim = self._brighter <= _BRIGHTER_SHARE * self._seen
        return (SCALE_SMALL,) if dim or self._negative > _MOST * self._seen else ()

    def look(self, window: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Look at a window: (band, y, x) float32, reflectance 0-1, and what is valid in it."""
        if not self._optical:
            return
        brightest = _sample(np.maximum, self._optical, window, valid)
        self._seen += brightest.size
        self._glaring += int(np.count_nonzero(brightest > _GLARING))
        self._brighter += int(np.count_nonzero(brightest > _DIM))
        self._negative += int(np.count_nonzero(brightest < 0))


class OffsetGuard:
    """Looks at the dark end of Sentinel-2 scenes: cloud shadow, water and forest are below 0.1.

    Reflectance without the offset of newer products is 0.1 too high throughout, which no bright
    pixel shows.
    """

    def __init__(self, sensor: Sensor, band_names: tuple[str, ...]) -> None:
        """Take the bands of the windows, in their order."""
        # Haze makes blue bands bright everywhere, so over deserts too they lie just above 0.1.
        optical = [
            place
            for place in _optical_places(sensor, band_names)
            if sensor.band(band_names[place]).common_name not in ("coastal", "blue")
        ]
        self._optical = optical if sensor.instrument == "msi" else []
        self._seen = self._dark = self._above = 0

    def warnings(self) -> tuple[str, ...]:
        """Return the warnings about the windows seen so far."""
        missing = (
            self._seen >= _LEAST_PIXELS
            and self._dark <= _DARK_SHARE * self._seen
            and self._above >= _ABOVE_SHARE * self._seen
        )
        return (OFFSET_MISSING,) if missing else ()

    def look(self, window: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Look at a window: (band, y, x) float32, reflectance 0-1, and what is valid in it."""
        if not self._optical:
            return
        darkest = _sample(np.minimum, self._optical, window, valid)
        self._seen += darkest.size
        self._dark += int(np.count_nonzero(darkest < _DARK))
        self._above += int(np.count_nonzero((darkest >= _DARK) & (darkest < _JUST_ABOVE)))


def _optical_places(sensor: Sensor, band_names: tuple[str, ...]) -> list[int]:
    kinds = [sensor.band(name).kind for name in band_names]
    return [place for place, kind in enumerate(kinds) if kind is BandKind.OPTICAL]


def _sample(
    choose: np.ufunc, bands: list[int], window: NDArray[np.float32], valid: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return (pixel,) float32: one of the ``bands`` for each valid pixel of a sample."""
    places = (slice(None, None, _SAMPLE_STEP),) * 2
    chosen: NDArray[np.float32] = functools.reduce(choose, (window[band][places] for band in bands))
    return chosen[valid[places]]
