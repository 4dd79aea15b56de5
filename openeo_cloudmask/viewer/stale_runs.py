"""A page stays when a part of the page before it is run too late."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class KeepPage:
    """Tells the browser the page it is on whenever the server runs a fragment.

    A fragment with ``run_every`` is asked for by a timer in the browser. Asked for just before the
    page changes, it is run just after, under the name of the old page; Streamlit's browser side
    then empties the page it shows, and nothing fills it again. The fragment itself no longer exists
    by then and draws nothing, so only the name needs to be corrected.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, with that one name corrected; one call is one browser tab."""
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        page = ShownPage()

        async def send_named(message: Message) -> None:
            if message["type"] == "websocket.send" and message.get("bytes"):
                message = {**message, "bytes": page.follow(message["bytes"])}
            await send(message)

        await self._app(scope, receive, send_named)


class ShownPage:
    """The page that a browser tab is on, as far as the messages to it say."""

    def __init__(self) -> None:
        self._hash = ""

    def follow(self, content: bytes) -> bytes:
        """Return the message (a ``ForwardMsg``) as the browser should get it."""
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

        message = ForwardMsg.FromString(content)
        kind = message.WhichOneof("type")
        if kind == "navigation":
            self._hash = message.navigation.page_script_hash
        elif kind == "new_session" and not message.metadata.run.fragment_ids:
            self._hash = message.new_session.page_script_hash
        elif kind == "new_session" and self._hash not in ("", message.new_session.page_script_hash):
            message.new_session.page_script_hash = self._hash
            return bytes(message.SerializeToString())
        return content
