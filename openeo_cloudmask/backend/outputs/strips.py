"""The rows of a lazy cube, one strip after the other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from openeo_cloudmask.backend.jobs.compute import compute_in_order

Strip = tuple[int, NDArray[Any]]
_ROWS = 512


def read_strips(scene: xr.DataArray) -> Iterator[Strip]:
    """Yield (first row, (bands, rows, x)) from the top of a scene (bands, y, x) to its bottom."""
    array = scene.data
    if not hasattr(array, "dask"):
        for row in range(0, array.shape[1], _ROWS):
            yield row, array[:, row : row + _ROWS]
        return
    array = array.rechunk({0: -1, 2: -1})
    rows = np.cumsum([0, *array.chunks[1]])
    parts = [array[:, first:stop] for first, stop in itertools.pairwise(rows)]
    for first, values in zip(rows[:-1], compute_in_order(parts), strict=True):
        yield int(first), values
