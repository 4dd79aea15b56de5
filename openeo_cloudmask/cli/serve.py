"""``cloudmask serve``, ``ingest`` and ``users``: the embedded openEO back end."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from openeo_cloudmask.cli import shared_options as shared
from openeo_cloudmask.errors import MissingExtraError, OptionError

DATA_DIR = Path("cloudmask-data")
_DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        envvar="OPENEO_CLOUDMASK_DATA_DIR",
        help="Folder of the database, the collections and the results.",
    ),
]
_Database = Annotated[
    str | None,
    typer.Option(
        envvar="OPENEO_CLOUDMASK_DATABASE",
        help="SQLAlchemy URL, e.g. postgresql://user:password@host/name; SQLite by default.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("serve")(serve)
    app.command("ingest")(ingest)
    users = typer.Typer(help="Users of `cloudmask serve`.", no_args_is_help=True)
    users.command("add")(add_user)
    users.command("password")(set_password)
    users.command("remove")(remove_user)
    users.command("list")(list_users)
    app.add_typer(users, name="users")


def serve(
    data_dir: _DataDir = DATA_DIR,
    host: shared.Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at.")] = 8080,
    database: _Database = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a dask scheduler, instead of own workers.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each worker.")] = None,
    worker_memory: Annotated[
        str | None, typer.Option(help="Memory limit of a worker, e.g. 4GiB.")
    ] = None,
    max_jobs: Annotated[int | None, typer.Option(min=1, help="Jobs that run at a time.")] = None,
    job_timeout: Annotated[
        float | None, typer.Option(help="Longest run of a job, seconds.")
    ] = None,
    results: Annotated[
        str | None, typer.Option(help="s3://bucket/prefix for results, instead of the data folder.")
    ] = None,
    s3_endpoint: Annotated[str | None, typer.Option(help="Endpoint of --results.")] = None,
    private_endpoint: Annotated[
        list[str] | None,
        typer.Option(help="S3 endpoint that users may have results delivered to."),
    ] = None,
    stac_host: Annotated[
        list[str] | None,
        typer.Option(help="Host in a private network that load_stac may read."),
    ] = None,
    oidc_issuer: Annotated[
        str | None, typer.Option(help="OpenID Connect issuer whose users may log in.")
    ] = None,
    oidc_client: Annotated[
        list[str] | None,
        typer.Option(help="Id of an application of the issuer whose tokens are accepted."),
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(help="Address under which clients reach the server.")
    ] = None,
    trusted_host: Annotated[
        list[str] | None,
        typer.Option(help="Without --public-url: another name under which it may be reached."),
    ] = None,
    allow_any_udf: Annotated[
        bool,
        typer.Option(help="Run any user's code, not only the package's own UDF."),
    ] = False,
) -> None:
    """Serve an openEO back end."""
    uvicorn = _import_server()
    os.umask(0o077)
    from openeo_cloudmask.backend.app import create_app
    from openeo_cloudmask.backend.settings import read_environment

    settings = read_environment(
        data_dir,
        database=database,
        scheduler=scheduler,
        workers=workers,
        threads_per_worker=threads,
        worker_memory=worker_memory,
        max_running_jobs=max_jobs,
        job_timeout_s=job_timeout,
        results=results,
        s3_endpoint=s3_endpoint,
        private_endpoints=tuple(private_endpoint) if private_endpoint else None,
        stac_hosts=tuple(stac_host) if stac_host else None,
        oidc_issuer=oidc_issuer,
        oidc_clients=tuple(oidc_client) if oidc_client else None,
        public_url=public_url,
        trusted_hosts=tuple(trusted_host) if trusted_host else None,
        address=f"{host}:{port}",
        allow_any_udf=allow_any_udf or None,
    )
    app = create_app(settings)
    if not app.state.backend.users.names():
        typer.secho(
            "There are no users yet; add one with: cloudmask users add NAME "
            f"--data-dir {settings.data_dir}",
            fg="yellow",
            err=True,
        )
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=5
    )
    _run_server(uvicorn.Server(config), f"openEO back end at http://{host}:{port}/")


def _run_server(server: Any, ready: str) -> None:  # noqa: ANN401 - of uvicorn, an extra
    """Serve until stopped; ``ready`` is said once requests are answered.

    Raises:
        typer.Exit: it did not start, with uvicorn's own status.
    """
    startup = server.startup

    async def start(*arguments: Any, **options: Any) -> None:  # noqa: ANN401
        await startup(*arguments, **options)
        if server.started:
            typer.echo(ready, err=True)

    server.startup = start
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        raise typer.Exit(3)


def ingest(
    paths: Annotated[
        list[Path],
        typer.Argument(help="SAFE, Landsat Level-1, GeoTIFF, NetCDF or simulated scenes."),
    ],
    data_dir: _DataDir = DATA_DIR,
    collection: Annotated[
        str | None, typer.Option(help="Collection; by default named after the sensor.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the collection.")] = None,
    licence: Annotated[str, typer.Option(help="SPDX id of the data's licence.")] = "other",
    sensor: Annotated[str | None, typer.Option(help="Sensor of a raster.")] = None,
    bands: Annotated[str | None, typer.Option(help="Comma-separated names of its bands.")] = None,
    scale: Annotated[float | None, typer.Option(help="Reflectance a count of a raster.")] = None,
    offset: Annotated[float | None, typer.Option(help="Reflectance of count 0.")] = None,
    acquired: Annotated[
        str | None, typer.Option(help="When it was taken, e.g. 2024-05-01T10:20:30Z.")
    ] = None,
    cloud_cover: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Percent of clouds, where the file does not say it."),
    ] = None,
) -> None:
    """Register products as STAC items; the files stay where they are."""
    _import_server()
    os.umask(0o077)
    from openeo_cloudmask.backend.cubes.collections import CollectionStore
    from openeo_cloudmask.backend.cubes.ingest import ingest_product
    from openeo_cloudmask.backend.settings import Settings

    store = CollectionStore(Settings(data_dir=data_dir).prepare().collections_dir)
    names = tuple(part.strip() for part in bands.split(",")) if bands else None
    for path in paths:
        found, item = ingest_product(
            path, store, collection_id=collection, sensor=sensor, bands=names, scale=scale,
            offset=offset, acquired=_parse_date(acquired), cloud_cover=cloud_cover, title=title,
            licence=licence,
        )  # fmt: skip
        typer.echo(f"{path}: item {item} of collection {found}")


_Password = Annotated[
    str,
    typer.Option(
        envvar="OPENEO_CLOUDMASK_PASSWORD", prompt=True, hide_input=True, confirmation_prompt=True,
        help="Asked for where it is not in the environment.",
    ),
]  # fmt: skip


def add_user(
    name: str, password: _Password, data_dir: _DataDir = DATA_DIR, database: _Database = None
) -> None:
    """Add a user."""
    _users(data_dir, database).add(name, password)
    typer.echo(f"added {name}")


def set_password(
    name: str, password: _Password, data_dir: _DataDir = DATA_DIR, database: _Database = None
) -> None:
    """Give a user a new password; its sessions end."""
    _users(data_dir, database).set_password(name, password)
    typer.echo(f"changed the password of {name}")


def remove_user(name: str, data_dir: _DataDir = DATA_DIR, database: _Database = None) -> None:
    """Remove a user with all jobs and stored processes."""
    _users(data_dir, database).remove(name)
    typer.echo(f"removed {name}")


def list_users(data_dir: _DataDir = DATA_DIR, database: _Database = None) -> None:
    """List the users."""
    for name in _users(data_dir, database).names():
        typer.echo(name)


def _users(data_dir: Path, database: str | None) -> Any:  # noqa: ANN401 - needs the extra
    _import_server()
    os.umask(0o077)
    from openeo_cloudmask.backend.api.accounts import UserStore
    from openeo_cloudmask.backend.jobs.database import Database
    from openeo_cloudmask.backend.settings import Settings

    settings = Settings(data_dir=data_dir, database=database).prepare()
    connected = Database(settings.database_url)
    connected.migrate()
    return UserStore(connected, token_hours=settings.token_hours)


def _parse_date(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise OptionError(f"--acquired is {text!r}; expected e.g. 2024-05-01T10:20:30Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _import_server() -> Any:  # noqa: ANN401
    try:
        import alembic  # noqa: F401
        import distributed  # noqa: F401
        import fastapi  # noqa: F401
        import uvicorn
    except ImportError as err:
        raise MissingExtraError.for_extra("server", "the openEO back end") from err
    return uvicorn
