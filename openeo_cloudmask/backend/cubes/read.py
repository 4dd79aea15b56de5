"""Datacubes that are read when they are computed: from files to xarray over dask."""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from openeo_cloudmask.backend.cubes.outside import Outside
from openeo_cloudmask.errors import ProductError
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.products.open import open_product
from openeo_cloudmask.products.resample import AxisMap
from openeo_cloudmask.products.scene import PixelSource
from openeo_cloudmask.products.stack import Plane, RasterStack
from openeo_cloudmask.sensors import band_decoder

CHUNK_ROWS = 512
_OPEN_MAX = 16
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductRef:
    """A product that this package reads, and how it was opened when it was ingested."""

    path: str
    sensor: str | None = None
    bands: tuple[str, ...] | None = None
    scale: float | None = None
    offset: float | None = None
    granule: str | None = None
    date: str | None = None

    def open(self) -> PixelSource:
        """Return its pixels.

        Raises:
            ProductError: it is not there any longer, or cannot be read.
        """
        scene = open_product(
            self.path, sensor=self.sensor, bands=self.bands, scale=self.scale,
            offset=self.offset, granule=self.granule, date=self.date,
        )  # fmt: skip
        return scene.source


@dataclass(frozen=True, slots=True, kw_only=True)
class BandFile:
    """One band of one raster, as a STAC asset describes it."""

    path: str
    """Its URL."""
    index: int = 1
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    step: float = 1.0
    """Its pixels per pixel of the grid."""
    shape_yx: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesRef:
    """Rasters of one scene that are somewhere else."""

    files: tuple[BandFile, ...]
    outside: Outside

    def open(self) -> PixelSource:
        """Return their pixels; a file that is smaller than its item says is an error."""
        planes = [
            Plane(
                path=item.path,
                index=item.index,
                decode=band_decoder(None, item.scale, item.offset),
                nodata=item.nodata,
                rows=AxisMap(step=item.step, length=item.shape_yx[0]),
                columns=AxisMap(step=item.step, length=item.shape_yx[1]),
            )
            for item in self.files
        ]
        return RasterStack(planes, open_file=self.outside.open_raster)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A scene within a larger grid."""

    ref: ProductRef | FilesRef
    planes: tuple[int, ...]
    """Which of its planes are the cube's bands."""
    shape_yx: tuple[int, int]
    top: int
    """Row of the cube where the scene begins; negative where the cube is cut out of it."""
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DateCube:
    """The pixels of one date: scenes beside each other, the first that saw a pixel counts."""

    ndim: ClassVar[int] = 3
    dtype: ClassVar[np.dtype[np.float32]] = np.dtype(np.float32)
    parts: tuple[Part, ...]
    shape: tuple[int, int, int]
    """(band, y, x)."""

    def pick(self, bands: Sequence[int]) -> DateCube:
        """Return those of its bands, in this order."""
        parts = tuple(
            replace(part, planes=tuple(part.planes[band] for band in bands)) for part in self.parts
        )
        return replace(self, parts=parts, shape=(len(bands), *self.shape[1:]))

    def __getitem__(self, key: tuple[slice, slice, slice]) -> Floats:
        """Return (band, y, x) float32, NaN where no-data."""
        bands = range(self.shape[0])[key[0]]
        rows, columns = (
            slice(*part.indices(length))
            for part, length in zip(key[1:], self.shape[1:], strict=True)
        )
        if len(self.parts) == 1 and self._covers(self.parts[0], rows, columns):
            return self._read(self.parts[0], bands, rows, columns)
        shape = (len(bands), rows.stop - rows.start, columns.stop - columns.start)
        out = np.full(shape, np.nan, np.float32)
        for part in self.parts:
            inner = [
                slice(max(wanted.start, start), min(wanted.stop, start + length))
                for wanted, start, length in zip(
                    (rows, columns), (part.top, part.left), part.shape_yx, strict=True
                )
            ]
            if any(item.start >= item.stop for item in inner):
                continue
            pixels = self._read(part, bands, *inner)
            target = out[
                :,
                inner[0].start - rows.start : inner[0].stop - rows.start,
                inner[1].start - columns.start : inner[1].stop - columns.start,
            ]
            np.copyto(target, pixels, where=np.isnan(target))
        return out

    @staticmethod
    def _covers(part: Part, rows: slice, columns: slice) -> bool:
        return all(
            start <= wanted.start and wanted.stop <= start + length
            for wanted, start, length in zip(
                (rows, columns), (part.top, part.left), part.shape_yx, strict=True
            )
        )

    @staticmethod
    def _read(part: Part, bands: range, rows: slice, columns: slice) -> Floats:
        source = _open_cached(part.ref)
        return source.read(
            [part.planes[i] for i in bands],
            slice(rows.start - part.top, rows.stop - part.top),
            slice(columns.start - part.left, columns.stop - part.left),
        )


_open_sources: OrderedDict[tuple[object, object], PixelSource] = OrderedDict()
_open_lock = threading.Lock()


def _open_cached(ref: ProductRef | FilesRef) -> PixelSource:
    """Return the pixels behind ``ref``, opened once per process while its file is the same."""
    state: object = None
    if isinstance(ref, ProductRef):
        try:
            found = Path(ref.path).stat()
        except OSError as err:
            raise ProductError(
                f"the input {Path(ref.path).name!r} is not there any longer; ingest it again"
            ) from err
        state = (found.st_mtime_ns, found.st_size)
    key = (ref, state)
    with _open_lock:
        if key not in _open_sources:
            _open_sources[key] = ref.open()
            while len(_open_sources) > _OPEN_MAX:
                _open_sources.popitem(last=False)  # closed by the garbage collector: maybe in use
        _open_sources.move_to_end(key)
        return _open_sources[key]


def build_cube(
    dates: Sequence[tuple[np.datetime64, DateCube]], labels: Sequence[str], grid: Grid
) -> xr.DataArray:
    """Return a datacube (t, bands, y, x) float32 that is read when it is computed."""
    import dask.array as da

    arrays = [
        da.from_array(
            cube,
            chunks=(-1, CHUNK_ROWS, -1),
            name=f"scene-{uuid.uuid4().hex}",  # a name from the content would hash every file
            asarray=False,
            meta=np.empty((0, 0, 0), np.float32),
        )
        for _, cube in dates
    ]
    return xr.DataArray(
        da.stack(arrays),
        dims=("t", "bands", "y", "x"),
        coords={
            "t": np.array([when for when, _ in dates], "datetime64[ns]"),
            "bands": list(labels),
            **grid.coordinates(),
        },
        attrs={"nodata": float("nan")},
    )
