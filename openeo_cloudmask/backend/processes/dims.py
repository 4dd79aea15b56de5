"""The dimensions of a cube: which is which, and the names this package uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.errors import BandError, InputError

ALIASES = {
    "t": ("t", "time", "temporal", "date"),
    "bands": ("bands", "band", "b", "spectral"),
    "y": ("y", "latitude", "lat", "northing"),
    "x": ("x", "longitude", "lon", "easting"),
}
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
    for key, names in ALIASES.items():
        if dimension.lower() in names:
            return _KINDS[key]
    is_time = dimension in data.coords and data[dimension].dtype.kind == "M"
    return "temporal" if is_time else "other"


def find_dimension(data: xr.DataArray, kind: str, name: str | None = None) -> str:
    """Return the dimension of a kind; ``name`` where it is given and there.

    Raises:
        ApiError: there is none, or several and no name.
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
        key: str(dim) for key in ("y", "x") for dim in data.dims if str(dim).lower() in ALIASES[key]
    }
    if len(names) < 2:
        raise ApiError(
            "DimensionMissing",
            f"the cube has the dimensions {', '.join(map(str, data.dims)) or '(none)'}; expected "
            "y and x among them",
        )
    return names["y"], names["x"]


def is_raster(data: object) -> bool:
    """Return whether ``data`` is a cube with y and x."""
    if not isinstance(data, xr.DataArray):
        return False
    lower = {str(dim).lower() for dim in data.dims}
    return bool(lower & set(ALIASES["y"])) and bool(lower & set(ALIASES["x"]))


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


def name_dimensions(data: xr.DataArray) -> xr.DataArray:
    """Return a cube as (t, bands, y, x), or (bands, y, x) where it has no time.

    Raises:
        InputError: x or y is missing, or there are dimensions besides these.
        BandError: there are no bands, or they have no labels.
    """
    if not isinstance(data, xr.DataArray):
        raise InputError(f"the data is of type {type(data).__name__}; expected a raster datacube")
    names = {
        str(dim): key
        for dim in data.dims
        for key, aliases in ALIASES.items()
        if str(dim).lower() in aliases
    }
    strange = [str(dim) for dim in data.dims if str(dim) not in names]
    missing = [key for key in ("y", "x") if key not in names.values()]
    if missing or strange or len(set(names.values())) < len(names):
        raise InputError(
            f"the cube has the dimensions {', '.join(map(str, data.dims)) or '(none)'}; expected "
            "bands, y, x and perhaps t"
        )
    if "bands" not in names.values():
        raise BandError("the cube has no dimension bands; keep it, or add one (add_dimension)")
    changed = {old: new for old, new in names.items() if old != new}
    cube = data.rename(changed) if changed else data
    if "bands" not in cube.coords:
        raise BandError("the bands have no labels; name them (rename_labels)")
    order = [dim for dim in ("t", "bands", "y", "x") if dim in cube.dims]
    return cube if list(cube.dims) == order else cube.transpose(*order)
