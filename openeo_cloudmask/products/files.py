"""The files of a product, whether they lie in a folder, a bucket, a zip or a tar."""

from __future__ import annotations

import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol

from openeo_cloudmask.errors import MissingExtraError, ProductError
from openeo_cloudmask.products.addresses import S3_HINT, Address, Source
from openeo_cloudmask.products.drivers import shown
from openeo_cloudmask.products.ranges import open_web_file

METADATA_BYTES = 64 * 2**20
"""Metadata files larger than this are not read; real ones have less than 1 MB."""

FILES = 10_000
"""A product has some hundred files; what has more than this is something else."""

DIRECTORY_BYTES = 4 * 2**20
"""Of a zip's list of its files; each of them takes some ten times its bytes when it is read."""

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
ARCHIVE_FAULTS = (
    *(OSError, EOFError, RuntimeError, ValueError),
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError),
)
"""What ``zipfile`` and ``tarfile`` raise for archives that are damaged, encrypted or too new."""
COMPRESSED_TARS = (".tar.gz", ".tgz")
"""Archives that have to be read from their beginning on."""


class ProductFiles(Protocol):
    """Files by name, relative to the product's top folder, with ``/`` between the parts."""

    @property
    def where(self) -> Source:
        """The folder or archive."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all files, sorted."""

    def read(self, name: str) -> bytes:
        """Return the content of a small file."""

    def gdal_path(self, name: str) -> str:
        """Return what GDAL opens."""


class FolderFiles:
    """A folder on disk."""

    def __init__(self, where: Path) -> None:
        self.where = where
        found = (item for item in where.rglob("*") if item.is_file())
        names = [item.relative_to(where).as_posix() for item in islice(found, FILES + 1)]
        self.names = _sorted_names(where, names)

    def read(self, name: str) -> bytes:
        """Return the content of a small file."""
        path = self.where / name
        try:
            check_size(path.stat().st_size, str(path))
            return path.read_bytes()
        except OSError as err:
            raise ProductError(f"cannot read {path}: {err}") from err

    def gdal_path(self, name: str) -> str:
        """Return what GDAL opens."""
        return str(self.where / name)


class ArchiveFiles:
    """A zip or tar; GDAL reads rasters in it without unpacking, and of an address only parts."""

    def __init__(self, where: Source) -> None:
        self.where = where
        try:
            with self._stream() as stream:
                self._zip = zipfile.is_zipfile(stream)
                stream.seek(0)
                if self._zip:
                    with open_zip(stream, str(where)) as archive:
                        members = [item for item in archive.infolist() if item.filename]
                        found = [item.filename for item in members if not item.is_dir()]
                else:
                    with tarfile.open(fileobj=stream) as tar:
                        listed = list(islice(tar, FILES + 1))  # folders count, too
                        _check_count(where, len(listed))
                        found = [item.name for item in listed if item.isfile()]
        except ARCHIVE_FAULTS as err:
            if isinstance(err, ProductError):
                raise
            # Of what is no tar, tarfile lists a reason for each kind of compression.
            reason = shown(err).partition(":\n")[0]
            raise ProductError(
                f"cannot read the archive {where} as a zip or tar: {reason}. It may be incomplete; "
                "download it again"
            ) from err
        # Some tars name their files ./name; GDAL leaves that out as well.
        self._stored = {name.removeprefix("./"): name for name in found}
        self.names = _sorted_names(where, list(self._stored))

    def read(self, name: str) -> bytes:
        """Return the content of a small file."""
        stored = self._stored[name]
        try:
            with self._stream() as file:
                if self._zip:
                    with open_zip(file, str(self.where)) as archive:
                        check_size(archive.getinfo(stored).file_size, name)
                        # A directory may lie: no more is unpacked at a time than it may be.
                        with archive.open(stored) as packed:
                            return packed.read(METADATA_BYTES)
                with tarfile.open(fileobj=file) as tar:
                    member = tar.getmember(stored)
                    check_size(member.size, name)
                    stream = tar.extractfile(member)
                    return b"" if stream is None else stream.read()
        except ARCHIVE_FAULTS as err:
            if isinstance(err, ProductError):
                raise
            raise ProductError(f"cannot read {name} in {self.where}: {shown(err)}") from err

    def gdal_path(self, name: str) -> str:
        """Return what GDAL opens."""
        scheme = "vsizip" if self._zip else "vsitar"
        where = self.where
        archive = where.gdal_path if isinstance(where, Address) else where.resolve()
        # Braces: GDAL then knows where the archive's name ends, whatever its suffix.
        return f"/{scheme}/{{{archive}}}/{name}"

    def _stream(self) -> IO[bytes]:
        if not isinstance(self.where, Address):
            return self.where.open("rb")
        if self.where.in_bucket:
            bucket = _open_buckets(self.where)
            return _reading(self.where, lambda: bucket.open(self.where.url))  # type: ignore[union-attr,no-any-return]
        return open_web_file(self.where)


