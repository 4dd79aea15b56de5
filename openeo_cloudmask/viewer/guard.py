"""Who may talk to the viewer's server: pages of its own, under names that are its own.

A page of somebody else's can make a browser send requests to a server on the user's machine, and
by a name server of its own (DNS rebinding) even read the answers. So a request has to name the
server by an address or by a name it is known under, and what comes from a page has to come from
one of the server's own.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from openeo_cloudmask.viewer.maps import BASEMAPS
from openeo_cloudmask.viewer.names import ALLOWED_HOSTS_VARIABLE

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_BASEMAP_HOSTS = " ".join(
    sorted({"https://" + (urlsplit(url).hostname or "") for url, _ in BASEMAPS.values()})
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'self'",
            # Streamlit's page and folium's maps have scripts in the page; Vega compiles its own;
            # Streamlit runs the few lines that load the map from a blob of the page's own.
            "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
            "style-src 'self' 'unsafe-inline'",
            f"img-src 'self' data: blob: {_BASEMAP_HOSTS}",
            "font-src 'self' data:",
            "worker-src 'self' blob:",
            "frame-src 'self' data: blob:",
            "frame-ancestors 'self'",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
        )
    ),
}
"""Sent with every answer: what pages may load and do, should one hold what it should not."""

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_REFUSED = 1008  # code of a WebSocket that is closed for a breach of policy


class Guard:
    """Refuses requests by strange names or from strange pages, and sends ``HEADERS``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse before anything of the request is looked at."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        reason = refusal(scope)
        if reason is not None:
            await _refuse(reason, scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(key.lower().encode(), value.encode()) for key, value in HEADERS.items()]
                names = {key for key, _ in own}
                given = [pair for pair in message["headers"] if pair[0].lower() not in names]
                message = {**message, "headers": [*given, *own]}
            await send(message)

        await self._app(scope, receive, send_guarded)


def refusal(scope: Scope) -> str | None:
    """Return why a request is refused, or None where it may go on."""
    headers = {key.lower(): value.decode("latin-1") for key, value in scope["headers"]}
    host = headers.get(b"host", "")
    name = _name_of(f"//{host}")
    if name is None or not is_own_name(name):
        return (
            f"this viewer is not known as {name or host!r}; whoever runs it can allow the name "
            "with --allow-host"
        )
    origin = headers.get(b"origin")
    reads_only = scope["type"] == "http" and scope["method"] in _SAFE_METHODS
    if origin is None or reads_only:
        return None
    if urlsplit(origin).netloc.lower() == host.lower() or _name_of(origin) in allowed_hosts():
        return None
    return "the request comes from a page of another server"


def is_own_name(name: str) -> bool:
    """Return whether a name can be this server's own, and not one that others control.

    An address is one in any case: a page at an address was sent by that machine.
    """
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in allowed_hosts() | _machine_names()
    return True


def allowed_hosts() -> frozenset[str]:
    """Return the names that whoever started the viewer allowed."""
    return frozenset(os.environ.get(ALLOWED_HOSTS_VARIABLE, "").lower().split())


@cache
def _machine_names() -> frozenset[str]:
    return frozenset({"localhost", socket.gethostname().lower()})


def _name_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


async def _refuse(reason: str, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": _REFUSED, "reason": reason[:120]})
        return
    from starlette.responses import PlainTextResponse

    response = PlainTextResponse(reason, status_code=421, headers=HEADERS)
    await response(scope, receive, send)
