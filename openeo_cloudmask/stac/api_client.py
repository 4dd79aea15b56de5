"""The answers of the STAC API; only ``api.build_stac_app`` imports this, because of FastAPI."""

# ruff: noqa: ANN401 - stac-fastapi hands parameters over by name and takes plain JSON back

from __future__ import annotations

import posixpath
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import attr
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from stac_fastapi.extensions.filter.client import BaseFiltersClient
from stac_fastapi.types.core import BaseCoreClient
from stac_fastapi.types.errors import InvalidQueryParameter, NotFoundError
from stac_fastapi.types.extension import ApiExtension
from stac_fastapi.types.links import CollectionLinks, ItemLinks, resolve_links
from stac_fastapi.types.requests import get_base_url
from stac_fastapi.types.search import APIRequest, BaseSearchPostRequest
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from openeo_cloudmask.digits import whole_number
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.stac.arrange import pick_fields, refuse_query, sort_items
from openeo_cloudmask.stac.catalog import is_absolute
from openeo_cloudmask.stac.search import (
    CatalogIndex,
    Json,
    Query,
    parse_filter,
    parse_interval,
    parse_json,
)

ERROR_STATUS: dict[type[Exception], int] = {
    OptionError: 400,
    InvalidQueryParameter: 400,
    NotFoundError: 404,
}
_JSON, _GEOJSON = "application/json", "application/geo+json"

FILES_PATH = "/files"
"""Where the API serves the files that the catalog carries."""


class LinksFollowMount:
    """Makes ``request.base_url``, and so all links, those of the place the API is mounted at.

    Starlette takes the root path of the outermost application for it; a mounted one must not.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on with its own root path, below which its own routes are."""
        if scope["type"] == "http":
            scope["app_root_path"] = scope.get("root_path", "")
            scope.pop("router", None)
        await self._app(scope, receive, send)


def answer_error(_: Request, error: Exception) -> JSONResponse:
    """Answer what the caller did wrong; nothing that the server's log has to keep."""
    # A text that a client sent may hold what cannot be sent back.
    text = str(error).encode("utf-8", "replace").decode()
    content = {"code": type(error).__name__, "description": text}
    status = next(code for kind, code in ERROR_STATUS.items() if isinstance(error, kind))
    return JSONResponse(content, status)


def answer_validation(_: Request, error: RequestValidationError) -> JSONResponse:
    """Answer which parameters are not valid, without their values: they may be no JSON."""
    where = ", ".join(str(item["loc"][-1]) for item in error.errors())
    content = {"code": "InvalidQueryParameter", "description": f"not valid: {where}"}
    return JSONResponse(content, 400)


def answer_http(_: Request, error: HTTPException) -> JSONResponse:
    """Answer what the framework refuses, in the form of all other errors."""
    code = HTTPStatus(error.status_code).phrase.replace(" ", "")
    return JSONResponse({"code": code, "description": str(error.detail)}, error.status_code)


@attr.s
class _QueryOfAddress(APIRequest):
    query: str | None = attr.ib(default=None)


class _QueryOfBody(BaseModel):
    query: Any = None


@attr.s
class NoQuery(ApiExtension):
    """Takes note of ``query``, so that it is refused: other unknown parameters are ignored."""

    GET = _QueryOfAddress
    POST = _QueryOfBody

    def register(self, app: FastAPI) -> None:
        """Add nothing to the application."""


