"""Reading from addresses that users name: public ones only, and the very ones that were checked.

A process graph must not reach files of the server, or services inside its network. So a URL has to
be plain, its host has to have public addresses only, and the connection goes to an address that was
checked: a second answer of the name server counts for nothing. Every redirect is a new URL.
"""

from __future__ import annotations

import functools
import ipaddress
import json
import os
import re
import socket
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.jobs import runtime
from openeo_cloudmask.digits import whole_number
from openeo_cloudmask.errors import ProductError
from openeo_cloudmask.products.ranges import RangeFile

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_BYTES = 32 * 2**20
"""Of a document, or of a file whose host does not serve parts of it."""
SCHEMES = ("http", "https")
_MAX_REDIRECTS = 5
_RETRIES = 2
_CONNECT_S, _READ_S, _DOCUMENT_S = 10.0, 30.0, 120.0
_BLOCK = 64 * 1024
_KEPT_BLOCKS = 32
# No user name, backslash, percent sign or control character stands before the path: libraries
# disagree on what the host then is.
_URL = re.compile(
    r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?([/?][!-\[\]-~]*)?", re.IGNORECASE
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a URL leads."""

    scheme: str
    host: str
    port: int
    address: str
    """IP address of the host, checked."""
    target: str
    """Path and query."""


def find_place(
    url: str, allowed_hosts: tuple[str, ...], schemes: tuple[str, ...] = SCHEMES
) -> Place:
    """Return where ``url`` leads if a user may make the server read it.

    Args:
        url: of http or https.
        allowed_hosts: hosts, or ``host:port``, that may be read although their addresses are not
            public.
        schemes: of ``http`` and ``https``, those that may be read.

    Raises:
        ApiError: it may not be read.
    """
    plain = re.sub(r"[ \x80-\U0010ffff]", lambda found: quote(found[0]), url)
    if not _URL.fullmatch(plain):
        raise _bad(f"{url[:200]!r} cannot be read; expected an http or https URL without user name")
    parts = urlsplit(plain)
    if parts.scheme not in schemes:
        raise _bad(f"{url[:200]!r} cannot be read; expected a URL of {' or '.join(schemes)}")
    host = parts.hostname or ""
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        raise _bad(f"the host {host!r} is not known; check the URL") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not {host, f"{host}:{port}"} & set(allowed_hosts) and not all(map(_is_public, addresses)):
        raise _bad(
            f"the host {host!r} is inside the server's network and may not be read; "
            "whoever runs the server can allow it with --stac-host"
        )
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Place(scheme=parts.scheme, host=host, port=port, address=addresses[0], target=target)


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.split("%", maxsplit=1)[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(str(inner))
    return address.is_global and not address.is_multicast


@functools.lru_cache(maxsize=64)
def _pool(scheme: str, host: str, port: int, address: str) -> Any:  # noqa: ANN401 - of urllib3
    """Return connections to ``address``, which answers for ``host``."""
    import urllib3
    from certifi import where

    options: dict[str, Any] = {
        "timeout": urllib3.Timeout(connect=_CONNECT_S, read=_READ_S),
        "retries": urllib3.Retry(
            connect=_RETRIES, read=_RETRIES, redirect=False, status=_RETRIES, backoff_factor=0.3,
            status_forcelist=(502, 503, 504), raise_on_status=False,
        ),
        "maxsize": 4,
    }  # fmt: skip
    if scheme == "http":
        return urllib3.HTTPConnectionPool(address, port, **options)
    return urllib3.HTTPSConnectionPool(
        address, port, server_hostname=host, assert_hostname=host, cert_reqs="CERT_REQUIRED",
        ca_certs=os.environ.get("REQUESTS_CA_BUNDLE") or where(), **options,
    )  # fmt: skip


def connect_to(place: Place) -> Any:  # noqa: ANN401 - a pool of urllib3
    """Return connections to the address of ``place``; requests need its ``host_header``."""
    return _pool(place.scheme, place.host, place.port, place.address)


def host_header(place: Place) -> str:
    """Return the header ``Host`` of requests to ``place``."""
    name = f"[{place.host}]" if ":" in place.host else place.host
    return f"{name}:{place.port}" if place.port not in (80, 443) else name


def _request(place: Place, headers: dict[str, str], end: float | None = None) -> Any:  # noqa: ANN401 - of urllib3
    """Return the answer, not read yet; with an end of time there is one try."""
    import urllib3

    limits: dict[str, Any] = {}
    if end is not None:
        limits["timeout"] = urllib3.Timeout(max(0.1, end - time.monotonic()))
        limits["retries"] = False
    return connect_to(place).request(
        "GET", place.target, **limits, redirect=False, preload_content=False, decode_content=False,
        headers={"Host": host_header(place), "User-Agent": "openeo-cloudmask",
                 "Accept-Encoding": "identity", **headers},
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Reads documents and rasters from public addresses, and from hosts that are allowed."""

    allowed_hosts: tuple[str, ...] = ()
    schemes: tuple[str, ...] = SCHEMES
    patience_s: float | None = None
    """How long a document and its redirects may take; None for what a job's worker has time for."""

    def read_json(self, url: str) -> dict[str, Any]:
        """Return the JSON object at a URL.

        Raises:
            ApiError: it may not be read, cannot be, or is no JSON object.
        """
        end = None if self.patience_s is None else time.monotonic() + self.patience_s
        _, answer = self._follow(url, {}, end)
        text = _read_all(answer, url, end=end)
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as err:
            raise _bad(f"{url} is no JSON") from err
        if not isinstance(document, dict):
            raise _bad(f"{url} is no JSON object")
        return document

    def open_file(self, url: str) -> RemoteFile:
        """Return the file at a URL, of which only the parts that are needed are read.

        Raises:
            ApiError: it may not be read, or cannot be.
        """
        place, answer = self._follow(url, {"Range": f"bytes=0-{_BLOCK - 1}"})
        content = _read_all(answer, url)
        total = whole_number(answer.headers.get("content-range", "").rpartition("/")[2])
        if answer.status == 200:
            return RemoteFile(place, url, len(content), content)
        if total is None:
            raise _bad(f"the host of {url} does not say how large the file is")
        return RemoteFile(place, url, total, content)

    def open_raster(self, url: str) -> Any:  # noqa: ANN401 - rasterio has no types
        """Return the open raster at a URL.

        Raises:
            ApiError: it may not be read, cannot be, or is no raster of a format that is read.
        """
        from openeo_cloudmask.products.drivers import open_raster

        file = self.open_file(url)
        # GDAL tells opened files apart by their names.
        name = f"/{uuid.uuid4().hex}/raster"

        def open_it(wanted: str, mode: str = "rb") -> RemoteFile:
            if wanted != name or mode != "rb":
                raise FileNotFoundError(wanted)
            return file.copy()  # each driver that tries closes its own

        try:
            return open_raster(name, opener=open_it)
        except ProductError as err:
            raise _bad(
                f"{url} cannot be opened as a raster; expected a GeoTIFF or JPEG 2000"
            ) from err

    def _follow(
        self, url: str, headers: dict[str, str], end: float | None = None
    ) -> tuple[Place, Any]:
        """Return where the redirects of ``url`` end, and the answer there, not read yet."""
        from urllib3.exceptions import HTTPError

        first = url
        for _ in range(_MAX_REDIRECTS + 1):
            runtime.check_cancelled()
            place = find_place(url, self.allowed_hosts, self.schemes)
            try:
                answer = _request(place, headers, end)
            except HTTPError as err:
                raise _bad(f"{url} cannot be read: {type(err).__name__}") from err
            if answer.status in (301, 302, 303, 307, 308):
                answer.close()
                url = urljoin(url, answer.headers.get("location", ""))
                continue
            if answer.status not in (200, 206):
                answer.close()
                raise _bad(f"{url} cannot be read: the host answers {answer.status}")
            return place, answer
        raise _bad(f"{first} redirects more than {_MAX_REDIRECTS} times")


class RemoteFile(RangeFile):
    """A file behind a URL. Its blocks are kept for a while; several threads may read.

    Args:
        place: where it is.
        url: as the user knows it.
        size: its bytes.
        begin: its first block, or all of it.
    """

    def __init__(self, place: Place, url: str, size: int, begin: bytes) -> None:
        super().__init__()
        self.size = size
        self.begin = begin
        self._place = place
        self._url = url
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def copy(self) -> RemoteFile:
        """Return the file, opened once more."""
        return RemoteFile(self._place, self._url, self.size, self.begin)

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill the buffer, as far as the file goes; return how many bytes that were.

        Raises:
            ApiError: the host does not hand them over.
        """
        with self._lock:
            return super().readinto(buffer)

    def fetch(self, start: int, end: int) -> bytes:
        """Return the bytes from ``start`` to before ``end``."""
        if end <= len(self.begin):
            return self.begin[start:end]
        first, last = start // _BLOCK, (end - 1) // _BLOCK
        if last - first >= _KEPT_BLOCKS // 2:  # decoded blocks are kept elsewhere
            return self._fetch(start, end)
        missing = [number for number in range(first, last + 1) if number not in self._blocks]
        if missing:
            begin = missing[0] * _BLOCK
            content = self._fetch(begin, min((missing[-1] + 1) * _BLOCK, self.size))
            for at in range(0, len(content), _BLOCK):
                self._blocks[(begin + at) // _BLOCK] = content[at : at + _BLOCK]
        joined = b"".join(self._blocks[number] for number in range(first, last + 1))
        while len(self._blocks) > _KEPT_BLOCKS:
            self._blocks.popitem(last=False)
        return joined[start - first * _BLOCK : end - first * _BLOCK]

    def _fetch(self, start: int, stop: int) -> bytes:
        from urllib3.exceptions import HTTPError

        runtime.check_cancelled()
        try:
            answer = _request(self._place, {"Range": f"bytes={start}-{stop - 1}"})
        except HTTPError as err:
            raise _bad(f"{self._url} cannot be read: {type(err).__name__}") from err
        content = _read_all(answer, self._url, limit=stop - start)
        if answer.status != 206 or len(content) != stop - start:
            raise _bad(f"{self._url} cannot be read: the host does not serve parts of files")
        return content


def _read_all(
    answer: Any,  # noqa: ANN401 - of urllib3
    url: str,
    limit: int | None = None,
    end: float | None = None,
) -> bytes:
    """Return an answer's body; messages never repeat any of it."""
    from urllib3.exceptions import HTTPError

    limit = MAX_BYTES if limit is None else limit
    content, end = bytearray(), time.monotonic() + _DOCUMENT_S if end is None else end
    try:
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise _bad(f"{url} cannot be read: it is sent compressed")
        # What is there, not a whole block: somebody may send a byte at a time.
        while block := answer.read1(min(_BLOCK, limit + 1 - len(content))):
            content += block
            runtime.check_cancelled()
            if len(content) > limit:
                raise _bad(f"{url} has more than {limit} bytes")
            if time.monotonic() > end:
                raise _bad(f"{url} takes too long to read")
    except HTTPError as err:
        raise _bad(f"{url} cannot be read: {type(err).__name__}") from err
    except ApiError:
        answer.close()
        raise
    answer.release_conn()
    return bytes(content)


def _bad(reason: str) -> ApiError:
    return ApiError("ProcessParameterInvalid", reason)
