"""Sentinel-2 in the format of the Earth Observation Processing Framework (EOPF): Zarr with groups.

Bands lie in ``measurements/reflectance/r10m``, ``r20m`` and ``r60m`` as ``b02`` and so on, with
scale, offset and fill value as attributes; ``stac_discovery`` in the root's attributes is a STAC
item. Zarr formats 2 and 3 are read alike.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openeo_cloudmask.errors import BandError, MissingExtraError, OptionError, ProductError
from openeo_cloudmask.grid import Grid, grid_of_axes, parse_axis
from openeo_cloudmask.products.crs import parse_crs
from openeo_cloudmask.products.planes import OPEN_FAULTS, PlaneSource
from openeo_cloudmask.products.resample import AxisMap, plan_taps, resample
from openeo_cloudmask.products.safe import map_axes
from openeo_cloudmask.products.scene import Floats, Scene
from openeo_cloudmask.products.zarr_metadata import check_store
from openeo_cloudmask.sensors import Decoder, Sensor, band_decoder, get_sensor, mark_declared

if TYPE_CHECKING:
    import xarray as xr
    from rasterio.crs import CRS

GROUP = "measurements/reflectance"
_RESOLUTIONS = ("r10m", "r20m", "r60m")


def is_eopf(path: Path) -> bool:
    """Return whether a folder is an EOPF product with reflectance."""
    return any((path / GROUP / resolution).is_dir() for resolution in _RESOLUTIONS)


def open_eopf_scene(path: Path, *, bands: Sequence[str] | None = None) -> Scene:
    """Return a product as a scene on the grid of its finest band that is asked for.

    Args:
        path: the Zarr folder.
        bands: bands to use; None takes all.

    Raises:
        ProductError: the product cannot be read, or does not say its level.
        BandError: a band asked for is not there.
        MissingExtraError: zarr is not installed.
    """
    check_store(path)
    groups = [_open(path, name) for name in _RESOLUTIONS if (path / GROUP / name).is_dir()]
    about = _open(path, None).attrs.get("stac_discovery") or {}
    properties = about.get("properties") or {}
    sensor = _tell_sensor(path, about, properties)
    found: dict[str, tuple[xr.DataArray, Grid]] = {}
    for group in groups:
        crs = _read_crs(path, properties, group)
        for name, array in group.data_vars.items():
            band = sensor.find_band(str(name))
            if band is not None and {"y", "x"} == set(array.dims):
                found.setdefault(band.name, (array, _read_grid(path, array, crs)))
    there = [name for name in sensor.band_names if name in found]
    chosen = there if bands is None else [sensor.band(label).name for label in bands]
    if missing := [name for name in chosen if name not in found]:
        raise BandError(f"missing bands {', '.join(missing)} in {path}; it has {', '.join(there)}")
    grid = min((found[name][1] for name in chosen), key=lambda item: item.pixel_size, default=None)
    if grid is None:
        raise ProductError(f"{path} has no band of {sensor.id} in {GROUP}")
    planes = [_plane(*found[name], grid) for name in chosen]
    return Scene(
        source=PlaneSource(
            path,
            [partial(_read_plane, plane) for plane in planes],
            Decoder(
                band_decoder(None, own_scale=scale, own_offset=offset)
                for scale, offset in (_radiometry(plane.array) for plane in planes)
            ),
            groups,
        ),
        grid=grid,
        band_labels=tuple(chosen),
        sensor=sensor,
        acquired=_read_time(properties),
        metadata={
            "id": about.get("id") or path.stem,
            "format": "EOPF Zarr",
            "platform": properties.get("platform"),
            "product_type": properties.get("product:type"),
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plane:
    array: xr.DataArray
    rows: AxisMap
    columns: AxisMap


def _read_plane(plane: _Plane, rows: slice, columns: slice) -> Floats:
    fill = _attribute(plane.array, "_FillValue", "fill_value")
    if plane.rows.whole and plane.columns.whole:
        return _read_stored(
            plane.array, _moved(rows, plane.rows), _moved(columns, plane.columns), fill
        )
    down = plan_taps(plane.rows, rows.start, rows.stop)
    across = plan_taps(plane.columns, columns.start, columns.stop)
    needed = slice(down.first, down.stop), slice(across.first, across.stop)
    return resample(_read_stored(plane.array, *needed, fill), down, across)


def _moved(part: slice, axis: AxisMap) -> slice:
    """Return a part of the output's axis as the part of the array's that it is."""
    shift = round(axis.shift)
    return slice(part.start + shift, part.stop + shift)


def _read_stored(array: xr.DataArray, rows: slice, columns: slice, fill: float | None) -> Floats:
    stored = array[rows, columns].to_numpy().astype(np.float32)
    mark_declared(stored, [fill])
    return stored


def _plane(array: xr.DataArray, own: Grid, grid: Grid) -> _Plane:
    step = own.shape_yx[0] / grid.shape_yx[0]
    rows, columns = map_axes(own, grid, step=step, name=str(array.name))
    return _Plane(array=array, rows=rows, columns=columns)


def _radiometry(array: xr.DataArray) -> tuple[float, float]:
    scale, offset = _attribute(array, "scale_factor"), _attribute(array, "add_offset")
    if scale is None:
        if array.dtype.kind in "iu":
            raise ProductError(f"{array.name} holds counts without scale_factor; expected one")
        return 1.0, 0.0
    return scale, offset or 0.0


def _attribute(array: xr.DataArray, *names: str) -> float | None:
    """Return a number from an array's attributes, or from those of EOPF itself."""
    own = array.attrs.get("_eopf_attrs")
    for attributes in (array.attrs, own if isinstance(own, Mapping) else {}):
        for name in names:
            value = attributes.get(name)
            if isinstance(value, int | float | np.number):
                return float(value)
    return None


