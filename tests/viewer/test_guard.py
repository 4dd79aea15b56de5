"""Pages of other sites cannot use the viewer of the user who looks at them."""

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from openeo_cloudmask.classes import ClassScheme, MaskClass
from openeo_cloudmask.viewer import names
from openeo_cloudmask.viewer.charts import swatches
from openeo_cloudmask.viewer.cookies import build_middleware


@pytest.fixture
def client(monkeypatch):
    pytest.importorskip("streamlit", reason="the extra viewer is not installed")
    monkeypatch.setenv(names.ALLOWED_HOSTS_VARIABLE, "masks.example.org")

    async def speak(socket):
        await socket.accept()
        await socket.send_text("hello")
        await socket.close()

    def page(_):
        return HTMLResponse("page", headers={"X-Frame-Options": "ALLOW"})

    routes = [
        Route("/", page, methods=["GET", "POST", "PUT", "DELETE"]),
        WebSocketRoute("/_stcore/stream", speak),
    ]
    return TestClient(Starlette(routes=routes, middleware=build_middleware()))


def connect(client, host, origin):
    headers = {"host": host} | ({"origin": origin} if origin else {})
    with client.websocket_connect("/_stcore/stream", headers=headers) as socket:
        return socket.receive_text()


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8501", "http://127.0.0.1:8501"),
        ("localhost:8501", "http://localhost:8501"),
        ("[::1]:8501", "http://[::1]:8501"),
        ("192.168.1.7:8501", "http://192.168.1.7:8501"),
        ("masks.example.org", "https://masks.example.org"),
        ("127.0.0.1:8501", "https://masks.example.org"),  # a proxy that says its own name of us
        ("127.0.0.1:8501", None),
    ],
)
def test_own_pages_are_served(client, host, origin):
    assert connect(client, host, origin) == "hello"
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        # An attacker's name server lets a foreign name lead to this machine.
        ("evil.example:8501", "http://evil.example:8501"),
        ("evil.example", None),
        ("127.0.0.1:8501", "http://evil.example:8501"),
        ("127.0.0.1:8501", "http://127.0.0.1:9999"),  # another server on this machine
        ("127.0.0.1:8501", "null"),
        ("127.0.0.1.evil.example", "http://127.0.0.1.evil.example"),
        ("", None),
        ("[::1", None),
    ],
)
def test_pages_of_other_sites_are_refused(client, host, origin):
    with pytest.raises(WebSocketDisconnect) as refused:
        connect(client, host, origin)
    assert refused.value.code == 1008
    if origin is not None:
        for method in ("POST", "PUT", "DELETE"):
            answer = client.request(method, "/", headers={"host": host, "origin": origin})
            assert answer.status_code == 421


def test_a_strange_name_is_told_what_to_do(client):
    answer = client.get("/", headers={"host": "evil.example"})
    assert answer.status_code == 421
    assert "--allow-host" in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", ["127.0.0.1", "evil.example"])
def test_answers_say_what_a_page_may_do(client, host):
    headers = client.get("/", headers={"host": host}).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "SAMEORIGIN"
    policy = headers["content-security-policy"]
    for part in ("default-src 'self'", "frame-ancestors 'self'", "object-src 'none'"):
        assert part in policy


def test_titles_and_colours_of_classes_are_text():
    evil = MaskClass(value=0, name="evil", title="<img src=x onerror=alert(1)>", color="ffffff")
    scheme = ClassScheme(name="evil", title="Evil", classes=(evil,))
    drawn = swatches(scheme.classes)
    assert "<img" not in drawn
    assert "&lt;img src=x" in drawn


def test_a_colour_that_is_none_is_grey():
    from openeo_cloudmask.viewer.cards import CardClass

    card = CardClass(value=0, name="a", title="A", color='red" onmouseover="alert(1)')
    assert "onmouseover" not in swatches([card])
    assert "#888888" in swatches([card])
