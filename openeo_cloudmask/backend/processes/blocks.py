"""Callbacks on cubes: a callback is handed a block of numbers at a time, in worker processes.

A block is a NumPy array, whatever the cube is made of; no data in it is NaN. Along a dimension,
the values of one pixel lie on the block's last axis, and array processes work along that one.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.cubes.masking import MASK_ATTRIBUTE
from openeo_cloudmask.backend.graph.execute import Callback
from openeo_cloudmask.backend.jobs.runtime import (
    Run,
    RunSpec,
    check_cancelled,
    current_run,
    running,
)
from openeo_cloudmask.lazy import Sealed

_BLOCK_BYTES = 48 * 2**20
"""What a block may hold; a callback makes a few arrays of that size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCall:
    """A callback and what it is handed besides the numbers."""

    run: RunSpec
    process: Callback
    names: tuple[str, ...]
    """Parameters of the callback that take the blocks."""
    nodata: tuple[float | None, ...]
    """What stands for no data in each of them, besides NaN."""
    context: Any = None
    labels: tuple[Any, ...] | None = None
    """Labels of the last axis, where the callback works along a dimension."""

    def __call__(self, *blocks: NDArray[Any]) -> NDArray[Any]:
        """Return the callback's answer: its shape is that of a block, or without the last axis."""
        check_cancelled()
        values = [as_numbers(*pair) for pair in zip(blocks, self.nodata, strict=True)]
        extra: dict[str, Any] = {}
        if self.labels is not None:
            extra = {"axis": values[0].ndim - 1, "dim_labels": list(self.labels)}
        alone = values[0].ndim == (0 if self.labels is None else 1)
        if alone:  # elements are arrays, even if there is one pixel only
            values = [value[None] for value in values]
            extra |= {"axis": 1} if extra else {}
        named = dict(zip(self.names, values, strict=True)) | {"context": self.context}
        with running(Run(spec=self.run)), np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # means of nothing but NaN
            answer = np.asarray(self.process(named_parameters=named, **extra))
        if alone and answer.ndim:
            answer = answer[0]
        if answer.dtype.kind == "O":
            answer = np.array(answer.tolist(), float)
        if answer.dtype == np.float64 and all(value.dtype.itemsize <= 4 for value in values):
            answer = answer.astype(np.float32)
        return answer


def as_numbers(block: NDArray[Any], nodata: float | None) -> NDArray[Any]:
    """Return a block as floating point numbers with NaN for no data; booleans as they are."""
    if block.dtype == bool:
        return block
    if block.dtype.kind in "iu":
        wide = np.float32 if block.dtype.itemsize <= 2 else np.float64
        numbers = block.astype(wide)
    elif block.dtype.kind == "f":
        numbers = block
    else:
        raise ApiError("ProcessParameterInvalid", f"the cube holds {block.dtype}; expected numbers")
    if nodata is not None:
        numbers = np.where(numbers == nodata, np.asarray(np.nan, numbers.dtype), numbers)
    return numbers


def nodata_of(data: xr.DataArray) -> float | None:
    """Return what stands for no data in a cube, None where that is NaN or nothing."""
    value = data.attrs.get("nodata")
    known = isinstance(value, int | float) and bool(np.isfinite(value))
    return float(value) if known else None  # type: ignore[arg-type]