def _open(path: Path, group: str | None) -> xr.Dataset:
    import xarray as xr

    where = f"{GROUP}/{group}" if group else None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*consolidated", category=RuntimeWarning)
            group_data: xr.Dataset = xr.open_zarr(
                path, group=where, chunks=None, mask_and_scale=False
            )
            return group_data
    except ImportError as err:
        raise MissingExtraError.for_extra("netcdf", f"reading {path}") from err
    except OPEN_FAULTS as err:
        raise ProductError(f"cannot read {where or 'the root'} of {path} as Zarr: {err}") from err


def _tell_sensor(path: Path, about: Mapping[str, Any], properties: Mapping[str, Any]) -> Sensor:
    said = " ".join(
        str(text)
        for text in (
            properties.get("product:type"),
            properties.get("processing:level"),
            about.get("id"),
            path.name,
        )
    ).upper()
    for level in ("L1C", "L2A"):
        if level in said:
            return get_sensor(f"sentinel-2-{level.lower()}")
    raise ProductError(
        f"{path} does not say its level; expected L1C or L2A in product:type, processing:level, "
        "the id or the name of the folder"
    )


def _read_crs(path: Path, properties: Mapping[str, Any], group: xr.Dataset) -> CRS:
    arrays = [array.attrs for array in group.variables.values()]
    for attributes in (properties, group.attrs, *arrays):
        for key in ("proj:code", "proj:epsg", "proj:wkt2", "crs_wkt", "spatial_ref"):
            if isinstance(value := attributes.get(key), str | int):
                try:
                    return parse_crs(value)
                except OptionError as err:
                    raise ProductError(f"{path}: {key} is {value!r}: {err}") from err
    raise ProductError(
        f"{path} does not say its coordinate reference system (proj:code, proj:epsg)"
    )


def _read_grid(path: Path, array: xr.DataArray, crs: CRS) -> Grid:
    try:
        y, x = (np.asarray(array.coords[name], np.float64) for name in ("y", "x"))
    except KeyError as err:
        raise ProductError(f"{path}: {array.name} has no coordinates x and y") from err
    down, across = parse_axis(y), parse_axis(x)
    if down is None or across is None:
        raise ProductError(f"{path}: {array.name} has {y.size} x {x.size} pixels; expected more")
    return grid_of_axes(down, across, (y.size, x.size), crs)


def _read_time(properties: Mapping[str, Any]) -> datetime | None:
    text = properties.get("datetime") or properties.get("start_datetime")
    try:
        when = None if text is None else datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return when.replace(tzinfo=UTC) if when is not None and when.tzinfo is None else when
