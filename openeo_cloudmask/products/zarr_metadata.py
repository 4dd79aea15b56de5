"""Untrusted Zarr stores: refused where unpacking them could run code, or take all memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from openeo_cloudmask.errors import InputError, ProductError
from openeo_cloudmask.products.array_sizes import check_size

_METADATA = ("zarr.json", ".zmetadata", ".zarray")
_MOST_BYTES = 64 * 2**20
_MOST_FOLDERS = 10_000
_SOME_BYTES = 8
"""Of a value of another type, at least."""


def check_store(path: Path) -> None:
    """Make sure that the arrays of a Zarr folder can be unpacked.

    Whoever unpacks a pickle runs the code in it, and an array can ask for that: in place of a
    compressor, or among its filters. New versions of numcodecs refuse it, older ones do not. Chunks
    that are not there are values too: an array of any size may be a line of metadata.

    Raises:
        ProductError: an array is packed with Python's pickle or too large, or a metadata file
            cannot be read.
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
            try:
                for item in _objects(content):
                    _refuse_pickle(item)
                    _check_array(str(file.relative_to(path)), item)
            except InputError as err:
                raise ProductError(f"{path} {err}") from None
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


def _objects(content: object) -> Iterator[Mapping[str, Any]]:
    """Yield the objects in a JSON value."""
    waiting = [content]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _refuse_pickle(item: Mapping[str, Any]) -> None:
    codec = item.get("id") or item.get("name")
    if isinstance(codec, str) and codec.lower().rpartition(".")[2] == "pickle":
        raise InputError(
            "asks for Python's pickle, which could run code; expected arrays packed otherwise"
        )


def _check_array(place: str, item: Mapping[str, Any]) -> None:
    """Check the size of an array of format 2 or 3, where an object describes one.

    Raises:
        InputError: it is too large; the message goes on after the store's name.
    """
    shape, chunks = item.get("shape"), _chunks(item)
    if _are_sizes(shape) and _are_sizes(chunks):
        check_size(place, shape, chunks, _item_bytes(item))


def _chunks(item: Mapping[str, Any]) -> object:
    """Return the shape of what an array is read by; in a shard, its chunks are read one by one."""
    codecs = item.get("codecs")
    for about in (*(codecs if isinstance(codecs, list) else ()), item.get("chunk_grid")):
        configuration = about.get("configuration") if isinstance(about, dict) else None
        if isinstance(configuration, dict) and "chunk_shape" in configuration:
            return configuration["chunk_shape"]
    return item.get("chunks")


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(size) is int for size in value)


def _item_bytes(item: Mapping[str, Any]) -> int:
    kind = item.get("dtype", item.get("data_type"))
    if isinstance(kind, dict):  # in format 3, of texts and bytes
        configuration = kind.get("configuration")
        size = configuration.get("length_bytes") if isinstance(configuration, dict) else None
        return size if type(size) is int else _SOME_BYTES
    try:
        return int(np.dtype(kind).itemsize) if isinstance(kind, str) else _SOME_BYTES
    except (TypeError, ValueError, SyntaxError):
        return _SOME_BYTES