@attr.s(auto_attribs=True, kw_only=True)
class CatalogClient(BaseCoreClient):
    """Answers from an index in memory."""

    index: CatalogIndex

    def landing_page(self, **kwargs: Any) -> Any:
        """Return the landing page, with a link to each collection so that crawlers walk it.

        Without the page of documentation, whose scripts the back end's headers keep from running.
        """
        page = super().landing_page(**kwargs)
        base = get_base_url(kwargs["request"])
        page["links"] = [link for link in page["links"] if link["rel"] != "service-doc"]
        page["links"] += [
            {
                "rel": "child",
                "type": _JSON,
                "title": collection["title"],
                "href": f"{base}collections/{collection['id']}",
            }
            for collection in self.index.collections
        ]
        return page

    def all_collections(self, **kwargs: Any) -> Any:
        """Return all collections."""
        base = get_base_url(kwargs["request"])
        return {
            "collections": [_collection(found, base) for found in self.index.collections],
            "links": [
                {"rel": "root", "type": _JSON, "href": base},
                {"rel": "self", "type": _JSON, "href": f"{base}collections"},
            ],
        }

    def get_collection(self, collection_id: str, **kwargs: Any) -> Any:
        """Return one collection."""
        for found in self.index.collections:
            if found["id"] == collection_id:
                return _collection(found, get_base_url(kwargs["request"]))
        raise NotFoundError(f"there is no collection {collection_id!r}")

    def get_item(self, item_id: str, collection_id: str, **kwargs: Any) -> Any:
        """Return one item."""
        found = self.index.search(Query(collections=[collection_id], ids=[item_id]))
        if not found:
            raise NotFoundError(f"collection {collection_id!r} has no item {item_id!r}")
        return _item(found[0], get_base_url(kwargs["request"]))

    def item_collection(
        self,
        collection_id: str,
        bbox: Any = None,
        datetime: str | None = None,
        limit: int = 10,
        token: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return the items of one collection."""
        request = kwargs["request"]
        self.get_collection(collection_id, request=request)
        query = Query(
            collections=[collection_id],
            bbox=bbox,
            interval=parse_interval(datetime),
            filter=parse_filter(kwargs.get("filter_expr"), kwargs.get("filter_lang")),
        )
        refuse_query(kwargs.get("query"))
        return self._page(
            query, request, limit, token, sortby=kwargs.get("sortby"), fields=kwargs.get("fields")
        )

    def get_search(
        self,
        collections: list[str] | None = None,
        ids: list[str] | None = None,
        bbox: Any = None,
        intersects: Any = None,
        datetime: str | None = None,
        limit: int | None = 10,
        **kwargs: Any,
    ) -> Any:
        """Return what a GET search finds."""
        query = Query(
            collections=collections,
            ids=ids,
            bbox=bbox,
            intersects=parse_json(intersects, "intersects"),
            interval=parse_interval(datetime),
            filter=parse_filter(kwargs.get("filter_expr"), kwargs.get("filter_lang")),
        )
        refuse_query(kwargs.get("query"))
        return self._page(
            query, kwargs["request"], limit, kwargs.get("token"),
            sortby=kwargs.get("sortby"), fields=kwargs.get("fields"),
        )  # fmt: skip

    def post_search(self, search_request: BaseSearchPostRequest, **kwargs: Any) -> Any:
        """Return what a POST search finds."""
        try:
            body = search_request.model_dump(
                mode="json", by_alias=True, exclude_none=True, exclude_unset=True
            )
        except ValueError:
            raise InvalidQueryParameter("the search is nested too deeply") from None
        refuse_query(body.get("query"))
        query = Query(
            collections=body.get("collections"),
            ids=body.get("ids"),
            bbox=body.get("bbox"),
            intersects=body.get("intersects"),
            interval=parse_interval(body.get("datetime")),
            filter=body.get("filter"),
        )
        return self._page(
            query, kwargs["request"], body.get("limit"), body.get("token"), body=body,
            sortby=body.get("sortby"), fields=body.get("fields"),
        )  # fmt: skip

    def _page(
        self,
        query: Query,
        request: Request,
        limit: int | None,
        token: str | None,
        *,
        sortby: Any,
        fields: Any,
        body: Json | None = None,
    ) -> Json:
        base, size = get_base_url(request), limit or 10
        found = sort_items(self.index.search(query), sortby, self.index.items)
        first = _parse_token(token)
        part = found[first : first + size]
        links: list[Json] = [
            {"rel": "root", "type": _JSON, "href": base},
            {"rel": "self", "type": _GEOJSON, "href": str(request.url)},
        ]
        if first + size < len(found):
            links.append(_next_link(request, str(first + size), body))
        return {
            "type": "FeatureCollection",
            "features": [pick_fields(_item(item, base), fields) for item in part],
            "links": links,
            "numberMatched": len(found),
            "numberReturned": len(part),
        }


@attr.s(auto_attribs=True, kw_only=True)
class QueryablesClient(BaseFiltersClient):
    """Says what a filter can name."""

    index: CatalogIndex

    def get_queryables(self, collection_id: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Return the queryables of the whole catalog or of one collection."""
        known = [found["id"] for found in self.index.collections]
        if collection_id is not None and collection_id not in known:
            raise NotFoundError(f"there is no collection {collection_id!r}")
        return {"$id": str(kwargs["request"].url), **self.index.queryables(collection_id)}


def _parse_token(token: str | None) -> int:
    if token is None:
        return 0
    place = whole_number(token)
    if place is None:
        raise InvalidQueryParameter(
            f"token is {token[:80]!r}; expected one that a 'next' link gave"
        )
    return place


def _next_link(request: Request, token: str, body: Json | None) -> Json:
    if body is not None:
        return {
            "rel": "next",
            "type": _GEOJSON,
            "method": "POST",
            "href": str(request.url),
            "body": {**body, "token": token},
        }
    parameters = [(key, value) for key, value in request.query_params.items() if key != "token"]
    href = f"{str(request.url).split('?')[0]}?{urlencode([*parameters, ('token', token)])}"
    return {"rel": "next", "type": _GEOJSON, "method": "GET", "href": href}


def _collection(found: Json, base: str) -> Json:
    links = CollectionLinks(collection_id=found["id"], base_url=base).create_links()
    queryables = {
        "rel": "http://www.opengis.net/def/rel/ogc/1.0/queryables",
        "type": "application/schema+json",
        "href": f"{base}collections/{found['id']}/queryables",
    }
    return {**found, "links": [*links, queryables, *_kept_links(found, base)]}


def _item(found: Json, base: str) -> Json:
    links = ItemLinks(
        collection_id=found["collection"], item_id=found["id"], base_url=base
    ).create_links()
    assets = {
        key: {**asset, "href": _absolute(asset["href"], base)}
        for key, asset in found["assets"].items()
    }
    return {**found, "assets": assets, "links": [*links, *_kept_links(found, base)]}


def _kept_links(found: Json, base: str) -> list[Json]:
    return resolve_links([dict(link) for link in found["links"]], base)


def _absolute(href: str, base: str) -> str:
    """Return where the API serves a file that the catalog carries; other URLs stay as they are."""
    if is_absolute(href):
        return href
    return f"{base.rstrip('/')}{FILES_PATH}/{posixpath.basename(href)}"