def made_attributes(data: xr.DataArray, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return the attributes of a cube of new values: it is no mask any longer."""
    kept = {
        key: value for key, value in data.attrs.items() if key not in (MASK_ATTRIBUTE, "nodata")
    }
    return kept | ({"nodata": float("nan")} if dtype.kind == "f" else {})


def apply_to_values(
    cubes: Sequence[xr.DataArray],
    process: Callback,
    names: tuple[str, ...],
    context: Any,  # noqa: ANN401
) -> xr.DataArray:
    """Return what ``process`` makes of the values of cubes that have the same labels.

    Args:
        cubes: of the same dimensions and shape.
        process: called with a block of each.
        names: its parameters that take the blocks.
        context: handed on.
    """
    call = BlockCall(
        run=current_run().spec, process=process, names=names, context=context,
        nodata=tuple(nodata_of(cube) for cube in cubes),
    )  # fmt: skip
    first = cubes[0]
    samples = [np.ones((1,) * cube.ndim, cube.dtype) for cube in cubes]
    answer = call(*samples)
    if answer.ndim not in (0, first.ndim):
        raise _wrong_shape(answer, "one value for each value")
    arrays = [cube.data for cube in cubes]
    if any(map(_is_lazy, arrays)):
        import dask.array as da

        array = da.map_blocks(
            _call_like_first, Sealed.of(call), *da.broadcast_arrays(*map(_lazy, arrays)),
            dtype=answer.dtype, meta=np.empty((0,) * first.ndim, answer.dtype),
        )  # fmt: skip
    else:
        array = _call_like_first(Sealed.of(call), *arrays)
    result = first.copy(data=array)
    result.attrs = made_attributes(first, answer.dtype)
    return result


def apply_along(
    data: xr.DataArray,
    process: Callback,
    dimension: str,
    context: Any,  # noqa: ANN401
    name: str = "data",
) -> tuple[Any, int | None]:
    """Return what ``process`` makes of the values along a dimension.

    Args:
        data: the cube.
        process: called with blocks whose last axis is the dimension.
        dimension: of the cube.
        context: handed on.
        name: the parameter that takes the block.

    Returns:
        Array of the other dimensions in the cube's order, and the number of values on a last
        axis, or None where each answer is one value and there is no such axis.
    """
    if dimension not in data.dims:
        raise no_dimension(data, dimension)
    moved = data.transpose(..., dimension)
    call = BlockCall(
        run=current_run().spec, process=process, names=(name,), context=context,
        nodata=(nodata_of(data),), labels=tuple(plain_labels(data, dimension)),
    )  # fmt: skip
    rest = moved.ndim - 1
    answer = call(np.ones((*(1,) * rest, moved.shape[-1]), data.dtype))
    if answer.ndim not in (0, rest, rest + 1):
        raise _wrong_shape(answer, "one value, or one list of values")
    count = answer.shape[-1] if answer.ndim == rest + 1 else None
    sealed = Sealed.of(call)
    if not _is_lazy(moved.data):
        return _call_along(sealed, moved.to_numpy(), count=count), count
    import dask.array as da

    array = _cut_small(moved.data)
    if count is None:
        found = da.map_blocks(
            _call_along, sealed, array, count=None, dtype=answer.dtype, drop_axis=rest,
            meta=np.empty((0,) * rest, answer.dtype),
        )  # fmt: skip
    else:
        found = da.map_blocks(
            _call_along, sealed, array, count=count, dtype=answer.dtype,
            chunks=(*array.chunks[:-1], (count,)), meta=np.empty((0,) * (rest + 1), answer.dtype),
        )  # fmt: skip
    return found, count


def plain_labels(data: xr.DataArray, dimension: str) -> list[Any]:
    """Return a dimension's labels as JSON has them; numbers from 0 where it has none."""
    if dimension not in data.coords:
        return list(range(data.sizes[dimension]))
    values = data[dimension].to_numpy()
    if values.dtype.kind == "M":
        return [f"{text}Z" for text in np.datetime_as_string(values, unit="s")]
    found: list[Any] = values.tolist()
    return found


def no_dimension(data: xr.DataArray, dimension: object) -> ApiError:
    """Return the error of a dimension that is not there."""
    return ApiError(
        "DimensionNotAvailable",
        f"the cube has no dimension {dimension!r}; it has {', '.join(map(str, data.dims))}",
    )


def _call_like_first(sealed: Sealed, *blocks: NDArray[Any]) -> NDArray[Any]:
    call: BlockCall = sealed.open()
    answer = call(*blocks)
    return np.array(np.broadcast_to(answer, blocks[0].shape))


def _call_along(sealed: Sealed, block: NDArray[Any], *, count: int | None) -> NDArray[Any]:
    call: BlockCall = sealed.open()
    answer = call(block)
    wanted = block.shape[:-1] if count is None else (*block.shape[:-1], count)
    if answer.ndim == len(wanted) and answer.shape != wanted and 1 not in answer.shape:
        raise _wrong_shape(answer, "as many values everywhere")
    return np.array(np.broadcast_to(answer, wanted))


def _cut_small(array: Any) -> Any:  # noqa: ANN401 - dask has no types
    """Return a dask array whose last axis is in one piece, in blocks of moderate size."""
    from dask.array.core import normalize_chunks

    wanted = dict.fromkeys(range(array.ndim), "auto")
    wanted[array.ndim - 1] = array.shape[-1]
    chunks = normalize_chunks(
        tuple(wanted.values()), shape=array.shape, dtype=array.dtype, limit=_BLOCK_BYTES,
        previous_chunks=array.chunks,
    )  # fmt: skip
    return array.rechunk(chunks)


def _is_lazy(array: Any) -> bool:  # noqa: ANN401
    return hasattr(array, "dask")


def _lazy(array: Any) -> Any:  # noqa: ANN401
    import dask.array as da

    return array if _is_lazy(array) else da.from_array(array, chunks=-1)


def _wrong_shape(answer: NDArray[Any], expected: str) -> ApiError:
    return ApiError(
        "ProcessParameterInvalid",
        f"the callback returned values of shape {answer.shape}; expected {expected}",
    )
