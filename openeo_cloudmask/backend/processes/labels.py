"""Processes on the dimensions and labels of cubes: filters, and names that change."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import xarray as xr

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.graph.execute import Callback
from openeo_cloudmask.backend.graph.process import openeo_process
from openeo_cloudmask.backend.processes.blocks import plain_labels
from openeo_cloudmask.backend.processes.dims import (
    TYPES,
    as_labels,
    find_dimension,
    grid_of,
    kind_of,
    parse_label,
    spatial_dimensions,
)
from openeo_cloudmask.backend.processes.load import cut_grid, parse_interval


@openeo_process()
def add_dimension(
    data: xr.DataArray,
    name: str,
    label: Any,  # noqa: ANN401 - number, text or date
    type: str = "other",  # noqa: A002 - the name openEO gives it
) -> xr.DataArray:
    """Return the cube with one more dimension, which has one label."""
    if name in data.dims:
        raise ApiError("DimensionExists", f"the cube has a dimension {name!r} already")
    value = as_labels([parse_label(label, temporal=type == "temporal")])
    wide = data.drop_vars(name, errors="ignore").expand_dims({name: value})
    wide.attrs = data.attrs | {TYPES: (data.attrs.get(TYPES) or {}) | {name: type}}
    return wide


@openeo_process()
def drop_dimension(data: xr.DataArray, name: str) -> xr.DataArray:
    """Return the cube without a dimension that has one label."""
    find_dimension(data, "any", name)
    if data.sizes[name] != 1:
        raise ApiError(
            "DimensionLabelCountMismatch",
            f"the dimension {name!r} has {data.sizes[name]} labels; expected one. Reduce it "
            "(reduce_dimension) or filter it first",
        )
    return data.squeeze(name, drop=True)


@openeo_process()
def rename_dimension(data: xr.DataArray, source: str, target: str) -> xr.DataArray:
    """Return the cube with another name for a dimension."""
    find_dimension(data, "any", source)
    if target in data.dims:
        raise ApiError("DimensionExists", f"the cube has a dimension {target!r} already")
    renamed = data.drop_vars(target, errors="ignore").rename({source: target})
    types = {key: value for key, value in (data.attrs.get(TYPES) or {}).items() if key != source}
    renamed.attrs = data.attrs | {TYPES: types | {target: kind_of(data, source)}}
    return renamed


@openeo_process()
def dimension_labels(data: xr.DataArray, dimension: str) -> list[Any]:
    """Return the labels of a dimension; dates as text."""
    return plain_labels(data, find_dimension(data, "any", dimension))


@openeo_process()
def rename_labels(
    data: xr.DataArray, dimension: str, target: list[Any], source: list[Any] | None = None
) -> xr.DataArray:
    """Return the cube with other labels.

    Without ``source`` the targets are the names of the first labels, in their order.
    """
    find_dimension(data, "any", dimension)
    temporal = kind_of(data, dimension) == "temporal"
    have = [parse_label(item, temporal=temporal) for item in plain_labels(data, dimension)]
    given = [parse_label(item, temporal=temporal) for item in source or have[: len(target)]]
    if len(given) != len(target):
        raise ApiError(
            "LabelMismatch",
            f"source has {len(given)} labels and target {len(target)}; expected as many",
        )
    if missing := [item for item in given if item not in have]:
        raise ApiError(
            "LabelNotAvailable",
            f"the dimension {dimension!r} has no label {missing[0]}; it has "
            f"{', '.join(map(str, have[:20]))}",
        )
    new = dict(zip(given, (parse_label(item, temporal=temporal) for item in target), strict=True))
    labels = [new.get(item, item) for item in have]
    if len(set(map(str, labels))) < len(labels):
        raise ApiError("LabelExists", "two labels would have the same name")
    return data.assign_coords({dimension: as_labels(labels)})


@openeo_process()
def filter_labels(
    data: xr.DataArray,
    condition: Callback,
    dimension: str,
    context: Any = None,  # noqa: ANN401
) -> xr.DataArray:
    """Return the part of the cube whose labels meet a condition; dates are texts to it."""
    find_dimension(data, "any", dimension)
    kept = [
        place
        for place, label in enumerate(plain_labels(data, dimension))
        if condition(named_parameters={"value": label, "context": context})
    ]
    return data.isel({dimension: kept})


@openeo_process()
def filter_bands(
    data: xr.DataArray, bands: list[str] | None = None, wavelengths: list[Any] | None = None
) -> xr.DataArray:
    """Return some bands, in the order asked for."""
    if wavelengths:
        raise ApiError(
            "FeatureUnsupported", "filter_bands by wavelengths is not supported; name the bands"
        )
    if not bands:
        raise ApiError("BandFilterParameterMissing", "filter_bands needs the bands to keep")
    dimension = find_dimension(data, "bands")
    have = [str(label) for label in plain_labels(data, dimension)]
    if missing := [str(name) for name in bands if str(name) not in have]:
        raise ApiError(
            "ProcessParameterInvalid",
            f"the cube has no bands {', '.join(missing)}; it has {', '.join(have)}",
        )
    return data.isel({dimension: [have.index(str(name)) for name in bands]})


@openeo_process()
def filter_temporal(
    data: xr.DataArray,
    extent: list[str | None],
    dimension: str | None = None,
) -> xr.DataArray:
    """Return the dates from the first time (inclusive) to the second (exclusive)."""
    name = find_dimension(data, "temporal", dimension)
    return data.isel({name: dates_within(data, name, extent)})


def dates_within(data: xr.DataArray, dimension: str, extent: Any) -> list[int]:  # noqa: ANN401
    """Return the places of the dates that lie in a time range."""
    labels = data[dimension].to_numpy()
    if labels.dtype.kind != "M":
        raise ApiError(
            "ProcessParameterInvalid",
            f"the labels of {dimension!r} are no dates ({', '.join(map(str, labels[:3]))}); "
            "rename them to dates first (rename_labels)",
        )
    begin, end = (None if end is None else _utc(end) for end in parse_interval(extent))
    return [
        place
        for place, label in enumerate(labels)
        if (begin is None or label >= begin) and (end is None or label < end)
    ]


def _utc(when: datetime) -> np.datetime64:
    return np.datetime64(when.astimezone(UTC).replace(tzinfo=None), "ns")


@openeo_process()
def filter_bbox(data: xr.DataArray, extent: Any) -> xr.DataArray:  # noqa: ANN401
    """Return the pixels that touch a bounding box."""
    y, x = spatial_dimensions(data)
    cut, (top, left) = cut_grid(grid_of(data), extent)
    height, width = cut.shape_yx
    return data.isel({y: slice(top, top + height), x: slice(left, left + width)})


@openeo_process()
def trim_cube(data: xr.DataArray) -> xr.DataArray:
    """Return the cube without labels at its ends that hold no data at all."""
    from openeo_cloudmask.backend.jobs.compute import compute
    from openeo_cloudmask.backend.processes.blocks import nodata_of

    nodata = nodata_of(data)
    there = data.notnull() if nodata is None else data != nodata
    for dimension in data.dims:
        others = [dim for dim in data.dims if dim != dimension]
        known = np.flatnonzero(compute(there.any(others)).to_numpy())
        if known.size:
            data = data.isel({dimension: slice(int(known[0]), int(known[-1]) + 1)})
    return data
