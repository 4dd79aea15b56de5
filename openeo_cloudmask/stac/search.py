"""Search in a catalog that fits in memory, without a server."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_OPERATORS = frozenset(
    ("and", "or", "not", "casei", "accenti", *_COMPARISONS, *_ARITHMETIC, *_ARRAYS, *_SPATIAL)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to search for; None means anything."""

    collections: Sequence[str] | None = None
    ids: Sequence[str] | None = None
    bbox: Sequence[float] | None = None
    """West, south, east, north (with two heights in six numbers), degrees; a west that is larger
    than the east means a box over the antimeridian."""
    intersects: Mapping[str, Any] | None = None
    """A GeoJSON geometry."""
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
            OptionError: the filter is no CQL2, or names what no item has; the box or the geometry
                is not valid, or both are given.
        """
        tests: list[Callable[[Json], bool]] = [functools.partial(_fits, query=query)]
        if query.bbox is not None and query.intersects is not None:
            raise OptionError("bbox and intersects are both given; expected one of them")
        if query.bbox is not None:
            tests.append(_in_box(query.bbox))
        if query.intersects is not None:
            tests.append(_in_geometry(query.intersects))
        if query.filter is not None:
            tests.append(self._compile(query.filter))
        return [item for item in self.items if all(test(item) for test in tests)]

    def queryables(self, collection: str | None = None) -> Json:
        """Return the JSON schema of what a filter can name: ``id``, ``geometry``, and fields."""
        items = [item for item in self.items if collection in (None, item["collection"])]
        properties: Json = {
            "id": {"type": "string"},
            "collection": {"type": "string"},
            "geometry": {"$ref": "https://geojson.org/schema/Geometry.json"},
        }
        for item in items:
            for key, value in searchable(item).items():
                properties.setdefault(key, _value_schema(key, value))
        return {
            "$schema": "https://json-schema.org/draft/2019-09/schema",
            "type": "object",
            "title": "What a filter can name",
            "properties": properties,
            "additionalProperties": False,
        }

    def _compile(self, text: str | Mapping[str, Any]) -> Callable[[Json], bool]:
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
            raise OptionError(
                f"filter uses {', '.join(strange)}, which is not supported here; supported are "
                f"{', '.join(sorted(_OPERATORS))}"
            )

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
    parts = text.upper().split("/")
    expected = "expected RFC 3339, such as 2024-05-01T00:00:00Z, or two of them: start/end"
    try:
        ends = [None if part in ("", "..") else _parse_rfc3339(part) for part in parts]
    except ValueError as err:
        raise OptionError(f"datetime is {text[:80]!r}; {expected}") from err
    if len(ends) > 2 or set(ends) == {None}:
        raise OptionError(f"datetime is {text[:80]!r}; {expected}")
    first, last = ends[0], ends[-1]
    if first is not None and last is not None and first > last:
        raise OptionError(f"datetime is {text[:80]!r}, whose end is before its start; {expected}")
    return first, last


def _parse_rfc3339(text: str) -> datetime:
    if not _RFC3339.fullmatch(text):
        raise ValueError(text)
    return datetime.fromisoformat(text)


def _parse_time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _fits(item: Json, query: Query) -> bool:
    return (
        (query.collections is None or item["collection"] in query.collections)
        and (query.ids is None or item["id"] in query.ids)
        and in_time(item, query.interval)
    )


def _in_box(box: Sequence[float]) -> Callable[[Json], bool]:
    """Return whether an item touches a box; one without a reference lies nowhere."""
    if len(box) not in (4, 6):
        raise OptionError(f"bbox has {len(box)} numbers; expected 4, or 6 with heights")
    if not all(map(math.isfinite, box)) or box[1] > box[len(box) // 2 + 1]:
        raise OptionError(
            f"bbox is {', '.join(f'{value:g}' for value in box)}; expected west, south, east, "
            "north in degrees, the south not above the north"
        )

    def touches(item: Json) -> bool:
        own = item.get("bbox")
        return own is not None and overlap(own, box, edges=True)

    return touches


def _in_geometry(geometry: Mapping[str, Any]) -> Callable[[Json], bool]:
    """Return whether an item has a point in common with a GeoJSON geometry."""
    import shapely

    try:
        wanted = shapely.from_geojson(json.dumps(geometry))
    except (shapely.errors.ShapelyError, RecursionError) as err:
        raise OptionError(f"intersects is no GeoJSON geometry: {err}") from err
    if not all(map(math.isfinite, wanted.bounds)):
        raise OptionError("intersects is empty, or holds what is no number; expected a geometry")
    shapely.prepare(wanted)

    def touches(item: Json) -> bool:
        own = item["geometry"]
        return own is not None and bool(
            shapely.intersects(wanted, shapely.from_geojson(json.dumps(own)))
        )

    return touches


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
