"""The standard output of a command: a full disk behind it is an error in words."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from openeo_cloudmask.errors import OutputError


class _Told:
    """A text stream whose faults differ from those of files."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.broken = False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a stream has
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text."""
        with self._faults():
            return self._stream.write(text)

    def flush(self) -> None:
        """Hand on what was written."""
        with self._faults():
            self._stream.flush()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            self.broken = True
            if err.errno == errno.EPIPE:
                raise  # whoever reads has seen enough, which is no error
            raise OutputError(f"the standard output cannot be written: {err.strerror}") from err


@contextmanager
def told_stdout() -> Iterator[None]:
    """Make a fault of the standard output an error in words; a closed pipe ends without any.

    Raises:
        OutputError: it cannot be written to, such as on a full disk.
        SystemExit: whoever reads it has gone.
    """
    plain = sys.stdout
    if plain is None:  # closed by whoever started the command
        yield
        return
    told = _Told(plain)
    sys.stdout = cast("TextIO", told)
    try:
        yield
    finally:
        sys.stdout = plain
        try:
            if not told.broken:
                told.flush()
        except BrokenPipeError:
            sys.exit(1)
        finally:
            if told.broken:  # Python writes what is left once more when it ends
                os.dup2(os.open(os.devnull, os.O_WRONLY), plain.fileno())
