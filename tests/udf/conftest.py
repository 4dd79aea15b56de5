"""Cubes as openEO back ends pass them to UDFs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

BANDS = ("B01", "B02", "B03", "B05", "B06", "B07", "B8A", "B09", "B10", "B11")


@pytest.fixture
def make_cube() -> Callable[..., xr.DataArray]:
    """Return a function that makes a (bands, y, x) cube for the decision tree from a seed."""

    def make(
        height: int = 40, width: int = 50, *, bands: tuple[str, ...] = BANDS, seed: int = 0
    ) -> xr.DataArray:
        values = np.random.default_rng(seed).random((len(bands), height, width), np.float32)
        return xr.DataArray(
            values,
            dims=("bands", "y", "x"),
            coords={
                "bands": list(bands),
                "y": (5_000_005 - 10 * np.arange(height)).astype(np.float32),
                "x": (300_005 + 10 * np.arange(width)).astype(np.float32),
            },
        )

    return make
