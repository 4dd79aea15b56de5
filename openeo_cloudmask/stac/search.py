"""Search in a catalog that fits in memory, without a server."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from openeo_cloudmask.errors import CatalogError, OptionError
from openeo_cloudmask.grid import overlap
from openeo_cloudmask.stac.catalog import walk_catalog
from openeo_cloudmask.stac.extension import INPUTS

Json = dict[str, Any]

BANDS = "bands"
LEVELS = "processing_levels"
_DERIVED = {
    BANDS: "Names and common names of the bands of every sensor the model works for.",
    LEVELS: "Processing levels of the data the model works for.",
}
_COMPARISONS = ("=", "<>", "<", "<=", ">", ">=", "isNull", "like", "between", "in")
_ARITHMETIC = ("+", "-", "*", "/", "^", "%", "div")
_ARRAYS = ("a_equals", "a_contains", "a_containedBy", "a_overlaps")
_SPATIAL = ("s_intersects", "s_disjoint", "s_within", "s_contains", "s_equals")
_MAX_FILTER_CHARS = 2000
_MAX_FILTER_DEPTH = 10
"""The parser of CQL2 needs stack for each part, and time that doubles with each parenthesis."""
_LITERAL = re.compile(r"""'[^']*'|"[^"]*\"""")
_OPERATORS = frozenset(
    ("and", "or", "not", "casei", "accenti", *_COMPARISONS, *_ARITHMETIC, *_ARRAYS, *_SPATIAL)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to search for; None means anything."""

    collections: Sequence[str] | None = None
    ids: Sequence[str] | None = None
    bbox: Sequence[float] | None = None
    """West, south, east, north (with two heights in six numbers), degrees."""
    intersects: Mapping[str, Any] | None = None
    """A GeoJSON geometry; its bounding box is what counts."""
    interval: tuple[datetime | None, datetime | None] | None = None
    filter: str | Mapping[str, Any] | None = None
    """CQL2, as text or JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogIndex:
    """Collections and items of a catalog."""

    collections: tuple[Json, ...]
    items: tuple[Json, ...]

    def search(self, query: Query) -> list[Json]:
        """Return the items that fit, in the catalog's order.

        Raises:
            OptionError: the filter is no CQL2, or names what no item has.
        """
        if query.bbox and len(query.bbox) not in (4, 6):
            raise OptionError(f"bbox has {len(query.bbox)} numbers; expected 4, or 6 with heights")
        matches = self._compile(query.filter) if query.filter is not None else None
        return [
            item for item in self.items if _fits(item, query) and (not matches or matches(item))
        ]

    def queryables(self, collection: str | None = None) -> Json:
        """Return the JSON schema of what a filter can name: ``id``, ``collection``, and fields."""
        items = [item for item in self.items if collection in (None, item["collection"])]
        properties: Json = {"id": {"type": "string"}, "collection": {"type": "string"}}
        for item in items:
            for key, value in searchable(item).items():
                properties.setdefault(key, _value_schema(key, value))
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "title": "What a filter can name",
            "properties": properties,
            "additionalProperties": False,
        }

    def _compile(self, text: str | Mapping[str, Any]) -> Any:  # noqa: ANN401 - a function
        import cql2

        _check_size(text)
        try:
            expression = cql2.Expr(text if isinstance(text, str) else dict(text))
            content = expression.to_json()
        except Exception as err:  # cql2 raises plain exceptions
            raise OptionError(f"filter is no CQL2: {err}") from err
        known = self.queryables()["properties"]
        for name in _property_names(content):
            if name.removeprefix("properties.") not in known:
                raise OptionError(
                    f"filter names {name!r}, which no item has; known are {', '.join(known)}"
                )
        if strange := sorted(set(_operators(content)) - _OPERATORS):
            raise OptionError(f"filter uses {', '.join(strange)}, which is not supported here")

        def matches(item: Json) -> bool:
            seen = {
                "id": item["id"],
                "collection": item["collection"],
                "geometry": item["geometry"],
                "properties": searchable(item),
            }
            try:
                return bool(expression.matches(seen))
            except Exception:  # noqa: BLE001 - so cql2 says "unknown", as where a value is absent
                return False

        return matches


def read_index(folder: Path) -> CatalogIndex:
    """Return the index of the catalog in ``folder``.

    Raises:
        CatalogError: it is not a whole catalog.
    """
    collections, items = [], []
    for path, content in walk_catalog(folder):
        kind = content.get("type")
        if kind == "Collection":
            collections.append(content)
        elif kind == "Feature":
            items.append(content)
        elif kind != "Catalog":
            raise CatalogError(f"{path}: type is {kind!r}; expected a STAC object")
    return CatalogIndex(collections=tuple(collections), items=tuple(items))


def searchable(item: Json) -> Json:
    """Return what a filter sees of an item: plain fields, and of a model's inputs two lists."""
    properties = item["properties"]
    plain = {key: value for key, value in properties.items() if _is_plain(value)}
    if (inputs := properties.get(INPUTS)) is None:
        return plain
    bands = [band for given in inputs for band in given["bands"]]
    names = [band[key] for key in ("name", "eo:common_name") for band in bands if key in band]
    plain[BANDS] = list(dict.fromkeys(names))
    plain[LEVELS] = list(dict.fromkeys(given["processing_level"] for given in inputs))
    return plain


