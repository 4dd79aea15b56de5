"""Cubes as xarray's readers name them, made cubes with a dimension of named bands."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import xarray as xr

from openeo_cloudmask.datacube import DIMENSIONS, find_dimension, nodata_values
from openeo_cloudmask.errors import BandError, InputError

_FROM_VARIABLES = "variable"
"""What ``Dataset.to_dataarray`` calls the dimension of its variables."""


def as_cube(data: xr.DataArray | xr.Dataset, bands: Sequence[str] | None = None) -> xr.DataArray:
    """Return ``data`` with a dimension of bands whose labels are names.

    Understood are arrays with a dimension of bands (openEO, stackstac), arrays of
    ``Dataset.to_dataarray`` (dimension ``variable``), datasets with a variable per band
    (odc-stac), and what rioxarray and ``engine="rasterio"`` read: bands counted from 1, their
    names in ``long_name``.

    Args:
        data: the cube.
        bands: a name for each band in order, in place of those of the data.

    Raises:
        InputError: the dataset has no variable with dimensions y and x.
        BandError: the bands have no names, or ``bands`` does not fit their number.
    """
    cube = _from_dataset(data) if isinstance(data, xr.Dataset) else data
    if _FROM_VARIABLES in cube.dims and find_dimension(cube, "bands") is None:
        cube = cube.rename({_FROM_VARIABLES: "bands"})
    dim = find_dimension(cube, "bands")
    if find_dimension(cube, "y") is None or find_dimension(cube, "x") is None:
        return cube  # no cube at all: what follows says so
    if dim is None:
        if len(cube.dims) > len([key for key in DIMENSIONS if find_dimension(cube, key)]):
            return cube  # a dimension of another name: what follows says so
        cube, dim = cube.expand_dims("bands"), "bands"
    names = _names(cube, dim, bands)
    return cube if names is None else cube.assign_coords({dim: names})


def _names(cube: xr.DataArray, dim: str, bands: Sequence[str] | None) -> list[str] | None:
    """Return the names the bands get, None where they have names."""
    count = cube.sizes[dim]
    if bands is not None:
        if isinstance(bands, str) or len(bands) != count:
            raise BandError(f"bands is {bands!r}; expected {count} names, one for each band")
        return list(map(str, bands))
    if dim in cube.coords and cube[dim].dtype.kind not in "iuf":
        return None
    described = cube.attrs.get("long_name")
    texts = [described] if isinstance(described, str) else list(described or ())
    if len(texts) == count and all(texts):
        return list(map(str, texts))
    raise BandError(
        f"the {count} bands have no names (a coordinate of names, or long_name); pass bands=, a "
        'name for each in order, such as bands=["B02", "B03", "B04", "B08"]'
    )


def _from_dataset(data: xr.Dataset) -> xr.DataArray:
    planes: dict[Hashable, xr.DataArray] = {
        name: array
        for name, array in data.data_vars.items()
        if find_dimension(array, "y") and find_dimension(array, "x")
    }
    if not planes:
        raise InputError(
            f"the dataset has the variables {', '.join(map(str, data.data_vars)) or '(none)'}, "
            "none with dimensions y and x; expected a variable for each band"
        )
    whole = [array for array in planes.values() if find_dimension(array, "bands") is not None]
    if whole:
        if len(planes) > 1:
            raise InputError(
                f"the variables {', '.join(map(str, planes))} have dimensions of bands of their "
                "own; pass one of them"
            )
        return whole[0]
    names = [_variable_name(name, array) for name, array in planes.items()]
    fills = {nodata_values(array) for array in planes.values()}
    arrays = list(planes.values())
    attrs: dict[str, Any] = {}
    if len(fills) == 1:
        attrs["nodata"] = list(fills.pop())
    else:  # each band has a no-data value of its own
        arrays = [array.where(~array.isin(nodata_values(array))) for array in arrays]
    cube = xr.concat(
        [array.drop_attrs().drop_encoding() for array in arrays], dim="bands", join="exact",
        coords="minimal", compat="override",
    )  # fmt: skip
    return cube.assign_coords(bands=names).assign_attrs(attrs)


def _variable_name(name: Hashable, array: xr.DataArray) -> str:
    """Return the band a variable holds; rioxarray counts them and names them in ``long_name``."""
    described = array.attrs.get("long_name")
    counted = str(name).startswith("band_") and str(name)[5:].isdigit()
    return str(described) if counted and isinstance(described, str) else str(name)