class BucketFiles:
    """A folder of a bucket, with GDAL's settings of S3 (``AWS_...``)."""

    def __init__(self, where: Address) -> None:
        self.where = where
        self._folder = where.url.removeprefix("s3://").rstrip("/")
        self._bucket = _open_buckets(where)
        found = _reading(where, lambda: self._bucket.find(self._folder))
        self.names = _sorted_names(where, [name[len(self._folder) + 1 :] for name in found])

    def read(self, name: str) -> bytes:
        """Return the content of a small file."""
        path = f"{self._folder}/{name}"
        check_size(_reading(self.where, lambda: self._bucket.size(path)), name)
        content: bytes = _reading(
            self.where, lambda: self._bucket.cat_file(path, end=METADATA_BYTES)
        )
        return content

    def gdal_path(self, name: str) -> str:
        """Return what GDAL opens."""
        return f"/vsis3/{self._folder}/{name}"


def _open_buckets(where: Address) -> Any:  # noqa: ANN401 - s3fs has no types
    try:
        from s3fs import S3FileSystem
    except ImportError as err:
        raise MissingExtraError.for_extra("s3", f"listing {where}") from err
    endpoint = os.environ.get("AWS_S3_ENDPOINT")
    if endpoint is not None and "://" not in endpoint:
        endpoint = f"{'https' if _is_set('AWS_HTTPS', default=True) else 'http'}://{endpoint}"
    return S3FileSystem(
        anon=_is_set("AWS_NO_SIGN_REQUEST"),
        endpoint_url=endpoint,
        requester_pays=os.environ.get("AWS_REQUEST_PAYER") == "requester",
        skip_instance_cache=True,
    )


def _is_set(name: str, *, default: bool = False) -> bool:
    text = os.environ.get(name)
    return default if text is None else text.upper() in ("YES", "TRUE", "ON", "1")


def _reading(where: Address, work: Callable[[], Any]) -> Any:  # noqa: ANN401
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return work()
    except (OSError, BotoCoreError, ClientError) as err:
        raise ProductError(f"cannot read {where}: {err}. {S3_HINT}") from err


def _sorted_names(where: Source, names: list[str]) -> tuple[str, ...]:
    _check_count(where, len(names))
    return tuple(sorted(names))


def _check_count(where: Source, count: int) -> None:
    if count > FILES:
        raise ProductError(f"{where} holds more than {FILES} files; expected those of one product")


class _Directory:
    """A stream whose bytes are counted until its zip's directory is read, and then no longer."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name
        self.is_read = False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any of a stream's
        return getattr(self._stream, name)

    def read(self, size: int = -1) -> bytes:
        """Return what the stream holds; no directory that is too large to be one."""
        if self.is_read:
            return self._stream.read(size)
        most = DIRECTORY_BYTES + 1
        content = self._stream.read(most if size < 0 else min(size, most))
        if len(content) == most:
            raise ProductError(
                f"{self._name} is a zip whose list of files has more than "
                f"{DIRECTORY_BYTES // 2**20} MB; expected at most {FILES} files, those of one "
                "product"
            )
        return content


def open_zip(stream: IO[bytes], name: str) -> zipfile.ZipFile:
    """Return a zip that is open; ``zipfile`` alone reads all that its end says its directory has.

    Args:
        stream: its content, which stays open after the zip is closed.
        name: what errors call it.

    Raises:
        ProductError: its directory is too large to be that of a product.
        zipfile.BadZipFile: it is not a zip; others of ``ARCHIVE_FAULTS`` are raised, too.
    """
    counted = _Directory(stream, name)
    archive = zipfile.ZipFile(counted)  # type: ignore[arg-type]
    counted.is_read = True
    return archive


def open_files(path: Path) -> ProductFiles | None:
    """Return the files of the product at ``path``, or None where it is a single raster.

    The main metadata file of a product (``MTD_*.xml``, ``*_MTL.*``) stands for its folder.
    """
    if path.is_dir():
        return FolderFiles(path)
    name = path.name.upper()
    if name.lower().endswith(ARCHIVE_SUFFIXES):
        return ArchiveFiles(path)
    if name.endswith((".XML", ".TXT", ".JSON")):
        is_metadata = "MTD_" in name or name.rsplit(".", 1)[0].endswith("_MTL")
        if is_metadata:
            return FolderFiles(path.resolve().parent)
    return None


def check_size(size: int, name: str) -> None:
    """Make sure that a metadata file is not too large to be one.

    Raises:
        ProductError: it is.
    """
    if size > METADATA_BYTES:
        raise ProductError(
            f"{name} has {size / 2**20:.0f} MB; expected a metadata file of less than "
            f"{METADATA_BYTES // 2**20} MB"
        )
