"""Where result files are kept: on disk, in a bucket, or in a bucket of the user's own."""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.settings import Settings
from openeo_cloudmask.publish import lack_of_room

_BLOCK = 1 << 20
_OBJECT_BLOCK = 8 << 20
"""Bytes of an object in one request."""
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
PRIVATE_KEYS = ("access_key", "secret_key", "session_token")
PRIVATE_FIELDS = ("bucket", "prefix", "endpoint", "region", *PRIVATE_KEYS)


SPARE_BYTES = 2**30
"""Left free on the disk of the data folder: without room the database answers nobody."""


def check_disk(folder: Path) -> None:
    """Make sure that there is room for more.

    Raises:
        ApiError: the disk is full, but for what the database needs.
    """
    if lack := lack_of_room(folder, spare=SPARE_BYTES):
        raise ApiError(
            "StorageFailure",
            f"the server's disk is full: {lack}; delete results that are no longer needed, or ask "
            "whoever runs it to make room",
        )


class ResultStorage(Protocol):
    """Keeps the result files of jobs; called from several threads."""

    def store(self, job_id: str, folder: Path, names: Sequence[str]) -> str:
        """Take the files ``names`` over from ``folder`` and return where they are.

        Raises:
            ApiError: they cannot be stored.
        """

    def local_path(self, stored_at: str, name: str) -> Path | None:
        """Return the file's path where it is on this machine, else None."""

    def read(self, stored_at: str, name: str, start: int, stop: int) -> Iterator[bytes]:
        """Return the bytes ``start`` to ``stop`` (without it) of a file, block by block.

        Raises:
            ApiError: it cannot be read; known before the first block is.
        """

    def delete(self, job_id: str, stored_at: str | None) -> None:
        """Delete a job's files; none being there is no error.

        Raises:
            ApiError: they cannot be deleted now.
        """


@dataclass(frozen=True, slots=True)
class DiskStorage:
    """Result files in ``<folder>/<job>/results``."""

    folder: Path

    def store(self, job_id: str, folder: Path, names: Sequence[str]) -> str:
        """Move the files to their place."""
        target = self.folder / job_id / "results"
        try:
            if target.exists():
                shutil.rmtree(target)
            target.mkdir(parents=True)
            for name in names:
                (folder / name).replace(target / name)
        except OSError as err:
            raise _failed(f"results cannot be stored: {err.strerror}") from err
        return f"{job_id}/results"

    def local_path(self, stored_at: str, name: str) -> Path | None:
        """Return the file's path; ``stored_at`` is ``<job>/results``."""
        path = (self.folder / stored_at / name).resolve()
        if not path.is_relative_to(self.folder.resolve()) or not path.is_file():
            return None
        return path

    def read(self, stored_at: str, name: str, start: int, stop: int) -> Iterator[bytes]:
        """Return a part of the file."""
        path = self.local_path(stored_at, name)
        try:
            file = None if path is None else path.open("rb")
        except FileNotFoundError:  # deleted meanwhile
            file = None
        if file is None:
            raise ApiError("FileNotFound", f"the file {name!r} does not exist")
        return _read_blocks(file, start, stop)

    def delete(self, job_id: str, stored_at: str | None) -> None:
        """Delete the job's folder."""
        del stored_at
        shutil.rmtree(self.folder / job_id, ignore_errors=True)


class BucketStorage:
    """Result files in ``s3://bucket/prefix/<job>/``."""

    def __init__(self, url: str, endpoint: str | None, folder: Path) -> None:
        self._root = url.removeprefix("s3://").strip("/")
        self._endpoint = endpoint
        self._folder = folder

    def store(self, job_id: str, folder: Path, names: Sequence[str]) -> str:
        """Upload the files in the place of former ones and delete them here."""
        target = self._place(job_id)
        files = _connect(self._endpoint)
        try:
            _remove(files, target)
            for name in names:
                files.put_file(str(folder / name), f"{target}/{name}")
        except Exception as err:
            raise _failed(f"the bucket of the results did not take them: {_reason(err)}") from err
        shutil.rmtree(self._folder / job_id, ignore_errors=True)
        return target

    def local_path(self, stored_at: str, name: str) -> Path | None:
        """Return None: nothing is on this machine."""
        del stored_at, name
        return None

    def read(self, stored_at: str, name: str, start: int, stop: int) -> Iterator[bytes]:
        """Return a part of the object."""
        blocks = self._blocks(f"{stored_at}/{name}", start, stop)
        try:
            first = next(blocks, b"")
        except FileNotFoundError as err:
            raise ApiError("FileNotFound", f"the file {name!r} does not exist") from err
        except Exception as err:
            raise _failed(f"the bucket of the results cannot be read: {_reason(err)}") from err
        return itertools.chain([first], blocks)

    def _blocks(self, path: str, start: int, stop: int) -> Iterator[bytes]:
        files = _connect(self._endpoint)
        for at in range(start, stop, _OBJECT_BLOCK):
            yield files.cat_file(path, start=at, end=min(at + _OBJECT_BLOCK, stop))

    def delete(self, job_id: str, stored_at: str | None) -> None:
        """Delete the objects; those of an upload that was cut short, too."""
        shutil.rmtree(self._folder / job_id, ignore_errors=True)
        try:
            _remove(_connect(self._endpoint), stored_at or self._place(job_id))
        except Exception as err:
            raise _failed(f"the bucket of the results cannot be cleaned: {_reason(err)}") from err

    def _place(self, job_id: str) -> str:
        return f"{self._root}/{job_id}"


