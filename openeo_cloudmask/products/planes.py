"""Bands that are read one after the other: of NetCDF, HDF5 and Zarr."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from openeo_cloudmask.products.scene import Floats
from openeo_cloudmask.sensors import Decoder

if TYPE_CHECKING:
    import xarray as xr

ReadPlane = Callable[[slice, slice], Floats]
"""Takes rows and columns of the output grid; returns (y, x) float32 as stored, no-data as NaN."""


class PlaneSource:
    """A ``PixelSource`` of bands that are each read by a function of their own.

    Args:
        planes: how each band is read.
        decoder: makes reflectance of them.
        files: what they come from; closed with the source.
    """

    def __init__(
        self, planes: Sequence[ReadPlane], decoder: Decoder, files: Sequence[xr.Dataset]
    ) -> None:
        self._planes = tuple(planes)
        self._decoder = decoder
        self._files = tuple(files)
        self._lock = threading.Lock()  # HDF5 is not for several threads at once

    @property
    def fills(self) -> Mapping[str, int]:
        """Why -> pixels read so far that are no-data but not declared so."""
        return self._decoder.fills

    def read(self, planes: Sequence[int], rows: slice, columns: slice) -> Floats:
        """Return (band, y, x) float32, NaN where no-data."""
        shape = (len(planes), rows.stop - rows.start, columns.stop - columns.start)
        out = np.empty(shape, np.float32)
        if 0 in shape:
            return out
        with self._lock:
            for plane, number in zip(out, planes, strict=True):
                plane[:] = self._planes[number](rows, columns)
        return self._decoder.decode(out, planes)

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()
