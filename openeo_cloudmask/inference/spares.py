"""Windows that are spared: all that they see of a scene, a neighbour sees with more around it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.inference.windows import AxisPlan


class Spares:
    """Says which windows of a plan are spared, row of windows by row of windows.

    At the edge of a scene, or of what is valid in it, a window may see no more than a strip that
    a neighbour sees as well. It is spared where the strip is that of the next window below or to
    the right; and where it is that of the one above, to the left or between these two, and that
    one sees something that no other window sees, so that it is not spared itself. Each valid
    pixel thus keeps a window. What is spared depends on the pixels around alone, not on how a
    scene is cut.
    """

    def __init__(self, plan: AxisPlan, look: Callable[[slice, slice], NDArray[np.bool_]]) -> None:
        """Take what the plans of both axes have in common.

        Args:
            plan: says how large windows are, and how they overlap.
            look: returns what is valid, (y, x), in these rows and columns of the cube; asked where
                the first row of windows has others above it.
        """
        self._look = look
        self._stride, self._rim = plan.stride_px, plan.rim_px
        self._edge = plan.rim_px + plan.shared_px
        self._end = len(plan.weights) - self._edge
        self._above: NDArray[np.bool_] | None = None
        """(x,), whether the row of windows above sees something in its middle."""

    def has(self, valid: NDArray[np.bool_], row: int, column: int) -> bool:
        """Return whether the window at ``row`` and ``column`` of the cube is spared.

        Args:
            valid: (y, x), the cube's rows from ``row`` on, or from its first.
            row: first row of the window; may be negative.
            column: first column of the window; may be negative.
        """
        if self._edge == self._rim or self._middle(valid, row, column).any():
            return False
        last = self._end + self._edge - self._rim
        top, left = max(row + self._rim, 0), max(column + self._rim, 0)
        used = valid[top - max(row, 0) : row + last - max(row, 0), left : column + last]
        rows, columns = np.flatnonzero(used.any(axis=1)), np.flatnonzero(used.any(axis=0))
        if not rows.size:
            return True
        first_row, last_row = rows[0] + top - row, rows[-1] + top - row
        first_column, last_column = columns[0] + left - column, columns[-1] + left - column
        if first_row >= self._end or first_column >= self._end:
            return True
        above, before = last_row < self._edge, last_column < self._edge
        return (
            (above and self._is_kept_above(row, column))
            or (before and bool(self._middle(valid, row, column - self._stride).any()))
            or (above and before and self._is_kept_above(row, column - self._stride))
        )

    def turn(self, valid: NDArray[np.bool_], row: int) -> None:
        """Go on to the next row of windows, below the one that begins at ``row``."""
        if self._edge > self._rim:
            self._above = np.logical_or.reduce(self._rows_of_middle(valid, row))

    def _rows_of_middle(self, valid: NDArray[np.bool_], row: int) -> NDArray[np.bool_]:
        begin = max(row, 0)
        return valid[max(row + self._edge - begin, 0) : max(row + self._end - begin, 0)]

    def _middle(self, valid: NDArray[np.bool_], row: int, column: int) -> NDArray[np.bool_]:
        return self._rows_of_middle(valid, row)[:, self._columns_of_middle(column)]

    def _columns_of_middle(self, column: int) -> slice:
        return slice(max(column + self._edge, 0), max(column + self._end, 0))

    def _is_kept_above(self, row: int, column: int) -> bool:
        """Return whether the window above that at ``row`` sees something in its middle."""
        columns = self._columns_of_middle(column)
        if self._above is None:  # of a part of a scene, which begins here
            row -= self._stride
            rows = slice(max(row + self._edge, 0), max(row + self._end, 0))
            if rows.start >= rows.stop or columns.start >= columns.stop:
                return False
            return bool(self._look(rows, columns).any())
        return bool(self._above[columns].any())
