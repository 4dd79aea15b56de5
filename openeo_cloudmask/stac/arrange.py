"""In which order found items are given, and with which of their fields."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.stac.search import Json, searchable

_PROPERTIES = "properties"
_TIMES = ("datetime", "start_datetime", "end_datetime")
_VALID = (
    *("id", "type", "stac_version", "collection", "geometry", "bbox", "links", "assets"),
    *(f"{_PROPERTIES}.{name}" for name in _TIMES),
)
"""What items keep that are asked for by field: without these they would be no STAC items."""


def sort_items(
    items: Iterable[Json], sortby: Iterable[str | Mapping[str, str]] | None, every: Iterable[Json]
) -> list[Json]:
    """Return items in the order of ``sortby``; those that lack the field come last.

    Args:
        items: STAC items.
        sortby: fields, the weightiest first: as an address has them (``datetime``, ``-id``,
            ``+properties.gsd``; a ``-`` means the largest first), or with ``field`` and
            ``direction`` (asc, desc) as a body has them. Items without ``datetime`` stand at their
            start. None leaves the order as it is.
        every: all items there are, which say what can be sorted by.

    Raises:
        OptionError: no item has a text or a number of that name.
    """
    signed: dict[str, str] = {}
    for sign, name in map(_sorted_by, sortby or ()):
        signed.setdefault(name.removeprefix(f"{_PROPERTIES}."), sign)  # once: each sorts all items
    if not signed:
        return list(items)
    rows = [(_sortable(item), item) for item in items]
    known = sorted({name for item in every for name in _sortable(item)})
    for name, sign in reversed(signed.items()):
        if known and name not in known:
            raise OptionError(
                f"sortby names {name[:80]!r}, by which no item here can be sorted; known are "
                f"{', '.join(known)}"
            )
        having = [row for row in rows if name in row[0]]
        lacking = [row for row in rows if name not in row[0]]
        having.sort(
            key=lambda row, name=name: (isinstance(row[0][name], str), row[0][name]),  # type: ignore[misc]
            reverse=sign == "-",
        )
        rows = having + lacking
    return [item for _, item in rows]


def _sorted_by(one: str | Mapping[str, str]) -> tuple[str, str]:
    if isinstance(one, str):
        return _split_sign(one)
    return "-" if one.get("direction") == "desc" else "+", one["field"]


def _sortable(item: Json) -> Json:
    values = {key: value for key, value in searchable(item).items() if not isinstance(value, list)}
    start = values.get("datetime", values.get("start_datetime"))
    when = {} if start is None else {"datetime": start}
    return {**values, **when, "id": item["id"], "collection": item["collection"]}


def pick_fields(item: Json, fields: Iterable[str] | Mapping[str, Iterable[str]] | None) -> Json:
    """Return an item with the fields that every item has, and those of ``fields``.

    Args:
        item: a STAC item, which stays as it is.
        fields: names with dots between their parts: as an address has them
            (``properties.license``, ``+assets.model.href``, ``-geometry``), or as ``include`` and
            ``exclude`` of a body. Those of properties are known without ``properties``, too. What
            is excluded is left out even if it is included; unknown ones are ignored. None means
            all.
    """
    if fields is None:
        return item
    if isinstance(fields, Mapping):
        signed = [("+", name) for name in fields.get("include", ())]
        signed += [("-", name) for name in fields.get("exclude", ())]
    else:
        signed = [_split_sign(name) for name in fields]
    picked: Json = {}
    for name in dict.fromkeys((*_VALID, *(name for sign, name in signed if sign == "+"))):
        _copy(item, picked, _parts(item, name))
    for name in (name for sign, name in signed if sign == "-"):
        _drop(picked, _parts(item, name))
    return picked


def refuse_query(given: object) -> None:
    """Refuse the ``query`` of a former extension of the STAC API.

    Raises:
        OptionError: it is given.
    """
    if given is not None:
        raise OptionError(
            f"query is {str(given)[:80]}; that extension of the STAC API is not supported. Use "
            "filter (CQL2), such as: gsd <= 30"
        )


def _split_sign(name: str) -> tuple[str, str]:
    name = name.strip()  # a plus that was not encoded arrives as a space
    return (name[0], name[1:]) if name[:1] in ("+", "-") else ("+", name)


def _parts(item: Json, name: str) -> list[str]:
    parts = name.split(".")
    return [_PROPERTIES, *parts] if parts[0] not in item else parts


def _copy(source: Mapping[str, Any], target: Json, parts: Sequence[str]) -> None:
    head, *rest = parts
    if head not in source:
        return
    inner = source[head]
    if rest and isinstance(inner, Mapping):
        _copy(inner, target.setdefault(head, {}), rest)
    elif not rest:
        target[head] = copy.deepcopy(inner)


def _drop(target: Json, parts: Sequence[str]) -> None:
    head, *rest = parts
    if not rest:
        target.pop(head, None)
    elif isinstance(target.get(head), dict):
        _drop(target[head], rest)
