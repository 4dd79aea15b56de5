"""The cookie by which a browser finds its session again after a reload."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.middleware import Middleware
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "cloudmask_session"


class SessionCookie:
    """Gives each browser that opens a page a random name, which no script can read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, with a cookie where the browser has none."""
        from starlette.requests import Request

        if scope["type"] != "http" or COOKIE in Request(scope).cookies:
            await self._app(scope, receive, send)
            return

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_page(message):
                secure = "; Secure" if scope.get("scheme") == "https" else ""
                value = f"{COOKIE}={secrets.token_urlsafe(24)}; HttpOnly; SameSite=Lax; Path=/"
                message["headers"] = [
                    *message["headers"],
                    (b"set-cookie", f"{value}{secure}".encode()),
                ]
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

    from openeo_cloudmask.viewer.stale_runs import KeepPage

    return [Middleware(SessionCookie), Middleware(KeepPage)]
