"""Addresses of scenes elsewhere: ``https://``, ``s3://``, and GDAL's ``/vsicurl/``, ``/vsis3/``.

Only an ``Address`` is read from elsewhere: a text or path given to ``open_product`` is always one
of this machine. ``parse_source`` makes addresses of what a person types at their own machine; the
server, the user-defined function and the viewer never call it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, cast
from urllib.parse import unquote

from openeo_cloudmask.errors import ProductError

_KINDS = "https://, http://, s3://, /vsicurl/https:// and /vsis3/"
_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Address:
    """Where a scene lies: a file of a web server, or a file or folder of a bucket."""

    url: str
    """``https://...``, ``http://...`` or ``s3://bucket/key``."""

    @property
    def gdal_path(self) -> str:
        """Return what GDAL opens."""
        if self.in_bucket:
            return f"/vsis3/{self.url.removeprefix('s3://')}"
        return f"/vsicurl/{self.url}"

    @property
    def in_bucket(self) -> bool:
        """Return whether it is one of S3."""
        return self.url.startswith("s3://")

    @property
    def name(self) -> str:
        """Return the last part of its path."""
        return PurePosixPath(unquote(re.sub(r"[?#].*", "", self.url))).name

    @property
    def stem(self) -> str:
        """Return its name without suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """Return the suffix of its name."""
        return PurePosixPath(self.name).suffix

    def __str__(self) -> str:
        """Return the address without its query, which may hold a signature."""
        return re.sub(r"\?.*", "", self.url)


Source = Path | Address


def parse_source(text: str | os.PathLike[str] | Address) -> Source:
    """Return what a person typed as a path of this machine or as an address.

    Raises:
        ProductError: it is an address of a kind that is not read, or ``-``.
    """
    if isinstance(text, Address):
        return text
    given = os.fspath(text)
    if given == "-":
        raise ProductError(
            "the input is '-'; expected a path or an address, as a scene is not read from a pipe"
        )
    for start, scheme in (("/vsicurl/", ""), ("/vsis3/", "s3://")):
        if given.startswith(start):
            given = scheme + given.removeprefix(start)
            break
    if re.match(r"(https?://|s3://)[^/\s]+/\S", given):
        return Address(given)
    if re.match(r"[A-Za-z][\w+.-]+://|/vsi\w+/", given):
        raise ProductError(
            f"the input is {Address(given)}, which is no address that is read; expected a path of "
            f"this machine, or {_KINDS} and where it is there"
        )
    return Path(given)


def takes_addresses(function: _Function) -> _Function:
    """Return ``function`` with a first argument that may also be the text of an address."""

    @wraps(function)
    def anywhere(path: str | os.PathLike[str], *args: Any, **options: Any) -> Any:  # noqa: ANN401
        return function(parse_source(path), *args, **options)

    return cast(_Function, anywhere)


S3_HINT = (
    "Buckets are read with GDAL's settings: keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "or AWS_NO_SIGN_REQUEST=YES for public ones; AWS_S3_ENDPOINT for other hosts"
)
