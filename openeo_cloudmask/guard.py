"""Guards at run time: warnings about masks that look plausible and are probably wrong."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import CLOUD_NONCLOUD, ClassScheme, mapping
from openeo_cloudmask.sensors import BandKind, Sensor

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


class OffsetGuard:
    """Looks at the dark end of Sentinel-2 scenes: cloud shadow, water and forest are below 0.1.

    Reflectance without the offset of newer products is 0.1 too high throughout, which no bright
    pixel shows.
    """

    def __init__(self, sensor: Sensor, band_names: tuple[str, ...]) -> None:
        """Take the bands of the windows, in their order."""
        # Haze makes blue bands bright everywhere, so over deserts too they lie just above 0.1.
        bands = [sensor.band(name) for name in band_names]
        optical = [
            place
            for place, band in enumerate(bands)
            if band.kind is BandKind.OPTICAL and band.common_name not in ("coastal", "blue")
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
        places = (slice(None, None, _SAMPLE_STEP),) * 2
        planes = (window[place][places] for place in self._optical)
        darkest = functools.reduce(np.minimum, planes)[valid[places]]
        self._seen += darkest.size
        self._dark += int(np.count_nonzero(darkest < _DARK))
        self._above += int(np.count_nonzero((darkest >= _DARK) & (darkest < _JUST_ABOVE)))
