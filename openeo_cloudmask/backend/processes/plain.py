"""Standard processes on plain JSON values, where the library's array code differs from openEO.

Used only where no argument is an array: on cubes the library's functions run.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import Any

from openeo_cloudmask.backend.graph.process import openeo_process

Json = Any
"""A JSON value; None is no-data."""


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _comparison(compare: Callable[[Any, Any], bool]) -> Callable[..., bool | None]:
    def call(x: Json, y: Json) -> bool | None:
        """Return the comparison of two numbers, null for no-data, false for other types."""
        if x is None or y is None:
            return None
        return bool(compare(x, y)) if _is_number(x) and _is_number(y) else False

    return call


def _between(x: Json, min: Json, max: Json, exclude_max: bool = False) -> bool | None:  # noqa: A002, FBT001, FBT002
    if x is None or min is None or max is None:
        return None
    if not (_is_number(x) and _is_number(min) and _is_number(max)):
        return False
    return bool(min <= x and (x < max if exclude_max else x <= max))


def _is_nan(x: Json) -> bool:
    return isinstance(x, float) and x != x  # noqa: PLR0124 - NaN alone differs from itself


def _is_valid(x: Json) -> bool:
    return x is not None and not (isinstance(x, float) and abs(x) == float("inf"))


def _any(data: list[Json], ignore_nodata: bool = True) -> bool | None:  # noqa: FBT001, FBT002
    values = [item for item in data if item is not None]
    if any(values):
        return True
    return False if ignore_nodata or len(values) == len(data) or not values else None


def _all(data: list[Json], ignore_nodata: bool = True) -> bool | None:  # noqa: FBT001, FBT002
    values = [item for item in data if item is not None]
    if not all(values):
        return False
    return True if ignore_nodata or len(values) == len(data) or not values else None


def _array_find(data: list[Json], value: Json, reverse: bool = False) -> int | None:  # noqa: FBT001, FBT002
    if value is None or isinstance(value, list | dict):
        return None
    places = [
        place
        for place, item in enumerate(data)
        if item == value and isinstance(item, bool) == isinstance(value, bool)
    ]
    if not places:
        return None
    return places[-1] if reverse else places[0]


def _array_append(data: list[Json], value: Json, label: Json = None) -> list[Json]:
    if label is not None:
        from openeo_processes_dask.process_implementations.exceptions import ArrayNotLabeled

        raise ArrayNotLabeled("a label is given, but the array has no labels")
    return [*data, value]


def _array_concat(array1: list[Json], array2: list[Json]) -> list[Json]:
    return [*array1, *array2]


def _first(data: list[Json], ignore_nodata: bool = True) -> Json:  # noqa: FBT001, FBT002
    values = [item for item in data if item is not None] if ignore_nodata else data
    return values[0] if values else None


def _last(data: list[Json], ignore_nodata: bool = True) -> Json:  # noqa: FBT001, FBT002
    return _first(data[::-1], ignore_nodata)


def _order(data: list[Json], asc: bool = True, nodata: bool | None = None) -> list[int]:  # noqa: FBT001, FBT002
    known = [place for place, item in enumerate(data) if item is not None]
    # Equal values stay in their order in either direction.
    places = sorted(known, key=lambda place: data[place] if asc else -data[place])
    holes = [place for place, item in enumerate(data) if item is None]
    if nodata is None:
        return places
    return [*places, *holes] if nodata else [*holes, *places]


def _extreme(choose: Callable[[list[Any]], Any]) -> Callable[..., Json]:
    def call(data: list[Json], ignore_nodata: bool = True) -> Json:  # noqa: FBT001, FBT002
        """Return the smallest or largest value, null for an empty list."""
        values = [item for item in data if item is not None]
        if not values or (not ignore_nodata and len(values) < len(data)):
            return None
        nan = next((item for item in values if _is_nan(item)), None)
        return choose(values) if nan is None else nan

    return call


def _extrema(data: list[Json], ignore_nodata: bool = True) -> list[Json]:  # noqa: FBT001, FBT002
    return [_extreme(min)(data, ignore_nodata), _extreme(max)(data, ignore_nodata)]


def _total(combine: Callable[[list[Any]], Any]) -> Callable[..., Json]:
    def call(data: list[Json], ignore_nodata: bool = True) -> Json:  # noqa: FBT001, FBT002
        """Return what all values make together, null for an empty list."""
        values = [item for item in data if item is not None]
        if not values or (not ignore_nodata and len(values) < len(data)):
            return None
        return combine(values)

    return call


def _running(combine: Callable[[Any, Any], Any]) -> Callable[..., list[Json]]:
    def call(data: list[Json], ignore_nodata: bool = True) -> list[Json]:  # noqa: FBT001, FBT002
        """Return what the values up to each make; null where one is null, or all from there on."""
        found: list[Json] = []
        total: Json = None
        for item in data:
            if item is None and not ignore_nodata:
                return [*found, *(None for _ in data[len(found) :])]
            if item is not None:
                total = item if total is None else combine(total, item)
            found.append(None if item is None else total)
        return found

    return call


def _array_apply(
    data: list[Json], process: Callable[..., Json], context: Json = None
) -> list[Json]:
    return [_call_on(process, item, place, context) for place, item in enumerate(data)]


def _array_filter(
    data: list[Json], condition: Callable[..., Json], context: Json = None
) -> list[Json]:
    kept = [_call_on(condition, item, place, context) for place, item in enumerate(data)]
    return [item for item, keep in zip(data, kept, strict=True) if keep]


def _count(data: list[Json], condition: Json = None, context: Json = None) -> int:
    if condition is True:
        return len(data)
    if callable(condition):
        return len(_array_filter(data, condition, context))
    return sum(map(_is_valid, data))


def _call_on(process: Callable[..., Json], x: Json, index: int, context: Json) -> Json:
    return process(named_parameters={"x": x, "index": index, "label": None, "context": context})


def _power(base: Json, p: Json) -> Json:
    import numpy as np

    if base is None or p is None:
        return None
    return np.float64(base) ** np.float64(p)


def _int(x: Json) -> Json:
    return math.trunc(x) if x is not None and math.isfinite(x) else x


def _date_between(
    x: Json, min: Json, max: Json, exclude_max: bool = False  # noqa: A002, FBT001, FBT002
) -> bool | None:  # fmt: skip
    if x is None or min is None or max is None:
        return None
    when, low, high = (_parse_time(text) for text in (x, min, max))
    return bool(low <= when and (when < high if exclude_max else when <= high))


def _parse_time(text: str) -> float:
    """Return seconds, of a date since 1970 and of a time of day since midnight; UTC by default."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        clock = time.fromisoformat(text)
        when = datetime.combine(date(1970, 1, 1), clock)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _text_concat(data: list[Json], separator: Json = "") -> str:
    return _text(separator).join(map(_text, data))


