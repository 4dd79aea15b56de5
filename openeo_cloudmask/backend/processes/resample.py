"""``resample_spatial``, ``resample_cube_spatial`` and ``resample_cube_temporal``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from affine import Affine

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.cubes.masking import MASK_ATTRIBUTE
from openeo_cloudmask.backend.graph.process import Spec, openeo_process
from openeo_cloudmask.backend.processes.dims import find_dimension, grid_of, spatial_dimensions
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.products.crs import parse_crs

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

METHODS = {
    "near": "nearest",
    "cubicspline": "cubic_spline",
    **{name: name for name in ("bilinear", "cubic", "lanczos", "average", "mode", "max", "min",
                               "med", "q1", "q3", "rms", "sum")},
}  # fmt: skip
"""openEO's names of resampling methods, and GDAL's."""
ALIGNMENTS = ("upper-left", "upper-right", "lower-left", "lower-right")


def _describe_resample(spec: Spec) -> Spec:
    """Name the methods there are, and where pixels begin where the target is no cube."""
    [method] = (item for item in spec["parameters"] if item["name"] == "method")
    method["schema"] = {"type": "string", "enum": sorted(METHODS)}
    if spec["id"] == "resample_spatial":
        spec["parameters"].append(
            {
                "name": "align",
                "description": "Corner of the cube's extent at which a new pixel begins.",
                "schema": {"type": "string", "enum": list(ALIGNMENTS)},
                "default": "upper-left",
                "optional": True,
            }
        )
    return spec


@openeo_process(describe=_describe_resample)
def resample_spatial(
    data: xr.DataArray,
    resolution: float | list[float] = 0,
    projection: int | str | None = None,
    method: str = "near",
    align: str = "upper-left",
) -> xr.DataArray:
    """Return the cube at another resolution, in another projection, or both.

    Args:
        data: with x and y.
        resolution: pixel size in units of the target projection, for both axes or x and y; 0
            keeps it, or takes the one that fits where the projection changes.
        projection: EPSG code or WKT2; None keeps it.
        method: of ``METHODS``.
        align: corner of the extent at which a pixel begins.
    """
    grid = _georeferenced(data)
    target_crs = grid.crs if projection is None else parse_crs(projection)
    if align not in ALIGNMENTS:
        raise _bad("align", align, ALIGNMENTS)
    sizes = list(resolution) if isinstance(resolution, list) else [resolution, resolution]
    if target_crs == grid.crs and not any(sizes):
        return data
    target = _plan_grid(grid, target_crs, sizes, align)
    return _warp(data, target, method).transpose(*data.dims)


@openeo_process(describe=_describe_resample)
def resample_cube_spatial(
    data: xr.DataArray, target: xr.DataArray, method: str = "near"
) -> xr.DataArray:
    """Return the cube on the pixels of ``target``."""
    spatial_dimensions(target)
    return _warp(data, _georeferenced(target), method).transpose(*data.dims)


@openeo_process()
def resample_cube_temporal(
    data: xr.DataArray,
    target: xr.DataArray,
    dimension: str | None = None,
    valid_within: float | None = None,
) -> xr.DataArray:
    """Return for each date of ``target`` the values of the nearest date.

    ``valid_within``: days that the nearest one may be away; beyond, there is no data.
    """
    name = find_dimension(data, "temporal", dimension)
    other = name if name in target.dims else find_dimension(target, "temporal")
    have, wanted = data[name].to_numpy(), target[other].to_numpy()
    if have.dtype.kind != "M" or wanted.dtype.kind != "M":
        raise ApiError("ProcessParameterInvalid", "the temporal labels of a cube are no dates")
    away = np.abs(have[:, None] - wanted[None, :])
    nearest = away.argmin(axis=0)
    found = data.isel({name: nearest}).assign_coords({name: wanted})
    if valid_within is None:
        return found
    near = away.min(axis=0) <= np.timedelta64(round(valid_within * 86_400_000), "ms")
    kept = found.where(xr.DataArray(near, dims=name, coords={name: wanted}))
    kept.attrs = {k: v for k, v in data.attrs.items() if k != MASK_ATTRIBUTE}
    return kept.transpose(*data.dims)


def _georeferenced(data: xr.DataArray) -> Grid:
    grid = grid_of(data)
    if grid.crs is None or grid.transform is None:
        raise ApiError(
            "ProcessParameterInvalid", "the cube has no reference system, so it cannot be resampled"
        )
    return grid


def _plan_grid(grid: Grid, crs: Any, sizes: list[float], align: str) -> Grid:  # noqa: ANN401
    """Return the pixels that cover a grid's extent in another reference system or resolution."""
    left, bottom, right, top = grid.bounds if crs == grid.crs else grid.bounds_in(crs)
    step = _fitting_step(grid, crs)
    dx, dy = (size or own for size, own in zip(sizes, step, strict=True))
    columns = max(1, math.ceil((right - left) / dx - 1e-6))
    rows = max(1, math.ceil((top - bottom) / dy - 1e-6))
    west = left if "left" in align else right - columns * dx
    north = top if "upper" in align else bottom + rows * dy
    return Grid(shape_yx=(rows, columns), transform=Affine(dx, 0, west, 0, -dy, north), crs=crs)


