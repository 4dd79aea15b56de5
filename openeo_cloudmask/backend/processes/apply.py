"""``apply``, ``apply_dimension``, ``reduce_dimension``, ``reduce_spatial``, ``apply_kernel``."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.graph.execute import Callback
from openeo_cloudmask.backend.graph.process import openeo_process
from openeo_cloudmask.backend.processes.blocks import (
    apply_along,
    apply_to_values,
    as_numbers,
    made_attributes,
    no_dimension,
    nodata_of,
)
from openeo_cloudmask.backend.processes.dims import spatial_dimensions
from openeo_cloudmask.backend.processes.neighborhood import apply_udf

PIXELS = "__pixels__"
"""Dimension of cubes whose pixels lie in one row."""
_BORDERS = {"replicate": "edge", "reflect": "symmetric", "reflect_pixel": "reflect", "wrap": "wrap"}
"""openEO's names of a kernel's borders, and NumPy's."""


@openeo_process()
def apply(data: xr.DataArray, process: Callback, context: Any = None) -> xr.DataArray:  # noqa: ANN401
    """Return ``process`` applied to every value."""
    found = apply_udf(data, process, context)
    return apply_to_values([data], process, ("x",), context) if found is None else found


@openeo_process()
def reduce_dimension(
    data: xr.DataArray,
    reducer: Callback,
    dimension: str,
    context: Any = None,  # noqa: ANN401
) -> xr.DataArray:
    """Return the cube without a dimension: ``reducer`` makes one value of those along it."""
    if dimension not in data.dims:
        raise no_dimension(data, dimension)
    found = apply_udf(data, reducer, context)
    if found is not None:
        return found.squeeze(dimension, drop=True) if dimension in found.dims else found
    array, count = apply_along(data, reducer, dimension, context)
    if count not in (None, 1):
        raise ApiError(
            "ProcessParameterInvalid",
            f"the reducer returns {count} values for each pixel; expected one. Use "
            "apply_dimension where several are wanted",
        )
    if count == 1:
        array = array[..., 0]
    return without(data, dimension, array)


def without(data: xr.DataArray, dimension: str, array: Any) -> xr.DataArray:  # noqa: ANN401
    """Return a cube of ``array`` with the labels of ``data``, but for one dimension."""
    dims = [dim for dim in data.dims if dim != dimension]
    coords = {key: value for key, value in data.coords.items() if dimension not in value.dims}
    return xr.DataArray(array, dims=dims, coords=coords, attrs=made_attributes(data, array.dtype))


@openeo_process()
def apply_dimension(
    data: xr.DataArray,
    process: Callback,
    dimension: str,
    target_dimension: str | None = None,
    context: Any = None,  # noqa: ANN401
) -> xr.DataArray:
    """Return the cube with the values along a dimension replaced by those ``process`` makes.

    Labels stay where there are as many values as before and the dimension is the same; else they
    are numbers from 0. The new values go along ``target_dimension`` where it is given: a new
    dimension, or one with a single label.
    """
    if dimension not in data.dims:
        raise no_dimension(data, dimension)
    target = target_dimension or dimension
    found = apply_udf(data, process, context)
    if found is not None:
        return found
    array, count = apply_along(data, process, dimension, context)
    if count is None:
        array, count = array[..., None], 1
    rest = [str(dim) for dim in data.dims if dim != dimension]
    coords = {key: value for key, value in data.coords.items() if dimension not in value.dims}
    labels: Any = np.arange(count)
    if target == dimension and count == data.sizes[dimension] and dimension in data.coords:
        labels = data[dimension].to_numpy()
    if target in rest:
        if data.sizes[target] > 1:
            return _onto(data, array, rest, coords, target)
        array = array[(slice(None),) * rest.index(target) + (0,)]
        rest.remove(target)
        coords.pop(target, None)
    attributes = made_attributes(data, array.dtype)
    result = xr.DataArray(array, dims=[*rest, target], coords=coords | {target: labels})
    result.attrs = attributes
    order = [target if dim == dimension else str(dim) for dim in data.dims if dim != target]
    order = [str(dim) for dim in data.dims] if target == dimension else order
    return result.transpose(*[dim for dim in order if dim in result.dims], ...)


