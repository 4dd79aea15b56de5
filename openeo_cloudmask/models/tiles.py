"""Windows cut into the smaller tiles that some networks take."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


def blend_tiles(
    predict: Callable[[NDArray[Any]], NDArray[np.float32]],
    pixels: NDArray[Any],
    tile_px: int,
    planes: int,
) -> NDArray[np.float32]:
    """Return (plane, y, x): overlapping tiles, each weighted most in its middle.

    Args:
        predict: (band, tile, tile) -> (plane, tile, tile); called with one tile at a time, as
            several at once take more memory.
        pixels: (band, y, x), sides multiples of ``tile_px``.
        tile_px: side of a tile; tiles lie half of it apart.
        planes: of the answer.
    """
    _, height, width = pixels.shape
    if height == width == tile_px:
        return predict(np.ascontiguousarray(pixels))
    total = np.zeros((planes, height, width), np.float32)
    weight = np.zeros((height, width), np.float32)
    blend = _blend(tile_px)
    for row in _starts(height, tile_px):
        for column in _starts(width, tile_px):
            place = (slice(row, row + tile_px), slice(column, column + tile_px))
            total[:, *place] += predict(np.ascontiguousarray(pixels[:, *place])) * blend
            weight[place] += blend
    return total / weight


def _starts(length: int, tile_px: int) -> list[int]:
    """Return where tiles begin: half a tile apart, and one that ends where the window does."""
    last = length - tile_px
    return sorted({*range(0, last + 1, tile_px // 2), last})


@lru_cache(maxsize=4)
def _blend(tile_px: int) -> NDArray[np.float32]:
    """(tile, tile) float32, small at the border; tiles half a tile apart sum to 1."""
    ramp = np.sin(np.pi * (np.arange(tile_px) + 0.5) / tile_px) ** 2
    return np.outer(ramp, ramp).astype(np.float32)
