"""Items of local collections as clients may see them: without the server's paths."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.grid import overlap

MAX_ITEMS = 100


def item_href(base: str, collection_id: str, item_id: str) -> str:
    """Return the address of an item of the server at ``base``."""
    return f"{base.rstrip('/')}/collections/{quote(collection_id)}/items/{quote(item_id)}"


def public_item(item: Mapping[str, Any], collection_id: str, base: str) -> dict[str, Any]:
    """Return an item without its assets, whose addresses are files of the server."""
    own = {"rel": "self", "href": item_href(base, collection_id, str(item["id"]))}
    parent = {"rel": "collection", "href": f"{base}/collections/{quote(collection_id)}"}
    properties = {
        key: value for key, value in item["properties"].items() if not key.startswith("cloudmask:")
    }
    return {
        **item,
        "collection": collection_id,
        "properties": properties,
        "assets": {},
        "links": [own, parent],
    }


def lies_in(item: Mapping[str, Any], bbox: str | None, interval: str | None) -> bool:
    """Return whether an item touches ``west,south,east,north`` and a ``start/end`` of times.

    Raises:
        ApiError: one of them is not of that form.
    """
    return _touches(item.get("bbox"), bbox) and _taken_in(item["properties"], interval)


def _touches(own: list[float] | None, bbox: str | None) -> bool:
    if bbox is None:
        return True
    try:
        west, south, east, north = (float(part) for part in bbox.split(","))
    except ValueError:
        raise ApiError(
            "ParameterValueInvalid", f"bbox is {bbox!r}; expected west,south,east,north"
        ) from None
    if own is None:
        return False
    return overlap(own, (west, south, east, north), edges=True)


def _taken_in(properties: Mapping[str, Any], interval: str | None) -> bool:
    if interval is None:
        return True
    start, _, end = interval.partition("/")
    begin, stop = _parse_time(start), _parse_time(end or start)
    when = _parse_time(str(properties.get("datetime") or properties.get("start_datetime") or ""))
    if when is None:
        return False
    return (begin is None or when >= begin) and (stop is None or when <= stop)


def _parse_time(text: str) -> datetime | None:
    if text in ("", ".."):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ApiError(
            "ParameterValueInvalid", f"datetime has {text!r}; expected a time of RFC 3339"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
