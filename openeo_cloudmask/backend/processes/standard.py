"""What the standard processes of openeo-processes-dask need around them, and what replaces some.

The library works on arrays of numbers. A client may also send lists, texts and nulls: those are
turned into arrays with NaN for null, and answers back into what openEO's descriptions promise.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from openeo_cloudmask.backend.processes.neighborhood import apply_udf
from openeo_cloudmask.backend.processes.plain import PLAIN

_KEEP_NULL = frozenset({"is_nodata", "is_valid", "is_nan", "if", "text_begins", "text_contains",
                        "text_ends", "text_concat", "array_append", "array_contains",
                        "array_find", "constant", "inspect"})  # fmt: skip
"""Processes to which null is a value like others."""
_CUBE_CALLBACKS = ("apply", "apply_dimension", "reduce_dimension")


def adapt(
    process_id: str, function: Callable[..., Any], *, boolean: bool = False
) -> Callable[..., Any]:
    """Return ``function`` so that it takes what clients send.

    Args:
        process_id: the process it does.
        function: of the library.
        boolean: whether openEO has the process return true, false or null.
    """
    if process_id in _CUBE_CALLBACKS:
        return _with_labelled_udf(process_id, function)

    known = set(inspect.signature(PLAIN[process_id]).parameters) if process_id in PLAIN else set()

    @functools.wraps(function)
    def call(**arguments: Any) -> Any:  # noqa: ANN401
        if any(_is_array(value) for value in arguments.values()):
            return function(**arguments)
        if process_id in PLAIN and set(arguments) <= known:
            return PLAIN[process_id](**arguments)
        plain = {name: _from_json(process_id, value) for name, value in arguments.items()}
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # means of nothing but NaN
            result = function(**plain)
        return _as_boolean(result) if boolean else result

    return call


def _as_boolean(value: Any) -> Any:  # noqa: ANN401
    """Return 1.0 as true, 0.0 as false and NaN as null; arrays stay as they are."""
    if np.ndim(value) or value is None or isinstance(value, str):
        return value
    number = float(value)
    return None if np.isnan(number) else bool(number)


def _with_labelled_udf(process_id: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function``; a callback that is nothing but ``run_udf`` gets the labelled cube."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(**arguments: Any) -> Any:  # noqa: ANN401
        callback = arguments.get("process", arguments.get("reducer"))
        data = arguments.get("data")
        if isinstance(data, xr.DataArray) and callable(callback):
            found = apply_udf(data, callback, arguments.get("context"))
            if found is not None:
                dimension = arguments.get("dimension")
                if process_id == "reduce_dimension" and dimension in found.dims:
                    return found.squeeze(dimension, drop=True)
                return found
        return function(**arguments)

    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


def _is_array(value: object) -> bool:
    return isinstance(value, xr.DataArray | np.ndarray) or hasattr(value, "dask")


def _from_json(process_id: str, value: Any) -> Any:  # noqa: ANN401
    if value is None and process_id not in _KEEP_NULL:
        return np.nan
    if isinstance(value, list):
        return _as_array(value)
    return value


def _as_array(values: list[Any]) -> Any:  # noqa: ANN401
    """Return a list as an array: numbers with NaN for null, else objects as they are."""
    flat = list(_flatten(values))
    numbers = all(
        item is None or (isinstance(item, int | float) and not isinstance(item, bool))
        for item in flat
    )
    if flat and numbers:
        try:
            if None in flat:
                return np.array(values, dtype=float)
            return np.array(values)
        except ValueError:  # lists of different lengths
            return _objects(values)
    if all(isinstance(item, bool) for item in flat) or all(isinstance(i, str) for i in flat):
        return np.array(values) if flat else np.array([])
    return _objects(values)


def _objects(values: list[Any]) -> Any:  # noqa: ANN401
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _flatten(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        for item in value:
            yield from _flatten(item)
    else:
        yield value


REPLACEMENTS: dict[str, Callable[..., Any]] = {}
"""Processes of ours in place of the library's, which are missing or differ from openEO's."""
