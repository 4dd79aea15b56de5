"""The web application."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from openeo_cloudmask import __version__
from openeo_cloudmask.backend.api import capabilities, jobs, processing, results
from openeo_cloudmask.backend.api.errors import STATUS, ApiError
from openeo_cloudmask.backend.api.state import State
from openeo_cloudmask.backend.settings import Settings
from openeo_cloudmask.errors import CloudMaskError
from openeo_cloudmask.stac.api import mount_stac_app

_log = logging.getLogger(__name__)
_HTTP_CODES = {404: "NotFound", 405: "MethodNotAllowed", 401: "AuthenticationRequired"}


def create_app(settings: Settings) -> FastAPI:
    """Return the application; its cluster starts and stops with it.

    Raises:
        CloudMaskError: the database or the result storage cannot be used.
    """
    state = State.build(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        from starlette.concurrency import run_in_threadpool

        await run_in_threadpool(state.engine.start)
        try:
            yield
        finally:
            await run_in_threadpool(state.engine.stop)
            state.database.close()

    app = FastAPI(
        title="openeo-cloudmask", version=__version__, lifespan=lifespan, docs_url=None,
        redoc_url=None, openapi_url=None, redirect_slashes=False,
    )  # fmt: skip
    app.state.backend = state
    for module in (capabilities, processing, jobs, results):
        app.include_router(module.router)
    mount_stac_app(app)
    app.add_exception_handler(CloudMaskError, _answer_error)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _answer_http)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _answer_validation)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _answer_unknown)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],  # browsers of other origins send tokens, never cookies
        allow_methods=["*"],
        allow_headers=["Authorization", "Content-Type"],
        expose_headers=["Location", "OpenEO-Identifier", "OpenEO-Costs", "Link"],
    )
    app.add_middleware(_CleanPaths)
    return app


class _CleanPaths:
    """Treats ``//jobs/`` as ``/jobs``: clients join addresses in their own ways."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = re.sub("/{2,}", "/", scope["path"])
            scope = {**scope, "path": path if path == "/" else path.rstrip("/")}
        await self._app(scope, receive, send)


def error_body(code: str, message: str, error_id: str | None = None) -> dict[str, object]:
    """Return an error as the openEO API has it."""
    return {"id": error_id or uuid.uuid4().hex, "code": code, "message": message, "links": []}


async def _answer_error(_: Request, error: CloudMaskError) -> JSONResponse:
    code = error.code
    status = error.status if isinstance(error, ApiError) else STATUS.get(code, 400)
    body = error_body(code, str(error))
    if status >= 500:
        _log.warning("%s: %s %s", body["id"], code, error)
    return JSONResponse(body, status)


async def _answer_http(request: Request, error: HTTPException) -> JSONResponse:
    code = _HTTP_CODES.get(error.status_code, "Internal")
    message = f"{request.method} {request.url.path} is not supported here"
    return JSONResponse(error_body(code, message), error.status_code)


async def _answer_validation(_: Request, error: RequestValidationError) -> JSONResponse:
    where = ", ".join(str(item["loc"][-1]) for item in error.errors())
    return JSONResponse(error_body("ProcessParameterInvalid", f"not valid: {where}"), 400)


async def _answer_unknown(_: Request, error: Exception) -> JSONResponse:
    body = error_body("Internal", "an unexpected error happened; the server's log has it")
    _log.error("%s: unexpected error", body["id"], exc_info=error)
    return JSONResponse(body, 500)
