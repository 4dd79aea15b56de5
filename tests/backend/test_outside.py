"""Reading from addresses that users name: which, and to where the connection goes."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from openeo_cloudmask.backend.api.errors import NOT_THE_JOBS_FAULT, ApiError
from openeo_cloudmask.backend.cubes import outside
from openeo_cloudmask.backend.cubes.outside import Outside, find_place
from openeo_cloudmask.backend.graph import remote
from openeo_cloudmask.backend.graph.remote import RemoteProcesses
from openeo_cloudmask.backend.jobs.tasks import GraphRequest, run_graph
from openeo_cloudmask.backend.processes.stac import find_items
from tests.backend.conftest import make_spec

PUBLIC = "93.184.215.14"


class _Handler(BaseHTTPRequestHandler):
    """Answers with what the test put into ``answers``, and notes who was asked for what."""

    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append((self.headers["Host"], self.path))
        status, headers, body = server.answers.get(self.path, (404, {}, b""))
        first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        if status == 206:
            headers = {"Content-Range": f"bytes {first}-{last}/{len(body)}", **headers}
            body = body[int(first) : int(last) + 1]
        if self.path.startswith("/slow"):
            server.over.wait(60)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        step = 1 if self.path.startswith("/drip") else len(body) or 1
        with contextlib.suppress(OSError):  # the client has gone
            for at in range(0, len(body), step):
                self.wfile.write(body[at : at + step])
                if step == 1 and server.over.wait(0.1):
                    return

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[Any]:
    """Return an HTTP server on loopback."""
    found: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    found.answers, found.asked = {}, []
    found.over = threading.Event()
    found.url = f"http://127.0.0.1:{found.server_port}"
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.over.set()
    found.shutdown()
    found.server_close()
    thread.join()


@pytest.fixture
def reader() -> Outside:
    return Outside(allowed_hosts=("127.0.0.1",))


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "/etc/passwd", "http://127.0.0.1/x", "http://localhost:1/x",
     "http://169.254.169.254/latest", "http://10.0.0.1/", "ftp://example.com/x", "http://[::1]/",
     "http://[::ffff:127.0.0.1]/", "http://[64:ff9b::7f00:1]/", "http://224.0.0.1/",
     "http://[2002:7f00:1::]/", "http://2130706433/", "http://0x7f.1/", "http://0/",
     "http://127.0.0.2:19002\\@127.0.0.1/x", "http://user@127.0.0.1/", "http://a:b@127.0.0.1/",
     "http://127.0.0.1:99999/", "http://127.0.0.1#@example.com/", "http://127.0.0.1\n/",
     "http://%31%32%37.0.0.1/", "http://", "http:///x", "http://127.0.0.1%00/", ""],
)  # fmt: skip
def test_private_addresses_are_not_read(url: str) -> None:
    with pytest.raises(ApiError, match=r"cannot be read|inside the server's network|is not known"):
        find_place(url, ())


@pytest.mark.parametrize(
    "url", ["http://127.0.0.2:19002\\@127.0.0.1/x", "http://127.0.0.2#@127.0.0.1/",
            "http://x@127.0.0.1/", "http://127.0.0.1%2f@127.0.0.2/"]
)  # fmt: skip
def test_what_libraries_read_differently_is_refused_for_allowed_hosts_too(url: str) -> None:
    with pytest.raises(ApiError, match="without user name"):
        find_place(url, ("127.0.0.1",))


def test_allowed_host_is_read(server: Any, reader: Outside) -> None:
    server.answers["/item.json?a=%20b"] = (200, {}, b'{"a": 1}')
    assert reader.read_json(f"{server.url}/item.json?a= b") == {"a": 1}
    assert server.asked == [(f"127.0.0.1:{server.server_port}", "/item.json?a=%20b")]


@pytest.mark.parametrize("path", ["/slow", "/drip"])
def test_patience_ends(server: Any, path: str) -> None:
    """Of a host that says nothing, and of one that sends a byte at a time."""
    server.answers[path] = (200, {}, b"[" * 600)
    reader = Outside(allowed_hosts=("127.0.0.1",), patience_s=1)
    begin = time.monotonic()
    with pytest.raises(ApiError, match=r"cannot be read: ReadTimeoutError|takes too long"):
        reader.read_json(server.url + path)
    assert time.monotonic() - begin < 30  # the answer would take a minute


def test_processes_at_addresses_are_few_and_soon_there(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = {"id": "mine", "process_graph": {"a": {"process_id": "pi", "arguments": {}}}}
    found = RemoteProcesses(("127.0.0.1",))
    for number in range(remote.MAX_ADDRESSES + 1):
        server.answers[f"/{number}"] = (200, {}, json.dumps(process).encode())
    for _ in range(2):
        for number in range(remote.MAX_ADDRESSES):
            assert found.get("mine", f"{server.url}/{number}") is not None
    assert len(server.asked) == remote.MAX_ADDRESSES  # each once
    with pytest.raises(ApiError, match="from more than 20 addresses"):
        found.get("mine", f"{server.url}/{remote.MAX_ADDRESSES}")
    found = RemoteProcesses(("127.0.0.1",), _left_s=0.5)
    for expected in ("ReadTimeoutError", "took longer than"):
        with pytest.raises(ApiError, match=expected):
            found.get("mine", f"{server.url}/slow")
    monkeypatch.setattr(remote, "_readers", threading.BoundedSemaphore(1))
    with remote._readers, pytest.raises(ApiError, match="for others now") as caught:
        RemoteProcesses(("127.0.0.1",)).get("mine", f"{server.url}/1")
    assert caught.value.code in NOT_THE_JOBS_FAULT


def test_connection_goes_to_the_address_that_was_checked(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name server first says a public address, then one inside the network."""
    answers = [PUBLIC, "127.0.0.1", "127.0.0.1"]
    asked: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *args: Any, **options: Any) -> Any:
        if host == "rebind.example":
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), port))]
        return real(host, port, *args, **options)

    reached: list[tuple[str, int]] = []

    def connect(address: tuple[str, int], *_: object, **__: object) -> Any:
        reached.append(address)
        raise OSError("not in a test")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr("urllib3.util.connection.create_connection", connect)
    monkeypatch.setattr(outside, "_RETRIES", 0)
    outside._pool.cache_clear()
    with pytest.raises(ApiError, match=r"cannot be read: NewConnectionError|MaxRetryError"):
        Outside().read_json(f"http://rebind.example:{server.server_port}/x")
    assert {address for address, _ in reached} == {PUBLIC}
    assert asked == ["rebind.example"]
    with pytest.raises(ApiError, match="inside the server's network"):
        Outside().read_json(f"http://rebind.example:{server.server_port}/x")
    assert server.asked == []


