"""Downloads that stop and go on, from a server on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.error import URLError
from urllib.request import Request

import numpy as np
import pytest

from openeo_cloudmask.alcd.scenes import ALCD_ARCHIVE
from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.fetch.files import RemoteFile, _Redirects, download_file

CONTENT = np.random.default_rng(0).bytes(3_000_000)
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@dataclass
class Server:
    url: str = ""
    content: bytes = CONTENT
    stop_after: int | None = None
    ranges: bool = True
    requests: list[str | None] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.requests.append(wanted)
            if self.path == "/gone":
                self.send_error(404)
                return
            start = int(wanted[6:-1]) if wanted and state.ranges else 0
            if start >= len(state.content):
                self.send_error(416)
                return
            rest = state.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[: state.stop_after])

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    state.url = f"http://127.0.0.1:{httpd.server_port}/file"
    yield state
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def _remote(server: Server, digest: str = DIGEST) -> RemoteFile:
    return RemoteFile(url=server.url, name="archive.tgz", digest=digest)


def test_the_published_file_is_the_zenodo_record() -> None:
    assert ALCD_ARCHIVE.url.startswith("https://zenodo.org/records/1460961/files/")
    assert str(ALCD_ARCHIVE.digest).startswith("sha256:5912")
    assert ALCD_ARCHIVE.name == "SENTINEL_2_reference_cloud_masks_Baetens_Hagolle.tgz"


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = download_file(
        _remote(server), tmp_path / "new", progress=lambda done, total: seen.append((done, total))
    )
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [item.name for item in path.parent.iterdir()] == ["archive.tgz"]
    assert download_file(_remote(server), path.parent) == path
    assert server.requests == [None]


def test_a_broken_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.stop_after = 1_200_000
    with pytest.raises(ReferenceDataError, match="call again to continue"):
        download_file(_remote(server), tmp_path)
    part = tmp_path / "archive.tgz.part"
    there = part.stat().st_size
    assert 0 < there <= 1_200_000
    assert not (tmp_path / "archive.tgz").exists()
    server.stop_after = None
    assert download_file(_remote(server), tmp_path).read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={there}-"]
    assert not part.exists()


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "archive.tgz.part").write_bytes(b"x" * 1000)
    assert download_file(_remote(server), tmp_path).read_bytes() == CONTENT


def test_a_complete_part_needs_only_its_digest(server: Server, tmp_path: Path) -> None:
    (tmp_path / "archive.tgz.part").write_bytes(CONTENT)
    assert download_file(_remote(server), tmp_path).read_bytes() == CONTENT


def test_another_file_is_not_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ReferenceDataError, match=f"expected {'0' * 64}"):
        download_file(_remote(server, f"sha256:{0:064}"), tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "archive.tgz").write_bytes(b"old")
    with pytest.raises(ReferenceDataError, match="it is another file than the published one"):
        download_file(_remote(server), tmp_path)


def test_a_missing_file_or_server_is_told(server: Server, tmp_path: Path) -> None:
    gone = RemoteFile(url=server.url.replace("/file", "/gone"), name="archive.tgz", digest=DIGEST)
    with pytest.raises(ReferenceDataError, match="HTTP 404"):
        download_file(gone, tmp_path)
    nobody = RemoteFile(url="http://127.0.0.1:1/file", name="archive.tgz", digest=DIGEST)
    with pytest.raises(ReferenceDataError, match="cannot be fetched"):
        download_file(nobody, tmp_path)


def test_of_a_file_that_does_not_end_no_more_is_taken_than_it_has(
    server: Server, tmp_path: Path
) -> None:
    remote = RemoteFile(url=server.url, name="archive.tgz", size=1000)
    seen: list[int] = []
    with pytest.raises(ReferenceDataError, match="bytes; expected 1000"):
        download_file(remote, tmp_path, progress=lambda done, _: seen.append(done))
    assert max(seen) <= 1 << 20
    assert not list(tmp_path.iterdir())


def test_https_is_not_left_on_the_way() -> None:
    request = Request("https://a.example/file", headers={"Authorization": "Bearer x"})

    def follow(url: str) -> Request | None:
        return _Redirects().redirect_request(request, None, 302, "Found", {}, url)

    after = follow("https://b.example/file")
    assert after is not None
    assert not after.has_header("Authorization")
    for url in ("http://a.example/file", "ftp://a.example/file"):
        with pytest.raises(URLError, match="anybody on the way can change"):
            follow(url)
