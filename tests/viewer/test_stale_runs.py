"""What a browser is told of the page it is on, whatever is run late."""

import pytest

pytest.importorskip("streamlit", reason="the extra viewer is not installed")

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from openeo_cloudmask.viewer.cookies import build_middleware
from openeo_cloudmask.viewer.stale_runs import ShownPage


def run_of(page: str, *fragments: str) -> bytes:
    """Return the message that a run begins: of ``fragments``, or of the whole page."""
    message = ForwardMsg()
    message.new_session.page_script_hash = page
    message.metadata.run.script_run_id = "run"
    message.metadata.run.fragment_ids.extend(fragments)
    return message.SerializeToString()


def arrival_at(page: str) -> bytes:
    message = ForwardMsg()
    message.navigation.page_script_hash = page
    return message.SerializeToString()


def page_in(content: bytes) -> str:
    return ForwardMsg.FromString(content).new_session.page_script_hash


def test_a_late_fragment_does_not_bring_its_page_back():
    shown = ShownPage()
    for message in (run_of("jobs"), arrival_at("jobs"), run_of("compare")):
        assert shown.follow(message) == message
    late = shown.follow(run_of("jobs", "fragment"))
    assert page_in(late) == "compare"
    assert list(ForwardMsg.FromString(late).metadata.run.fragment_ids) == ["fragment"]


def test_the_page_is_the_one_that_navigation_names():
    # Opened by its address, a page is run under the name of the frame first.
    shown = ShownPage()
    for message in (run_of("frame"), arrival_at("jobs"), run_of("jobs", "fragment")):
        assert shown.follow(message) == message


@pytest.mark.parametrize("message", [run_of("jobs", "fragment"), b""], ids=["first", "empty"])
def test_what_cannot_be_judged_is_passed_on(message):
    assert ShownPage().follow(message) == message


def test_each_tab_has_a_page_of_its_own():
    async def speak(socket):
        await socket.accept()
        for message in (run_of("compare"), run_of("jobs", "fragment")):
            await socket.send_bytes(message)
        await socket.send_text("text")
        await socket.close()

    routes = [WebSocketRoute("/", speak)]
    client = TestClient(
        Starlette(routes=routes, middleware=build_middleware()), base_url="http://localhost"
    )
    for _ in range(2):
        with client.websocket_connect("ws://localhost/") as socket:
            pages = [page_in(socket.receive_bytes()) for _ in range(2)]
            assert socket.receive_text() == "text"
        assert pages == ["compare", "compare"]
