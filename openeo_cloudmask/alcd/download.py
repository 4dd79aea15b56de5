"""Fetch the ALCD archive: continues where it stopped, and is there only once its digest fits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from openeo_cloudmask.alcd.scenes import ARCHIVE_FOLDER
from openeo_cloudmask.errors import OutputError, ReferenceDataError

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 60
Progress = Callable[[int, int | None], None]
"""Called with (bytes there, bytes in all or None where the server does not say)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file to fetch, and what it has to be."""

    url: str
    name: str
    sha256: str


ALCD_ARCHIVE = RemoteFile(
    url=f"https://zenodo.org/records/1460961/files/{ARCHIVE_FOLDER}.tgz?download=1",
    name=f"{ARCHIVE_FOLDER}.tgz",
    sha256="5912fbcfe9edbc1c2cdffbb7ef0119ffdb3099bc9eec37efe301929008bf966d",
)
"""doi:10.5281/zenodo.1460961, Baetens and Hagolle, "Sentinel-2 reference cloud masks"."""


def download_file(remote: RemoteFile, folder: Path, *, progress: Progress | None = None) -> Path:
    """Return the path of the file in ``folder``, after fetching what is not there yet.

    What has arrived is kept in ``<name>.part``; calling again continues there.

    Raises:
        ReferenceDataError: the server cannot be reached or the file is not what it should be.
        OutputError: the folder cannot be written to.
    """
    target, part = folder / remote.name, folder / f"{remote.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if target.exists():
            if _sha256(target) == remote.sha256:
                return target
            raise ReferenceDataError(
                f"{target} has another digest than the published file; remove it and call again"
            )
        _fetch(remote, part, progress)
        if (digest := _sha256(part)) != remote.sha256:
            part.unlink()
            raise ReferenceDataError(
                f"what {remote.url} sent has sha256 {digest}; expected {remote.sha256}. "
                "It was removed; call again, or get the file by hand"
            )
        os.replace(part, target)  # noqa: PTH105 - one step
    except OSError as err:
        raise OutputError(f"cannot write {target}: {err}") from err
    return target


def _fetch(remote: RemoteFile, part: Path, progress: Progress | None) -> None:
    there = part.stat().st_size if part.exists() else 0
    request = Request(remote.url)  # noqa: S310 - a URL of ours or of the caller, never of a file
    if there:
        request.add_header("Range", f"bytes={there}-")
    try:
        with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            if answer.status != HTTPStatus.PARTIAL_CONTENT:
                there = 0  # the server starts over
            _store(answer, part, there, progress)
    except HTTPError as err:
        if err.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is left to fetch; the digest tells whether that is right
        raise _failed(remote, part, f"HTTP {err.code} {err.reason}") from err
    except (URLError, HTTPException, TimeoutError, ConnectionError) as err:
        raise _failed(remote, part, str(getattr(err, "reason", err))) from err


def _store(answer: Any, part: Path, there: int, progress: Progress | None) -> None:  # noqa: ANN401
    length = answer.headers.get("Content-Length")
    total = None if length is None else there + int(length)
    with part.open("ab" if there else "wb") as out:
        while block := answer.read(CHUNK_BYTES):
            out.write(block)
            there += len(block)
            if progress is not None:
                progress(there, total)
    if total is not None and there < total:
        raise ConnectionError(f"the connection ended at {there} of {total} bytes")


def _failed(remote: RemoteFile, part: Path, why: str) -> ReferenceDataError:
    kept = part.stat().st_size if part.exists() else 0
    return ReferenceDataError(
        f"{remote.url} cannot be fetched: {why}. {kept} bytes are kept in {part.name}; "
        "call again to continue"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
