"""What goes wrong while a server runs: nothing is lost, and the server stays alive."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import requests

from openeo_cloudmask.backend.graph.validate import run_order
from openeo_cloudmask.errors import BackendError
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products import mask_product
from tests.backend.conftest import (
    ROOT,
    Server,
    find_workers,
    ingest,
    log_in,
    mask_graph,
    wait_for,
    write_scene,
)
from tests.backend.test_graph import mutate
from tests.backend.test_parts import PostgreSQL, _find_postgresql
from tests.ports import free_port

pytestmark = pytest.mark.slow

SLOW_UDF = """
import pathlib, time, xarray
def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    mark = pathlib.Path(context["mark"])
    first = not mark.exists()
    mark.touch()
    while first and not mark.with_name("go on").exists():
        time.sleep(0.05)
    return cube
"""
"""Its first call waits until the test lets it go on."""


def _slow_graph(mark: Path) -> dict[str, Any]:
    graph = mask_graph()
    graph["mask"] = {"process_id": "run_udf", "arguments": {
        "data": {"from_node": "load"}, "udf": SLOW_UDF, "runtime": "Python",
        "context": {"mark": str(mark)}}}  # fmt: skip
    return graph


def _go_on(mark: Path) -> None:
    mark.with_name("go on").touch()


def _start(server: Server, headers: dict[str, str], graph: dict[str, Any]) -> str:
    body = {"process": {"process_graph": graph}}
    answer = requests.post(f"{server.url}/jobs", json=body, headers=headers, timeout=30)
    path = f"/jobs/{answer.headers['OpenEO-Identifier']}"
    requests.post(f"{server.url}{path}/results", headers=headers, timeout=30)
    return path


def _status(server: Server, path: str, headers: dict[str, str]) -> str:
    try:
        found = requests.get(f"{server.url}{path}", headers=headers, timeout=30)
    except requests.ConnectionError:
        return "no answer"
    return str(found.json().get("status", found.json().get("code")))


def _end(server: Server, path: str, headers: dict[str, str]) -> str:
    ends = ("finished", "error", "canceled")
    return str(wait_for(
        lambda: (s := _status(server, path, headers)) in ends and s, 120
    ))  # fmt: skip


def _errors(server: Server, path: str, headers: dict[str, str]) -> list[dict[str, Any]]:
    def found() -> Any:
        logs = requests.get(f"{server.url}{path}/logs?level=error", headers=headers, timeout=30)
        return logs.json()["logs"]

    return wait_for(found)  # type: ignore[no-any-return]


def test_worker_killed_in_the_middle_of_a_job(make_server: Any, tmp_path: Path) -> None:
    server = make_server("--allow-any-udf")
    headers = log_in(server)
    mark = tmp_path / "mark"
    path = _start(server, headers, _slow_graph(mark))
    wait_for(mark.exists)
    for worker in find_workers(server):
        worker.send_signal(signal.SIGKILL)
    assert _end(server, path, headers) == "finished"


def test_workers_killed_while_they_start(make_server: Any) -> None:
    """Dask gives such a worker up; another one has to come, and /health has to be right."""
    server = make_server()
    headers = log_in(server)
    killed: set[int] = set()
    for _ in range(4):
        worker = wait_for(lambda: [w for w in find_workers(server) if w.pid not in killed], 120)[0]
        killed.add(worker.pid)
        worker.kill()
    path = _start(server, headers, mask_graph())
    health = requests.get(f"{server.url}/health", timeout=30)
    assert (health.json()["workers"] > 0) == health.ok
    assert _end(server, path, headers) == "finished"
    answer = requests.get(f"{server.url}/health", timeout=30).json()
    assert answer == {"status": "ok", "workers": 1, "expected": 1}


def test_two_servers_on_one_data_folder(make_server: Any) -> None:
    server = make_server()
    second = Server(server.data_dir)
    with pytest.raises(BackendError, match="the server stopped with status 3"):
        second.start()
    log = server.data_dir.parent / f"server-{second.port}.log"
    assert "another server runs the jobs" in log.read_text()
    assert "Traceback" not in log.read_text()
    server.kill()
    second.start()  # at once: the process of the first one is gone
    second.stop()


def test_input_deleted_in_the_middle_of_a_job(make_server: Any, tmp_path: Path) -> None:
    server = make_server("--allow-any-udf", "--max-jobs", "1")
    headers = log_in(server)
    mark = tmp_path / "mark"
    first = _start(server, headers, _slow_graph(mark))
    second = _start(server, headers, mask_graph())
    wait_for(mark.exists)
    (tmp_path / "scene.tif").unlink()
    _go_on(mark)
    assert _end(server, first, headers) == "finished"
    assert _end(server, second, headers) == "error"
    assert _errors(server, second, headers)[0]["code"] == "CloudMaskProductInvalid"


def test_input_deleted_between_two_dates_of_a_job(make_server: Any, tmp_path: Path) -> None:
    """The second date is found when its cube is made, and gone when it is read, after the first."""
    server = make_server("--allow-any-udf")
    for month, name in ((1, "first"), (2, "second")):
        scene = write_scene(tmp_path / f"{name}.tif", seed=month)
        ingest(scene, server.data_dir, "TWO", datetime(2025, month, 10, tzinfo=UTC))
    headers = log_in(server)
    mark = tmp_path / "mark"
    slow = _slow_graph(mark)
    load = slow["load"]["arguments"] | {"id": "TWO"}
    graph = {
        name: {
            "process_id": "load_collection",
            "arguments": load | {"temporal_extent": [f"2025-0{month}-01", f"2025-0{month + 1}-01"]},
        }
        for name, month in (("load", 1), ("second", 2))
    }
    assert run_order(graph) == ["second", "load"]
    graph["slow"] = slow["mask"]
    graph["both"] = {
        "process_id": "merge_cubes",
        "arguments": {"cube1": {"from_node": "slow"}, "cube2": {"from_node": "second"}},
    }
    graph |= {name: node for name, node in mask_graph().items() if name != "load"}
    graph["mask"]["arguments"]["data"] = {"from_node": "both"}
    path = _start(server, headers, graph)
    wait_for(mark.exists)
    (tmp_path / "second.tif").unlink()
    _go_on(mark)
    assert _end(server, path, headers) == "error"
    error = _errors(server, path, headers)[0]
    assert error["code"] == "CloudMaskProductInvalid"
    assert "second.tif" in error["message"]


def test_time_limit(make_server: Any, tmp_path: Path) -> None:
    server = make_server("--allow-any-udf", "--job-timeout", "15")
    headers = log_in(server)
    path = _start(server, headers, _slow_graph(tmp_path / "mark"))
    workers = {worker.pid for worker in find_workers(server)}
    assert _end(server, path, headers) == "error"
    assert _errors(server, path, headers)[0]["code"] == "RequestTimeout"
    wait_for(lambda: not workers & {worker.pid for worker in find_workers(server)})
    wait_for(lambda: requests.get(f"{server.url}/health", timeout=30).json()["status"] == "ok")
    # The new worker imports everything anew, for which a job's few seconds may not be enough.
    body = {"process": {"process_graph": mask_graph()}}
    assert requests.post(f"{server.url}/result", json=body, headers=headers, timeout=300).ok


def test_memory_limit(make_server: Any) -> None:
    server = make_server("--allow-any-udf", "--worker-memory", "900MiB")
    headers = log_in(server)
    graph = mask_graph()
    udf = (
        "import numpy, time, xarray\n"
        "def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:\n"
        "    kept = []\n"
        "    while True:\n"
        "        kept.append(numpy.ones(4_000_000))\n"
        "        time.sleep(0.02)\n"
    )
    graph["mask"] = {"process_id": "run_udf", "arguments": {
        "data": {"from_node": "load"}, "udf": udf, "runtime": "Python"}}  # fmt: skip
    path = _start(server, headers, graph)
    assert _end(server, path, headers) == "error"
    message = _errors(server, path, headers)[0]["message"]
    assert "memory limit" in message
    assert _end(server, _start(server, headers, mask_graph()), headers) == "finished"


def test_database_gone_and_back(make_server: Any, tmp_path: Path) -> None:
    programs = _find_postgresql()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed (Debian: postgresql)")
    pytest.importorskip("psycopg", reason="needs the extra 'postgresql'")
    database = PostgreSQL(programs, tmp_path)
    database.start()
    server = Server(tmp_path / "data")
    try:
        server.run("users", "add", "ann", "--database", database.url)
        ingest(write_scene(tmp_path / "scene.tif"), server.data_dir)
        server.start("--database", database.url, "--allow-any-udf")
        headers = log_in(server)
        mark = tmp_path / "mark"
        path = _start(server, headers, _slow_graph(mark))
        wait_for(mark.exists)
        database.stop()
        answer = requests.get(f"{server.url}{path}", headers=headers, timeout=60)
        assert (answer.status_code, answer.json()["code"]) == (503, "InfrastructureBusy")
        assert requests.get(f"{server.url}/processes", timeout=30).status_code == 200
        _go_on(mark)
        time.sleep(5)  # the job ends while nobody can write that down
        database.start()
        assert _end(server, path, headers) == "finished"
    finally:
        server.stop()
        database.stop()
        database.remove()


def test_sqlite_locked_by_another_process(make_server: Any, tmp_path: Path) -> None:
    sooner = "from openeo_cloudmask.backend.jobs import database; database._BUSY_S = 4.0"
    server = make_server("--allow-any-udf", patch=sooner)
    headers = log_in(server)
    mark = tmp_path / "mark"
    path = _start(server, headers, _slow_graph(mark))
    wait_for(mark.exists)
    other = sqlite3.connect(server.data_dir / "cloudmask.db", timeout=30, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")  # no one else can write, and the job ends meanwhile
        _go_on(mark)
        body = {"process": {"process_graph": mask_graph()}}
        answer = requests.post(f"{server.url}/jobs", json=body, headers=headers, timeout=90)
        assert (answer.status_code, answer.json()["code"]) == (503, "InfrastructureBusy")
        assert _status(server, path, headers) == "running"
        other.execute("ROLLBACK")
    finally:
        other.close()
    assert _end(server, path, headers) == "finished"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a file system of 6 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no small file system can be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_disk_full(tmp_path: Path, small_disk: Path) -> None:
    begun = "from openeo_cloudmask.backend.jobs import storage; storage.SPARE_BYTES = 0"
    server = Server(small_disk / "data", patch=begun)  # it fills while a job runs
    server.run("users", "add", "ann")
    ingest(write_scene(tmp_path / "scene.tif", shape_yx=(1200, 1200)), server.data_dir)
    server.start()
    try:
        headers = log_in(server)
        graph = mask_graph()
        graph["save"]["arguments"]["data"] = {"from_node": "load"}  # 13 bands of noise: 75 MB
        path = _start(server, headers, graph)
        assert _end(server, path, headers) == "error"
        assert _errors(server, path, headers)[0]["code"] in ("StorageFailure",
                                                             "CloudMaskOutputInvalid")  # fmt: skip
        assert _end(server, _start(server, headers, mask_graph()), headers) == "finished"
    finally:
        server.stop()


def test_500_mutated_graphs(server: Server) -> None:
    headers = log_in(server)
    rng = random.Random(7)
    seen = set()
    for number in range(500):
        process = {"process_graph": mutate(mask_graph(), rng)}
        path, body = "/validation", process
        if number % 10 == 0:
            path, body = "/result", {"process": process}  # type: ignore[dict-item]
        answer = requests.post(f"{server.url}{path}", json=body, headers=headers, timeout=60)
        assert answer.status_code < 500, (answer.text, process)
        if path == "/result" and answer.status_code >= 400:
            assert set(answer.json()) == {"id", "code", "message", "links"}
            seen.add(answer.json()["code"])
    assert len(seen) > 3
    assert requests.get(f"{server.url}/health", timeout=30).json()["status"] == "ok"


def test_two_worker_processes_of_another_cluster(tmp_path: Path) -> None:
    """Results through a scheduler's address equal those of the command line, bit for bit."""
    port = free_port()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    address = f"tcp://127.0.0.1:{port}"
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1",
                 "--port", str(port), "--dashboard-address", "127.0.0.1:0"]  # fmt: skip
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nworkers", "2",
              "--nthreads", "1", "--dashboard-address", "127.0.0.1:0",
              "--local-directory", str(tmp_path)]  # fmt: skip
    server = Server(tmp_path / "data")
    scene = write_scene(tmp_path / "scene.tif", shape_yx=(6000, 40))
    server.run("users", "add", "ann")
    ingest(scene, server.data_dir)
    with (tmp_path / "log").open("wb") as log:
        processes = [
            subprocess.Popen(command, env=env, stdout=log, stderr=log)
            for command in (scheduler, worker)
        ]
    try:
        server.start("--scheduler", address)
        wait_for(lambda: requests.get(f"{server.url}/health", timeout=30).json()["workers"] == 2)
        headers = log_in(server)
        path = _start(server, headers, mask_graph())
        assert _end(server, path, headers) == "finished"
        found = requests.get(f"{server.url}{path}/results", headers=headers, timeout=30).json()
        name = next(name for name in found["assets"] if name.endswith(".tif"))
        content = requests.get(found["assets"][name]["href"], timeout=30).content
        (tmp_path / "job.tif").write_bytes(content)
        options = MaskOptions(model="hollstein", sensor="sentinel-2-l1c")
        mask_product(scene, tmp_path / "run.tif", options)
        with (
            rasterio.open(tmp_path / "job.tif") as one,
            rasterio.open(tmp_path / "run.tif") as other,
        ):
            assert np.array_equal(one.read(), other.read())
    finally:
        server.stop()
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=30)
