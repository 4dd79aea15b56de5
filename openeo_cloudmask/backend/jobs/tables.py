"""The tables of the back end's database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# SQLite gives row numbers of its own only to a column of type INTEGER.
_BIG = BigInteger().with_variant(Integer, "sqlite")


MAX_PLAN = 64
"""Characters of the name of a billing plan."""


class Base(DeclarativeBase):
    """Base of all tables."""


class User(Base):
    """Somebody who may log in; ``issuer`` tells local users from those of OpenID Connect."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    password_hash: Mapped[str | None] = mapped_column(String(256))
    issuer: Mapped[str | None] = mapped_column(String(256))
    disabled: Mapped[bool] = mapped_column(default=False)
    created: Mapped[float] = mapped_column(Float)


class Token(Base):
    """A bearer token, as its SHA-256."""

    __tablename__ = "tokens"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    expires: Mapped[float] = mapped_column(Float)


class Job(Base):
    """A batch job and what became of it."""

    __tablename__ = "jobs"
    __table_args__ = (Index("jobs_user", "user_id", "created"), Index("jobs_status", "status"))

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    title: Mapped[str | None] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(Text)
    process: Mapped[dict[str, Any]] = mapped_column(JSON)
    plan: Mapped[str | None] = mapped_column(String(MAX_PLAN))
    budget: Mapped[float | None] = mapped_column(Float)
    log_level: Mapped[str] = mapped_column(String(16), default="info")
    options: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    """``job_options`` without secrets."""
    sealed: Mapped[str | None] = mapped_column(Text)
    """The user's S3 keys, encrypted, until they were used."""
    status: Mapped[str] = mapped_column(String(16), default="created")
    progress: Mapped[float | None] = mapped_column(Float)
    created: Mapped[float] = mapped_column(Float)
    updated: Mapped[float] = mapped_column(Float)
    started: Mapped[float | None] = mapped_column(Float)
    finished: Mapped[float | None] = mapped_column(Float)
    attempts: Mapped[int] = mapped_column(default=0)
    files: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON)
    """Result files: name, media type, size, roles and STAC fields."""
    stored_at: Mapped[str | None] = mapped_column(Text)
    """Where the result files are, as their storage wrote it down."""
    expires: Mapped[float | None] = mapped_column(Float)
    """When the result files are deleted."""


class Leftover(Base):
    """Result files of a job that was deleted, which are to be deleted as well."""

    __tablename__ = "leftovers"

    job_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    stored_at: Mapped[str | None] = mapped_column(Text)


LEASE_NAME = "jobs"
"""Of the one row of ``leases``."""


class LeaseRow(Base):
    """Which server runs the jobs."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    holder: Mapped[str] = mapped_column(String(64))
    host: Mapped[str] = mapped_column(String(256))
    pid: Mapped[int] = mapped_column(Integer)
    started: Mapped[float] = mapped_column(Float)
    """When the process began, seconds since its machine did: process numbers are used again."""
    beats: Mapped[int] = mapped_column(_BIG, default=0)
    """Counted up while the server lives."""


class Service(Base):
    """A secondary web service: a process graph as tiles of a map."""

    __tablename__ = "services"
    __table_args__ = (Index("services_user", "user_id", "created"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    title: Mapped[str | None] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(Text)
    process: Mapped[dict[str, Any]] = mapped_column(JSON)
    enabled: Mapped[bool] = mapped_column(default=True)
    created: Mapped[float] = mapped_column(Float)


class LogEntry(Base):
    """One line of a job's log."""

    __tablename__ = "logs"
    __table_args__ = (Index("logs_job", "job_id", "id"),)

    id: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    time: Mapped[float] = mapped_column(Float)
    level: Mapped[str] = mapped_column(String(16))
    code: Mapped[str | None] = mapped_column(String(64))
    message: Mapped[str] = mapped_column(Text)


class UserProcess(Base):
    """A stored user-defined process."""

    __tablename__ = "processes"

    user_id: Mapped[str] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