def _fitting_step(grid: Grid, crs: Any) -> tuple[float, float]:  # noqa: ANN401
    """Return the pixel size; in another reference system the one that keeps pixels on diagonals.

    As GDAL suggests it; its own function wants the VRT driver, which workers do not have.
    """
    from rasterio.warp import transform

    if crs == grid.crs and grid.transform is not None:
        return abs(grid.transform.a), abs(grid.transform.e)
    height, width = grid.shape_yx
    corners = [grid.to_xy(0, 0), grid.to_xy(height, width)]
    xs, ys = transform(grid.crs, crs, *zip(*corners, strict=True))
    step = math.hypot(xs[1] - xs[0], ys[1] - ys[0]) / math.hypot(width, height)
    return step, step


def _geobox(grid: Grid) -> GeoBox:
    """Return a grid as odc-geo has it.

    Raises:
        ApiError: the grid has no georeference.
    """
    from odc.geo.geobox import GeoBox

    if grid.transform is None or grid.crs is None:
        raise ApiError("ProcessParameterInvalid", "the cube has no georeference; expected one")
    return GeoBox(grid.shape_yx, grid.transform, str(grid.crs.to_wkt()))


def _warp(data: xr.DataArray, target: Grid, method: str) -> xr.DataArray:
    """Return the cube on another grid, lazily; outside of it there is no data."""
    import odc.geo.xr  # noqa: F401 - makes the accessor

    if method not in METHODS:
        raise _bad("method", method, METHODS)
    y, x = spatial_dimensions(data)
    grid = _georeferenced(data)
    moved = data.transpose(..., y, x)
    if moved.dtype == bool:
        moved = moved.astype(np.uint8)
    elif moved.dtype.kind in "iu" and "nodata" not in moved.attrs:
        moved = moved.astype(np.float32 if moved.dtype.itemsize <= 2 else np.float64)
    extra = [str(dim) for dim in moved.dims[:-2]]
    source, box = _geobox(grid), _geobox(target)
    planes = moved.data.reshape((-1, *moved.shape[-2:])) if extra else moved.data
    flat = _as_odc(planes, source)
    nodata = moved.attrs.get("nodata", float("nan") if moved.dtype.kind == "f" else None)
    warped = flat.odc.reproject(box, resampling=METHODS[method], dst_nodata=nodata)
    array = warped.data.reshape((*moved.shape[:-2], *target.shape_yx))
    coords = {
        key: value for key, value in data.coords.items()
        if key != "spatial_ref" and not {y, x} & set(value.dims)
    }  # fmt: skip
    grid_labels = target.coordinates()
    coords |= {y: grid_labels["y"], x: grid_labels["x"]}
    if "spatial_ref" in grid_labels:
        coords["spatial_ref"] = grid_labels["spatial_ref"]
    kept = dict(data.attrs) | ({} if nodata is None else {"nodata": nodata})
    if METHODS[method] not in ("nearest", "mode"):
        kept.pop(MASK_ATTRIBUTE, None)
    return xr.DataArray(array, dims=moved.dims, coords=coords, attrs=kept)


def _as_odc(planes: Any, box: Any) -> xr.DataArray:  # noqa: ANN401
    from odc.geo.xr import wrap_xr

    return wrap_xr(planes, box) if planes.ndim == 2 else wrap_xr(planes, box, axis=1)


def _bad(name: str, value: object, expected: Any) -> ApiError:  # noqa: ANN401
    return ApiError(
        "ProcessParameterInvalid", f"{name} is {value!r}; expected one of {', '.join(expected)}"
    )
