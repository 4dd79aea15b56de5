"""NetCDF and Zarr, as openEO back ends and xarray write them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rasterio.crs import CRS

from openeo_cloudmask.datacube import find_dimension, nodata_values
from openeo_cloudmask.errors import (
    BandError,
    InputError,
    MissingExtraError,
    OptionError,
    ProductError,
)
from openeo_cloudmask.grid import Axis, Grid, grid_of_axes, parse_axis
from openeo_cloudmask.hdf5 import own_arrays
from openeo_cloudmask.products.array_sizes import check_size
from openeo_cloudmask.products.crs import parse_crs
from openeo_cloudmask.products.planes import OPEN_FAULTS, PlaneSource
from openeo_cloudmask.products.scene import Floats, Scene
from openeo_cloudmask.products.zarr_metadata import check_store
from openeo_cloudmask.sensors import Decoder, Sensor, band_decoder, mark_declared

if TYPE_CHECKING:
    import xarray as xr


_SHOWN = 20
"""Dates that an error lists."""
_DEGREES = (("lat", "lon"), ("latitude", "longitude"))
"""Dimensions that are degrees by their names: of WGS 84, as GDAL takes them."""


def open_netcdf_scene(
    path: Path,
    *,
    sensor: Sensor | None = None,
    scale: float | None = None,
    offset: float | None = None,
    bands: Sequence[str] | None = None,
    date: str | None = None,
) -> Scene:
    """Return a NetCDF or Zarr as a scene.

    It holds one variable with a dimension of bands, or one variable per band; each has dimensions y
    and x and perhaps t. Scale, offset and fill value that the file states are applied by xarray;
    ``scale`` and ``offset`` come after them. ``sensors.decode`` finds no-data.

    Args:
        path: the file (or folder, for Zarr).
        sensor: what took it, where known.
        scale: reflectance a count.
        offset: reflectance of count 0.
        bands: a name for each band, in their order.
        date: beginning of the date to take (``2024-05-01``), where there are several.

    Raises:
        ProductError: the file cannot be read, or has not these dimensions.
        BandError: the names do not fit the bands.
        OptionError: the date is not there, or has to be chosen.
        MissingExtraError: h5netcdf (or zarr) is not installed.
    """
    dataset = _open(path)
    planes = _find_planes(dataset, path)
    acquired, planes = _choose_date(planes, date, path)
    labels = list(planes)
    if bands is not None:
        if len(bands) != len(labels):
            raise BandError(
                f"{len(bands)} band names are given ({', '.join(bands)}), but {path} has "
                f"{len(labels)} bands ({', '.join(labels)}); name each of them, in order"
            )
        labels = list(bands)
    arrays = list(planes.values())
    grid, flip = _read_grid(dataset, arrays[0])
    found = [None if sensor is None else sensor.find_band(label) for label in labels]
    return Scene(
        source=PlaneSource(
            path,
            [partial(_read_plane, array, flip=flip) for array in arrays],
            Decoder(band_decoder(band, scale, offset) for band in found),
            [dataset],
        ),
        grid=grid,
        band_labels=tuple(labels),
        sensor=sensor,
        acquired=acquired,
        metadata={"id": path.stem, "format": "NetCDF" if path.is_file() else "Zarr"},
    )


def _read_plane(array: xr.DataArray, rows: slice, columns: slice, *, flip: bool) -> Floats:
    """Return (y, x) float32; from north to south, which ``flip`` says the file is not."""
    height = array.shape[0]
    stored = slice(height - rows.stop, height - rows.start) if flip else rows
    plane = array[stored, columns].to_numpy().astype(np.float32)
    mark_declared(plane, nodata_values(array))  # that of odc-stac; xarray knew _FillValue
    return plane[::-1] if flip else plane


def _open(path: Path) -> xr.Dataset:
    import xarray as xr

    zarr, engine = path.is_dir(), _engine(path)
    if engine != "scipy":
        (check_store if zarr else _refuse_references)(path)
    try:
        with warnings.catch_warnings():
            # Zarr without consolidated metadata is as good, only slower to open.
            warnings.filterwarnings("ignore", message=".*consolidated", category=RuntimeWarning)
            return xr.open_dataset(path, engine=engine, chunks=None)
    except ImportError as err:
        raise MissingExtraError.for_extra("netcdf", f"reading {path}") from err
    except OPEN_FAULTS as err:
        if "unrecognized engine" in str(err):
            raise MissingExtraError.for_extra("netcdf", f"reading {path}") from err
        raise ProductError(f"cannot read {path} as {'Zarr' if zarr else 'NetCDF'}: {err}") from err


def _engine(path: Path) -> str:
    """Return what reads it; NetCDF 3, which xarray writes where it has nothing else, needs scipy.

    Such a file holds its own values: the format knows no others.
    """
    if path.is_dir():
        return "zarr"
    try:
        with path.open("rb") as file:
            return "scipy" if file.read(4) in (b"CDF\x01", b"CDF\x02") else "h5netcdf"
    except OSError as err:
        raise ProductError(f"cannot read {path}: {err}") from err


def _refuse_references(path: Path) -> None:
    """Make sure that a file holds its own values, and in pieces that can be read.

    Raises:
        ProductError: it refers to other files, is too large to be opened, or cannot be read.
        MissingExtraError: h5py is not installed.
    """
    try:
        import h5py
    except ImportError as err:
        raise MissingExtraError.for_extra("netcdf", f"reading {path}") from err
    try:
        with h5py.File(path, "r") as file:
            for place, array in own_arrays(file):
                check_size(place, array.shape, array.chunks, array.dtype.itemsize)
    except InputError as err:
        raise ProductError(f"{path} {err}") from None
    except BlockingIOError as err:
        raise ProductError(
            f"cannot read {path}: another program has it open for writing; close it there"
        ) from err
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as err:
        raise ProductError(f"cannot read {path} as NetCDF-4: {err}") from err


def _find_planes(dataset: xr.Dataset, path: Path) -> dict[str, xr.DataArray]:
    """Return label -> plane with dimensions (y, x) or (t, y, x)."""
    planes: dict[str, xr.DataArray] = {}
    for name, array in dataset.data_vars.items():
        y, x, t = (find_dimension(array, key) for key in ("y", "x", "t"))
        if y is None or x is None or array.dtype.kind not in "fiu":
            continue
        order = [dim for dim in (t, y, x) if dim is not None]
        across = find_dimension(array, "bands")
        if across is None and set(array.dims) == set(order):
            planes[str(name)] = array.transpose(*order)
        elif across is not None and set(array.dims) == {*order, across}:
            labels = array.coords[across].to_numpy() if across in array.coords else None
            for number in range(array.sizes[across]):
                label = str(number + 1) if labels is None else str(labels[number])
                planes[label] = array.isel({across: number}, drop=True).transpose(*order)
    if not planes:
        raise ProductError(
            f"{path} has no bands: expected a variable with dimensions bands, y, x (and perhaps "
            f"t), or one with y and x for each band; it has {dict(dataset.sizes)}"
        )
    if len({plane.shape for plane in planes.values()}) != 1:
        shapes = {name: plane.shape for name, plane in planes.items()}
        raise ProductError(f"the bands of {path} are not of one size: {shapes}")
    return planes


def _choose_date(
    planes: dict[str, xr.DataArray], date: str | None, path: Path
) -> tuple[datetime | None, dict[str, xr.DataArray]]:
    first = next(iter(planes.values()))
    dim = find_dimension(first, "t")
    if dim is None:
        if date is not None:
            raise OptionError(f"{path} has no dates to choose from; leave the date out")
        return None, planes
    known = dim in first.coords and first.coords[dim].dtype.kind == "M"
    times = (
        [str(value)[:19] for value in first.coords[dim].to_numpy()]
        if known
        else [str(number) for number in range(first.sizes[dim])]
    )
    fitting = [i for i, text in enumerate(times) if text == date]
    fitting = fitting or [i for i, t in enumerate(times) if date is None or t.startswith(date)]
    if len(fitting) != 1:
        raise OptionError(
            f"{path} has {len(times)} dates: {_listed(times)}. Choose one: --date (date=)"
        )
    index = fitting[0]
    when = None
    if known and times[index] != "NaT":
        when = datetime.fromisoformat(times[index]).replace(tzinfo=UTC)
    return when, {name: plane.isel({dim: index}, drop=True) for name, plane in planes.items()}


def _listed(times: Sequence[str]) -> str:
    shown = times if len(times) <= _SHOWN else [*times[: _SHOWN - 1], "...", times[-1]]
    return ", ".join(shown)


def _read_grid(dataset: xr.Dataset, plane: xr.DataArray) -> tuple[Grid, bool]:
    """Return the grid, north up, and whether stored rows run from south to north."""
    y, x = plane.dims
    height, width = plane.shape
    down, across = (
        parse_axis(plane.coords[dim].to_numpy()) if dim in plane.coords else None for dim in (y, x)
    )
    if down is None or across is None:
        return Grid(shape_yx=(height, width)), False
    flip = down.step > 0
    if flip:
        down = Axis(down.first + down.step * (height - 1), -down.step)
    crs = _read_crs(dataset)
    if crs is None and (str(y).lower(), str(x).lower()) in _DEGREES:
        crs = CRS.from_epsg(4326)
    return grid_of_axes(down, across, (height, width), crs), flip


def _read_crs(dataset: xr.Dataset) -> CRS | None:
    for variable in dataset.variables.values():
        for key in ("crs_wkt", "spatial_ref"):
            if isinstance(text := variable.attrs.get(key), str):
                try:
                    return parse_crs(text)
                except OptionError:
                    continue
    return None
