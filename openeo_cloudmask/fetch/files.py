"""Files from servers: fetching continues where it stopped, and they are there only once checked."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from openeo_cloudmask.errors import OutputError, ReferenceDataError
from openeo_cloudmask.version import __version__

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 60
JSON_BYTES = 64 << 20
TRIES = 3
Progress = Callable[[int, int | None], None]
"""Called with (bytes there, bytes in all or None where the server does not say)."""
Headers = Callable[[], Mapping[str, str]]
"""Returns what each request of a server needs, such as an access token that ends after a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file to fetch, and what it has to be."""

    url: str
    name: str
    """Its path below the folder it is fetched to, with ``/`` between the parts."""
    digest: str | None = None
    """``algorithm:hexadecimal``, such as ``md5:...``; None where nobody publishes one."""
    size: int | None = None
    """Bytes, where they are known before."""

    def __post_init__(self) -> None:
        """Check that the name stays below its folder and the digest can be computed."""
        parts = self.name.split("/")
        if not self.name or "\\" in self.name or any(part in ("", ".", "..") for part in parts):
            raise ReferenceDataError(f"a server names a file {self.name!r}; expected a plain path")
        if self.digest is not None and self.digest.partition(":")[0] not in _ALGORITHMS:
            raise ReferenceDataError(
                f"{self.url}: the digest {self.digest!r} is of no known kind; expected one of "
                f"{', '.join(_ALGORITHMS)}"
            )


_ALGORITHMS = ("md5", "sha1", "sha256", "sha512", "sha3_256")


def download_file(
    remote: RemoteFile,
    folder: Path,
    *,
    headers: Headers | None = None,
    progress: Progress | None = None,
) -> Path:
    """Return the path of the file in ``folder``, after fetching what is not there yet.

    What has arrived is kept in ``<name>.part``; calling again continues there.

    Raises:
        ReferenceDataError: the server cannot be reached or the file is not what it should be.
        OutputError: the folder cannot be written to.
    """
    target = folder / remote.name
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            if (why := _wrong(remote, target)) is None:
                return target
            raise ReferenceDataError(
                f"{target} {why}: it is another file than the published one; remove it and call "
                "again"
            )
        _fetch(remote, part, headers, progress)
        if (why := _wrong(remote, part)) is not None:
            part.unlink()
            raise ReferenceDataError(
                f"what {remote.url} sent {why}. It was removed; call again, or get the file by hand"
            )
        os.replace(part, target)  # noqa: PTH105 - one step
    except OSError as err:
        raise OutputError(f"cannot write {target}: {err}") from err
    return target


def fetched_bytes(remote: RemoteFile, folder: Path) -> int:
    """Return how many bytes of the file are in ``folder`` already, whole or in part."""
    target = folder / remote.name
    for path in (target, target.with_name(f"{target.name}.part")):
        if path.is_file():
            return path.stat().st_size
    return 0


def read_json(
    url: str,
    *,
    query: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON document at a URL.

    Args:
        url: of http or https.
        query: what stands behind its question mark.
        form: what to send; the request is a POST then.
        headers: of the request.

    Raises:
        ReferenceDataError: it cannot be had. The message never repeats what was sent.
    """
    content = read_bytes(url, query=query, form=form, headers=headers, limit=JSON_BYTES)
    try:
        return json.loads(content)
    except ValueError as err:
        raise ReferenceDataError(f"{url} sent no JSON: {err}") from err


