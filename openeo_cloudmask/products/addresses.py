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
from functools import cached_property, wraps
from pathlib import Path, PurePosixPath
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import unquote

from openeo_cloudmask.errors import MissingExtraError, ProductError

_KINDS = "https://, http://, s3://, /vsicurl/https:// and /vsis3/"
_Rest = ParamSpec("_Rest")
_Result = TypeVar("_Result")


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
    if found := re.match(r"[A-Za-z][\w+.-]+://|/vsi\w+/", given):
        raise ProductError(
            f"the input is {Address(given)}, and addresses that begin with {found[0]} are not "
            f"read; expected a path of this machine, or one of {_KINDS}"
        )
    return Path(given)


def takes_addresses(
    function: Callable[Concatenate[Any, _Rest], _Result],
) -> Callable[Concatenate[str | os.PathLike[str], _Rest], _Result]:
    """Return ``function`` with a first argument that may also be the text of an address."""

    @wraps(function)
    def anywhere(
        path: str | os.PathLike[str], *args: _Rest.args, **options: _Rest.kwargs
    ) -> _Result:
        return function(parse_source(path), *args, **options)

    return anywhere


class BucketFiles:
    """A folder of a bucket, with GDAL's settings of S3 (``AWS_...``)."""

    def __init__(self, where: Address) -> None:
        self.where = where
        self._folder = where.url.removeprefix("s3://").rstrip("/")
        found = _reading(where, lambda: self._bucket.find(self._folder))
        self.names = tuple(sorted(name.removeprefix(f"{self._folder}/") for name in found))

    @cached_property
    def _bucket(self) -> Any:  # noqa: ANN401 - s3fs has no types
        try:
            from s3fs import S3FileSystem
        except ImportError as err:
            raise MissingExtraError.for_extra("s3", f"listing {self.where}") from err
        endpoint = os.environ.get("AWS_S3_ENDPOINT")
        if endpoint is not None and "://" not in endpoint:
            endpoint = f"{'https' if _is_set('AWS_HTTPS', default=True) else 'http'}://{endpoint}"
        return S3FileSystem(
            anon=_is_set("AWS_NO_SIGN_REQUEST"),
            endpoint_url=endpoint,
            requester_pays=os.environ.get("AWS_REQUEST_PAYER") == "requester",
            skip_instance_cache=True,
        )

    def read(self, name: str) -> bytes:
        """Return the content of a small file."""
        from openeo_cloudmask.products.files import METADATA_BYTES, check_size

        path = f"{self._folder}/{name}"
        check_size(_reading(self.where, lambda: self._bucket.size(path)), name)
        content: bytes = _reading(
            self.where, lambda: self._bucket.cat_file(path, end=METADATA_BYTES)
        )
        return content

    def gdal_path(self, name: str) -> str:
        """Return what GDAL opens."""
        return f"/vsis3/{self._folder}/{name}"


def _is_set(name: str, *, default: bool = False) -> bool:
    text = os.environ.get(name)
    return default if text is None else text.upper() in ("YES", "TRUE", "ON", "1")


def _reading(where: Address, work: Callable[[], Any]) -> Any:  # noqa: ANN401
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return work()
    except (OSError, BotoCoreError, ClientError) as err:
        raise ProductError(f"cannot read {where}: {err}. {S3_HINT}") from err


S3_HINT = (
    "Buckets are read with GDAL's settings: keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "or AWS_NO_SIGN_REQUEST=YES for public ones; AWS_S3_ENDPOINT for other hosts"
)
