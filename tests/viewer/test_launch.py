"""Starting the viewer: nothing secret in commands, surroundings or files that others can read."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from openeo_cloudmask.cli import build_app
from openeo_cloudmask.cli.children import running, wait_until_up
from openeo_cloudmask.errors import BackendError
from openeo_cloudmask.viewer import launch, names
from openeo_cloudmask.viewer.launch import LaunchPlan
from tests.ports import free_port


def test_each_start_gives_the_local_user_a_new_password(tmp_path):
    pytest.importorskip("alembic", reason="the extra server is not installed")
    first = launch.renew_local_user(tmp_path).read_text(encoding="utf-8")
    path = launch.renew_local_user(tmp_path)
    second = path.read_text(encoding="utf-8")
    assert first != second
    assert path.stat().st_mode & 0o077 == 0, "only its owner may read it"
    password = second.split()[1]
    env = launch.viewer_environment(LaunchPlan(data=tmp_path), backend_url="http://x", login=path)
    assert password not in "".join(env.values())
    assert password not in "".join(launch.viewer_command(LaunchPlan(data=tmp_path)))


def test_the_pages_are_told_how_the_viewer_was_started(tmp_path, monkeypatch):
    monkeypatch.setenv(names.LOGIN_VARIABLE, "/of/another/start")
    plan = LaunchPlan(data=tmp_path, embedded=False, catalog="catalog.json", allow_paths=True)
    env = launch.viewer_environment(plan, backend_url=None, login=None)
    assert names.LOGIN_VARIABLE not in env
    assert names.BACKEND_VARIABLE not in env
    assert names.BACKEND_DATA_VARIABLE not in env
    assert env[names.CATALOG_VARIABLE] == "catalog.json"
    assert env[names.ALLOW_PATHS_VARIABLE] == "1"
    assert env["STREAMLIT_BROWSER_GATHER_USAGE_STATS"] == "false"


@pytest.mark.parametrize(("given", "expected"), [(None, launch.ARENAS), ("8", "8")])
def test_the_pages_have_few_heaps_unless_told_otherwise(tmp_path, monkeypatch, given, expected):
    monkeypatch.delenv(launch.ARENAS_VARIABLE, raising=False)
    if given:
        monkeypatch.setenv(launch.ARENAS_VARIABLE, given)
    env = launch.viewer_environment(LaunchPlan(data=tmp_path), backend_url=None)
    assert env[launch.ARENAS_VARIABLE] == expected


@pytest.mark.parametrize(
    ("host", "allowed", "alone"),
    [
        ("127.0.0.1", (), True),
        ("0.0.0.0", (), False),
        ("127.0.0.1", ("masks.example.org",), False),  # of a proxy before it
    ],
)
def test_users_from_other_machines_log_in_themselves(tmp_path, monkeypatch, host, allowed, alone):
    login = tmp_path / "login"
    seen = {}

    class Fake:
        def __enter__(self):
            return launch.Embedded(url="http://127.0.0.1:1", login=login, process=None)

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(launch, "embedded_backend", lambda _: Fake())
    monkeypatch.setattr(launch.signal, "signal", lambda *_: None)
    monkeypatch.setattr(launch, "_serve", lambda *given, **_: seen.update(given[-1]) or 0)
    plan = LaunchPlan(data=tmp_path, host=host, allowed_hosts=allowed)
    assert launch.launch(plan, lambda: None) == 0
    assert seen.get(names.LOGIN_VARIABLE) == (str(login) if alone else None)


def test_the_address_is_said_once_it_answers(tmp_path, monkeypatch):
    port, said = free_port(), []
    program = (
        "import sys, time, http.server as s; time.sleep(0.5); "
        f"s.HTTPServer(('127.0.0.1', {port}), s.SimpleHTTPRequestHandler).handle_request()"
    )
    monkeypatch.setattr(launch, "viewer_command", lambda _: [sys.executable, "-c", program])
    monkeypatch.chdir(tmp_path)
    plan = LaunchPlan(data=tmp_path, host="0.0.0.0", port=port)
    # The pages start while the back end beside them does; the address is said when both answer.
    beside = lambda: said.append("back end")  # noqa: E731
    assert launch._serve(plan, lambda: said.append("ready"), {}, beside=beside) == 0
    assert said == ["back end", "ready"]
    failing = [sys.executable, "-c", "raise SystemExit(3)"]
    monkeypatch.setattr(launch, "viewer_command", lambda _: failing)
    with pytest.raises(BackendError, match="the viewer stopped with status 3"):
        launch._serve(plan, lambda: said.append("again"), {})
    assert said == ["back end", "ready"]


def test_a_back_end_that_does_not_start_is_told(tmp_path):
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    with (
        running(command, {}) as process,
        pytest.raises(BackendError, match=r"stopped with status 3.*--no-backend"),
    ):
        wait_until_up("http://127.0.0.1:9/", process, "the back end", advice="see --no-backend")


def test_what_was_started_is_stopped():
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with running(command, {}) as process:
        assert process.poll() is None
    assert process.returncode is not None
    assert isinstance(process, subprocess.Popen)


def test_the_command_has_its_options():
    result = CliRunner().invoke(build_app(), ["viewer", "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for option in ("--data", "--backend", "--no-backend", "--catalog", "--allow-paths"):
        assert option in result.output
