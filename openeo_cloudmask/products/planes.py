"""Bands that are read one after the other: of NetCDF, HDF5 and Zarr."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from openeo_cloudmask.errors import CloudMaskError, ProductError
from openeo_cloudmask.products.scene import Floats
from openeo_cloudmask.sensors import Decoder

if TYPE_CHECKING:
    import xarray as xr

OPEN_FAULTS = (
    *(OSError, ValueError, LookupError, TypeError, RuntimeError, ArithmeticError),
    struct.error,
)
"""What xarray and the libraries below it raise for files that are damaged."""

ReadPlane = Callable[[slice, slice], Floats]
"""Takes rows and columns of the output grid; returns (y, x) float32 as stored, no-data as NaN."""


class PlaneSource:
    """A ``PixelSource`` of bands that are each read by a function of their own.

    Args:
        path: the file, for messages.
        planes: how each band is read.
        decoder: makes reflectance of them.
        files: what they come from; closed with the source.
    """

    def __init__(
        self,
        path: Path,
        planes: Sequence[ReadPlane],
        decoder: Decoder,
        files: Sequence[xr.Dataset],
    ) -> None:
        self._path = path
        self._planes = tuple(planes)
        self._decoder = decoder
        self._files = tuple(files)
        self._lock = threading.Lock()  # HDF5 is not for several threads at once

    @property
    def fills(self) -> Mapping[str, int]:
        """Why -> pixels read so far that are no-data but not declared so."""
        return self._decoder.fills

    def read(self, planes: Sequence[int], rows: slice, columns: slice) -> Floats:
        """Return (band, y, x) float32, NaN where no-data.

        Raises:
            ProductError: the values cannot be unpacked.
        """
        shape = (len(planes), rows.stop - rows.start, columns.stop - columns.start)
        out = np.empty(shape, np.float32)
        if 0 in shape:
            return out
        with self._lock:
            for plane, number in zip(out, planes, strict=True):
                plane[:] = self._read(number, rows, columns)
        return self._decoder.decode(out, planes)

    def _read(self, number: int, rows: slice, columns: slice) -> Floats:
        try:
            return self._planes[number](rows, columns)
        except (CloudMaskError, MemoryError):
            raise
        except Exception as err:  # each codec raises kinds of its own
            raise ProductError(
                f"cannot read pixels of {self._path}: {str(err).rstrip('.')}. The file may be "
                "damaged or incomplete; download it again"
            ) from err

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()
