"""Items of local collections as clients may see them: without the server's paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.grid import overlap
from openeo_cloudmask.stac.search import in_time, parse_interval

MAX_ITEMS = 100


def item_href(base: str, collection_id: str, item_id: str) -> str:
    """Return the address of an item of the server at ``base``."""
    return f"{base.rstrip('/')}/collections/{quote(collection_id)}/items/{quote(item_id)}"


def item_pages(
    base: str,
    collection_id: str,
    query: Mapping[str, str],
    *,
    following: int | None = None,
    rel: str = "self",
) -> list[dict[str, str]]:
    """Return the link to items of a collection, and to the next page of them.

    Args:
        base: the server's address.
        collection_id: the collection.
        query: what was asked for.
        following: the place of the first item of the next page; None on the last page.
        rel: what the first link is called.
    """
    asked = {rel: dict(query)}
    if following is not None:
        asked["next"] = {**query, "offset": str(following)}
    own = f"{base.rstrip('/')}/collections/{quote(collection_id)}/items"
    return [
        {
            "rel": name,
            "href": f"{own}?{urlencode(values)}" if values else own,
            "type": "application/geo+json",
        }
        for name, values in asked.items()
    ]


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
    try:
        wanted = parse_interval(interval)
    except OptionError as err:
        raise ApiError("ParameterValueInvalid", str(err)) from None
    return _touches(item.get("bbox"), bbox) and in_time(item, wanted)


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