def _onto(
    data: xr.DataArray,
    array: Any,  # noqa: ANN401 - NumPy or dask
    rest: list[str],
    coords: dict[Any, Any],
    target: str,
) -> xr.DataArray:
    """Return the values along a dimension that has several labels: each gets all new values."""
    count = array.shape[-1]
    moved = xr.DataArray(array, dims=[*rest, "__new__"], coords=coords)
    others = [dim for dim in rest if dim != target]
    flat = moved.transpose(*others, target, "__new__").data
    flat = flat.reshape((*flat.shape[:-2], data.sizes[target] * count))
    kept = {k: v for k, v in coords.items() if target not in v.dims}
    labels = np.arange(data.sizes[target] * count)
    result = xr.DataArray(flat, dims=[*others, target], coords=kept | {target: labels})
    result.attrs = made_attributes(data, array.dtype)
    return result.transpose(*rest)


@openeo_process()
def reduce_spatial(data: xr.DataArray, reducer: Callback, context: Any = None) -> xr.DataArray:  # noqa: ANN401
    """Return the cube without x and y: ``reducer`` makes one value of all pixels."""
    y, x = spatial_dimensions(data)
    flat = flatten_pixels(data, y, x)
    array, count = apply_along(flat, reducer, PIXELS, context)
    if count not in (None, 1):
        raise ApiError("ProcessParameterInvalid", "the reducer returns several values; expected 1")
    result = without(flat, PIXELS, array if count is None else array[..., 0])
    return result.drop_vars("spatial_ref", errors="ignore")


def flatten_pixels(data: xr.DataArray, y: str, x: str) -> xr.DataArray:
    """Return a cube whose pixels lie along one last dimension, ``__pixels__``."""
    moved = data.transpose(..., y, x)
    array = moved.data.reshape((*moved.shape[:-2], moved.shape[-2] * moved.shape[-1]))
    coords = {
        key: value for key, value in data.coords.items() if not {y, x} & set(value.dims)
    }  # fmt: skip
    dims = [*moved.dims[:-2], PIXELS]
    return xr.DataArray(array, dims=dims, coords=coords, attrs=dict(data.attrs))


@openeo_process()
def apply_kernel(
    data: xr.DataArray,
    kernel: list[list[float]],
    factor: float = 1,
    border: str | float = 0,
    replace_invalid: float = 0,
) -> xr.DataArray:
    """Return a weighted sum of every pixel's neighbours, for each band and date by itself."""
    weights = np.asarray(kernel, float)
    if weights.ndim != 2 or any(size % 2 == 0 for size in weights.shape):
        raise ApiError(
            "KernelDimensionsUneven",
            f"the kernel has the shape {weights.shape}; expected two uneven numbers",
        )
    y, x = spatial_dimensions(data)
    if isinstance(border, str) and border not in _BORDERS:
        raise ApiError(
            "ProcessParameterInvalid",
            f"border is {border!r}; expected a number or one of {', '.join(_BORDERS)}",
        )
    pads = tuple(size // 2 for size in weights.shape)
    moved = data.transpose(..., y, x)
    nodata = nodata_of(data)

    def convolve(block: NDArray[Any]) -> NDArray[Any]:
        from scipy.ndimage import correlate

        numbers = as_numbers(block, nodata).astype(np.float32)
        filled = np.where(np.isfinite(numbers), numbers, np.float32(replace_invalid))
        wide = ((0, 0),) * (filled.ndim - 2) + tuple((pad, pad) for pad in pads)
        if isinstance(border, str):
            padded = np.pad(filled, wide, mode=_BORDERS[border])  # type: ignore[call-overload]
        else:
            padded = np.pad(filled, wide, constant_values=border)
        # openEO multiplies the kernel with the pixels as they lie: a correlation.
        shape = (1,) * (filled.ndim - 2) + weights.shape
        whole = correlate(padded, weights.reshape(shape), mode="constant")
        inner = tuple(
            slice(pad, size - pad) for pad, size in zip(pads, whole.shape[-2:], strict=True)
        )
        return np.asarray(whole[(..., *inner)] * factor, np.float32)

    if hasattr(moved.data, "dask"):
        import dask.array as da

        chunks = (*(1,) * (moved.ndim - 2), -1, -1)
        array: Any = da.map_blocks(convolve, moved.data.rechunk(chunks), dtype=np.float32)
    else:
        array = convolve(moved.to_numpy())
    result = moved.copy(data=array)
    result.attrs = made_attributes(data, np.dtype(np.float32))
    return result.transpose(*data.dims)
