"""From a source raster's pixels to those of the output grid, the same however the grid is cut.

A pixel's value depends on its own position only, never on the window that is read: the windows of
a scene, read one after the other, are bit for bit the scene read in one go.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisMap:
    """How positions along one axis of the output lie on the source; edges, in pixels."""

    step: float
    """Source pixels per output pixel: below 1 the source is coarser, above 1 finer."""
    shift: float = 0.0
    """Position of the output's first edge, in source pixels from the source's first edge."""
    length: int
    """Source pixels along the axis."""
    nearest: bool = False
    """Whether a pixel gets the value of the source pixel under its centre, as codes have to."""

    @property
    def whole(self) -> bool:
        """Whether output pixels are source pixels, so that nothing has to be resampled."""
        return self.step == 1.0 and self.shift == round(self.shift)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taps:
    """Which source pixels make each output pixel along one axis."""

    first: int
    """First source pixel that is needed."""
    stop: int
    """One past the last source pixel that is needed."""
    index: NDArray[np.intp]
    """(output pixel, tap) positions relative to ``first``."""
    weight: Floats
    """(output pixel, tap) float32, sums to 1 for each output pixel."""
    nearest: NDArray[np.intp]
    """(output pixel,) position, relative to ``first``, of the source pixel under its centre; -1
    where its centre lies outside the source."""


def plan_taps(axis: AxisMap, start: int, stop: int) -> Taps:
    """Return the taps of output pixels ``start`` to ``stop``.

    A coarser source is interpolated linearly between pixel centres (bilinear over two axes); a
    finer one is averaged over the area of the output pixel. Neither where ``axis.nearest`` is set.
    """
    positions = np.arange(start, stop, dtype=np.float64)
    centres = (positions + 0.5) * axis.step + axis.shift
    if axis.nearest:
        index = np.floor(centres + 1e-9)[:, np.newaxis]
        weight = np.ones_like(index)
        inside = (index >= 0) & (index < axis.length)
    elif axis.step < 1:
        lower = np.floor(centres - 0.5)
        index = np.stack([lower, lower + 1], axis=1)
        upper_weight = centres - 0.5 - lower
        weight = np.stack([1 - upper_weight, upper_weight], axis=1)
        inside = np.ones_like(weight, bool)  # beyond the last centre the edge pixel is repeated
    else:
        low = positions * axis.step + axis.shift
        count = math.ceil(axis.step - 1e-9) + 1
        index = np.floor(low + 1e-9)[:, np.newaxis] + np.arange(count)
        overlap = np.minimum(index + 1, low[:, np.newaxis] + axis.step) - np.maximum(
            index, low[:, np.newaxis]
        )
        weight = np.clip(overlap, 0, None)
        inside = (index >= 0) & (index < axis.length)
    weight = np.where(inside, weight, 0)
    total = weight.sum(axis=1, keepdims=True)
    weight = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
    index = np.clip(index, 0, axis.length - 1).astype(np.intp)
    under = np.floor(centres + 1e-9).astype(np.intp)
    outside = (under < 0) | (under >= axis.length)
    first, last = int(index.min()), int(index.max())
    return Taps(
        first=first,
        stop=last + 1,
        index=index - first,
        weight=weight.astype(np.float32),
        nearest=np.where(outside, -1, np.clip(under, first, last) - first),
    )


def resample(source: Floats, rows: Taps, columns: Taps) -> Floats:
    """Return the output pixels.

    No-data source pixels do not bleed into seen ones: they are left out and the rest is weighted
    anew. An output pixel is no-data where the source pixel under its centre is.

    Args:
        source: (y, x) float32, the source pixels ``rows`` and ``columns`` need, NaN where no-data.
        rows: taps along y.
        columns: taps along x.

    Returns:
        (y, x) float32, NaN where no-data.
    """
    seen = np.isfinite(source)
    if seen.all():
        out = _weigh(source, rows, columns)
    else:
        out = _weigh(np.where(seen, source, np.float32(0)), rows, columns)
        share = _weigh(seen.astype(np.float32), rows, columns)
        # Where all taps are seen the share is 1 up to rounding, and dividing by it would make the
        # value depend on whether some other pixel of the window is no-data.
        partly = (share < 0.999) & (share > 0)
        np.divide(out, share, out=out, where=partly)
        under = seen[np.ix_(np.maximum(rows.nearest, 0), np.maximum(columns.nearest, 0))]
        out[~under] = np.nan
    out[rows.nearest < 0] = np.nan
    out[:, columns.nearest < 0] = np.nan
    return out


def _weigh(values: Floats, rows: Taps, columns: Taps) -> Floats:
    # Columns first: there are few rows of a coarse source, and whole rows are quick to repeat.
    wide = np.zeros((values.shape[0], columns.index.shape[0]), np.float32)
    for tap in range(columns.index.shape[1]):
        wide += np.take(values, columns.index[:, tap], axis=1) * columns.weight[:, tap]
    out = np.zeros((rows.index.shape[0], wide.shape[1]), np.float32)
    for tap in range(rows.index.shape[1]):
        out += np.take(wide, rows.index[:, tap], axis=0) * rows.weight[:, tap, np.newaxis]
    return out
