"""The metadata of an ONNX file, read without the network and without a runtime.

An ONNX file is one message of Protocol Buffers: a row of fields, each a number, a wire type and a
value. The network is one of them, which is passed over.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import BinaryIO

_METADATA, _KEY, _VALUE = 14, 1, 2
"""Numbers of ``ModelProto.metadata_props``, and of an entry's parts."""
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_MOST_BITS = 64
_MOST_BYTES = 1 << 20
"""No card of ours is longer."""


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of an ONNX file, key -> value.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no ONNX file.
    """
    with path.open("rb") as file:
        entries = [
            _read_fields(BytesIO(part), {_KEY, _VALUE})
            for _, part in _read_fields(file, {_METADATA})
        ]
    return {
        dict(entry).get(_KEY, b"").decode(): dict(entry).get(_VALUE, b"").decode()
        for entry in entries
    }


def _read_fields(file: BinaryIO, wanted: set[int]) -> list[tuple[int, bytes]]:
    """Return the number and the bytes of those fields of a message that are wanted."""
    found = []
    size = file.seek(0, 2)
    file.seek(0)
    while file.tell() < size:
        number, wire = divmod(_read_varint(file), 8)
        if wire == _VARINT:
            _read_varint(file)
            continue
        length = {_FIXED_64: 8, _FIXED_32: 4}.get(wire)
        if wire == _BYTES:
            length = _read_varint(file)
        if not number or length is None or length > size - file.tell():
            raise ValueError("it is no message of Protocol Buffers")
        if number in wanted and wire == _BYTES and length <= _MOST_BYTES:
            found.append((number, file.read(length)))
        else:
            file.seek(length, 1)
    return found


def _read_varint(file: BinaryIO) -> int:
    """Return a number that is stored in groups of seven bits."""
    value = 0
    for shift in range(0, _MOST_BITS, 7):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise ValueError("it ends within a number")
