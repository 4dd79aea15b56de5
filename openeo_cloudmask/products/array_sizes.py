"""How large the arrays of untrusted files may be: those are small that are packed to nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from openeo_cloudmask.errors import InputError

_MOST_COORDINATES = 2**24
"""Values of an array of one dimension: it is read whole, and may be packed to nothing."""
_MOST_CHUNK_BYTES = 2**30
"""Of a chunk, which is unpacked whole."""


def check_size(
    place: str, shape: Sequence[int], chunks: Sequence[int] | None, item_bytes: int
) -> None:
    """Make sure that an array does not need the more memory the less its file holds.

    Args:
        place: its name in the file.
        shape: numbers of values.
        chunks: the same of a part that is packed by itself; None where nothing is.
        item_bytes: of a value.

    Raises:
        InputError: it does; the message goes on after the file's name.
    """
    if len(shape) == 1 and shape[0] > _MOST_COORDINATES:
        raise InputError(
            f"has {shape[0]} values in {place}; expected a coordinate of at most "
            f"{_MOST_COORDINATES}"
        )
    chunk_bytes = math.prod(chunks or (0,)) * item_bytes
    if chunk_bytes > _MOST_CHUNK_BYTES:
        raise InputError(
            f"has chunks of {chunk_bytes / 2**20:.0f} MB in {place}; expected at most "
            f"{_MOST_CHUNK_BYTES / 2**20:.0f} MB: write it with smaller ones"
        )