def make_storage(settings: Settings) -> ResultStorage:
    """Return the storage that the settings name.

    Raises:
        ApiError: ``results`` is no S3 URL.
    """
    if settings.results is None:
        return DiskStorage(settings.jobs_dir)
    if not settings.results.startswith("s3://"):
        raise ApiError("FilePathInvalid", f"results is {settings.results!r}; expected s3://bucket")
    return BucketStorage(settings.results, settings.s3_endpoint, settings.jobs_dir)


def check_private(given: object, endpoints: Sequence[str]) -> dict[str, str]:
    """Return the user's bucket and keys from ``job_options['s3']``; messages never hold values.

    Raises:
        ApiError: something is missing or not allowed.
    """
    expected = "job_options.s3 needs bucket, access_key and secret_key"
    if not isinstance(given, Mapping):
        raise ApiError("ProcessParameterInvalid", f"output_storage PRIVATE: {expected}")
    if strange := sorted(set(map(str, given)) - set(PRIVATE_FIELDS)):
        raise ApiError("ProcessParameterInvalid", f"job_options.s3 has unknown {strange}")
    values = {key: value for key, value in given.items() if value is not None}
    if not all(isinstance(value, str) and value for value in values.values()):
        raise ApiError("ProcessParameterInvalid", "every value in job_options.s3 must be text")
    if not {"bucket", "access_key", "secret_key"} <= set(values):
        raise ApiError("ProcessParameterInvalid", f"output_storage PRIVATE: {expected}")
    if not _BUCKET.fullmatch(values["bucket"]):
        raise ApiError("ProcessParameterInvalid", "job_options.s3.bucket is no bucket name")
    if ".." in values.get("prefix", ""):
        raise ApiError("ProcessParameterInvalid", "job_options.s3.prefix may not hold ..")
    endpoint = values.get("endpoint")
    if endpoint is not None and endpoint.rstrip("/") not in {e.rstrip("/") for e in endpoints}:
        raise ApiError(
            "ProcessParameterInvalid",
            "job_options.s3.endpoint is not one this server delivers to; whoever runs it can allow "
            "it with --private-endpoint",
        )
    return values


def deliver_private(
    keys: Mapping[str, str], job_id: str, folder: Path, names: Sequence[str]
) -> dict[str, str]:
    """Upload the files to the user's bucket and return name -> s3 URL.

    Raises:
        ApiError: the bucket did not take them.
    """
    prefix = keys.get("prefix", "").strip("/")
    target = "/".join(part for part in (keys["bucket"], prefix, job_id) if part)
    files = _connect(
        keys.get("endpoint"), key=keys["access_key"], secret=keys["secret_key"],
        token=keys.get("session_token"), region=keys.get("region"),
    )  # fmt: skip
    try:
        for name in names:
            files.put_file(str(folder / name), f"{target}/{name}")
    except Exception as err:  # noqa: BLE001 - of many libraries
        # The text of such errors may hold the keys; its kind says enough. No "from err" either:
        # the chain ends up in the server's log.
        raise _failed(
            f"your bucket {keys['bucket']!r} did not take the results: {_reason(err)}"
        ) from None
    return {name: f"s3://{target}/{name}" for name in names}


def _connect(
    endpoint: str | None,
    *,
    key: str | None = None,
    secret: str | None = None,
    token: str | None = None,
    region: str | None = None,
) -> Any:  # noqa: ANN401 - fsspec has no types
    from s3fs import S3FileSystem

    options: dict[str, Any] = {"region_name": region} if region else {}
    return S3FileSystem(
        key=key, secret=secret, token=token, endpoint_url=endpoint, client_kwargs=options,
        skip_instance_cache=True,  # fsspec would keep the keys in a cache
        use_listings_cache=False,
        config_kwargs={"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3}},
    )  # fmt: skip


def _remove(files: Any, target: str) -> None:  # noqa: ANN401
    with contextlib.suppress(FileNotFoundError):
        files.rm(target, recursive=True)


def _read_blocks(file: IO[bytes], start: int, stop: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        while block := file.read(min(_BLOCK, stop - file.tell())):
            yield block


def _reason(error: Exception) -> str:
    """Return why a bucket was of no use; its own words may hold keys and are not repeated."""
    if isinstance(error, FileNotFoundError):
        return "there is no bucket of that name"
    if isinstance(error, PermissionError):
        return "the keys are wrong, or may not do that there"
    return f"it cannot be reached ({type(error).__name__})"


def _failed(reason: str) -> ApiError:
    return ApiError("StorageFailure", reason)
