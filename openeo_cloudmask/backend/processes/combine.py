"""``merge_cubes`` and ``mask``: two cubes made one."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.cubes.masking import MASK_ATTRIBUTE
from openeo_cloudmask.backend.graph.execute import Callback
from openeo_cloudmask.backend.graph.process import openeo_process
from openeo_cloudmask.backend.processes.blocks import (
    apply_to_values,
    made_attributes,
    nodata_of,
    plain_labels,
)
from openeo_cloudmask.backend.processes.dims import is_raster, kind_of, spatial_dimensions
from openeo_cloudmask.backend.processes.resample import resample_cube_spatial

_SAME = 1e-3
"""Share of a pixel by which the coordinates of equal pixels may differ."""


@openeo_process()
def merge_cubes(
    cube1: xr.DataArray,
    cube2: xr.DataArray,
    overlap_resolver: Callback | None = None,
    context: Any = None,  # noqa: ANN401
) -> xr.DataArray:
    """Return one cube with the labels of both; where both have values, the resolver decides.

    A dimension that only one of them has is taken over, and the other's values are used for each
    of its labels.

    Raises:
        ApiError: they overlap and there is no resolver, or their grids do not fit each other.
    """
    shared = [str(dim) for dim in cube1.dims if dim in cube2.dims]
    cube2 = _snap(cube1, cube2)
    if not shared:
        raise ApiError("IncompatibleDataCubes", "the cubes have no dimension in common")
    common = {dim: _common(cube1, cube2, dim) for dim in shared}
    overlap = all(len(labels) for labels in common.values())
    whole = set(cube1.dims) == set(cube2.dims)
    if (overlap or not whole) and overlap_resolver is None:
        raise ApiError(
            "OverlapResolverMissing",
            "the cubes have values for the same labels; give an overlap_resolver, or rename the "
            "labels (rename_labels)",
        )
    first, second = _same_dimensions(cube1, cube2)
    if not overlap or overlap_resolver is None:
        return _side_by_side(first, second)
    both = [
        apply_to_values(
            _same_chunks(*(_select(cube, common) for cube in (first, second))),
            overlap_resolver, ("x", "y"), context,
        )
    ]  # fmt: skip
    rest = [cube for cube in (first, second) if any(
        len(common[dim]) < cube.sizes[dim] for dim in shared
    )]  # fmt: skip
    if not rest:
        return both[0]
    merged = both[0]
    for cube in rest:
        merged = _fill(merged, cube)
    return merged


def _snap(cube1: xr.DataArray, cube2: xr.DataArray) -> xr.DataArray:
    """Return the second cube with the first one's coordinates where the pixels are the same."""
    if not (is_raster(cube1) and is_raster(cube2)):
        return cube2
    changed: dict[str, Any] = {}
    for dim in spatial_dimensions(cube1):
        if dim not in cube2.dims or dim not in cube1.coords or dim not in cube2.coords:
            continue
        one, two = cube1[dim].to_numpy().astype(float), cube2[dim].to_numpy().astype(float)
        if one.size < 2:
            continue
        step = (one[-1] - one[0]) / (one.size - 1)
        places = (two - one[0]) / step
        if np.abs(places - np.rint(places)).max() > _SAME:
            raise ApiError(
                "IncompatibleDataCubes",
                f"the pixels of the two cubes lie on different grids along {dim}; use "
                "resample_cube_spatial first",
            )
        at = np.rint(places).astype(int)
        exact = one[0] + step * at
        inside = (at >= 0) & (at < one.size)
        exact[inside] = one[at[inside]]
        changed[dim] = exact
    return cube2.assign_coords(changed)


def _common(cube1: xr.DataArray, cube2: xr.DataArray, dim: str) -> list[Any]:
    known = set(plain_labels(cube2, dim))
    return [label for label in plain_labels(cube1, dim) if label in known]


