"""Tiles as the JVM of openeo-geopyspark-driver cuts them and sends them to Python, and back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_FLOAT = 6  # geopyspark's number of the cell type


def cut(
    cube: NDArray[np.float32], size: int, overlap: int
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Return row, column and pixels of each tile of (band, y, x), NaN where the cube ends.

    The grid starts at the cube's upper left corner; all tiles have ``size + 2 * overlap`` pixels.
    """
    bands, height, width = cube.shape
    rows, columns = -(-height // size), -(-width // size)
    padded = np.full(
        (bands, rows * size + 2 * overlap, columns * size + 2 * overlap), np.nan, np.float32
    )
    padded[:, overlap : overlap + height, overlap : overlap + width] = cube
    side = size + 2 * overlap
    for row in range(rows):
        for column in range(columns):
            top, left = row * size, column * size
            yield row, column, padded[:, top : top + side, left : left + side]


def paste(mosaic: NDArray[np.float32], answer: NDArray[np.float32], place: tuple[int, ...]) -> None:
    """Write the inner part of an answer to its place (row, column, size, overlap)."""
    row, column, size, overlap = place
    inner = answer[:, overlap : overlap + size, overlap : overlap + size]
    target = mosaic[:, row * size : (row + 1) * size, column * size : (column + 1) * size]
    target[:] = inner[:, : target.shape[1], : target.shape[2]]


def encode(cells: NDArray[np.float32]) -> bytes:
    """Return the protobuf ``ProtoMultibandTile`` of (band, y, x) float32.

    geopyspark's own encoder takes minutes for a large tile; a test compares the two.
    """
    cell_type = b"\x08" + _number(_FLOAT)
    tiles = []
    for plane in cells:
        values = np.ascontiguousarray(plane, "<f4").tobytes()
        tile = b"\x08" + _number(plane.shape[1]) + b"\x10" + _number(plane.shape[0])
        tile += b"\x1a" + _sized(cell_type) + b"\x32" + _sized(values)
        tiles.append(b"\x0a" + _sized(tile))
    return b"".join(tiles)


def decode(proto: bytes, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return the cells in what ``encode`` wrote; a plane is the end of its band's message."""
    bands, height, width = shape
    each = len(proto) // bands
    planes = [proto[end - 4 * height * width : end] for end in range(each, len(proto) + 1, each)]
    return np.stack([np.frombuffer(plane, "<f4").reshape(height, width) for plane in planes])


def _sized(content: bytes) -> bytes:
    return _number(len(content)) + content


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
