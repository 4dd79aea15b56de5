"""What the standard processes of openeo-processes-dask need around them.

The library works on arrays of numbers. A client may also send lists, texts and nulls: those are
turned into arrays with NaN for null, and answers back into what openEO's descriptions promise.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from openeo_cloudmask.backend.processes.arrays import ON_BLOCKS, is_block
from openeo_cloudmask.backend.processes.plain import PLAIN

_KEEP_NULL = frozenset({"is_nodata", "is_valid", "is_nan", "if", "text_begins", "text_contains",
                        "text_ends", "text_concat", "array_append", "array_contains",
                        "array_find", "constant", "inspect"})  # fmt: skip
"""Processes to which null is a value like others."""
_HANDED = ("axis", "dim_labels")
"""Arguments that a callback on a dimension hands to every function that takes them."""


def adapt(
    process_id: str, function: Callable[..., Any], *, boolean: bool = False
) -> Callable[..., Any]:
    """Return ``function`` so that it takes what clients send, and blocks of cubes.

    Args:
        process_id: the process it does.
        function: of the library.
        boolean: whether openEO has the process return true, false or null.
    """
    on_blocks, on_plain = ON_BLOCKS.get(process_id), PLAIN.get(process_id)
    takes = [set(inspect.signature(f).parameters) if f else set()
             for f in (function, on_blocks, on_plain)]  # fmt: skip

    def call(**arguments: Any) -> Any:  # noqa: ANN401
        handed = {name: arguments.pop(name) for name in _HANDED if name in arguments}
        if any(map(is_block, arguments.values())):
            chosen, names = (on_blocks, takes[1]) if on_blocks else (function, takes[0])
            known = {name: value for name, value in handed.items() if name in names}
            given = arguments if on_blocks else _without_null(arguments)
            return chosen(**given, **known)
        if any(map(_is_array, arguments.values())):
            return function(**arguments)
        if on_plain is not None and set(arguments) <= takes[2]:
            return on_plain(**arguments)
        plain = {name: _from_json(process_id, value) for name, value in arguments.items()}
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # means of nothing but NaN
            warnings.filterwarnings("ignore", "no explicit representation of timezones")
            result = function(**plain)
        return _as_boolean(result) if boolean else result

    names = sorted(takes[0] | takes[1] | takes[2])
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
    )
    call.__doc__ = function.__doc__
    return call


def _without_null(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: np.nan if value is None else value for name, value in arguments.items()}


def _as_boolean(value: Any) -> Any:  # noqa: ANN401
    """Return 1.0 as true, 0.0 as false and NaN as null; arrays stay as they are."""
    if np.ndim(value) or value is None or isinstance(value, str):
        return value
    number = float(value)
    return None if np.isnan(number) else bool(number)


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