def _select(cube: xr.DataArray, common: dict[str, list[Any]]) -> xr.DataArray:
    places = {}
    for dim, labels in common.items():
        own = plain_labels(cube, dim)
        if own != labels:
            at = {label: place for place, label in enumerate(own)}
            places[dim] = [at[label] for label in labels]
    return cube.isel(places) if places else cube


def _same_dimensions(cube1: xr.DataArray, cube2: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Return both with the dimensions of either, in one order."""
    wide = cube1 if cube1.ndim >= cube2.ndim else cube2
    order = [str(dim) for dim in wide.dims]
    order += [str(dim) for dim in (*cube1.dims, *cube2.dims) if str(dim) not in order]
    found = []
    for cube, other in ((cube1, cube2), (cube2, cube1)):
        missing = {dim: other[dim] if dim in other.coords else range(other.sizes[dim])
                   for dim in order if dim not in cube.dims}  # fmt: skip
        found.append(cube.expand_dims(missing).transpose(*order) if missing
                     else cube.transpose(*order))  # fmt: skip
    return found[0], found[1]


def _same_chunks(one: xr.DataArray, two: xr.DataArray) -> list[xr.DataArray]:
    labels = {str(dim): one[dim] for dim in one.dims if dim in one.coords}
    two = two.assign_coords(labels)
    if hasattr(one.data, "dask") or hasattr(two.data, "dask"):
        one, two = (cube if hasattr(cube.data, "dask") else cube.chunk() for cube in (one, two))
        one, two = xr.unify_chunks(one, two)
    return [one, two]


def _side_by_side(one: xr.DataArray, two: xr.DataArray) -> xr.DataArray:
    """Return cubes without a common label in one dimension, one after the other along it."""
    apart = [dim for dim in map(str, one.dims) if not _same_labels(one, two, dim)]
    if len(apart) == 1 and kind_of(one, apart[0]) != "spatial":
        dim = apart[0]
        two = _select(two, {str(d): plain_labels(one, str(d)) for d in one.dims if d != dim})
        one, two = _one_type(one, two)
        whole = xr.concat([one, two], dim, coords="minimal", compat="override", join="override")
        whole = whole.sortby(dim) if kind_of(one, dim) == "temporal" else whole
        whole.attrs = _merged_attributes(one, two, whole.dtype)
        return whole
    return _fill(one, two)


def _same_labels(one: xr.DataArray, two: xr.DataArray, dim: str) -> bool:
    return set(plain_labels(one, dim)) == set(plain_labels(two, dim))


def _one_type(one: xr.DataArray, two: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Return both with one sign for no data: as they are where it is the same, else with NaN."""
    if one.dtype == two.dtype and nodata_of(one) == nodata_of(two):
        return one, two
    return _with_nan(one), _with_nan(two)


def _with_nan(cube: xr.DataArray) -> xr.DataArray:
    nodata = nodata_of(cube)
    if cube.dtype.kind == "f" and nodata is None:
        return cube
    numbers = cube.astype(np.float32 if cube.dtype.itemsize <= 2 else np.float64)
    found = numbers if nodata is None else numbers.where(cube != nodata)
    found.attrs = made_attributes(cube, found.dtype)
    return found


def _fill(one: xr.DataArray, two: xr.DataArray) -> xr.DataArray:
    """Return both on the labels of either: the first one's values, else the second one's."""
    one, two = _with_nan(one), _with_nan(two)
    labels: dict[str, Any] = {}
    for dim in map(str, one.dims):
        if dim not in one.coords or dim not in two.coords:
            continue
        mine, others = one[dim].to_numpy(), two[dim].to_numpy()
        union = np.concatenate([mine, others[~np.isin(others, mine)]])
        kind = kind_of(one, dim)
        if kind in ("spatial", "temporal"):
            union = np.sort(union)
            falling = mine.size > 1 and mine[0] > mine[-1]
            union = union[::-1] if falling else union
            union = _without_gaps(union) if kind == "spatial" else union
        labels[dim] = union
    wide = [cube.reindex(labels) for cube in (one, two)]
    whole = wide[0].where(wide[0].notnull(), wide[1])
    whole.attrs = made_attributes(one, whole.dtype)
    return whole.drop_attrs() if not whole.attrs else whole


def _without_gaps(labels: Any) -> Any:  # noqa: ANN401
    """Return pixel centres at even steps from the first to the last, those given unchanged."""
    steps = np.abs(np.diff(labels))
    if labels.size < 2 or steps.max() < 1.5 * steps.min():
        return labels
    step = steps.min()
    count = round(abs(labels[-1] - labels[0]) / step) + 1
    even = np.linspace(labels[0], labels[-1], count)
    at = np.rint(np.abs(labels - labels[0]) / step).astype(int)
    even[at] = labels
    return even


def _merged_attributes(one: xr.DataArray, two: xr.DataArray, dtype: Any) -> dict[str, Any]:  # noqa: ANN401
    same = one.attrs.get(MASK_ATTRIBUTE) == two.attrs.get(MASK_ATTRIBUTE)
    return dict(one.attrs) if same and dtype == one.dtype else made_attributes(one, dtype)


@openeo_process()
def mask(
    data: xr.DataArray,
    mask: xr.DataArray,
    replacement: float | bool | None = None,  # noqa: FBT001
) -> xr.DataArray:
    """Return the cube with ``replacement`` (null: no data) where the mask is true or not 0.

    Where the mask does not know (no data), neither does the result. The mask is brought to the
    grid of the data; it may lack dimensions, and its only band counts for all bands.

    Raises:
        ApiError: the mask has a dimension or labels that the data does not have.
    """
    for dim in map(str, mask.dims):
        if kind_of(mask, dim) == "bands" and mask.sizes[dim] == 1:
            mask = mask.squeeze(dim, drop=True)
        elif dim not in data.dims:
            raise ApiError("DimensionMismatch", f"the mask has a dimension {dim!r}, the data not")
    if is_raster(data) and is_raster(mask) and not _same_grid(data, mask):
        mask = resample_cube_spatial(mask, data)
    for dim in map(str, mask.dims):
        if kind_of(data, dim) == "spatial":
            continue
        wanted, have = plain_labels(data, dim), plain_labels(mask, dim)
        if missing := [label for label in wanted if label not in have]:
            raise ApiError(
                "LabelMismatch",
                f"the mask has no label {missing[0]} along {dim!r}; it has "
                f"{', '.join(map(str, have[:10]))}",
            )
        mask = _select(mask, {dim: wanted})
    labels = {dim: data[dim] for dim in mask.dims if dim in data.coords}
    mask = mask.assign_coords(labels).drop_vars("spatial_ref", errors="ignore")
    nodata = nodata_of(mask)
    known = mask.notnull() if nodata is None else mask != nodata
    keep = (mask == 0) & known
    own = nodata_of(data)
    if replacement is not None:
        result = data.where(keep, replacement)
        result = result.where(known, np.nan if own is None else own)
    elif own is not None:
        result = data.where(keep, data.dtype.type(own))
    else:
        result = data.where(keep)
    result = result.transpose(*data.dims)
    result.attrs = dict(data.attrs) if own is not None else made_attributes(data, result.dtype)
    return result


def _same_grid(data: xr.DataArray, other: xr.DataArray) -> bool:
    for dim in spatial_dimensions(data):
        if dim not in other.dims:
            raise ApiError("DimensionMismatch", f"the mask has no dimension {dim!r}")
        if dim not in data.coords or dim not in other.coords:
            return data.sizes[dim] == other.sizes[dim]
        one, two = data[dim].to_numpy(), other[dim].to_numpy()
        step = abs(float(one[1] - one[0])) if one.size > 1 else 1.0
        if one.shape != two.shape or np.abs(one - two).max() > _SAME * step:
            return False
    return True
