"""The web application."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse

from openeo_cloudmask.backend.api import capabilities, jobs, processing, results, scenes, services
from openeo_cloudmask.backend.api.errors import error_answer, error_body
from openeo_cloudmask.backend.api.middleware import (
    CleanPaths,
    KnownHosts,
    LimitBodies,
    PlainRefusal,
    SafeHeaders,
)
from openeo_cloudmask.backend.api.state import State
from openeo_cloudmask.backend.settings import Settings
from openeo_cloudmask.errors import CloudMaskError
from openeo_cloudmask.stac.api import mount_stac_app
from openeo_cloudmask.version import __version__

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

        try:
            await run_in_threadpool(state.engine.start)
        except CloudMaskError as err:
            app.state.refusal = str(err)
            raise
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
    for module in (capabilities, scenes, processing, jobs, results, services):
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
    app.add_middleware(LimitBodies, limit=state.settings.max_request_bytes)
    app.add_middleware(CleanPaths)
    if state.settings.public_url is None:
        app.add_middleware(KnownHosts, hosts=state.settings.trusted_hosts)
    app.add_middleware(SafeHeaders)
    app.add_middleware(PlainRefusal)
    return app


async def _answer_error(_: Request, error: CloudMaskError) -> JSONResponse:
    return error_answer(error)


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
