"""Members of a STAC item that have to be there; errors say where they should be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openeo_cloudmask.errors import CatalogError

Json = Mapping[str, Any]


def asset_of(item: Json, key: str) -> Json:
    """Return an asset.

    Raises:
        CatalogError: it is not there, or something else.
    """
    return member_of(item["assets"], key, "assets")


def link_of(item: Json, rel: str) -> Json:
    """Return the first link of a relation.

    Raises:
        CatalogError: it is not there, or something else.
    """
    links: list[Json] = [link for link in item["links"] if link["rel"] == rel]
    if not links:
        raise CatalogError(f"links: none has the rel {rel!r}; expected one")
    return links[0]


def member_of(parent: Json, key: str, where: str) -> Json:
    """Return the object at ``parent[key]``; ``where`` is the place of ``parent``.

    Raises:
        CatalogError: it is not there, or something else.
    """
    found = parent.get(key)
    if not isinstance(found, Mapping):
        raise CatalogError(f"{where}.{key} is {found!r}; expected an object")
    return found


def text_of(parent: Json, key: str, *, where: str = "properties") -> str:
    """Return the text at ``parent[key]``; ``where`` is the place of ``parent``.

    Raises:
        CatalogError: it is not there, or something else.
    """
    found = parent.get(key)
    if not isinstance(found, str) or not found:
        raise CatalogError(f"{where}.{key} is {found!r}; expected a non-empty text")
    return found