@pytest.mark.parametrize(
    "target",
    ["http://10.1.2.3/x", "http://127.0.0.2:1\\@127.0.0.1/x", "file:///etc/passwd", "//[::1]/x",
     "/loop"],
)  # fmt: skip
def test_redirects_are_checked(server: Any, reader: Outside, target: str) -> None:
    server.answers["/loop"] = (302, {"Location": target}, b"")
    with pytest.raises(ApiError, match=r"without user name|server's network|redirects more than"):
        reader.read_json(f"{server.url}/loop")


def test_redirect_to_an_allowed_host_is_followed(server: Any, reader: Outside) -> None:
    server.answers["/a"] = (307, {"Location": "b"}, b"")
    server.answers["/b"] = (200, {}, b"{}")
    assert reader.read_json(f"{server.url}/a") == {}


@pytest.mark.parametrize(
    "body", [b"root:x:0:0:secret", b'"secret"', b'{"type": "secret"}', b"[" * 100_000]
)
def test_errors_do_not_repeat_what_was_read(server: Any, reader: Outside, body: bytes) -> None:
    server.answers["/x"] = (200, {}, body)
    with pytest.raises(ApiError, match="is no") as found:
        list(find_items(reader, f"{server.url}/x", (None, None)))
    assert "secret" not in str(found.value)


def test_pages_without_an_end(server: Any, reader: Outside) -> None:
    links = [{"rel": "next", "href": "/items?page=2"}]
    collection = {"type": "Collection", "links": [{"rel": "items", "href": "/items"}]}
    page = json.dumps({"features": [], "links": links}).encode()
    server.answers["/c"] = (200, {}, json.dumps(collection).encode())
    server.answers["/items?limit=100"] = server.answers["/items?page=2"] = (200, {}, page)
    with pytest.raises(ApiError, match="pages without an end"):
        list(find_items(reader, f"{server.url}/c", (None, None)))
    for number in range(2, 300):
        links = [{"rel": "next", "href": f"/items?page={number + 1}"}]
        page = json.dumps({"features": [], "links": links}).encode()
        server.answers[f"/items?page={number}"] = (200, {}, page)
    with pytest.raises(ApiError, match="more than 100 of them"):
        list(find_items(reader, f"{server.url}/c", (None, None)))


def test_reading_stops_when_nobody_waits(
    server: Any, reader: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancelled() -> None:
        raise ApiError("JobCanceled", "the job was stopped")

    monkeypatch.setattr(outside.runtime, "check_cancelled", cancelled)
    with pytest.raises(ApiError, match="was stopped"):
        reader.read_json(f"{server.url}/x")
    assert server.asked == []


def test_parts_of_a_file(server: Any, reader: Outside) -> None:
    content = bytes(range(256)) * 4000
    server.answers["/a.tif"] = (206, {}, content)
    file = reader.open_file(f"{server.url}/a.tif")
    assert file.size == len(content)
    for start, size in ((0, 16), (70_000, 200_000), (len(content) - 5, 50), (65_530, 12)):
        file.seek(start)
        assert file.read(size) == content[start : start + size]
    file.seek(0)
    assert file.read() == content
    server.answers["/a.tif"] = (200, {}, content)
    assert reader.open_file(f"{server.url}/a.tif").read() == content


def test_documents_are_limited(server: Any, reader: Outside, monkeypatch: Any) -> None:
    monkeypatch.setattr(outside, "MAX_BYTES", 1000)
    server.answers["/x"] = (200, {}, b" " * 1001)
    with pytest.raises(ApiError, match="more than 1000 bytes"):
        reader.read_json(f"{server.url}/x")


def test_text_that_a_node_gives_is_no_geometry(server: Any, tmp_path: Path) -> None:
    """Some functions would open an address that stands where geometries should."""
    mean = {"m": {"process_id": "mean", "arguments": {"data": {"from_parameter": "data"}},
                  "result": True}}  # fmt: skip
    graph = {
        "text": {"process_id": "constant", "arguments": {"x": f"{server.url}/x"}},
        "data": {"process_id": "constant", "arguments": {"x": 1}},
        "means": {"process_id": "aggregate_spatial", "result": True, "arguments": {
            "data": {"from_node": "data"}, "geometries": {"from_node": "text"},
            "reducer": {"process_graph": mean}}},
    }  # fmt: skip
    request = GraphRequest(run=make_spec(tmp_path), graph=graph, library={}, synchronous=True)
    code, message = run_graph(request).error or ("", "")
    assert code == "ProcessParameterInvalid"
    assert "'geometries'" in message
    assert server.asked == []
