"""The dimensions of a cube: which is which, and the names this package uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.datacube import DIMENSIONS
from openeo_cloudmask.grid import Axis, Grid, grid_of_axes, parse_axis

TYPES = "dimension_types"
"""Attribute of cubes: the types of dimensions whose names do not tell them."""
GEOMETRY = "geometry"
"""Name of the dimension of vector cubes; its labels are shapely geometries."""
_KINDS = {"t": "temporal", "bands": "bands", "y": "spatial", "x": "spatial"}


def kind_of(data: xr.DataArray, dimension: str) -> str:
    """Return ``temporal``, ``bands``, ``spatial``, ``geometry`` or ``other``."""
    known: Mapping[str, str] = data.attrs.get(TYPES) or {}
    if dimension in known:
        return known[dimension]
    if dimension == GEOMETRY:
        return "geometry"
    for key, names in DIMENSIONS.items():
        if dimension.lower() in names:
            return _KINDS[key]
    is_time = dimension in data.coords and data[dimension].dtype.kind == "M"
    return "temporal" if is_time else "other"


def find_dimension(data: xr.DataArray, kind: str, name: str | None = None) -> str:
    """Return the dimension of a kind; ``name`` where it is given and there.

    Raises:
        ApiError: the cube has none, or several and no name was given.
    """
    dims = [str(dim) for dim in data.dims]
    if name is not None:
        if name not in dims:
            raise ApiError(
                "DimensionNotAvailable",
                f"the cube has no dimension {name!r}; it has {', '.join(dims) or 'none'}",
            )
        return name
    found = [dim for dim in dims if kind_of(data, dim) == kind]
    if not found:
        raise ApiError(
            "DimensionNotAvailable",
            f"the cube has no {kind} dimension; it has {', '.join(dims) or 'none'}",
        )
    if len(found) > 1:
        raise ApiError(
            "TooManyDimensions",
            f"the cube has the {kind} dimensions {', '.join(found)}; say which (dimension)",
        )
    return found[0]


def spatial_dimensions(data: xr.DataArray) -> tuple[str, str]:
    """Return the names of y and x.

    Raises:
        ApiError: one of them is missing.
    """
    names = {
        key: str(dim)
        for key in ("y", "x")
        for dim in data.dims
        if str(dim).lower() in DIMENSIONS[key]
    }
    if len(names) < 2:
        raise ApiError(
            "DimensionMissing",
            f"the cube has the dimensions {', '.join(map(str, data.dims)) or '(none)'}; expected "
            "y and x among them",
        )
    return names["y"], names["x"]


def grid_of(data: xr.DataArray) -> Grid:
    """Return the grid of a cube, from its coordinates y and x, whatever they are called."""
    from openeo_cloudmask.products.crs import parse_crs

    dims = spatial_dimensions(data)
    shape = (data.sizes[dims[0]], data.sizes[dims[1]])
    reference = data.coords.get("spatial_ref")
    wkt = None if reference is None else reference.attrs.get("crs_wkt")
    crs = data.attrs.get("crs") if wkt is None else wkt
    y, x = (_axis(data, dim, place) for dim, place in zip(dims, (5, 1), strict=True))
    if crs is None and y.step == x.step == 1:
        return Grid(shape_yx=shape)
    return grid_of_axes(y, x, shape, None if crs is None else parse_crs(crs))


def _axis(data: xr.DataArray, dim: str, place: int) -> Axis:
    """Return an axis of a cube; one pixel has the step at ``place`` of the GeoTransform, or 1."""
    values = data[dim].to_numpy()
    if (axis := parse_axis(values)) is not None:
        return axis
    if values.dtype.kind not in "fiu":
        return Axis(0.5, 1.0)
    reference = data.coords.get("spatial_ref")
    parts = "" if reference is None else str(reference.attrs.get("GeoTransform", ""))
    numbers = [float(text) for text in parts.split()]
    return Axis(float(values[0]), numbers[place] if len(numbers) == 6 else 1.0)


def is_raster(data: object) -> bool:
    """Return whether ``data`` is a cube with y and x."""
    if not isinstance(data, xr.DataArray):
        return False
    lower = {str(dim).lower() for dim in data.dims}
    return bool(lower & set(DIMENSIONS["y"])) and bool(lower & set(DIMENSIONS["x"]))


def parse_label(value: Any, *, temporal: bool) -> Any:  # noqa: ANN401 - number, text or date
    """Return a label as a cube has it: in a temporal dimension a date where it is one."""
    if temporal and isinstance(value, str):
        try:
            return np.datetime64(value.removesuffix("Z").removesuffix("+00:00"), "ns")
        except ValueError:
            return value
    return value


def as_labels(values: list[Any]) -> Any:  # noqa: ANN401
    """Return labels as an index of one type: dates, numbers or texts."""
    if values and all(isinstance(value, np.datetime64) for value in values):
        return np.array(values, "datetime64[ns]")
    plain = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if plain and values:
        return np.array(values)
    return np.array([_label_text(value) for value in values], dtype=object)


def _label_text(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, np.datetime64):
        return f"{np.datetime_as_string(value, unit='s')}Z"
    return str(value)