def parse_interval(text: str | None) -> tuple[datetime | None, datetime | None] | None:
    """Return start and end of a STAC ``datetime`` parameter; None where an end is open.

    Raises:
        OptionError: it is no date-time and no interval.
    """
    if text is None:
        return None
    parts = text.split("/")
    try:
        ends = [None if part in ("", "..") else _parse_time(part) for part in parts]
    except ValueError as err:
        raise OptionError(f"datetime is {text!r}; expected RFC 3339: {err}") from err
    if len(ends) == 1:
        return ends[0], ends[0]
    if len(ends) != 2 or ends == [None, None]:
        raise OptionError(f"datetime is {text!r}; expected one date-time or start/end")
    return ends[0], ends[1]


def _parse_time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _fits(item: Json, query: Query) -> bool:
    boxes = [query.bbox] if query.bbox else []
    if query.intersects is not None:
        boxes.append(_bounds(query.intersects))
    return (
        (query.collections is None or item["collection"] in query.collections)
        and (query.ids is None or item["id"] in query.ids)
        and all(_touches(item.get("bbox"), box) for box in boxes)
        and in_time(item, query.interval)
    )


def _touches(own: Sequence[float] | None, box: Sequence[float]) -> bool:
    return own is not None and overlap(own, box, edges=True)  # without a reference: nowhere


def _bounds(geometry: Mapping[str, Any]) -> list[float]:
    try:
        parts = geometry.get("geometries", [geometry])
        points = [point for part in parts for point in _points(part["coordinates"])]
        xs, ys = [float(point[0]) for point in points], [float(point[1]) for point in points]
        return [min(xs), min(ys), max(xs), max(ys)]
    except (KeyError, IndexError, TypeError, ValueError, RecursionError) as err:
        raise OptionError(f"intersects is no GeoJSON geometry: {err!r}") from err


def _points(coordinates: Any) -> Iterator[Sequence[float]]:  # noqa: ANN401 - nested as deep as it is
    if coordinates and isinstance(coordinates[0], int | float):
        yield coordinates
        return
    for part in coordinates:
        yield from _points(part)


def in_time(
    item: Mapping[str, Any], interval: tuple[datetime | None, datetime | None] | None
) -> bool:
    """Return whether an item's time, or some of its times, lies in an interval."""
    if interval is None:
        return True
    properties = item["properties"]
    start = _parse_time(properties.get("datetime") or properties["start_datetime"])
    end = _parse_time(properties.get("datetime") or properties["end_datetime"])
    first, last = interval
    return (last is None or start <= last) and (first is None or first <= end)


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(part, str | int | float) for part in value)
    return isinstance(value, str | int | float)


def _value_schema(key: str, value: object) -> Json:
    kinds = {bool: "boolean", int: "number", float: "number", str: "string"}
    described = {"description": _DERIVED[key]} if key in _DERIVED else {}
    if isinstance(value, list):
        parts = {"items": {"type": kinds[type(value[0])]}} if value else {}
        return {"type": "array", **parts, **described}
    return {"type": kinds[type(value)], **described}


def _check_size(given: str | Mapping[str, Any]) -> None:
    """Refuse a filter on which the parser would end the process, or take too long.

    Raises:
        OptionError: it is too long, nested too deeply, or holds a backslash.
    """
    length = len(given if isinstance(given, str) else json.dumps(given))
    if length > _MAX_FILTER_CHARS:
        raise OptionError(f"filter has {length} characters; expected at most {_MAX_FILTER_CHARS}")
    if isinstance(given, str) and "\\" in given:
        raise OptionError("filter holds a backslash; write a quote within a text as two quotes")
    depth = _text_depth(given) if isinstance(given, str) else _json_depth(given)
    if depth > _MAX_FILTER_DEPTH:
        raise OptionError(f"filter is nested {depth} deep; expected at most {_MAX_FILTER_DEPTH}")


def _text_depth(text: str) -> int:
    depth = deepest = 0
    for sign in _LITERAL.sub("", text):
        depth += (sign in "([") - (sign in ")]")
        deepest = max(deepest, depth)
    return deepest


def _json_depth(content: Mapping[str, Any]) -> int:
    """Return how deeply expressions lie in each other: each is an object with a list."""
    deepest = 0.0
    waiting: list[tuple[Any, float]] = [(content, 0.0)]
    while waiting:
        part, depth = waiting.pop()
        deepest = max(deepest, depth)
        if isinstance(part, Mapping):
            waiting += [(value, depth + 0.5) for value in part.values()]
        elif isinstance(part, list):
            waiting += [(value, depth + 0.5) for value in part]
    return math.ceil(deepest)


def _property_names(content: object) -> Iterator[str]:
    for node in _nodes(content):
        if isinstance(node.get("property"), str):
            yield node["property"]


def _operators(content: object) -> Iterator[str]:
    for node in _nodes(content):
        if isinstance(node.get("op"), str):
            yield node["op"]


def _nodes(content: object) -> Iterator[Json]:
    if isinstance(content, Mapping):
        yield dict(content)
    parts: Iterable[object] = ()
    if isinstance(content, Mapping):
        parts = content.values()
    elif isinstance(content, list):
        parts = content
    for part in parts:
        yield from _nodes(part)


def parse_filter(text: str | None, language: str | None) -> str | Mapping[str, Any] | None:
    """Return the filter of a GET request: text, or JSON where ``language`` says so.

    Raises:
        OptionError: it is said to be JSON and is not.
    """
    return text if language != "cql2-json" else parse_json(text, "filter")


def parse_json(text: str | None, name: str) -> Mapping[str, Any] | None:
    """Return the object in a parameter's text.

    Raises:
        OptionError: the text is no JSON object.
    """
    if text is None:
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise OptionError(f"{name} is no JSON: {err}") from err
    if not isinstance(content, dict):
        raise OptionError(f"{name} is {text[:80]!r}; expected a JSON object")
    return content
