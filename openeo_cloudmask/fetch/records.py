"""Data sets of references where their authors published them: Zenodo, the Hugging Face hub, files.

Zenodo lists an MD5 for each file, the hub a SHA-256 for large ones; where nobody publishes a
digest, size is all that can be checked.
"""

from __future__ import annotations

import os
from fnmatch import fnmatch
from typing import Any
from urllib.parse import quote, urlsplit

from openeo_cloudmask.errors import OptionError, ReferenceDataError
from openeo_cloudmask.fetch.files import RemoteFile, read_json

ZENODO_URL = "https://zenodo.org"
HUB_VARIABLE, HUB_URL = "HF_ENDPOINT", "https://huggingface.co"
_REVISION = "main"
_MOST_FILES = 1000
"""Of a listing of the hub; more come on further pages, which no data set here has."""


def record_files(record: str, pattern: str | None = None) -> tuple[RemoteFile, ...]:
    """Return the files of a data set.

    Args:
        record: ``zenodo:<record>``, ``hub:<data set>``, or addresses, one per line; behind a
            ``#``, the pattern that holds where none is given.
        pattern: only files whose name fits, such as ``*l1c*``.

    Raises:
        ReferenceDataError: the server does not answer, or with something else.
        OptionError: no file fits the pattern, or the record is of no known kind.
    """
    record, _, own = record.partition("#")
    pattern = pattern or own or None
    kind, _, name = record.partition(":")
    if kind == "zenodo":
        files = _zenodo(name)
    elif kind == "hub":
        files = _hub(name)
    elif kind in ("http", "https"):
        files = tuple(_plain(url) for url in record.split())
    else:
        raise OptionError("this data set has no public files; get it by hand")
    chosen = tuple(file for file in files if pattern is None or fnmatch(file.name, pattern))
    if not chosen:
        raise OptionError(
            f"no file fits {pattern!r}; there are {', '.join(file.name for file in files[:10])}"
        )
    return chosen


def _zenodo(record: str) -> tuple[RemoteFile, ...]:
    url = f"{ZENODO_URL}/api/records/{record}"
    answer = read_json(url)
    return _parsed(
        url,
        answer,
        lambda: [
            RemoteFile(
                url=item["links"]["self"],
                name=item["key"],
                digest=item.get("checksum"),
                size=int(item["size"]),
            )
            for item in answer["files"]
        ],
    )


def _hub(name: str) -> tuple[RemoteFile, ...]:
    base = os.environ.get(HUB_VARIABLE, HUB_URL).rstrip("/")
    url = f"{base}/api/datasets/{name}/tree/{_REVISION}"
    answer = read_json(url, query={"recursive": "true"})
    if isinstance(answer, list) and len(answer) >= _MOST_FILES:
        raise ReferenceDataError(f"{url} lists {len(answer)} files or more; fetch it by hand")
    return _parsed(
        url,
        answer,
        lambda: [
            RemoteFile(
                url=f"{base}/datasets/{name}/resolve/{_REVISION}/{quote(item['path'])}",
                name=item["path"],
                digest=f"sha256:{item['lfs']['oid']}" if item.get("lfs") else None,
                size=int(item["size"]),
            )
            for item in answer
            if item["type"] == "file"
        ],
    )


def _parsed(url: str, answer: object, parse: Any) -> tuple[RemoteFile, ...]:  # noqa: ANN401
    try:
        files: tuple[RemoteFile, ...] = tuple(parse())
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        if isinstance(err, ReferenceDataError):
            raise
        raise ReferenceDataError(
            f"{url} sent no list of files, but {type(answer).__name__}: {err!r}"
        ) from err
    if not files:
        raise ReferenceDataError(f"{url} lists no files")
    return files


def _plain(url: str) -> RemoteFile:
    return RemoteFile(url=url, name=urlsplit(url).path.rpartition("/")[2])
