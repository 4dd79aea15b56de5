"""What masks leave in composites: holes, and seams where neighbours come from different dates.

A composite takes, of each pixel, the observation nearest to a day that the mask calls clear. Clouds
and shadows that were missed stand out from their neighbours of other dates; what was masked too
much leaves holes, or dates far away. None of this needs a reference; compare masks of one stack.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Composite:
    """A composite and its artefacts."""

    values: NDArray[np.float64]
    """(y, x) reflectance, NaN where no observation is left."""
    source: NDArray[np.int64]
    """(y, x) which date each pixel comes from, -1 where from none."""
    holes: float
    """Share of the pixels that were seen at all of which the mask leaves nothing."""
    seam_jump: float
    """Mean absolute difference of neighbours (by side) that come from different dates."""
    inner_jump: float
    """The same of neighbours of one date: what the surface itself does."""
    days_away: float
    """Mean distance in time from the day that was asked for, days."""

    @property
    def seam_excess(self) -> float:
        """How much rougher seams are than the surface, reflectance; NaN without seams."""
        return self.seam_jump - self.inner_jump


def make_composite(
    stack: NDArray[np.floating],
    days: NDArray[np.floating],
    clear: NDArray[np.bool_],
    *,
    day: float,
) -> Composite:
    """Return the composite of the clear observations nearest to a day, and its artefacts.

    Args:
        stack: (t, y, x) reflectance of one band, NaN where no-data.
        days: (t,) when each was taken, days; of two equally near ones the first counts.
        clear: (t, y, x) True where the mask calls the pixel clear.
        day: the day asked for.

    Raises:
        InputError: the shapes differ, or days are no numbers.
    """
    if stack.shape != clear.shape or stack.ndim != 3 or days.shape != stack.shape[:1]:
        raise InputError(
            f"the stack has shape {stack.shape}, the masks {clear.shape}, the days {days.shape}; "
            "expected (t, y, x), the same, and (t,)"
        )
    if not len(days) or not np.isfinite([*days, day]).all():
        raise InputError(f"days {days.tolist()[:5]} and {day}; expected numbers")
    seen = np.isfinite(stack)
    left = seen & clear
    away = np.where(left, np.abs(days - day)[:, None, None], np.inf)
    nearest = away.argmin(axis=0)
    there = left.any(axis=0)
    values = np.take_along_axis(stack, nearest[np.newaxis], axis=0)[0].astype(np.float64)
    values = np.where(there, values, np.nan)
    source = np.where(there, nearest, -1)
    seams, inner = [], []
    for axis in (0, 1):
        jump = np.abs(np.diff(values, axis=axis))
        known = np.isfinite(jump)
        other = np.diff(source, axis=axis) != 0
        seams.append(jump[known & other])
        inner.append(jump[known & ~other])
    distance = away.min(axis=0)[there]
    return Composite(
        values=values,
        source=source,
        holes=float((seen.any(axis=0) & ~there).sum() / max(1, seen.any(axis=0).sum())),
        seam_jump=_mean(np.concatenate(seams)),
        inner_jump=_mean(np.concatenate(inner)),
        days_away=_mean(distance),
    )


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")
