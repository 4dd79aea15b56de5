"""Files elsewhere, of which only the bytes that are asked for travel."""

from __future__ import annotations

import abc
import io
import os
from typing import TYPE_CHECKING, Any, cast

from openeo_cloudmask.digits import whole_number
from openeo_cloudmask.errors import ProductError
from openeo_cloudmask.products.addresses import Address

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER_BYTES = 64 * 1024
_SECONDS = (15, 120)
"""To connect, and until something comes."""


def open_web_file(where: Address) -> io.BufferedReader:
    """Return a file of a web server, to read and seek in.

    Raises:
        ProductError: the server does not send parts of files.
        OSError: it cannot be read.
    """
    return io.BufferedReader(_WebFile(where), _BUFFER_BYTES)


class RangeFile(io.RawIOBase, abc.ABC):
    """A file of known size elsewhere; ``fetch`` is all that is left to say."""

    size: int
    _at = 0

    @abc.abstractmethod
    def fetch(self, start: int, end: int) -> bytes:
        """Return the bytes from ``start`` to before ``end``, which are there."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a byte and return its number."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes; no more memory is taken than the file has bytes."""
        left = max(self.size - self._at, 0)
        return super().read(left if size < 0 else min(size, left)) or b""

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill the buffer, as far as the file goes; return how many bytes that were."""
        view = memoryview(buffer).cast("B")
        end = min(self._at + len(view), self.size)
        if end <= self._at:
            return 0
        content = self.fetch(self._at, end)
        view[: len(content)] = content
        self._at = end
        return len(content)


class _WebFile(RangeFile):
    def __init__(self, where: Address) -> None:
        import requests

        self._where = where
        self._session = requests.Session()
        # Addresses may be signed for GET alone, so no HEAD.
        answer = self._get(0, 1)
        told = answer.headers.get("Content-Range", "")
        size = whole_number(told.removeprefix("bytes 0-0/"))
        if size is None:
            self.close()
            raise ProductError(
                f"{where}: the server does not send parts of files; expected one that does "
                "(Range), or a download of it"
            )
        self.size = size

    def _get(self, first: int, end: int) -> Any:  # noqa: ANN401
        """Return the answer with the bytes from ``first`` to before ``end``."""
        headers = {"Range": f"bytes={first}-{end - 1}", "Accept-Encoding": "identity"}
        with self._session.get(
            self._where.url, headers=headers, timeout=_SECONDS, stream=True
        ) as answer:
            answer.raise_for_status()
            if answer.status_code == 206:
                answer.content  # noqa: B018 - reads it
            return answer

    def fetch(self, start: int, end: int) -> bytes:
        content = cast("bytes", self._get(start, end).content)
        if len(content) != end - start:
            raise OSError(f"{self._where} sent {len(content)} bytes of {end - start}")
        return content

    def close(self) -> None:
        self._session.close()
        super().close()
