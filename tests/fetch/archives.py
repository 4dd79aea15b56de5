"""Servers on this machine that speak as public archives do."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 3
"""Rows of a listing; a real one has 1000."""


@dataclass
class PublicArchive:
    """Objects of buckets, as Google Cloud Storage serves them; and products, as OData does."""

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    """``bucket/path`` -> content."""
    products: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Name of a SAFE -> file -> content, for OData."""
    password: str = "right"
    lifetime_s: float = 600
    cut: dict[str, int] = field(default_factory=dict)
    """Path -> how many times its transfer breaks off in the middle."""
    spoiled: set[str] = field(default_factory=set)
    """Paths that come with a byte changed."""
    tokens: list[str] = field(default_factory=list)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """(path, Range) of what was asked for."""
    queries: list[dict[str, list[str]]] = field(default_factory=list)

    def put(self, bucket: str, prefix: str, files: dict[str, bytes]) -> None:
        """Store a product in a bucket."""
        self.objects |= {f"{bucket}/{prefix}{name}": content for name, content in files.items()}

    def listing(self, bucket: str, query: dict[str, list[str]]) -> dict[str, object]:
        """One page of a bucket's objects or folders."""
        prefix = query["prefix"][0]
        names = sorted(
            path.removeprefix(f"{bucket}/")
            for path in self.objects
            if path.startswith(f"{bucket}/{prefix}")
        )
        start = int(query.get("pageToken", ["0"])[0])
        more = {"nextPageToken": str(start + PAGE)}
        if query.get("delimiter") == ["/"]:
            cut = (name[len(prefix) :] for name in names)
            folders = sorted({prefix + rest.split("/")[0] + "/" for rest in cut if "/" in rest})
            page: dict[str, object] = {"prefixes": folders[start : start + PAGE]}
            return page | (more if start + PAGE < len(folders) else {})
        items = [
            {
                "name": name,
                "size": str(len(content)),
                "md5Hash": base64.b64encode(hashlib.md5(content).digest()).decode(),
            }
            for name in names[start : start + PAGE]
            for content in [self.objects[f"{bucket}/{name}"]]
        ]
        return {"items": items} | (more if start + PAGE < len(names) else {})

    def odata(self, query: dict[str, list[str]]) -> dict[str, object]:
        """The products that a filter's ``contains`` let through."""
        conditions = query["$filter"][0].split(" and ")
        parts = [item.split("'")[1] for item in conditions if item.startswith("contains(")]
        found = [name for name in self.products if all(part in name for part in parts)]
        return {"value": [{"Id": f"id-{name[:10]}", "Name": name} for name in found]}

    def manifest(self, name: str) -> bytes:
        """The manifest of a product."""
        rows = "".join(
            f'<dataObject ID="d{place}"><byteStream mimeType="text/xml" size="{len(content)}">'
            f'<fileLocation locatorType="URL" href="./{file}"/><checksum checksumName="SHA3-256">'
            f"{hashlib.sha3_256(content).hexdigest()}</checksum></byteStream></dataObject>"
            for place, (file, content) in enumerate(self.products[name].items())
        )
        section = f"<dataObjectSection>{rows}</dataObjectSection>"
        return f"<x:XFDU xmlns:x='urn:x'>{section}</x:XFDU>".encode()


class _Handler(BaseHTTPRequestHandler):
    state: PublicArchive

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query, path = parse_qs(parts.query), unquote(parts.path)
        self.state.requests.append((path, self.headers.get("Range")))
        self.state.queries.append(query)
        if path.startswith("/storage/v1/b/"):
            self._json(self.state.listing(path.split("/")[4], query))
        elif path == "/odata/v1/Products":
            self._json(self.state.odata(query))
        elif path.startswith("/odata/v1/Products("):
            self._node(path)
        elif path.startswith("/moved/"):
            self._node(path.removeprefix("/moved"))
        else:
            self._send(path, self.state.objects.get(path[1:]))

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if form["password"] != [self.state.password] or form["client_id"] != ["cdse-public"]:
            self.send_error(401)
            return
        self.state.tokens.append(f"token-{len(self.state.tokens)}")
        self._json({"access_token": self.state.tokens[-1], "expires_in": self.state.lifetime_s})

    def _node(self, path: str) -> None:
        if self.headers.get("Authorization") not in [f"Bearer {t}" for t in self.state.tokens[-1:]]:
            self.send_error(401)
            return
        if not path.startswith("/odata/v1/") or not self.path.startswith("/moved"):
            self.send_response(302)  # as the catalogue sends its users to another host
            self.send_header("Location", f"{self.state.url}/moved{path}")
            self.end_headers()
            return
        names = [part.removesuffix(")") for part in path.split("/Nodes(")[1:]]
        product, file = names[0], "/".join(names[1:]).removesuffix(")/$value")
        files = self.state.products.get(product, {})
        content = self.state.manifest(product) if file == "manifest.safe" else files.get(file)
        self._send(file, content)

    def _json(self, content: dict[str, object]) -> None:
        self._send("", json.dumps(content).encode())

    def _send(self, path: str, content: bytes | None) -> None:
        if content is None:
            self.send_error(404)
            return
        if any(path.endswith(end) for end in self.state.spoiled):
            content = bytes([content[0] ^ 1]) + content[1:]
        wanted = self.headers.get("Range")
        start = int(wanted[6:-1]) if wanted else 0
        rest = content[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        cut = self.state.cut
        end = next((key for key in cut if path.endswith(key) and cut[key]), None)
        if end is not None:
            cut[end] -= 1
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(state: PublicArchive) -> Iterator[PublicArchive]:
    """Serve an archive on a free port."""
    handler = type("Handler", (_Handler,), {"state": state})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    try:
        yield state
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()
