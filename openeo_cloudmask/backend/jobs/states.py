"""Batch jobs: their states, and how they move from one to the next."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import load_only

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.jobs.clock import now_s
from openeo_cloudmask.backend.jobs.database import Database
from openeo_cloudmask.backend.jobs.tables import LEASE_NAME, Job, LeaseRow, Leftover, LogEntry

ACTIVE = ("queued", "running")
LEVELS = ("error", "warning", "info", "debug")
MAX_LOG_LINES = 1000


class JobStore:
    """The jobs in the database. A job leaves here detached: changing it changes nothing."""

    def __init__(self, database: Database, *, max_jobs_per_user: int = 10_000) -> None:
        self._db = database
        self._max_jobs = max_jobs_per_user

    def create(self, user_id: str, **fields: Any) -> Job:  # noqa: ANN401 - columns of ``Job``
        """Store a new job.

        Raises:
            ApiError: the user has as many as one may have, or is not there any longer.
        """
        now = now_s()
        job = Job(
            id=f"j-{uuid.uuid4().hex}", user_id=user_id, status="created", created=now,
            updated=now, attempts=0, **fields,
        )  # fmt: skip
        count = select(func.count()).where(Job.user_id == user_id)
        try:
            with self._db.session() as session:
                if (session.scalar(count) or 0) >= self._max_jobs:
                    raise ApiError(
                        "QuotaExceeded",
                        f"you have {self._max_jobs} batch jobs, as many as one user may have; "
                        "delete some",
                    )
                session.add(job)
        except IntegrityError:
            raise ApiError("TokenInvalid", "this user is not there any longer") from None
        return job

    def get(self, user_id: str, job_id: str) -> Job:
        """Return a job of a user.

        Raises:
            ApiError: the user has no such job.
        """
        with self._db.reading() as session:
            job = session.scalar(select(Job).where(Job.id == job_id, Job.user_id == user_id))
        if job is None:
            raise _not_found(job_id)
        return job

    def find(self, job_id: str) -> Job | None:
        """Return a job of anybody, or None; for the engine and for signed links."""
        with self._db.reading() as session:
            return session.get(Job, job_id)

    def page(self, user_id: str, *, limit: int, offset: int) -> tuple[list[Job], int]:
        """Return some jobs of a user, newest first, and how many there are in all.

        Of the jobs only what a list shows is read: not their process, which may be large.
        """
        shown = (Job.title, Job.description, Job.plan, Job.budget, Job.status, Job.progress,
                 Job.created, Job.updated)  # fmt: skip
        query = select(Job).where(Job.user_id == user_id).options(load_only(*shown))
        with self._db.reading() as session:
            total = session.scalar(
                select(func.count()).select_from(Job).where(Job.user_id == user_id)
            )
            query = query.order_by(Job.created.desc(), Job.id).offset(offset).limit(limit)
            jobs = list(session.scalars(query))
        return jobs, total or 0

    def with_status(self, statuses: Iterable[str]) -> list[Job]:
        """Return the jobs in these states, oldest first."""
        query = select(Job).where(Job.status.in_(tuple(statuses)))
        with self._db.reading() as session:
            return list(session.scalars(query.order_by(Job.updated, Job.id)))

    def next_queued(
        self, *, without: Collection[str], only: Collection[str], per_user: int
    ) -> Job | None:
        """Return the queued job that is next: of the user with the fewest at work, the oldest.

        Args:
            without: ids of jobs that are worked on.
            only: ids of which one is next, if it is queued.
            per_user: how many of a user are worked on at a time.
        """
        query = select(Job).where(Job.status == "queued", Job.id.not_in(without))
        at_work = (
            select(Job.user_id, func.count().label("jobs"))
            .where(Job.id.in_(without))
            .group_by(Job.user_id)
            .subquery()
        )
        jobs = func.coalesce(at_work.c.jobs, 0)
        fair = (
            query.outerjoin(at_work, Job.user_id == at_work.c.user_id)
            .where(jobs < per_user)
            .order_by(jobs, Job.updated, Job.id)
            .limit(1)
        )
        with self._db.reading() as session:
            first = (
                session.scalars(query.where(Job.id.in_(only)).limit(1)).first() if only else None
            )
            return first or session.scalars(fair).first()

    def change(self, user_id: str, job_id: str, changes: dict[str, Any]) -> None:
        """Change a job that is not being worked on.

        Raises:
            ApiError: there is no such job, or it is queued or running.
        """
        with self._db.session() as session:
            job = session.scalar(select(Job).where(Job.id == job_id, Job.user_id == user_id))
            if job is None:
                raise _not_found(job_id)
            if job.status in ACTIVE:
                raise ApiError("JobLocked", f"the job is {job.status}; stop it first")
            for name, value in changes.items():
                setattr(job, name, value)
            job.updated = now_s()

    def delete(self, user_id: str, job_id: str) -> Job:
        """Delete a job with its log, note its files as leftover, and return what it was.

        Raises:
            ApiError: the user has no such job.
        """
        with self._db.session() as session:
            job = session.scalar(select(Job).where(Job.id == job_id, Job.user_id == user_id))
            if job is None:
                raise _not_found(job_id)
            session.execute(delete(LogEntry).where(LogEntry.job_id == job_id))
            session.add(Leftover(job_id=job.id, stored_at=job.stored_at))
            session.delete(job)
        return job

    def leftovers(self) -> list[tuple[str, str | None]]:
        """Return (job, where its files are) of deleted jobs whose files are still there."""
        with self._db.reading() as session:
            rows = session.execute(select(Leftover.job_id, Leftover.stored_at))
            return [(job_id, stored_at) for job_id, stored_at in rows]

    def add_leftover(self, job_id: str, stored_at: str | None) -> None:
        """Note files to delete if their job is not there any longer."""
        with self._db.session() as session:
            known = session.get(Job, job_id) or session.get(Leftover, job_id)
            if known is None:
                session.add(Leftover(job_id=job_id, stored_at=stored_at))

    def forget_leftover(self, job_id: str) -> None:
        """Note that files are deleted."""
        with self._db.session() as session:
            session.execute(delete(Leftover).where(Leftover.job_id == job_id))

    def move(
        self,
        job_id: str,
        *,
        to: str,
        allowed: tuple[str, ...],
        line: dict[str, Any] | None = None,
        by: str | None = None,
        **fields: Any,  # noqa: ANN401
    ) -> bool:
        """Move a job to another state if it is in an ``allowed`` one; return whether it was.

        The move is one statement, so that of two threads only one succeeds. ``line`` is written
        to the job's log with it: who sees the state finds the reason. A server that runs jobs says
        who it is (``by``): once another has the lease, it moves none any longer, whatever becomes
        of its runs.
        """
        now = now_s()
        statement = (
            update(Job)
            .where(Job.id == job_id, Job.status.in_(allowed))
            .values(status=to, updated=now, **fields)
        )
        if by is not None:
            others = LeaseRow.name == LEASE_NAME, LeaseRow.holder != by
            statement = statement.where(~exists().where(*others))
        with self._db.session() as session:
            moved = bool(session.connection().execute(statement).rowcount)
            if moved and line is not None:
                session.add(LogEntry(job_id=job_id, **line))
        return moved

    def set_fields(self, job_id: str, **fields: Any) -> None:  # noqa: ANN401
        """Write down something about a job without moving it."""
        with self._db.session() as session:
            session.execute(update(Job).where(Job.id == job_id).values(**fields))

    def note_progress(self, job_id: str, progress: float) -> None:
        """Write down how far a running job is, 0-100; where it is over by now, nothing."""
        with self._db.session() as session:
            session.execute(
                update(Job)
                .where(Job.id == job_id, Job.status == "running")
                .values(progress=progress)
            )

    def expired(self, now: float) -> list[Job]:
        """Return the jobs whose result files have had their time but are still there.

        Those that are run again are left alone: their folder is in use.
        """
        query = select(Job).where(
            Job.expires < now, Job.stored_at.is_not(None), Job.status.not_in(ACTIVE)
        )
        with self._db.reading() as session:
            return list(session.scalars(query))

    def add_logs(self, entries: list[dict[str, Any]]) -> None:
        """Append log lines; those of jobs that were deleted meanwhile are dropped."""
        ids = {entry["job_id"] for entry in entries}
        with self._db.session() as session:
            known = set(session.scalars(select(Job.id).where(Job.id.in_(ids))))
            session.add_all(LogEntry(**entry) for entry in entries if entry["job_id"] in known)

    def logs(
        self, job_id: str, *, after: int, level: str, limit: int | None
    ) -> list[LogEntry]:  # fmt: skip
        """Return log lines of at least ``level`` that come after line number ``after``."""
        levels = LEVELS[: LEVELS.index(level) + 1]
        query = (
            select(LogEntry)
            .where(LogEntry.job_id == job_id, LogEntry.id > after, LogEntry.level.in_(levels))
            .order_by(LogEntry.id)
            .limit(min(limit or MAX_LOG_LINES, MAX_LOG_LINES))
        )
        with self._db.reading() as session:
            return list(session.scalars(query))


def _not_found(job_id: str) -> ApiError:
    return ApiError("JobNotFound", f"the batch job {job_id!r} does not exist")
