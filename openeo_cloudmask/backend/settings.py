"""Settings of the back end: values, and how they are read from the environment."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from openeo_cloudmask.errors import OptionError

ENV_PREFIX = "OPENEO_CLOUDMASK_"
API_VERSION = "1.2.0"
MIN_SECRET = 32
"""Bytes of the key that signs links."""
_SCHEDULER = re.compile(r"inproc://.+|.+:\d+", re.ASCII)
MIN_MEMORY = 128 * 2**20
"""Bytes that a worker process needs at least."""
_COUNTS = ("workers", "threads_per_worker", "max_running_jobs", "max_attempts",
           "max_jobs_per_user", "max_sync_requests")  # fmt: skip
TEMPORARY_DAYS = 14
"""How long the hosted processor keeps a result of ``output_storage: TEMPORARY``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a server needs to know; every field has a command line option.

    Raises:
        OptionError: a limit is not positive or no amount, ``public_url`` or ``scheduler`` is no
            address, a key is short, or ``oidc_clients`` is missing.
    """

    data_dir: Path
    """Holds the database, collections, results and the secret key."""
    database: str | None = None
    """SQLAlchemy URL; None for SQLite in ``data_dir``."""
    public_url: str | None = None
    """How clients reach the server, without a final slash; None takes it from each request."""
    trusted_hosts: tuple[str, ...] = ()
    """Without ``public_url``, names that requests may be for, besides those of this machine."""
    scheduler: str | None = None
    """Address of a dask scheduler; None starts worker processes of its own."""
    workers: int = 1
    threads_per_worker: int = 1
    worker_memory: str = "auto"
    """Memory limit of a worker process, as dask writes it, e.g. ``4GiB``."""
    max_running_jobs: int = 4
    job_timeout_s: float = 24 * 3600.0
    max_jobs_per_user: int = 10_000
    """Batch jobs that a user may have stored, in whatever state."""
    sync_timeout_s: float = 300.0
    max_sync_requests: int = 4
    """Synchronous requests of one user that may run at a time."""
    sync_max_pixels: int = 4096 * 4096 * 16
    """Pixels times bands times dates that one synchronous request may load."""
    max_request_bytes: int = 4 * 1024 * 1024
    max_graph_nodes: int = 1000
    max_attempts: int = 3
    """How often a job is started again when the server stops in the middle of it."""
    cancel_grace_s: float = 10.0
    """Seconds a cancelled task has to stop before its worker process is replaced."""
    allow_any_udf: bool = False
    results: str | None = None
    """``s3://bucket/prefix`` for results; None keeps them in ``data_dir``."""
    s3_endpoint: str | None = None
    """Endpoint of ``results``; its keys come from AWS's own environment variables."""
    private_endpoints: tuple[str, ...] = ()
    """S3 endpoints that users may name for ``output_storage: PRIVATE``, besides AWS's own."""
    stac_hosts: tuple[str, ...] = ()
    """Hosts ``load_stac`` may read although their addresses are private (e.g. ``127.0.0.1``)."""
    address: str | None = None
    """``host:port`` that the server listens at; ``load_stac`` may read its results there."""
    oidc_issuer: str | None = None
    """OpenID Connect issuer whose users may log in, besides local users."""
    oidc_clients: tuple[str, ...] = ()
    """Ids of the issuer's applications whose tokens are accepted."""
    token_hours: float = 24.0
    link_hours: float = 24.0 * 7
    secret: bytes = field(default=b"", repr=False)
    """Signs links and encrypts users' keys; empty reads or makes ``data_dir/secret.key``."""

    def __post_init__(self) -> None:
        """Check the limits."""
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}; expected 1 or more")
        for name in ("job_timeout_s", "sync_timeout_s", "token_hours", "link_hours"):
            if getattr(self, name) <= 0:
                raise OptionError(f"{name} is {getattr(self, name)}; expected more than 0")
        if self.oidc_issuer and not self.oidc_clients:
            raise OptionError(
                "oidc_issuer is given without oidc_clients; name the application whose tokens are "
                "meant for this server (--oidc-client ID): tokens of others are not"
            )
        _check_memory(self.worker_memory)
        if self.scheduler is not None and not _SCHEDULER.fullmatch(self.scheduler):
            raise OptionError(
                f"scheduler is {self.scheduler!r}; expected an address such as tcp://host:8786"
            )
        if not (self.public_url or "https://").startswith(("http://", "https://")):
            raise OptionError(
                f"public_url is {self.public_url!r}; expected an address such as "
                "https://masks.example.org"
            )
        if self.secret:
            _check_secret(self.secret, "the setting 'secret'")
        object.__setattr__(self, "data_dir", Path(self.data_dir).resolve())

    @property
    def known_url(self) -> str | None:
        """The server's address as far as it knows: the public one, or where it listens."""
        if self.public_url is not None or self.address is None:
            return self.public_url
        host, _, port = self.address.rpartition(":")
        return f"http://{'localhost' if host in ('0.0.0.0', '::', '[::]') else host}:{port}"  # noqa: S104

    @property
    def readable_hosts(self) -> tuple[str, ...]:
        """What ``load_stac`` may read although its address is private: ``stac_hosts``, ourselves.

        Of ourselves it is the very port, as ``host:port``.
        """
        own: list[str] = []
        if self.address is not None:
            host, _, port = self.address.rpartition(":")
            own += [f"{name}:{port}" for name in dict.fromkeys((host, "127.0.0.1", "localhost"))]
        if self.public_url is not None:
            parts = urlsplit(self.public_url)
            own.append(f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}")
        return (*self.stac_hosts, *own)

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the database."""
        return self.database or f"sqlite:///{self.data_dir / 'cloudmask.db'}"

    @property
    def collections_dir(self) -> Path:
        """Folder with one folder per collection."""
        return self.data_dir / "collections"

    @property
    def jobs_dir(self) -> Path:
        """Folder where jobs write and, without ``results``, results stay."""
        return self.data_dir / "jobs"

    @property
    def scratch_dir(self) -> Path:
        """Folder of synchronous requests; emptied when the server starts."""
        return self.data_dir / "scratch"

    def prepare(self) -> Settings:
        """Make the folders, read or make the secret key, and return settings that hold it."""
        for folder in (self.data_dir, self.collections_dir, self.jobs_dir, self.scratch_dir):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.secret:
            return self
        import dataclasses

        return dataclasses.replace(self, secret=_read_secret(self.data_dir / "secret.key"))


def read_environment(
    data_dir: Path, environ: Mapping[str, str] | None = None, **given: object
) -> Settings:
    """Return settings: what is ``given`` wins, then the environment, then the defaults.

    Raises:
        OptionError: a value in the environment is not what its setting takes.
    """
    env = os.environ if environ is None else environ
    values: dict[str, object] = {}
    for name, item in Settings.__dataclass_fields__.items():
        text = env.get(ENV_PREFIX + name.upper())
        if name == "data_dir" or text is None:
            continue
        try:
            values[name] = _parse(str(item.type), text)
        except ValueError as err:
            raise OptionError(f"{ENV_PREFIX}{name.upper()} is not understood: {err}") from None
    values.update({key: value for key, value in given.items() if value is not None})
    return Settings(data_dir=data_dir, **values)  # type: ignore[arg-type]


def _parse(kind: str, text: str) -> object:
    if kind == "bool":
        return text.strip().lower() in ("1", "true", "yes", "on")
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(text)
    if kind.startswith("tuple"):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text.encode() if kind == "bytes" else text


def _read_secret(path: Path) -> bytes:
    """Return the key in ``path``; make one, readable by its owner only, where the file is missing.

    Raises:
        OptionError: what is there is too short to be a key.
    """
    if not path.exists():
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_hex(32).encode())
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.link(part, path)
        finally:
            part.unlink(missing_ok=True)
    return _check_secret(path.read_bytes().strip(), str(path))


def _check_memory(text: str) -> None:
    if text == "auto":
        return
    from dask.utils import parse_bytes

    try:
        enough = parse_bytes(text) >= MIN_MEMORY
    except ValueError:
        enough = False
    if not enough:
        raise OptionError(
            f"worker_memory is {text!r}; expected auto, or an amount such as 4GiB, from "
            f"{MIN_MEMORY // 2**20}MiB on: no worker starts with less"
        )


def _check_secret(key: bytes, where: str) -> bytes:
    if len(key) < MIN_SECRET:
        raise OptionError(
            f"{where} has {len(key)} bytes; expected a key of {MIN_SECRET} or more. Delete what is "
            "there, and a new key is made: links given out before are then not valid any longer"
        )
    return key
