"""A viewer with its own back end, and pages that may talk to nobody else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.browser import steps

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "artifacts"
START_SECONDS = 150
LOG_LINES = 60

FAILED = pytest.StashKey[bool]()


def find_chromium() -> str | None:
    return (
        os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    )


@dataclass
class Viewer:
    url: str
    data: Path
    log: Path
    pid: int


@dataclass
class Watch:
    """What a page asked other hosts for, and what went wrong in it."""

    foreign: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def resident_mib(pid: int) -> float:
    """Return the memory of a process and those it started."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    return sum(member.memory_info().rss for member in family) / 2**20


def start_viewer(data: Path, port: int, *options: str) -> tuple[subprocess.Popen[bytes], Viewer]:
    log = data.parent / f"viewer-{port}.log"
    command = [sys.executable, "-c", "from openeo_cloudmask.cli import main; main()", "viewer"]
    command += [f"--data={data}", f"--port={port}", *options]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=data.parent, env=env)
    viewer = Viewer(url=f"http://127.0.0.1:{port}", data=data, log=log, pid=process.pid)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the viewer stopped: {log.read_text()}")
        if viewer.url in log.read_text(encoding="utf-8").partition("The viewer is at")[2]:
            return process, viewer
        time.sleep(0.2)
    process.kill()
    pytest.fail(f"the viewer did not start within {START_SECONDS} s: {log.read_text()}")


def stop_viewer(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def viewer(tmp_path_factory) -> Iterator[Viewer]:
    pytest.importorskip("streamlit", reason="the extra viewer is not installed")
    pytest.importorskip("distributed", reason="the extra server is not installed")
    if find_chromium() is None:
        pytest.skip("no chromium on this machine")
    from tests.ports import free_port

    process, running = start_viewer(tmp_path_factory.mktemp("viewer") / "data", free_port())
    try:
        yield running
    finally:
        stop_viewer(process)


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = find_chromium()
    if path is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Let fixtures know that their test failed."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture
def new_page(request, browser, viewer):
    """Return the maker of (page, watch); each page is a browser profile of its own.

    After a failure, pictures of the pages are under ``artifacts/``, and the report says what went
    wrong in them and what the viewer logged.
    """
    made = []

    def make(at: Viewer = viewer):
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.set_default_timeout(steps.WAIT_MS)
        page, watch = context.new_page(), Watch()
        made.append((page, watch, at))

        def sort(route, request):
            if request.url.startswith(at.url):
                route.continue_()
            else:
                watch.foreign.append(request.url)
                route.abort()

        page.route("**/*", sort)
        page.on("pageerror", lambda error: watch.errors.append(str(error)))
        page.add_init_script(steps.SLOW_MESSAGES)
        return page, watch

    yield make
    for number, (page, watch, at) in enumerate(made):
        if request.node.stash.get(FAILED, False) and not page.is_closed():
            ARTIFACTS.mkdir(exist_ok=True)
            picture = ARTIFACTS / f"failed-{request.node.name}-{number}.png"
            page.screenshot(path=str(picture))
            logged = at.log.read_text(encoding="utf-8").splitlines()[-LOG_LINES:]
            about = f"{picture.name}: {page.url}, errors {watch.errors}; the viewer's log ends:"
            sys.stderr.write("\n".join([about, *logged, ""]))
        page.context.close()


@pytest.fixture
def keep():
    """Return what saves a screenshot of a page under ``artifacts/`` and returns its path."""
    ARTIFACTS.mkdir(exist_ok=True)

    def save(page, name: str) -> Path:
        path = ARTIFACTS / f"{name}.png"
        page.screenshot(path=str(path))
        return path

    return save
