"""Items of local collections as clients may see them: without the server's paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

GEOJSON = "application/geo+json"


def item_href(base: str, collection_id: str, item_id: str) -> str:
    """Return the address of an item of the server at ``base``."""
    return f"{base.rstrip('/')}/collections/{quote(collection_id)}/items/{quote(item_id)}"


def page_links(
    base: str,
    here: str,
    query: Mapping[str, str],
    *,
    following: int | None = None,
    body: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Return the links to a page of items and to the next one.

    Args:
        base: the server's address.
        here: the address that was asked, without a query.
        query: of the address.
        following: the place of the first item of the next page; None on the last page.
        body: of the request; None where the query is all that was asked.
    """
    links: list[dict[str, Any]] = [{"rel": "self", "href": _with_query(here, query)}]
    if following is not None and body is None:
        asked = {**query, "offset": str(following)}
        links.append({"rel": "next", "href": _with_query(here, asked), "method": "GET"})
    elif following is not None:
        again: dict[str, Any] = {**(body or {}), "offset": following}
        links.append({"rel": "next", "href": here, "method": "POST", "body": again})
    return [_root(base), *({**link, "type": GEOJSON} for link in links)]


def _root(base: str) -> dict[str, str]:
    return {"rel": "root", "href": f"{base}/", "type": "application/json"}


def _with_query(here: str, query: Mapping[str, str]) -> str:
    return f"{here}?{urlencode(query)}" if query else here


def public_item(item: Mapping[str, Any], collection_id: str, base: str) -> dict[str, Any]:
    """Return an item without its assets, whose addresses are files of the server."""
    own = {"rel": "self", "href": item_href(base, collection_id, str(item["id"])), "type": GEOJSON}
    above = {"href": f"{base}/collections/{quote(collection_id)}", "type": "application/json"}
    properties = {
        key: value for key, value in item["properties"].items() if not key.startswith("cloudmask:")
    }
    return {
        **item,
        "collection": collection_id,
        "properties": properties,
        "assets": {},
        "links": [own, _root(base), *({"rel": rel, **above} for rel in ("parent", "collection"))],
    }
