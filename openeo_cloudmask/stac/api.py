"""A STAC API over the static catalog, to be mounted in any ASGI application."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from openeo_cloudmask import __version__, assets
from openeo_cloudmask.errors import MissingExtraError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.applications import Starlette
    from starlette.types import ASGIApp, Receive, Scope, Send

TITLE = "Cloud-mask models of openeo-cloudmask"
_SORTED = (
    "https://api.stacspec.org/v1.0.0/item-search#sort",
    "https://api.stacspec.org/v1.0.0/ogcapi-features#sort",
)
"""Those that clients know; the classes of version 1.1 want a list of sortable fields, too."""


def mount_stac_app(app: Starlette, path: str = "/stac", folder: Path | None = None) -> None:
    """Add the API to ``app`` at ``path``, with and without a slash at its end.

    Args:
        app: the application; it needs no redirects of slashes.
        path: where, without a slash at the end.
        folder: as for ``build_stac_app``, and so are the errors.
    """
    from starlette.routing import Mount, Route

    inner = build_stac_app(folder)
    app.router.routes += [Route(path, _Bare(inner, path)), Mount(path, inner)]


class _Bare:
    """The landing page at the address without a slash, which a mount does not answer."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app = app
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as if the slash were there."""
        root = scope.get("root_path", "") + self._path
        await self._app({**scope, "root_path": root, "path": f"{root}/"}, receive, send)


def build_stac_app(folder: Path | None = None) -> FastAPI:
    """Return the API: collections, items, search with CQL2, queryables, the catalog's files.

    Its links follow the place it is mounted at (``mount_stac_app``). The catalog is read once.

    Args:
        folder: a catalog that ``cloudmask catalog build`` wrote; None for the package's own.

    Raises:
        MissingExtraError: the extra ``server`` is not installed.
        CatalogError: the folder holds no whole catalog.
    """
    # On import it warns of default names that this API does not use.
    logging.getLogger("stac_fastapi.types.config").setLevel(logging.ERROR)
    try:
        from fastapi.exceptions import RequestValidationError
        from stac_fastapi.api.app import StacApi
        from stac_fastapi.api.models import (
            ItemCollectionUri,
            create_get_request_model,
            create_post_request_model,
        )
        from stac_fastapi.extensions.fields import FieldsConformanceClasses, FieldsExtension
        from stac_fastapi.extensions.filter import FilterConformanceClasses, FilterExtension
        from stac_fastapi.extensions.pagination import TokenPaginationExtension
        from stac_fastapi.extensions.sort import SortExtension
        from stac_fastapi.types.config import ApiSettings
        from starlette.exceptions import HTTPException
        from starlette.middleware import Middleware
        from starlette.middleware.cors import CORSMiddleware
        from starlette.staticfiles import StaticFiles
    except ImportError as err:
        raise MissingExtraError.for_extra("server", "the STAC API") from err
    from openeo_cloudmask.stac.api_client import (
        ERROR_STATUS,
        FILES_PATH,
        CatalogClient,
        LinksFollowMount,
        NoQuery,
        QueryablesClient,
        answer_error,
        answer_http,
        answer_validation,
    )
    from openeo_cloudmask.stac.search import read_index

    root = folder or assets.path("catalog")
    index = read_index(root)
    paging = TokenPaginationExtension()
    filtering = FilterExtension(client=QueryablesClient(index=index))
    filtering.conformance_classes = [
        *filtering.conformance_classes,
        FilterConformanceClasses.ADVANCED_COMPARISON_OPERATORS,
        FilterConformanceClasses.ARRAY_FUNCTIONS,
    ]
    sorting = SortExtension(conformance_classes=list(_SORTED))
    picking = FieldsExtension(
        conformance_classes=[FieldsConformanceClasses.SEARCH, FieldsConformanceClasses.ITEMS]
    )
    extensions = [filtering, sorting, picking, NoQuery(), paging]
    settings = ApiSettings(
        stac_fastapi_title=TITLE,
        stac_fastapi_description="Find a model by band, sensor, task or licence.",
        stac_fastapi_version=__version__,
        stac_fastapi_landing_id="openeo-cloudmask-models",
    )
    api = StacApi(
        settings=settings,
        stac_version="1.1.0",
        client=CatalogClient(index=index, landing_page_id=settings.stac_fastapi_landing_id),
        extensions=extensions,
        search_get_request_model=create_get_request_model(extensions),
        search_post_request_model=create_post_request_model(extensions),
        items_get_request_model=create_get_request_model(extensions, ItemCollectionUri),
        exceptions={},
        middlewares=[
            Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["GET", "POST"]),
            Middleware(LinksFollowMount),
        ],
    )
    for kind in ERROR_STATUS:
        api.app.add_exception_handler(kind, answer_error)
    api.app.add_exception_handler(HTTPException, answer_http)  # type: ignore[arg-type]
    api.app.add_exception_handler(RequestValidationError, answer_validation)  # type: ignore[arg-type]
    api.app.mount(FILES_PATH, StaticFiles(directory=root / "assets"), name="files")
    app: FastAPI = api.app
    return app
