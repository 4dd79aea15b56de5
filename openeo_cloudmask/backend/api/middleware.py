"""What happens to every request and answer, before any of it is parsed.

Plain ASGI classes; each hands on what it does not refuse.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openeo_cloudmask.backend.api.errors import ApiError, error_answer
from openeo_cloudmask.digits import whole_number

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Referrer-Policy": "no-referrer",  # addresses of results hold their signature
}
_SMALL_BODY = 64 * 1024
_SMALL_BODIES = ("/stac", "/search")
"""Paths that take a search from anybody, which is never large."""


class SafeHeaders:
    """Adds the headers that keep browsers from taking answers for something else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, and its answer with the headers."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        await self._app(scope, receive, with_headers)


class PlainRefusal:
    """Says in a sentence why the server does not start, as far as ``app.state.refusal`` does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, without a traceback for what whoever started the server can mend."""

        async def plain(message: Message) -> None:
            refusal = getattr(scope["app"].state, "refusal", None)
            if message["type"] == "lifespan.startup.failed" and refusal:
                message = {**message, "message": refusal}
            await send(message)

        await self._app(scope, receive, plain if scope["type"] == "lifespan" else send)


class CleanPaths:
    """Treats ``//jobs/`` as ``/jobs``: clients join addresses in their own ways."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on with the path without needless slashes."""
        if scope["type"] == "http":
            if "\x00" in scope["path"] or b"%00" in scope["query_string"]:
                error = ApiError("ParameterValueInvalid", "the address holds a NUL character")
                await _refuse(error, scope, receive, send)
                return
            path = re.sub("/{2,}", "/", scope["path"])
            scope = {**scope, "path": path if path == "/" else path.rstrip("/")}
        await self._app(scope, receive, send)


class KnownHosts:
    """Refuses requests for other hosts than this one: links of answers begin with the host.

    Args:
        app: what comes next.
        hosts: names besides those of this machine and the address the request came to.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()) -> None:
        self._app = app
        own = ("localhost", "127.0.0.1", "::1", socket.gethostname())
        self._hosts = frozenset(name.lower() for name in (*own, *hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on if it is for this host."""
        if scope["type"] == "http" and not self._knows(scope):
            shown = Headers(scope=scope).get("host", "")[:100]
            error = ApiError(
                "HostInvalid",
                f"the request is for {shown!r}, which is not known to be this server; whoever runs "
                "it can name it with --public-url or --trusted-host",
            )
            await _refuse(error, scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        host = Headers(scope=scope).get("host")
        if host is None:
            return True  # then links begin with the address it came to
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        server = scope.get("server")
        plain = re.fullmatch(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]+)?", host, re.IGNORECASE)
        return plain is not None and (
            name in self._hosts or (server is not None and name == server[0])
        )


class LimitBodies:
    """Refuses bodies that are too large, before they are there and whatever reads them.

    Args:
        app: what comes next.
        limit: bytes; some paths take less.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on as long as its body is not too large."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        small = scope["path"].startswith(_SMALL_BODIES)
        limit = min(self._limit, _SMALL_BODY) if small else self._limit
        too_large = ApiError("RequestTooLarge", f"the request has more than {limit} bytes")
        declared = Headers(scope=scope).get("content-length", "0")
        if whole_number(declared, limit) is None:
            await _refuse(too_large, scope, receive, send)
            return
        seen, over, refused = 0, False, False

        async def counted() -> Message:
            nonlocal seen, over
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                over = True
                raise too_large
            return message

        async def answered(message: Message) -> None:
            # Whoever read the body may have made another error of ours.
            nonlocal refused
            if not over:
                await send(message)
            elif not refused:
                refused = True
                await _refuse(too_large, scope, receive, send)

        await self._app(scope, counted, answered)


async def _refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    answer: JSONResponse = error_answer(error)
    await answer(scope, receive, send)
