"""One server at a time runs the jobs of a database."""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import delete, update
from sqlalchemy.exc import IntegrityError

from openeo_cloudmask.backend.jobs.database import Database
from openeo_cloudmask.backend.jobs.tables import LEASE_NAME, LeaseRow
from openeo_cloudmask.errors import BackendError

_log = logging.getLogger(__name__)
RENEW_S = 2.0
"""Seconds between two signs of life."""
SILENCE_S = 20.0
"""A server that has not renewed its lease for so long is taken as stopped."""
_STARTTIME = 19
"""Place in ``/proc/PID/stat``, behind the program's name."""

_SINCE_1970_S = 1e9
"""A start that is larger counts from 1970, not from when the machine began (31 years ago)."""


class Lease:
    """The right to run jobs, written down in the database.

    Signs of life are counted, not dated: the clocks of two machines need not agree, and one may
    jump.

    Args:
        database: where it is written down.
        sleep: waits for some seconds.
    """

    def __init__(self, database: Database, sleep: Callable[[float], None] = time.sleep) -> None:
        self._db = database
        self._sleep = sleep
        self.holder = uuid.uuid4().hex
        """Names this server to the others."""

    def take(self) -> None:
        """Take the lease; from a server that is gone, at once or after a silence.

        Raises:
            BackendError: another server has it and lives.
            ApiError: the database cannot be reached.
        """
        silent_s = 0.0
        before = self._read()
        while before is not None and not _is_dead(before) and silent_s < SILENCE_S:
            self._sleep(RENEW_S / 2)
            silent_s += RENEW_S / 2
            now = self._read()
            if now is not None and (now.holder, now.beats) != (before.holder, before.beats):
                raise _taken(now)
            before = now
        if not self._replace(before):
            found = self._read()
            raise _taken(found) if found else BackendError("the lease of the jobs is in dispute")

    def renew(self) -> bool:
        """Renew the lease; return whether it is still this server's."""
        statement = (
            update(LeaseRow)
            .where(LeaseRow.name == LEASE_NAME, LeaseRow.holder == self.holder)
            .values(beats=LeaseRow.beats + 1)
        )
        with self._db.session() as session:
            return bool(session.connection().execute(statement).rowcount)

    def is_lost(self) -> bool:
        """Return whether another server has it, as it does after this one was silent."""
        found = self._read()
        return found is not None and found.holder != self.holder

    def give_back(self) -> None:
        """Let another server have it."""
        with self._db.session() as session:
            session.execute(
                delete(LeaseRow).where(LeaseRow.name == LEASE_NAME, LeaseRow.holder == self.holder)
            )

    def _read(self) -> LeaseRow | None:
        with self._db.reading() as session:
            return session.get(LeaseRow, LEASE_NAME)

    def _replace(self, former: LeaseRow | None) -> bool:
        """Write this server down in place of ``former``, if no other server did meanwhile."""
        own = {
            "holder": self.holder, "host": _machine(), "pid": os.getpid(),
            "started": _start_of(os.getpid()) or 0.0, "beats": 0,
        }  # fmt: skip
        try:
            with self._db.session() as session:
                if former is None:
                    session.add(LeaseRow(name=LEASE_NAME, **own))
                    return True
                statement = (
                    update(LeaseRow)
                    .where(
                        LeaseRow.name == LEASE_NAME,
                        LeaseRow.holder == former.holder,
                        LeaseRow.beats == former.beats,
                    )
                    .values(**own)
                )
                taken = bool(session.connection().execute(statement).rowcount)
        except IntegrityError:
            return False
        if taken:
            _log.warning(
                "the server of process %d on %s is gone; its jobs are taken up",
                former.pid, former.host,
            )  # fmt: skip
        return taken


def _taken(row: LeaseRow) -> BackendError:
    return BackendError(
        f"another server runs the jobs of this database: process {row.pid} on {row.host!r}; stop "
        "it, or use another data folder or database"
    )


def _machine() -> str:
    """Return a name of this machine, or container, within which numbers of processes count."""
    try:
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _is_dead(row: LeaseRow) -> bool:
    """Return whether the process was one of this machine and is not there any longer."""
    if row.host != _machine():
        return False
    started = _start_of(row.pid)
    if started is None:
        return True
    if (started > _SINCE_1970_S) != (row.started > _SINCE_1970_S):
        return False  # counted otherwise, by another release: only its silence tells
    return abs(started - row.started) > 1.0


def _start_of(pid: int) -> float | None:
    """Return when a process of this machine began; None where no such process runs.

    In seconds since the machine did, where it tells: a clock that is put right moves no process.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="latin-1").rpartition(")")[2].split()
        return int(fields[_STARTTIME]) / os.sysconf("SC_CLK_TCK")
    except psutil.Error:
        return None
    except OSError:  # no Linux, or gone meanwhile
        return float(process.create_time()) if process.is_running() else None