def _text(value: Json) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _array_element(
    data: list[Json],
    index: int | None = None,
    label: Json = None,
    return_nodata: bool = False,  # noqa: FBT001, FBT002
) -> Json:
    from openeo_processes_dask.process_implementations import exceptions as errors

    if index is None and label is None:
        raise errors.ArrayElementParameterMissing("either index or label is required")
    if index is not None and label is not None:
        raise errors.ArrayElementParameterConflict("index and label cannot both be given")
    if label is not None:
        raise errors.ArrayNotLabeled("the array has no labels; use index")
    if index is not None and 0 <= index < len(data):
        return data[index]
    if return_nodata:
        return None
    raise errors.ArrayElementNotAvailable(f"the array has no element {index}")


_TEXT_FIND = {
    "id": "text_find",
    "summary": "Place of a text in another",
    "description": "Finds where a text holds another one for the first time.",
    "categories": ["texts"],
    "parameters": [
        {"name": "data", "description": "Text to search in.",
         "schema": {"type": ["string", "null"]}},
        {"name": "pattern", "description": "Text to look for.", "schema": {"type": "string"}},
        {"name": "case_sensitive", "description": "Whether A and a differ.",
         "schema": {"type": "boolean"}, "default": True, "optional": True},
    ],
    "returns": {
        "description": "The place of its first character, from 0; null if it is not there.",
        "schema": {"type": ["integer", "null"], "minimum": 0},
    },
    "links": [],
}  # fmt: skip


@openeo_process(describe=lambda _: _TEXT_FIND)
def text_find(
    data: str | None, pattern: str, case_sensitive: bool = True  # noqa: FBT001, FBT002
) -> int | None:  # fmt: skip
    """Return where a text first holds another one, from 0; null where it does not."""
    if data is None:
        return None
    if not case_sensitive:
        data, pattern = data.lower(), pattern.lower()
    place = data.find(pattern)
    return None if place < 0 else place


PLAIN: dict[str, Callable[..., Json]] = {
    "all": _all,
    "any": _any,
    "array_append": _array_append,
    "array_apply": _array_apply,
    "array_concat": _array_concat,
    "array_element": _array_element,
    "array_filter": _array_filter,
    "array_find": _array_find,
    "between": _between,
    "count": _count,
    "cummax": _running(max),
    "cummin": _running(min),
    "cumproduct": _running(operator.mul),
    "cumsum": _running(operator.add),
    "date_between": _date_between,
    "extrema": _extrema,
    "first": _first,
    "gt": _comparison(operator.gt),
    "gte": _comparison(operator.ge),
    "int": _int,
    "is_nan": _is_nan,
    "is_valid": _is_valid,
    "last": _last,
    "lt": _comparison(operator.lt),
    "lte": _comparison(operator.le),
    "max": _extreme(max),
    "min": _extreme(min),
    "order": _order,
    "power": _power,
    "product": _total(math.prod),
    "sum": _total(sum),
    "text_concat": _text_concat,
}
"""Process id -> function on JSON values."""
