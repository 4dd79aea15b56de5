"""The parts of a running server, in one value that every request can reach."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from openeo_cloudmask.backend.api.accounts import ProcessStore, UserStore
from openeo_cloudmask.backend.api.logins import LoginGate
from openeo_cloudmask.backend.api.oidc import OidcIssuer
from openeo_cloudmask.backend.cubes.collections import CollectionStore
from openeo_cloudmask.backend.graph.planning import Planner
from openeo_cloudmask.backend.jobs.database import Database
from openeo_cloudmask.backend.jobs.engine import Engine
from openeo_cloudmask.backend.jobs.lease import Lease
from openeo_cloudmask.backend.jobs.services import ServiceStore
from openeo_cloudmask.backend.jobs.states import JobStore
from openeo_cloudmask.backend.jobs.storage import ResultStorage, make_storage
from openeo_cloudmask.backend.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything a request may need."""

    settings: Settings
    database: Database
    users: UserStore
    processes: ProcessStore
    jobs: JobStore
    services: ServiceStore
    collections: CollectionStore
    planner: Planner
    storage: ResultStorage
    engine: Engine
    oidc: OidcIssuer | None
    logins: LoginGate

    @classmethod
    def build(cls, settings: Settings) -> State:
        """Return the parts for ``settings``; the database is brought to its newest form.

        Raises:
            CloudMaskError: the database or the result storage cannot be used.
        """
        settings = settings.prepare()
        database = Database(settings.database_url)
        database.migrate()
        users = UserStore(database, token_hours=settings.token_hours)
        collections = CollectionStore(settings.collections_dir)
        processes = ProcessStore(database)
        jobs = JobStore(database, max_jobs_per_user=settings.max_jobs_per_user)
        planner = Planner(settings, collections, processes)
        storage = make_storage(settings)
        return cls(
            settings=settings,
            database=database,
            users=users,
            logins=LoginGate(users),
            processes=processes,
            jobs=jobs,
            services=ServiceStore(database),
            collections=collections,
            planner=planner,
            storage=storage,
            engine=Engine(settings, jobs, planner, storage, Lease(database)),
            oidc=(
                OidcIssuer(settings.oidc_issuer, settings.oidc_clients)
                if settings.oidc_issuer
                else None
            ),
        )

    def base_url(self, request: Request) -> str:
        """Return the server's address as the client sees it, without a final slash."""
        return (self.settings.public_url or str(request.base_url)).rstrip("/")
