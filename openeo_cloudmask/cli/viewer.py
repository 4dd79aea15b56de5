"""``cloudmask viewer``: the web viewer, with an openEO back end of its own."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from openeo_cloudmask.cli import shared_options as shared
from openeo_cloudmask.errors import MissingExtraError

DATA_DIR = Path("cloudmask-viewer")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("viewer")(viewer)


def viewer(
    data: Annotated[
        Path,
        typer.Option(
            help="Folder of what users open, and of the embedded back end.", metavar="DIR"
        ),
    ] = DATA_DIR,
    backend: Annotated[
        str | None,
        typer.Option(help="Address of an openEO back end, instead of an own one.", metavar="URL"),
    ] = None,
    no_backend: Annotated[
        bool, typer.Option("--no-backend", help="Start no back end; masks are made in the viewer.")
    ] = False,
    catalog: Annotated[
        str | None,
        typer.Option(help="STAC catalog of models, instead of the one shipped.", metavar="HREF"),
    ] = None,
    host: shared.Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 8501,
    allow_paths: Annotated[
        bool,
        typer.Option(
            "--allow-paths",
            help="Users may open any file of this machine by its path, "
            "and fetch products to any folder.",
        ),
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Name by which browsers may reach the viewer, e.g. that of a proxy before it.",
            metavar="NAME",
        ),
    ] = None,
) -> None:
    """Open the viewer in a browser at http://HOST:PORT/.

    It starts an openEO back end beside it, and stops it when it ends. Where HOST is another
    address than this machine's own, or --allow-host names that of a proxy, users of that back end
    have to log in (cloudmask users add).
    """
    if missing := [name for name in ("streamlit", "leafmap") if not find_spec(name)]:
        raise MissingExtraError.for_extra("viewer", f"the viewer (needs {', '.join(missing)})")
    from openeo_cloudmask.viewer.launch import LaunchPlan, launch

    plan = LaunchPlan(
        data=data.resolve(),
        host=host,
        port=port,
        backend_url=backend,
        embedded=backend is None and not no_backend,
        catalog=catalog,
        allow_paths=allow_paths,
        allowed_hosts=tuple(allow_host or ()),
    )

    def opened() -> None:
        typer.echo(f"The viewer is at http://{host}:{port}/ (stop it with Ctrl+C)", err=True)

    if status := launch(plan, opened):
        raise typer.Exit(status)
