"""How steady clear-sky reflectance is over time after a mask: a judgement without any reference.

Clouds and shadows that a mask misses make the series of a pixel jump; what it takes away too much
makes the series short. Both are reported, since either alone is easy to reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Steadiness:
    """What a mask leaves of a stack."""

    noise: NDArray[np.float64]
    """(y, x), reflectance: root of the mean squared distance of an observation from the line
    between the ones before and after; NaN where fewer than three are left."""
    kept: NDArray[np.float64]
    """(y, x) share of the observations that are seen and that the mask leaves, 0-1."""

    @property
    def median_noise(self) -> float:
        """Median over pixels; NaN where no pixel has three observations."""
        known = self.noise[np.isfinite(self.noise)]
        return float(np.median(known)) if known.size else float("nan")

    @property
    def mean_kept(self) -> float:
        """Mean over pixels."""
        return float(self.kept.mean())


def measure_steadiness(
    stack: NDArray[np.floating], days: NDArray[np.floating], clear: NDArray[np.bool_]
) -> Steadiness:
    """Return noise and length of the series that a mask leaves.

    An observation y2 at day d2 is compared with the line through its neighbours in time,
    y1 + (y3 - y1) (d2 - d1) / (d3 - d1): surfaces change slowly, clouds do not.

    Args:
        stack: (t, y, x) reflectance of one band, NaN where no-data.
        days: (t,) when each was taken, days, rising.
        clear: (t, y, x) True where the mask calls the pixel clear.

    Raises:
        InputError: the shapes differ, there are fewer than three dates, or days do not rise.
    """
    if stack.shape != clear.shape or stack.ndim != 3 or days.shape != stack.shape[:1]:
        raise InputError(
            f"the stack has shape {stack.shape}, the masks {clear.shape}, the days {days.shape}; "
            "expected (t, y, x), the same, and (t,)"
        )
    if len(days) < 3 or not (np.diff(days) > 0).all():
        raise InputError(f"{len(days)} days {days.tolist()[:5]}; expected three or more that rise")
    seen = np.isfinite(stack)
    left = seen & clear
    squares, counts = np.zeros(stack.shape[1:]), np.zeros(stack.shape[1:])
    # The last two observations that are left of each pixel, as the dates go by.
    value = np.full((2, *stack.shape[1:]), np.nan)
    day = np.full((2, *stack.shape[1:]), np.nan)
    for now, plane, here in zip(days, stack, left, strict=True):
        line = value[0] + (plane - value[0]) * (day[1] - day[0]) / (now - day[0])
        whole = here & np.isfinite(value[0])
        squares[whole] += (value[1] - line)[whole] ** 2
        counts += whole
        value[0][here], day[0][here] = value[1][here], day[1][here]
        value[1][here], day[1][here] = plane[here], now
    with np.errstate(invalid="ignore", divide="ignore"):
        noise = np.sqrt(squares / counts)
    observed = np.maximum(seen.sum(axis=0), 1)
    return Steadiness(noise=noise, kept=left.sum(axis=0) / observed)
