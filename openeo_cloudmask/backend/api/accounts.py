"""What the database knows: users, tokens and stored processes."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import delete, func, insert, select

from openeo_cloudmask.backend.api import security
from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.jobs.clock import now_s
from openeo_cloudmask.backend.jobs.database import Database, check_stored
from openeo_cloudmask.backend.jobs.tables import Job, Leftover, Token, User, UserProcess
from openeo_cloudmask.errors import OptionError

MAX_PROCESSES = 200
"""Processes that a user may have stored."""


class UserStore:
    """Users and their tokens."""

    def __init__(self, database: Database, *, token_hours: float) -> None:
        self._db = database
        self._token_s = token_hours * 3600
        self._decoy = security.hash_password(security.make_token())

    def add(self, name: str, password: str) -> str:
        """Add a local user and return its id.

        Raises:
            OptionError: the name is taken or not allowed, or the password is too short.
        """
        security.check_user_name(name)
        hashed = security.hash_password(password)
        user = User(
            id=uuid.uuid4().hex, name=name, password_hash=hashed, issuer=None, disabled=False,
            created=now_s(),
        )  # fmt: skip
        with self._db.session() as session:
            if session.scalar(select(User.id).where(User.name == name)):
                raise OptionError(f"there is a user {name!r} already; choose another name")
            session.add(user)
        return user.id

    def set_password(self, name: str, password: str) -> None:
        """Give a local user a new password and end its sessions.

        Raises:
            OptionError: there is no such user, or the password is too short.
        """
        hashed = security.hash_password(password)
        with self._db.session() as session:
            user = session.scalar(select(User).where(User.name == name, User.issuer.is_(None)))
            if user is None:
                raise OptionError(f"there is no user {name!r}")
            user.password_hash = hashed
            session.execute(delete(Token).where(Token.user_id == user.id))

    def remove(self, name: str) -> None:
        """Remove a user with its jobs and processes; a running server deletes the results.

        Raises:
            OptionError: there is no such user.
        """
        with self._db.session() as session:
            user = session.scalar(select(User).where(User.name == name))
            if user is None:
                raise OptionError(f"there is no user {name!r}")
            places = select(Job.id, Job.stored_at).where(Job.user_id == user.id)
            session.execute(insert(Leftover).from_select(["job_id", "stored_at"], places))
            session.delete(user)

    def names(self) -> list[str]:
        """Return the names of all users."""
        with self._db.reading() as session:
            return list(session.scalars(select(User.name).order_by(User.name)))

    def log_in(self, name: str, password: str) -> str:
        """Return a new bearer token.

        Raises:
            ApiError: name or password are wrong.
        """
        with self._db.reading() as session:
            user = session.scalar(select(User).where(User.name == name, User.issuer.is_(None)))
        # An unknown name costs the same time as a known one.
        stored = user.password_hash if user and user.password_hash else self._decoy
        fits = security.verify_password(stored, password)
        if user is None or not fits or user.disabled:
            raise ApiError("CredentialsInvalid", "user name or password are not correct")
        token = security.make_token()
        now = now_s()
        with self._db.session() as session:
            session.execute(delete(Token).where(Token.expires < now))
            session.add(
                Token(
                    digest=security.token_digest(token),
                    user_id=user.id,
                    expires=now + self._token_s,
                )
            )
        return token

    def check_token(self, token: str) -> tuple[str, str]:
        """Return (id, name) of the user whose token this is.

        The database is asked each time: a password that was changed ends sessions at once.

        Raises:
            ApiError: no user has it, or it has expired.
        """
        digest = security.token_digest(token)
        query = (
            select(Token.expires, User.id, User.name)
            .join(User, User.id == Token.user_id)
            .where(Token.digest == digest, User.disabled.is_(False))
        )
        with self._db.reading() as session:
            row = session.execute(query).first()
        if row is None or row[0] < now_s():
            raise ApiError("TokenInvalid", "the token is unknown or has expired; log in again")
        return row[1], row[2]

    def find_oidc(self, issuer: str, subject: str, name: str) -> tuple[str, str]:
        """Return (id, name) of a user of an OpenID Connect issuer, made at the first visit."""
        user_id = security.token_digest(f"{issuer}|{subject}")[:32]
        with self._db.reading() as session:
            user = session.get(User, user_id)
        if user is None:
            with self._db.session() as session:
                user = session.get(User, user_id) or User(
                    id=user_id, name=f"{name[:80]} ({user_id[:8]})", password_hash=None,
                    issuer=issuer, disabled=False, created=now_s(),
                )  # fmt: skip
                session.add(user)
        if user.disabled:
            raise ApiError("PermissionsInsufficient", "this user may not use the server")
        return user.id, user.name


class ProcessStore:
    """Stored user-defined processes."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def put(self, user_id: str, process_id: str, spec: dict[str, Any]) -> None:
        """Store a process, in the place of one of that name.

        Raises:
            ApiError: the user has as many, or as long ones, as one may have.
        """
        own = UserProcess.user_id == user_id
        count = select(func.count()).where(own)
        with self._db.session() as session:
            found = session.get(UserProcess, (user_id, process_id))
            check_stored(session, UserProcess.spec, own & (UserProcess.id != process_id), spec)
            if found is None:
                if (session.scalar(count) or 0) >= MAX_PROCESSES:
                    raise ApiError(
                        "QuotaExceeded",
                        f"you have {MAX_PROCESSES} stored processes, as many as one user may have; "
                        "delete some",
                    )
                session.add(UserProcess(user_id=user_id, id=process_id, spec=spec))
            else:
                found.spec = spec

    def get(self, user_id: str, process_id: str) -> dict[str, Any] | None:
        """Return a stored process, or None."""
        with self._db.reading() as session:
            found = session.get(UserProcess, (user_id, process_id))
            return found.spec if found else None

    def all(self, user_id: str) -> list[dict[str, Any]]:
        """Return all stored processes of a user."""
        query = select(UserProcess.spec).where(UserProcess.user_id == user_id)
        with self._db.reading() as session:
            return list(session.scalars(query.order_by(UserProcess.id)))

    def delete(self, user_id: str, process_id: str) -> None:
        """Delete a stored process.

        Raises:
            ApiError: no process has that name.
        """
        with self._db.session() as session:
            found = session.get(UserProcess, (user_id, process_id))
            if found is None:
                raise ApiError(
                    "ProcessGraphNotFound", f"user-defined process {process_id!r} does not exist"
                )
            session.delete(found)
