"""Where windows sit, and how a window that is not wholly seen is filled."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.errors import OptionError


class Layout(StrEnum):
    """How windows are placed."""

    ANCHORED = "anchored"
    """At multiples of the stride in absolute pixel indices, so that any cut of a scene sees the
    same windows."""
    CENTRED = "centred"
    """As the published SEnSeIv2 code: the grid of windows is centred on the scene."""


TAPER_PX = 32
"""Pixels over which a window's weight rises from its edge. Networks know least at the edge, and a
window that ended there with full weight would leave a line in the mask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisPlan:
    """The windows along one axis."""

    starts: tuple[int, ...]
    """First pixel of each window, relative to the array; negative where it begins before it."""
    weights: NDArray[np.float32]
    """(size,) float32 0-1, what each pixel of a window counts; 0 in its rim."""
    rim_px: int
    """Pixels at both ends of a window that do not count."""
    stride_px: int
    """From one window to the next."""
    shared_px: int
    """Pixels at each end of a window's used pixels that one neighbour uses, too; 0 where several
    do, or where windows are placed as published: none is spared then."""

    def needed(self, length: int) -> tuple[int, ...]:
        """Return the starts of the windows that are not spared where all is valid.

        Args:
            length: number of pixels of the array along the axis.
        """
        starts = self.starts
        while len(starts) > 1 and length - starts[-1] <= self.rim_px + self.shared_px:
            starts = starts[:-1]
        return starts


def plan_axis(
    length: int,
    *,
    size_px: int,
    stride_px: int,
    origin_px: int = 0,
    layout: Layout,
    rim_px: int = 0,
) -> AxisPlan:
    """Return the windows that are needed for ``length`` pixels, and what their pixels count.

    Anchored windows taper: their weights rise linearly over ``TAPER_PX`` pixels from the edge. The
    published layout averages with equal weights.

    Args:
        length: number of pixels of the array along the axis.
        size_px: window size.
        stride_px: step between windows.
        origin_px: absolute index of the array's first pixel (coordinate / resolution).
        layout: how windows are placed.
        rim_px: pixels at both ends of a window whose answer is not used.

    Raises:
        OptionError: the stride would leave gaps between windows.
    """
    used = size_px - 2 * rim_px
    if not 0 < stride_px <= used:
        raise OptionError(
            f"stride {stride_px} px does not fit a window of {used} px; "
            f"expected 1 to {used}, or pixels between windows would stay no-data"
        )
    shared = used - stride_px
    if layout is not Layout.ANCHORED or 2 * shared >= used:
        shared = 0
    if layout is Layout.ANCHORED:
        # One that would see no more than what it shares with the next is spared, whatever is valid.
        first = -((size_px - 1 - rim_px - shared - origin_px) // stride_px)
        last = (origin_px + length - 1 - rim_px) // stride_px
        starts = tuple(k * stride_px - origin_px for k in range(first, last + 1))
    else:
        steps = 1 + (length - stride_px) // stride_px
        shift = (size_px + steps * stride_px - length) // 2
        starts = tuple(k * stride_px - shift for k in range(steps + 1))
        starts = tuple(start for start in starts if -size_px < start < length)
    weights = np.zeros(size_px, np.float32)
    weights[rim_px : size_px - rim_px] = _taper(used) if layout is Layout.ANCHORED else 1
    return AxisPlan(
        starts=starts, weights=weights, rim_px=rim_px, stride_px=stride_px, shared_px=shared
    )


def _taper(length: int) -> NDArray[np.float32]:
    """Return the weights of a window's used pixels; their sums are exact in float32."""
    to_edge = np.minimum(np.arange(length), np.arange(length)[::-1])
    return ((np.minimum(to_edge, TAPER_PX - 1) + 1) / TAPER_PX).astype(np.float32)


def mirror_indices(first: int, last: int, size: int) -> NDArray[np.intp]:
    """Return for each position 0..size-1 the position in ``first``..``last`` it mirrors.

    Positions outside are reflected about the edge pixel, which is not repeated, as often as
    needed; a single pixel is repeated.
    """
    span = last - first
    if span == 0:
        return np.full(size, first, np.intp)
    offset = (np.arange(size) - first) % (2 * span)
    return first + np.minimum(offset, 2 * span - offset)


def fill_window(
    block: NDArray[np.float32],
    valid: NDArray[np.bool_],
    *,
    row: int,
    column: int,
    size_px: int,
    mirrored: bool = True,
    out: tuple[NDArray[np.float32], NDArray[np.bool_]] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
    """Return one window with its outside mirrored and its holes zero, or None if nothing is seen.

    The rectangle that is mirrored is the one around the window's valid pixels, so that it does not
    matter whether pixels beyond the scene's edge are absent or padded with no-data.

    Args:
        block: (band, y, x) float32; values where not valid are not used.
        valid: (y, x) bool.
        row: first row of the window in ``block``, may be negative.
        column: first column of the window in ``block``, may be negative.
        size_px: window size.
        mirrored: False leaves the outside zero and not valid.
        out: contiguous arrays that take what is returned; None makes new ones.

    Returns:
        (band, size, size) float32 with 0 where not valid, and (size, size) bool.
    """
    top, left = max(row, 0), max(column, 0)
    seen = valid[top : row + size_px, left : column + size_px]
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not rows.size:
        return None
    part = block[:, top : row + size_px, left : column + size_px]
    # Contiguous, so that a window's sums do not depend on how it was cut or batched.
    pixels, inside = out or (
        np.empty((len(block), size_px, size_px), np.float32),
        np.empty((size_px, size_px), bool),
    )
    if not mirrored:
        place = (
            slice(top - row, top - row + seen.shape[0]),
            slice(left - column, left - column + seen.shape[1]),
        )
        pixels.fill(0)
        inside.fill(False)
        pixels[:, *place], inside[*place] = np.where(seen, part, np.float32(0)), seen
        return pixels, inside
    if seen.shape != (size_px, size_px) or rows.size < size_px or columns.size < size_px:
        above, before = top - row, left - column
        pick_rows = mirror_indices(int(rows[0]) + above, int(rows[-1]) + above, size_px) - above
        pick_columns = (
            mirror_indices(int(columns[0]) + before, int(columns[-1]) + before, size_px) - before
        )
        for plane, target in zip((*part, seen), (*pixels, inside), strict=True):
            np.take(plane[pick_rows], pick_columns, axis=1, out=target, mode="clip")
    else:
        pixels[:], inside[:] = part, seen
    if not inside.all():
        pixels[:, ~inside] = 0
    return pixels, inside
