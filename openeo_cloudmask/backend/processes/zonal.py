"""Processes on a raster cube and geometries: ``aggregate_spatial``, masks and filters."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.graph.execute import Callback
from openeo_cloudmask.backend.graph.process import Spec, openeo_process
from openeo_cloudmask.backend.processes.apply import PIXELS, apply, flatten_pixels, without
from openeo_cloudmask.backend.processes.blocks import (
    apply_along,
    made_attributes,
    nodata_of,
)
from openeo_cloudmask.backend.processes.dims import GEOMETRY, grid_of, spatial_dimensions
from openeo_cloudmask.backend.processes.geometries import (
    GEOJSON,
    PROPERTIES,
    VECTOR,
    Geometries,
    parse_geometries,
    pixels_of,
)
from openeo_cloudmask.backend.processes.labels import filter_bbox
from openeo_cloudmask.grid import Grid

_COUNTS = ("value", "total_count", "valid_count")


@openeo_process()
def aggregate_spatial(
    data: xr.DataArray,
    geometries: Any,  # noqa: ANN401
    reducer: Callback,
    target_dimension: str | None = None,
    context: Any = None,  # noqa: ANN401
) -> xr.DataArray:
    """Return a vector cube: ``reducer`` makes one value of the pixels of each geometry.

    A geometry outside of the cube, or an empty one, gets no data. With ``target_dimension``, a
    dimension of that name holds the value, the number of pixels and that of valid ones.
    """
    if target_dimension is not None and target_dimension in data.dims:
        raise ApiError(
            "TargetDimensionExists", f"the cube has a dimension {target_dimension!r} already"
        )
    found = parse_geometries(geometries)
    grid = _grid(data)
    parts = [
        _aggregate_one(data, shape, grid, reducer, context, counts=target_dimension)
        for shape in found.in_crs(grid.crs)
    ]
    known = next((part for part in parts if part is not None), None)
    if known is None:
        raise ApiError("NoDataAvailable", "no geometry lies within the cube")
    number = known.dtype if known.dtype.kind == "f" else np.dtype(np.float32)
    empty = xr.full_like(known.astype(number), np.nan)
    whole = xr.concat(
        [empty if part is None else part.astype(number) for part in parts], dim=GEOMETRY,
        coords="minimal", compat="override", join="override",
    )  # fmt: skip
    shapes = np.empty(len(found.shapes), object)
    shapes[:] = found.shapes
    whole = whole.assign_coords({GEOMETRY: shapes}).transpose(GEOMETRY, ...)
    whole.attrs = {
        "nodata": float("nan"), "crs": found.crs.to_wkt(), PROPERTIES: list(found.properties),
    }  # fmt: skip
    return whole


def _aggregate_one(
    data: xr.DataArray,
    shape: Any,  # noqa: ANN401
    grid: Grid,
    reducer: Callback,
    context: Any,  # noqa: ANN401
    *,
    counts: str | None,
) -> xr.DataArray | None:
    rows, columns = pixels_of(shape, grid)
    if not rows.size:
        return None
    y, x = spatial_dimensions(data)
    top, left = rows.min(), columns.min()
    cut = data.isel({y: slice(top, rows.max() + 1), x: slice(left, columns.max() + 1)})
    flat = flatten_pixels(cut, y, x)
    inside = (rows - top) * cut.sizes[x] + (columns - left)
    pixels = flat.isel({PIXELS: inside})
    array, count = apply_along(pixels, reducer, PIXELS, context)
    if count not in (None, 1):
        raise ApiError("ProcessParameterInvalid", "the reducer returns several values; expected 1")
    value = without(pixels, PIXELS, array if count is None else array[..., 0])
    value = value.drop_vars("spatial_ref", errors="ignore")
    if counts is None:
        return value
    nodata = nodata_of(data)
    valid = pixels.notnull() if nodata is None else pixels != nodata
    total = xr.full_like(value, rows.size, dtype=np.float32)
    both = [value, total, valid.sum(PIXELS).astype(np.float32)]
    return xr.concat(both, dim=xr.DataArray(list(_COUNTS), dims=counts, name=counts),
                     coords="minimal", compat="override", join="override")  # fmt: skip


@openeo_process()
def mask_polygon(
    data: xr.DataArray,
    mask: Any,  # noqa: ANN401
    replacement: float | bool | None = None,  # noqa: FBT001
    inside: bool = False,  # noqa: FBT001, FBT002
) -> xr.DataArray:
    """Return the cube with ``replacement`` (null: no data) outside of the polygons, or inside."""
    within = _drawn(data, parse_geometries(mask)) > 0
    return _keep(data, within != inside, replacement)


@openeo_process()
def filter_spatial(data: xr.DataArray, geometries: Any) -> xr.DataArray:  # noqa: ANN401
    """Return the pixels of the geometries: their bounding box, with no data between them."""
    found = parse_geometries(geometries)
    grid = _grid(data)
    shapes = [shape for shape in found.in_crs(grid.crs) if not shape.is_empty]
    if not shapes:
        raise ApiError("ProcessParameterInvalid", "all geometries are empty")
    boxes = np.array([shape.bounds for shape in shapes])
    (west, south), (east, north) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    # A point has no extent, but lies in a pixel.
    step = 1e-3 * grid.pixel_size if west == east or south == north else 0
    box = {"west": west - step, "south": south - step, "east": east + step,
           "north": north + step, "crs": grid.crs.to_wkt() if grid.crs else None}  # fmt: skip
    cut = filter_bbox(data, box)
    return _keep(cut, _drawn(cut, found) > 0, None)


def _describe_apply_polygon(spec: Spec) -> Spec:
    """Name the polygons ``geometries``, as openEO 1.2 and its clients do."""
    [polygons] = (item for item in spec["parameters"] if item["name"] == "polygons")
    old = copy.deepcopy(polygons)
    polygons |= {"name": "geometries", "schema": [VECTOR, GEOJSON], "optional": True}
    old |= {"schema": [VECTOR, GEOJSON], "optional": True, "deprecated": True}
    old["description"] = "The former name of `geometries`; one of the two has to be given."
    spec["parameters"].append(old)
    return spec


@openeo_process(describe=_describe_apply_polygon)
def apply_polygon(
    data: xr.DataArray,
    process: Callback,
    geometries: Any = None,  # noqa: ANN401
    mask_value: float | bool | None = None,  # noqa: FBT001
    context: Any = None,  # noqa: ANN401
    polygons: Any = None,  # noqa: ANN401
) -> xr.DataArray:
    """Return ``process`` applied to the pixels of each polygon; outside is ``mask_value``.

    The callback gets the values as ``data`` or ``x``, as one that is given to ``apply``. The
    polygons are ``geometries``; clients before openEO 1.2 call them ``polygons``.

    Raises:
        ApiError: polygons overlap, so that a pixel would be processed twice.
    """
    if (geometries is None) == (polygons is None):
        raise ApiError("ProcessParameterRequired", "apply_polygon needs the parameter 'geometries'")
    drawn = _drawn(data, parse_geometries(polygons if geometries is None else geometries))
    if int(drawn.max()) > 1:
        raise ApiError("GeometriesOverlap", "polygons overlap: a pixel lies in more than one")
    within = drawn > 0
    found = _apply_values(_keep(data, within, None), process, context)
    return _keep(found, within, mask_value)


def _apply_values(data: xr.DataArray, process: Callback, context: Any) -> xr.DataArray:  # noqa: ANN401
    from openeo_cloudmask.backend.processes.blocks import apply_to_values
    from openeo_cloudmask.backend.processes.neighborhood import apply_udf
    from openeo_cloudmask.backend.processes.udf import lone_udf

    if lone_udf(process) is not None:
        found = apply_udf(data, process, context)
        return data if found is None else found
    if "from_parameter" in str(process.process_graph) and "'data'" in str(process.process_graph):
        return apply_to_values([data], process, ("data",), context)
    return apply(data, process, context)


def _grid(data: xr.DataArray) -> Grid:
    grid = grid_of(data)
    if grid.crs is None or grid.transform is None:
        raise ApiError(
            "ProcessParameterInvalid",
            "the cube has no reference system, so geometries have no place in it",
        )
    return grid


def _drawn(data: xr.DataArray, geometries: Geometries) -> NDArray[np.uint8]:
    """Return (y, x): how many geometries each pixel belongs to, 2 standing for more."""
    grid = _grid(data)
    counts = np.zeros(grid.shape_yx, np.uint8)
    for shape in geometries.in_crs(grid.crs):
        rows, columns = pixels_of(shape, grid)
        counts[rows, columns] = np.minimum(counts[rows, columns] + 1, 2)
    return counts


def _keep(
    data: xr.DataArray, kept: NDArray[np.bool_], replacement: float | bool | None  # noqa: FBT001
) -> xr.DataArray:  # fmt: skip
    where = xr.DataArray(kept, dims=spatial_dimensions(data))
    nodata = nodata_of(data)
    other = nodata if replacement is None else replacement
    if other is None:
        result = data.where(where)
    else:
        result = data.where(
            where, np.asarray(other).astype(data.dtype) if nodata == other else other
        )
    result = result.transpose(*data.dims)
    result.attrs = (
        dict(data.attrs) if result.dtype == data.dtype else made_attributes(data, result.dtype)
    )
    return result
