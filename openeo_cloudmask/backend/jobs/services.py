"""Secondary web services as the database keeps them."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import defer

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.jobs.clock import now_s
from openeo_cloudmask.backend.jobs.database import Database, check_stored
from openeo_cloudmask.backend.jobs.tables import Service

MAX_SERVICES = 100
"""Services of one user."""


class ServiceStore:
    """Services of users; each is seen by its owner alone, but for who has its signed address."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, user_id: str, **fields: Any) -> str:  # noqa: ANN401 - columns
        """Store a service; return its id.

        Raises:
            ApiError: the user has as many, or as long ones, as one may have.
        """
        count = select(func.count()).where(Service.user_id == user_id)
        service_id = f"s-{uuid.uuid4().hex}"
        with self._db.session() as session:
            if (session.scalar(count) or 0) >= MAX_SERVICES:
                raise ApiError(
                    "QuotaExceeded",
                    f"you have {MAX_SERVICES} services, as many as one user may have; delete some",
                )
            own = Service.user_id == user_id
            check_stored(session, Service.process, own, fields.get("process"))
            session.add(Service(id=service_id, user_id=user_id, created=now_s(), **fields))
        return service_id

    def all(self, user_id: str) -> list[Service]:
        """Return the services of a user, newest first, without their processes."""
        query = select(Service).where(Service.user_id == user_id).options(defer(Service.process))
        with self._db.reading() as session:
            return list(session.scalars(query.order_by(Service.created.desc())))

    def get(self, service_id: str, user_id: str | None = None) -> Service:
        """Return a service; with ``user_id`` only if it is that user's.

        Raises:
            ApiError: the user has no such service.
        """
        with self._db.reading() as session:
            found = session.get(Service, service_id)
        if found is None or (user_id is not None and found.user_id != user_id):
            raise ApiError("ServiceNotFound", f"the service {service_id!r} does not exist")
        return found

    def change(self, service_id: str, user_id: str, **fields: Any) -> None:  # noqa: ANN401
        """Change columns of a user's service.

        Raises:
            ApiError: the user has no such service, or processes too long.
        """
        self.get(service_id, user_id)
        with self._db.session() as session:
            found = session.get(Service, service_id)
            if "process" in fields:
                own = (Service.user_id == user_id) & (Service.id != service_id)
                check_stored(session, Service.process, own, fields["process"])
            for name, value in fields.items():
                setattr(found, name, value)

    def delete(self, service_id: str, user_id: str) -> None:
        """Delete a user's service; its address answers no longer.

        Raises:
            ApiError: the user has no such service.
        """
        self.get(service_id, user_id)
        with self._db.session() as session:
            session.delete(session.get(Service, service_id))
