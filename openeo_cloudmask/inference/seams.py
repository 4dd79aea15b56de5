"""Seams between parts of a scene: each window is computed by one part, and shared with the other.

A window that lies across a seam belongs to the part in which it begins. What it adds beyond its
part is kept, window by window, and so is what the next part's windows add there; added up in the
order of the whole scene, the sums are those of the whole scene, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True, kw_only=True)
class Seam:
    """What the windows of one part add to rows that windows of another part see, too."""

    rows: tuple[int, int]
    """First row of the cube and the one past the last."""
    added: list[tuple[int, NDArray[np.float32]]] = field(default_factory=list)
    """First column, and (class, row, x) probabilities times weights, with the weights as a last
    plane, of each window in order."""
    seen: list[NDArray[np.bool_]] = field(default_factory=list)
    """(row, x), what is seen in the scene; pieces from top to bottom."""

    def __sizeof__(self) -> int:
        """Return the bytes that are moved where the other part is computed elsewhere."""
        return sum(part.nbytes for _, part in self.added) + sum(part.nbytes for part in self.seen)

    def add(self, row: int, column: int, weighted: NDArray[np.float32]) -> None:
        """Keep what a window adds from ``row`` and ``column`` on."""
        if (there := self._cut(row, weighted.shape[1])) is not None:
            self.added.append((column, weighted[:, there].copy()))

    def see(self, row: int, seen: NDArray[np.bool_]) -> None:
        """Keep what is seen from ``row`` on."""
        if (there := self._cut(row, len(seen))) is not None:
            self.seen.append(seen[there].copy())

    def _cut(self, row: int, count: int) -> slice | None:
        first, stop = max(self.rows[0] - row, 0), min(self.rows[1] - row, count)
        return slice(first, stop) if first < stop else None


def join_seam(upper: Seam, lower: Seam, classes: int) -> NDArray[np.float32]:
    """Return the probabilities of the rows of a seam.

    Args:
        upper: what the windows of the part above add, each to all of these rows.
        lower: what those of the part below add.
        classes: how many there are.

    Returns:
        (class, row, x) float32, NaN where no-data.

    Raises:
        ValueError: ``lower`` is of a part that was not computed.
    """
    if not lower.seen:
        raise ValueError(f"nothing was added to the rows {lower.rows}; expected a computed part")
    seen = np.concatenate(lower.seen)
    total = np.zeros((classes + 1, *seen.shape), np.float32)
    for column, weighted in (*upper.added, *lower.added):
        total[:, :, column : column + weighted.shape[2]] += weighted
    return average(total, seen)


def average(sums: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the weighted means of what windows say.

    Args:
        sums: (class, row, x), probabilities times weights, with the weights as a last plane.
        seen: (row, x), what is seen in the scene.

    Returns:
        (class, row, x) float32, NaN where nothing is seen.
    """
    with np.errstate(invalid="ignore"):  # pixels that no window sees
        means: NDArray[np.float32] = sums[:-1] / sums[-1]
    if not seen.all():
        means[:, ~seen] = np.nan
    return means
