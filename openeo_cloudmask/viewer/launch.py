"""Start the viewer, with a back end of its own beside it, and stop both together."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from openeo_cloudmask import assets
from openeo_cloudmask.cli.children import COMMAND, free_port, running, wait_until_up
from openeo_cloudmask.products.drivers import SKIP_VARIABLE, skipped_drivers
from openeo_cloudmask.publish import publish_text
from openeo_cloudmask.viewer.names import (
    ALLOW_PATHS_VARIABLE,
    ALLOWED_HOSTS_VARIABLE,
    BACKEND_DATA_VARIABLE,
    BACKEND_VARIABLE,
    CATALOG_VARIABLE,
    DATA_VARIABLE,
    LOGIN_VARIABLE,
    PRIMARY_COLOR,
)

LOCAL_USER = "viewer"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
ARENAS_VARIABLE, ARENAS = "MALLOC_ARENA_MAX", "2"
"""The C library's default is eight heaps a core: each run of a page is a thread, and in the end
every heap would hold on to the memory of the greatest read of a scene."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchPlan:
    """How the viewer is started."""

    data: Path
    """Folder of sessions and of the embedded back end."""
    host: str = "127.0.0.1"
    port: int = 8501
    backend_url: str | None = None
    """A back end that runs already, offered as the default."""
    embedded: bool = True
    """Start a back end too; only without ``backend_url``."""
    catalog: str | None = None
    allow_paths: bool = False
    """Users may open files by their path on this machine."""
    allowed_hosts: tuple[str, ...] = ()
    """Names by which browsers may reach the viewer, beside addresses and its machine's name."""

    @property
    def alone(self) -> bool:
        """Whether only this machine's users reach the viewer: through a proxy, others do, too."""
        return self.host in LOOPBACK and not self.allowed_hosts


def renew_local_user(data_dir: Path) -> Path:
    """Give the embedded back end's local user a new password; return the file that holds it.

    Its old sessions end; its jobs stay.
    """
    from openeo_cloudmask.backend.api.accounts import UserStore
    from openeo_cloudmask.backend.jobs.database import Database
    from openeo_cloudmask.backend.settings import Settings

    settings = Settings(data_dir=data_dir).prepare()
    database = Database(settings.database_url)
    try:
        database.migrate()
        users = UserStore(database, token_hours=settings.token_hours)
        password = secrets.token_urlsafe(24)
        if LOCAL_USER in users.names():
            users.set_password(LOCAL_USER, password)
        else:
            users.add(LOCAL_USER, password)
    finally:
        database.close()
    path = data_dir / "viewer-login"
    publish_text(path, f"{LOCAL_USER}\n{password}\n", private=True)
    return path


def viewer_command(plan: LaunchPlan) -> list[str]:
    """Return the command that serves the pages. Nothing secret is in it."""
    return [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(assets.path("viewer/server.py")),
        f"--server.address={plan.host}",
        f"--server.port={plan.port}",
    ]


def viewer_environment(
    plan: LaunchPlan, *, backend_url: str | None, login: Path | None = None
) -> dict[str, str]:
    """Return the environment of the pages, with Streamlit's own settings."""
    given: Mapping[str, str | None] = {
        DATA_VARIABLE: str(plan.data),
        BACKEND_VARIABLE: backend_url,
        CATALOG_VARIABLE: plan.catalog,
        LOGIN_VARIABLE: None if login is None else str(login),
        BACKEND_DATA_VARIABLE: str(plan.data / "backend") if plan.embedded else None,
        ALLOW_PATHS_VARIABLE: "1" if plan.allow_paths else None,
        ALLOWED_HOSTS_VARIABLE: " ".join(plan.allowed_hosts),
        SKIP_VARIABLE: skipped_drivers(),
        ARENAS_VARIABLE: os.environ.get(ARENAS_VARIABLE, ARENAS),
        # Streamlit finds .streamlit/config.toml beside the script only from some releases on.
        "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
        "STREAMLIT_SERVER_HEADLESS": "true",
        "STREAMLIT_SERVER_FILE_WATCHER_TYPE": "none",
        "STREAMLIT_SERVER_MAX_UPLOAD_SIZE": "2048",
        "STREAMLIT_CLIENT_TOOLBAR_MODE": "minimal",
        "STREAMLIT_CLIENT_SHOW_ERROR_DETAILS": "none",
        "STREAMLIT_THEME_PRIMARY_COLOR": PRIMARY_COLOR,
    }
    own = {key for key in given if not key.startswith("STREAMLIT")}
    kept = {key: value for key, value in os.environ.items() if key not in own}
    return kept | {key: value for key, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """A back end that was started beside the viewer, and may still be on its way."""

    url: str
    login: Path
    """File of the local user's name and password."""
    process: subprocess.Popen[bytes]

    def wait(self) -> None:
        """Wait until it answers.

        Raises:
            BackendError: it does not.
        """
        advice = "its own message is above. `cloudmask viewer --no-backend` starts without it"
        wait_until_up(f"{self.url}/", self.process, "the embedded back end", advice=advice)


@contextmanager
def embedded_backend(plan: LaunchPlan) -> Iterator[Embedded]:
    """Start the openEO back end on a free port, and stop it at the end.

    Raises:
        MissingExtraError: the extra ``server`` is not installed.
    """
    from openeo_cloudmask.cli.serve import _import_server

    _import_server()
    data_dir = plan.data / "backend"
    data_dir.mkdir(parents=True, exist_ok=True)
    login = renew_local_user(data_dir)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [*COMMAND, "serve", f"--data-dir={data_dir}", f"--port={port}"]
    with running(command, os.environ) as process:
        yield Embedded(url=url, login=login, process=process)


def launch(plan: LaunchPlan, opened: Callable[[], None]) -> int:
    """Run the viewer until it is stopped, and return its exit status.

    Args:
        plan: what to run.
        opened: called once the viewer answers.

    Raises:
        BackendError: the embedded back end, or the viewer, does not start.
    """
    plan.data.mkdir(parents=True, exist_ok=True)

    def stop(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)  # unwinds through the context managers, which stop all

    signal.signal(signal.SIGTERM, stop)
    if plan.backend_url is not None or not plan.embedded:
        return _serve(plan, opened, viewer_environment(plan, backend_url=plan.backend_url))
    with embedded_backend(plan) as backend:
        # Who comes from another machine is not the local user, and has to log in.
        login = backend.login if plan.alone else None
        env = viewer_environment(plan, backend_url=backend.url, login=login)
        return _serve(plan, opened, env, beside=backend.wait)


def _serve(
    plan: LaunchPlan,
    opened: Callable[[], None],
    env: Mapping[str, str],
    *,
    beside: Callable[[], None] = lambda: None,
) -> int:
    """Serve the pages until they are stopped; ``beside`` waits for what starts at the same time."""
    with running(viewer_command(plan), env) as process:
        try:
            beside()
            host = "127.0.0.1" if plan.host in ("0.0.0.0", "::") else plan.host  # noqa: S104
            wait_until_up(
                f"http://{host}:{plan.port}/", process, "the viewer", advice="its message is above"
            )
            opened()
            return process.wait()
        except KeyboardInterrupt:
            return 0
