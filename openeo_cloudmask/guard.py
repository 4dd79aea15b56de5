"""A guard at run time: a bright image that is called clear throughout is told."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import CLOUD_NONCLOUD, ClassScheme, mapping
from openeo_cloudmask.sensors import Sensor

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
        """Return what is to be told of the windows seen so far."""
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
        light = window[self._visible].sum(dtype=np.float64) / len(self._visible)
        if light > BRIGHT_REFLECTANCE * count:
            bare = self._bare[probabilities.argmax(axis=0)] & valid
            self.doubt = bool(np.count_nonzero(bare) > CLEAR_SHARE * count)
