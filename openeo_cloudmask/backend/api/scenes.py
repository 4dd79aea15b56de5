"""The scenes of the collections, as a STAC API has them: items, searches, what filters can name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse

from openeo_cloudmask.backend.api.common import StateOf, read_json
from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.api.public_items import GEOJSON, page_links, public_item
from openeo_cloudmask.backend.api.state import State
from openeo_cloudmask.stac.arrange import pick_fields, refuse_query, sort_items
from openeo_cloudmask.stac.search import (
    CatalogIndex,
    Query,
    parse_filter,
    parse_interval,
    parse_json,
)

router = APIRouter()

MAX_ITEMS = 100
"""Of a page."""
_LISTS = ("collections", "ids", "bbox", "sortby", "fields")
_TEXTS = ("datetime", "filter-lang", "limit", "offset", "query")


class SortBy(BaseModel):
    """One field to sort by."""

    field: str
    direction: Literal["asc", "desc"] = "asc"


class Fields(BaseModel):
    """Which fields are given."""

    include: list[str] | None = None
    exclude: list[str] | None = None


class Search(BaseModel):
    """What is searched for; ``sortby`` and ``fields`` of an address are names with signs."""

    collections: list[str] | None = None
    ids: list[str] | None = None
    bbox: list[float] | None = None
    intersects: dict[str, Any] | None = None
    datetime: str | None = None
    filter: str | dict[str, Any] | None = None
    filter_lang: Literal["cql2-text", "cql2-json"] | None = Field(None, alias="filter-lang")
    sortby: list[SortBy] | list[str] | None = None
    fields: Fields | list[str] | None = None
    query: Any = None
    limit: int = Field(default=10, ge=1)
    offset: int = Field(default=0, ge=0)


class GeoJson(JSONResponse):
    """JSON with features."""

    media_type = GEOJSON


class Schema(JSONResponse):
    """JSON that is a JSON schema."""

    media_type = "application/schema+json"


def read_address(request: Request) -> Search:
    """Return the search in an address.

    Raises:
        ApiError: a value is not valid.
        OptionError: a part of it is no JSON.
    """
    given = request.query_params
    values: dict[str, Any] = {name: given[name] for name in _TEXTS if name in given}
    values |= {name: given[name].split(",") for name in _LISTS if given.get(name)}
    values["intersects"] = parse_json(given.get("intersects"), "intersects")
    values["filter"] = parse_filter(given.get("filter"), given.get("filter-lang"))
    return _checked(values)


async def read_body(request: Request) -> tuple[Search, dict[str, Any]]:
    """Return the search in a body, and the body.

    Raises:
        ApiError: it is no JSON object, or a value is not valid.
    """
    body = await read_json(request)
    return _checked(body), body


def _checked(values: Mapping[str, Any]) -> Search:
    try:
        found = Search.model_validate(values)
    except ValidationError as err:
        wrong = dict.fromkeys(str(item["loc"][0]) for item in err.errors())
        raise ApiError(
            "ParameterValueInvalid",
            f"not valid: {', '.join(wrong)}; expected what the STAC API says, such as "
            "bbox=west,south,east,north and limit=10",
        ) from None
    refuse_query(found.query)
    return found


AddressOf = Annotated[Search, Depends(read_address)]
BodyOf = Annotated[tuple[Search, dict[str, Any]], Depends(read_body)]


@router.get("/search")
def search(asked: AddressOf, request: Request, state: StateOf) -> GeoJson:
    """Return the scenes of all collections that fit."""
    here = f"{state.base_url(request)}/search"
    return _answer(asked, state, request, here, body=None)


@router.post("/search")
def post_search(sent: BodyOf, request: Request, state: StateOf) -> GeoJson:
    """Return the scenes of all collections that fit."""
    asked, body = sent
    here = f"{state.base_url(request)}/search"
    return _answer(asked, state, request, here, body=body)


@router.get("/collections/{collection_id}/items")
def items(collection_id: str, asked: AddressOf, request: Request, state: StateOf) -> GeoJson:
    """Return the scenes of a collection that fit."""
    state.collections.get(collection_id)
    asked = asked.model_copy(update={"collections": [collection_id], "ids": None})
    here = f"{state.base_url(request)}/collections/{collection_id}/items"
    return _answer(asked, state, request, here, body=None)


@router.get("/collections/{collection_id}/items/{item_id}")
def item(collection_id: str, item_id: str, request: Request, state: StateOf) -> GeoJson:
    """Return one scene as a STAC item."""
    for found in state.collections.items(collection_id):
        if found["id"] == item_id:
            return GeoJson(public_item(found, collection_id, state.base_url(request)))
    raise ApiError("NotFound", f"collection {collection_id!r} has no item {item_id!r}")


@router.get("/queryables")
def queryables(request: Request, state: StateOf) -> Schema:
    """Return what a filter of a search can name."""
    base = state.base_url(request)
    index = _index(state, state.collections.ids(), base)
    return Schema({"$id": f"{base}/queryables", **index.queryables()})


@router.get("/collections/{collection_id}/queryables")
def collection_queryables(collection_id: str, request: Request, state: StateOf) -> Schema:
    """Return what a filter of a collection's scenes can name."""
    base = state.base_url(request)
    index = _index(state, [collection_id], base)
    here = f"{base}/collections/{collection_id}/queryables"
    return Schema({"$id": here, **index.queryables()})


def _index(state: State, collection_ids: list[str], base: str) -> CatalogIndex:
    found = [
        public_item(item, name, base)
        for name in collection_ids
        for item in state.collections.items(name)
    ]
    return CatalogIndex(collections=(), items=tuple(found))


def _answer(
    asked: Search, state: State, request: Request, here: str, *, body: dict[str, Any] | None
) -> GeoJson:
    base = state.base_url(request)
    names = [name for name in state.collections.ids() if name in (asked.collections or [name])]
    index = _index(state, names, base)
    query = Query(
        ids=asked.ids,
        bbox=asked.bbox,
        intersects=asked.intersects,
        interval=parse_interval(asked.datetime),
        filter=asked.filter,
    )
    wanted = asked.model_dump(include={"sortby", "fields"}, exclude_none=True)
    found = sort_items(index.search(query), wanted.get("sortby"), index.items)
    first, limit = asked.offset, min(asked.limit, MAX_ITEMS)
    shown = found[first : first + limit]
    following = first + limit if first + limit < len(found) else None
    return GeoJson(
        {
            "type": "FeatureCollection",
            "features": [pick_fields(item, wanted.get("fields")) for item in shown],
            "numberMatched": len(found),
            "numberReturned": len(shown),
            "links": page_links(base, here, request.query_params, following=following, body=body),
        }
    )