def read_bytes(
    url: str,
    *,
    limit: int,
    query: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Return a small document at a URL, as ``read_json`` does.

    Raises:
        ReferenceDataError: it cannot be had, or has more than ``limit`` bytes.
    """
    full = f"{url}?{urlencode(query)}" if query else url
    data = None if form is None else urlencode(form).encode()
    try:
        with _open(full, headers or {}, data) as answer:
            content: bytes = answer.read(limit + 1)
    except HTTPError as err:
        raise ReferenceDataError(f"{url} answers HTTP {err.code} {err.reason}") from err
    except (URLError, HTTPException, TimeoutError, ConnectionError) as err:
        raise ReferenceDataError(
            f"{url} cannot be reached: {getattr(err, 'reason', err)}; check the connection"
        ) from err
    if len(content) > limit:
        raise ReferenceDataError(f"{url} sends more than {limit} bytes")
    return content


class _Redirects(HTTPRedirectHandler):
    """Follows redirects, but none from https to less; a token stays inside its own domain."""

    def redirect_request(self, req: Request, *args: Any) -> Request | None:  # noqa: ANN401
        """Return the request that follows, or None."""
        after = super().redirect_request(req, *args)
        if after is not None and req.type == "https" != after.type:
            raise URLError(f"it redirects to {after.type}, which anybody on the way can change")
        if after is not None and not _same_domain(req.full_url, after.full_url):
            after.headers.pop("Authorization", None)
        return after


def _same_domain(one: str, other: str) -> bool:
    first, second = (urlsplit(url) for url in (one, other))
    if first.scheme == "https" and second.scheme != "https":
        return False
    domain = (first.hostname or "").partition(".")[2]
    named = domain.count(".") >= 1 and not domain.replace(".", "").isdigit()
    return first.hostname == second.hostname or (
        named and (second.hostname or "").endswith(f".{domain}")
    )


def _open(url: str, headers: Mapping[str, str], data: bytes | None = None) -> Any:  # noqa: ANN401
    if urlsplit(url).scheme not in ("http", "https"):
        raise ReferenceDataError(f"{url!r} cannot be fetched; expected a URL of http or https")
    agent = {"User-Agent": f"openeo-cloudmask/{__version__}"}
    request = Request(url, data=data, headers={**agent, **headers})  # noqa: S310 - http(s) alone
    return build_opener(_Redirects).open(request, timeout=TIMEOUT_S)


def _fetch(
    remote: RemoteFile, part: Path, headers: Headers | None, progress: Progress | None
) -> None:
    there = part.stat().st_size if part.exists() else 0
    sent = dict(headers()) if headers is not None else {}
    if there:
        sent["Range"] = f"bytes={there}-"
    try:
        with _open(remote.url, sent) as answer:
            if answer.status != HTTPStatus.PARTIAL_CONTENT:
                there = 0  # the server starts over
            _store(answer, part, there, remote.size, progress)
    except HTTPError as err:
        if err.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is left to fetch; size and digest tell whether that is right
        raise _failed(remote, part, f"HTTP {err.code} {err.reason}") from err
    except (URLError, HTTPException, TimeoutError, ConnectionError) as err:
        raise _failed(remote, part, str(getattr(err, "reason", err))) from err


def _store(
    answer: Any,  # noqa: ANN401
    part: Path,
    there: int,
    size: int | None,
    progress: Progress | None,
) -> None:
    """Append what the server sends; more than the file's ``size`` is not taken."""
    length = answer.headers.get("Content-Length")
    total = None if length is None else there + int(length)
    with part.open("ab" if there else "wb") as out:
        while block := answer.read(CHUNK_BYTES):
            out.write(block)
            there += len(block)
            if progress is not None:
                progress(there, total)
            if size is not None and there > size:
                return  # it is another file, which its size tells
    if total is not None and there < total:
        raise ConnectionError(f"the connection ended at {there} of {total} bytes")


def _failed(remote: RemoteFile, part: Path, why: str) -> ReferenceDataError:
    kept = part.stat().st_size if part.exists() else 0
    return ReferenceDataError(
        f"{remote.url} cannot be fetched: {why}. {kept} bytes are kept in {part.name}; "
        "call again to continue"
    )


def _wrong(remote: RemoteFile, path: Path) -> str | None:
    """Return how a file differs from what it has to be, or None."""
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        return f"has {size} bytes; expected {remote.size}"
    if remote.digest is None:
        return None
    algorithm, _, expected = remote.digest.partition(":")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, algorithm).hexdigest()
    return None if found == expected.lower() else f"has {algorithm} {found}; expected {expected}"
