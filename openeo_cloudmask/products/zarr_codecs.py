"""Untrusted Zarr stores: refused where unpacking them could run code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from openeo_cloudmask.errors import ProductError

_METADATA = ("zarr.json", ".zmetadata", ".zarray")
_MOST_BYTES = 64 * 2**20
_MOST_FOLDERS = 10_000


def refuse_pickles(path: Path) -> None:
    """Make sure that no array of a Zarr folder is packed with Python's pickle.

    Whoever unpacks a pickle runs the code in it, and an array can ask for that: in place of a
    compressor, or among its filters. New versions of numcodecs refuse it, older ones do not.

    Raises:
        ProductError: one is, or a metadata file cannot be read.
    """
    waiting, seen = [path], 0
    while waiting:
        folder = waiting.pop()
        seen += 1
        if seen > _MOST_FOLDERS:
            raise ProductError(f"{path} has more than {_MOST_FOLDERS} groups and arrays")
        array = False
        for file in (folder / name for name in _METADATA):
            if not file.is_file():
                continue
            content = _read(file)
            array = array or file.name == ".zarray" or content.get("node_type") == "array"
            if _names_pickle(content):
                raise ProductError(
                    f"{file} asks for Python's pickle, which could run code; expected arrays "
                    "packed otherwise"
                )
        if not array:  # whose folders hold chunks
            waiting.extend(item for item in folder.iterdir() if item.is_dir())


def _read(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ProductError(f"{file} is too large for metadata of Zarr")
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as err:
        if isinstance(err, ProductError):
            raise
        raise ProductError(f"cannot read {file} as metadata of Zarr: {err}") from err
    if not isinstance(content, dict):
        raise ProductError(f"{file} is no metadata of Zarr: expected a JSON object")
    return content


def _names_pickle(content: object) -> bool:
    waiting = [content]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            codec = item.get("id") or item.get("name")
            if isinstance(codec, str) and codec.lower().rpartition(".")[2] == "pickle":
                return True
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return False
