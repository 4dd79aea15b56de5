"""Connections to the database: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, Text, cast, create_engine, event, func, select
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.errors import BackendError, MissingExtraError

_T = TypeVar("_T")
_BUSY_S = 30.0
"""How long a writer waits for another; SQLite has one writer at a time."""
_ODD = (DataError, OverflowError, UnicodeEncodeError)
"""What databases say of values they cannot keep: too large, NUL, halves of characters."""
_MIGRATING = 20_240_501
"""Number of PostgreSQL's lock of whoever brings the tables to their newest form."""

MAX_STORED_BYTES = 32 * 2**20
"""Of the stored processes of a user, and of the processes of a user's services."""


def check_stored(session: Session, column: Any, own: Any, added: object) -> None:  # noqa: ANN401
    """Make sure that a user may store more.

    Args:
        session: of the database.
        column: of JSON.
        own: which of its rows are the user's, without the one that is to be replaced.
        added: what is to be stored.

    Raises:
        ApiError: it would be more than ``MAX_STORED_BYTES``.
    """
    stored = session.scalar(select(func.sum(func.length(cast(column, Text)))).where(own)) or 0
    if stored + len(json.dumps(added)) > MAX_STORED_BYTES:
        raise ApiError(
            "QuotaExceeded",
            f"you have {stored / 2**20:.0f} MB of processes stored, at most "
            f"{MAX_STORED_BYTES >> 20} MB are kept; delete some",
        )


class Database:
    """The engine and its sessions.

    Raises:
        BackendError: the URL is not understood or its driver is missing.
        MissingExtraError: the driver of PostgreSQL is missing.
    """

    def __init__(self, url: str) -> None:
        if url.startswith(("postgresql://", "postgres://")):
            url = "postgresql+psycopg://" + url.split("://", 1)[1]
        self.is_sqlite = url.startswith("sqlite")
        options: dict[str, Any] = {"pool_pre_ping": True}
        if self.is_sqlite:
            options["connect_args"] = {"timeout": _BUSY_S, "check_same_thread": False}
        else:
            options |= {"pool_size": 10, "max_overflow": 20, "pool_timeout": 10.0}
            options["connect_args"] = {"connect_timeout": 5}
        try:
            self.engine: Engine = create_engine(url, **options)
        except ModuleNotFoundError as err:
            if err.name != "psycopg":
                raise BackendError(f"the database URL needs a driver: {err.name}") from err
            raise MissingExtraError.for_extra("postgresql", "a PostgreSQL database") from err
        except Exception as err:  # SQLAlchemy raises many kinds for one cause: a bad URL
            raise BackendError(f"the database URL cannot be used: {type(err).__name__}") from err
        if self.is_sqlite:
            event.listen(self.engine, "connect", _set_up_sqlite)
        if self.is_sqlite and (path := self.engine.url.database) not in (None, "", ":memory:"):
            with contextlib.suppress(OSError):  # what is wrong shows when it is opened
                Path(str(path)).touch()
                Path(str(path)).chmod(0o600)  # files beside it get the same rights
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Yield a session that is committed at the end, or rolled back on an error.

        Raises:
            ApiError: the database cannot be reached.
        """
        try:
            with self._sessions() as session, session.begin():
                if self.is_sqlite:
                    # Take the write lock at once: a reader that turns writer cannot wait for it.
                    session.connection().exec_driver_sql("BEGIN IMMEDIATE")
                yield session
        except _ODD as err:
            raise _odd() from err
        except (OperationalError, InterfaceError, PoolTimeout) as err:
            raise _unreachable(err) from err

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Yield a session that only reads.

        Raises:
            ApiError: the database cannot be reached.
        """
        try:
            with self._sessions() as session:
                yield session
        except _ODD as err:
            raise _odd() from err
        except (OperationalError, InterfaceError, PoolTimeout) as err:
            raise _unreachable(err) from err

    def migrate(self) -> None:
        """Bring the tables to the newest form."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
        alone = {
            "sqlite": "BEGIN IMMEDIATE",
            "postgresql": f"SELECT pg_advisory_xact_lock({_MIGRATING})",
        }
        with self.engine.connect() as connection:
            # Of servers that start on a new database at once, only one may make the tables.
            if (lock := alone.get(self.engine.dialect.name)) is not None:
                connection.exec_driver_sql(lock)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def keep_trying(action: Callable[[], _T], *, patience_s: float = 600.0) -> _T:
    """Return what ``action`` returns, trying again while the database cannot be reached.

    The engine uses it to write down what became of a job: that must not be lost because the
    database was away for a while.
    """
    deadline = time.monotonic() + patience_s
    wait_s = 0.2
    while True:
        try:
            return action()
        except (ApiError, DBAPIError) as err:
            gone = isinstance(err, DBAPIError) or err.code == "InfrastructureBusy"
            if not gone or time.monotonic() > deadline:
                raise
        time.sleep(wait_s)
        wait_s = min(wait_s * 1.5, 5.0)


def _set_up_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401
    connection.isolation_level = None  # the session says BEGIN itself
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
        f"busy_timeout={int(_BUSY_S * 1000)}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _odd() -> ApiError:
    return ApiError(
        "ParameterValueInvalid",
        "a value is too large, too long, or holds characters that no database keeps",
    )


def _unreachable(err: DBAPIError | PoolTimeout) -> ApiError:
    if isinstance(err, DBAPIError) and "full" in str(err.orig):
        return ApiError("StorageFailure", "the database has no space left; free some and retry")
    return ApiError("InfrastructureBusy", "the database cannot be reached; please retry shortly")
