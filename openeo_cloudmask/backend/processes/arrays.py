"""Array processes on blocks: along one axis, the last one, in place of the library's.

A value is an array where it has that axis, else an element: one number for each pixel. A list may
hold both numbers and elements. No data is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.backend.api.errors import ApiError

Values = Any
"""An array with the axis, or a list of numbers and elements."""


def is_block(value: object) -> bool:
    """Return whether a value is an array of numbers, or a list that holds one."""
    if isinstance(value, list):
        return any(isinstance(item, np.ndarray) for item in value)
    return isinstance(value, np.ndarray)


def as_array(data: Values, axis: int | None) -> NDArray[Any]:
    """Return values as one array with its axis last; a list is laid out along a new one."""
    if not isinstance(data, list):
        return np.asarray(data)
    items = [np.nan if item is None else item for item in data]
    if axis is None:
        axis = max((np.ndim(item) for item in items), default=0)
    parts = [_with_axis(np.asarray(item), axis) for item in items]
    shape = np.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return np.concatenate(
        [np.broadcast_to(part, (*shape, part.shape[-1])) for part in parts], axis=-1
    )


def _with_axis(item: NDArray[Any], axis: int) -> NDArray[Any]:
    if item.ndim == axis + 1:
        return item
    return item[..., None] if item.ndim else np.full((1,) * (axis + 1), item)


def _concat(parts: list[Values], axis: int | None) -> NDArray[Any]:
    if axis is None:
        return np.concatenate([np.atleast_1d(np.asarray(part)) for part in parts])
    return as_array([np.asarray(p) if not isinstance(p, list) else as_array(p, axis)
                     for p in parts], axis)  # fmt: skip


def array_concat(array1: Values, array2: Values, axis: int | None = None) -> NDArray[Any]:
    """Return the values of two arrays one after the other."""
    return _concat([array1, array2], axis)


def array_append(
    data: Values,
    value: Any,  # noqa: ANN401
    label: Any = None,  # noqa: ANN401
    axis: int | None = None,
) -> NDArray[Any]:
    """Return the array with a value after its last one; the label is that of a list, not kept."""
    del label
    return _concat([data, value], axis)


def array_create(data: Values = (), repeat: int = 1, axis: int | None = None) -> NDArray[Any]:
    """Return the values, ``repeat`` times."""
    values = as_array(list(data) if isinstance(data, tuple) else data, axis)
    return np.concatenate([values] * repeat, axis=-1)


def array_modify(
    data: Values, values: Values, index: int, length: int = 1, axis: int | None = None
) -> NDArray[Any]:
    """Return the array with ``length`` of its values replaced by others."""
    array = as_array(data, axis)
    if index > array.shape[-1]:
        raise _no_element(array, index)
    return _concat([array[..., :index], values, array[..., index + length :]], array.ndim - 1)


def array_element(
    data: Values,
    index: int | None = None,
    label: Any = None,  # noqa: ANN401
    return_nodata: bool = False,  # noqa: FBT001, FBT002
    axis: int | None = None,
    dim_labels: list[Any] | None = None,
) -> NDArray[Any]:
    """Return the element at a place, or with a label."""
    if (index is None) == (label is None):
        code = "Missing" if index is None else "Conflict"
        raise ApiError(
            f"ArrayElementParameter{code}", "give one of index and label to array_element"
        )
    array = as_array(data, axis)
    if label is not None:
        labels = [str(item) for item in dim_labels or []]
        if len(labels) != array.shape[-1]:
            raise ApiError("ArrayNotLabeled", "the array has no labels; use index")
        index = labels.index(str(label)) if str(label) in labels else None
    if index is not None and 0 <= int(index) < array.shape[-1]:
        return array[..., int(index)]
    if return_nodata:
        return np.full(array.shape[:-1], np.nan, np.float32)
    raise _no_element(array, label if index is None else index)


def array_labels(
    data: Values, axis: int | None = None, dim_labels: list[Any] | None = None
) -> list[Any]:
    """Return the labels, or places from 0 where the axis has no labels."""
    count = as_array(data, axis).shape[-1]
    return dim_labels if dim_labels and len(dim_labels) == count else list(range(count))


def array_contains(data: Values, value: Any, axis: int | None = None) -> NDArray[Any]:  # noqa: ANN401
    """Return for each pixel whether one of its values is ``value``."""
    return np.asarray((as_array(data, axis) == _element(value)).any(axis=-1))


def array_find(
    data: Values, value: Any, reverse: bool = False, axis: int | None = None  # noqa: ANN401, FBT001, FBT002
) -> NDArray[Any]:  # fmt: skip
    """Return where ``value`` is; NaN where it is not."""
    same = as_array(data, axis) == _element(value)
    if reverse:
        same = same[..., ::-1]
    place = same.argmax(axis=-1).astype(np.float32)
    if reverse:
        place = same.shape[-1] - 1 - place
    return np.where(same.any(axis=-1), place, np.float32(np.nan))


def array_interpolate_linear(
    data: Values, axis: int | None = None, dim_labels: list[Any] | None = None
) -> NDArray[Any]:
    """Return the array with holes between known values filled; those at the ends stay."""
    array = as_array(data, axis)
    count = array.shape[-1]
    places = _positions(dim_labels, count)
    rows = array.reshape(-1, count).astype(np.result_type(array.dtype, np.float32))
    holes = ~np.isfinite(rows)
    for row, hole in zip(rows, holes, strict=True):
        known = ~hole
        if hole.any() and known.sum() > 1:
            row[hole] = np.interp(
                places[hole], places[known], row[known], left=np.nan, right=np.nan
            )
    return rows.reshape(array.shape)


def _positions(labels: list[Any] | None, count: int) -> NDArray[Any]:
    """Return where the values lie: at their dates or numbers, else one after the other."""
    if labels and len(labels) == count:
        try:
            dates = [str(item).removesuffix("Z") for item in labels]
            if all(isinstance(item, str) for item in labels):
                return np.array(dates, "datetime64[s]").astype(float)
            return np.array(labels, float)
        except ValueError:
            pass
    return np.arange(count, dtype=float)


def first(data: Values, ignore_nodata: bool = True, axis: int | None = None) -> NDArray[Any]:  # noqa: FBT001, FBT002
    """Return the first value, by default of those that are there."""
    array = as_array(data, axis)
    if not ignore_nodata or array.dtype.kind != "f":
        return array[..., 0]
    place = (~np.isnan(array)).argmax(axis=-1)
    return np.take_along_axis(array, place[..., None], axis=-1)[..., 0]


def last(data: Values, ignore_nodata: bool = True, axis: int | None = None) -> NDArray[Any]:  # noqa: FBT001, FBT002
    """Return the last value, by default of those that are there."""
    return first(as_array(data, axis)[..., ::-1], ignore_nodata, axis)


def order(
    data: Values, asc: bool = True, nodata: bool | None = None, axis: int | None = None  # noqa: FBT001, FBT002
) -> NDArray[Any]:  # fmt: skip
    """Return the places of the values in their order; NaN for places of no data, at the end.

    The order of a pixel's values that are no data is known with ``nodata`` true (last) or false
    (first); by default they have none.
    """
    array = as_array(data, axis).astype(float)
    missing = np.isnan(array)
    keys = np.where(missing, np.inf, array if asc else -array)
    places = np.argsort(keys, axis=-1, kind="stable")
    hidden = np.take_along_axis(missing, places, axis=-1)
    if nodata is False:
        front = np.argsort(~hidden, axis=-1, kind="stable")
        return np.take_along_axis(places, front, axis=-1).astype(np.float32)
    if nodata is True:
        return places.astype(np.float32)
    return np.where(hidden, np.float32(np.nan), places.astype(np.float32))


def sort(
    data: Values, asc: bool = True, nodata: bool | None = None, axis: int | None = None  # noqa: FBT001, FBT002
) -> NDArray[Any]:  # fmt: skip
    """Return the values in their order; no data last, first where ``nodata`` is false.

    By default openEO leaves no data out. The pixels of a cube have equally many values, so that
    it is at the end here, too.
    """
    array = as_array(data, axis)
    places = order(array, asc, nodata is not False, array.ndim - 1).astype(int)
    return np.take_along_axis(array, places, axis=-1)


def rearrange(data: Values, order: Values, axis: int | None = None) -> NDArray[Any]:
    """Return the values in another order; no data where that has no place."""
    array, places = as_array(data, axis), as_array(order, axis)
    nodata = ~np.isfinite(places.astype(float))
    safe = np.where(nodata, 0, places).astype(int)
    if safe.ndim == 1:
        return array[..., safe]
    found = np.take_along_axis(array, safe, axis=-1)
    return np.where(nodata, np.float32(np.nan), found) if nodata.any() else found


def quantiles(
    data: Values,
    probabilities: Any = None,  # noqa: ANN401
    q: int | None = None,
    ignore_nodata: bool = True,  # noqa: FBT001, FBT002
    axis: int | None = None,
) -> NDArray[Any]:
    """Return quantiles: at ``probabilities``, or those that make ``q`` equal parts."""
    if (probabilities is None) == (q is None):
        code = "Missing" if q is None else "Conflict"
        raise ApiError(f"QuantilesParameter{code}", "give one of probabilities and q")
    if isinstance(probabilities, int | float) and not isinstance(probabilities, bool):
        q, probabilities = int(probabilities), None
    if q is not None:
        probabilities = [part / q for part in range(1, q)]
    function = np.nanquantile if ignore_nodata else np.quantile
    found = function(as_array(data, axis), np.asarray(probabilities, float), axis=-1)
    return np.moveaxis(np.asarray(found), 0, -1)


def extrema(data: Values, ignore_nodata: bool = True, axis: int | None = None) -> NDArray[Any]:  # noqa: FBT001, FBT002
    """Return the smallest and the largest value."""
    array = as_array(data, axis)
    low, high = (np.nanmin, np.nanmax) if ignore_nodata else (np.min, np.max)
    return np.stack([low(array, axis=-1), high(array, axis=-1)], axis=-1)


def count(
    data: Values,
    condition: Any = None,  # noqa: ANN401
    context: Any = None,  # noqa: ANN401
    axis: int | None = None,
) -> NDArray[Any]:
    """Return how many values are valid, there at all (``true``), or meet a condition."""
    array = as_array(data, axis)
    if condition is True:
        return np.full(array.shape[:-1], array.shape[-1], np.float32)
    if callable(condition):
        met = np.asarray(condition(named_parameters={"x": array, "context": context}), float)
        return np.asarray(np.nansum(np.broadcast_to(met, array.shape), axis=-1))
    return np.asarray(np.isfinite(array).sum(axis=-1), np.float32)


def array_filter(
    data: Values, condition: Any, context: Any = None, axis: int | None = None  # noqa: ANN401
) -> NDArray[Any]:  # fmt: skip
    """Return the values that meet a condition at every pixel; others would leave ragged arrays."""
    array = as_array(data, axis)
    met = np.asarray(condition(named_parameters={"x": array, "context": context}), float)
    met = np.broadcast_to(met == 1, array.shape)
    rows = met.reshape(-1, array.shape[-1])
    if (rows != rows[:1]).any():
        raise ApiError(
            "ProcessParameterInvalid",
            "array_filter keeps other values at one pixel than at another, which a cube cannot "
            "hold; set them to no data instead: apply with if(..., x, null)",
        )
    return array[..., rows[0]]


def array_apply(
    data: Values, process: Any, context: Any = None, axis: int | None = None  # noqa: ANN401
) -> NDArray[Any]:  # fmt: skip
    """Return ``process`` applied to every value."""
    array = as_array(data, axis)
    found = process(named_parameters={"x": array, "context": context})
    return np.broadcast_to(np.asarray(found), array.shape)


def if_(value: Any, accept: Any, reject: Any = None) -> NDArray[Any]:  # noqa: ANN401
    """Return ``accept`` where a value is true, ``reject`` where it is false or no data."""
    chosen = np.asarray(value)
    if chosen.dtype.kind == "f":
        chosen = np.where(np.isnan(chosen), 0, chosen)
    return np.asarray(np.where(chosen.astype(bool), _element(accept), _element(reject)))


def is_nodata(x: Any) -> NDArray[Any]:  # noqa: ANN401
    """Return where no data is."""
    return np.asarray(np.isnan(np.asarray(x, float)))


def _reduction(seen: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., NDArray[Any]]:
    def reduce(
        data: Values, ignore_nodata: bool = True, axis: int | None = None  # noqa: FBT001, FBT002
    ) -> NDArray[Any]:  # fmt: skip
        """Return one value for each pixel; no data where it has none."""
        array = as_array(data, axis)
        if array.dtype.kind != "f":
            return np.asarray(plain(array, axis=-1))
        found = (seen if ignore_nodata else plain)(array, axis=-1)
        nodata = np.isnan(array)
        holes = nodata.all(axis=-1) if ignore_nodata else nodata.any(axis=-1)
        return np.where(holes, np.asarray(np.nan, array.dtype), found)

    return reduce


def _deviation(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda array, axis: function(array, axis=axis, ddof=1)


def _logical(data: Values, ignore_nodata: bool, axis: int | None, *, empty: bool) -> NDArray[Any]:  # noqa: FBT001
    array = as_array(data, axis).astype(float)
    nodata = np.isnan(array)
    values = np.where(nodata, float(empty), array) != 0
    found = values.all(axis=-1) if empty else values.any(axis=-1)
    unknown = nodata.all(axis=-1)
    if not ignore_nodata:
        unknown = nodata.any(axis=-1) & (found == empty)
    return np.where(unknown, np.float32(np.nan), found.astype(np.float32))


def all_(data: Values, ignore_nodata: bool = True, axis: int | None = None) -> NDArray[Any]:  # noqa: FBT001, FBT002
    """Return whether all values are true."""
    return _logical(data, ignore_nodata, axis, empty=True)


def any_(data: Values, ignore_nodata: bool = True, axis: int | None = None) -> NDArray[Any]:  # noqa: FBT001, FBT002
    """Return whether a value is true."""
    return _logical(data, ignore_nodata, axis, empty=False)


def _running(function: Any, neutral: float) -> Callable[..., NDArray[Any]]:  # noqa: ANN401
    def accumulate(
        data: Values, ignore_nodata: bool = True, axis: int | None = None  # noqa: FBT001, FBT002
    ) -> NDArray[Any]:  # fmt: skip
        """Return what the values up to each make; no data where the value itself is."""
        array = as_array(data, axis)
        nodata = np.isnan(array.astype(float))
        filled = np.where(nodata & ignore_nodata, neutral, array)
        return np.where(nodata, np.nan, function.accumulate(filled, axis=-1))

    return accumulate


def _element(value: Any) -> Any:  # noqa: ANN401
    return np.float32(np.nan) if value is None else value


def _no_element(array: NDArray[Any], index: object) -> ApiError:
    return ApiError(
        "ArrayElementNotAvailable",
        f"the array has no element {index!r}; it has {array.shape[-1]} elements",
    )


ON_BLOCKS: dict[str, Callable[..., Any]] = {
    "all": all_,
    "any": any_,
    "array_append": array_append,
    "array_apply": array_apply,
    "array_concat": array_concat,
    "array_contains": array_contains,
    "array_create": array_create,
    "array_element": array_element,
    "array_filter": array_filter,
    "array_find": array_find,
    "array_interpolate_linear": array_interpolate_linear,
    "array_labels": array_labels,
    "array_modify": array_modify,
    "count": count,
    "cummax": _running(np.maximum, -np.inf),
    "cummin": _running(np.minimum, np.inf),
    "cumproduct": _running(np.multiply, 1),
    "cumsum": _running(np.add, 0),
    "extrema": extrema,
    "first": first,
    "if": if_,
    "is_nodata": is_nodata,
    "last": last,
    "max": _reduction(np.nanmax, np.max),
    "mean": _reduction(np.nanmean, np.mean),
    "median": _reduction(np.nanmedian, np.median),
    "min": _reduction(np.nanmin, np.min),
    "order": order,
    "product": _reduction(np.nanprod, np.prod),
    "quantiles": quantiles,
    "rearrange": rearrange,
    "sd": _reduction(_deviation(np.nanstd), _deviation(np.std)),
    "sort": sort,
    "sum": _reduction(np.nansum, np.sum),
    "variance": _reduction(_deviation(np.nanvar), _deviation(np.var)),
}
"""Process id -> function on blocks."""
