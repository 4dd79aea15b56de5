"""The cookie by which a browser finds its session again after a reload."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.middleware import Middleware
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "cloudmask_session"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""Its name over https: no other server, of the same domain or port, can set one of that name."""

_SECRET = secrets.token_bytes(32)
"""Of this process, whose sessions end with it."""


def new_name() -> str:
    """Return a random name for a session, signed, so that visitors cannot choose their own."""
    name = secrets.token_urlsafe(24)
    return f"{name}.{_sign(name)}"


def find_name(cookies: Mapping[str, str]) -> str | None:
    """Return the name of a browser's session if this server gave it out, or None."""
    value: object = cookies.get(SECURE_COOKIE) or cookies.get(COOKIE)
    if not isinstance(value, str):
        return None  # no cookie, or no browser: a page that is run by a test
    name, _, signature = value.partition(".")
    return name if hmac.compare_digest(signature.encode(), _sign(name).encode()) else None


def _sign(name: str) -> str:
    return hmac.new(_SECRET, name.encode(), hashlib.sha256).hexdigest()


class SessionCookie:
    """Gives each browser that opens a page a random name, which no script can read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, with a cookie where the browser has none, or one that it did not get here."""
        from starlette.requests import Request

        if scope["type"] != "http" or find_name(Request(scope).cookies) is not None:
            await self._app(scope, receive, send)
            return

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_page(message):
                secure = scope.get("scheme") == "https"
                cookie = f"{SECURE_COOKIE if secure else COOKIE}={new_name()}"
                value = f"{cookie}; HttpOnly; SameSite=Lax; Path=/{'; Secure' if secure else ''}"
                message["headers"] = [*message["headers"], (b"set-cookie", value.encode())]
            await send(message)

        await self._app(scope, receive, send_named)


def _is_page(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/html")
        for name, value in message["headers"]
    )


def build_middleware() -> list[Middleware]:
    """Return what the viewer's server puts around its routes."""
    from starlette.middleware import Middleware

    from openeo_cloudmask.viewer.guard import Guard
    from openeo_cloudmask.viewer.room import UploadRoom
    from openeo_cloudmask.viewer.stale_runs import KeepPage

    return [Middleware(item) for item in (Guard, UploadRoom, SessionCookie, KeepPage)]
