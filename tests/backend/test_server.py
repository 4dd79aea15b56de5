"""A server process on loopback and the real openEO client."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import openeo
import pytest
import rasterio
import requests
from openeo.rest import OpenEoApiError

from openeo_cloudmask import cloud_mask
from openeo_cloudmask.openeo.udp import build_udp
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products import mask_product
from tests.backend.conftest import PASSWORD, Server, log_in, mask_graph, wait_for

pytestmark = pytest.mark.slow

MAY = ["2024-05-01", "2024-05-31"]


@pytest.fixture(scope="module")
def connection(server: Server) -> openeo.Connection:
    found = openeo.connect(server.url)
    return found.authenticate_basic("ann", PASSWORD)


@pytest.fixture(scope="module")
def expected(server: Server, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray[Any, Any]:
    """Return the mask of the first scene as ``cloudmask run`` writes it."""
    path = tmp_path_factory.mktemp("expected") / "mask.tif"
    options = MaskOptions(model="hollstein", sensor="sentinel-2-l1c")
    mask_product(server.data_dir.parent / "scene.tif", path, options)
    return _read(path)


def _read(path: Path) -> np.ndarray[Any, Any]:
    with rasterio.open(path) as dataset:
        return dataset.read()  # type: ignore[no-any-return]


def test_discovery(connection: openeo.Connection) -> None:
    assert connection.capabilities().api_version() == "1.2.0"
    assert connection.list_collection_ids() == ["S2"]
    assert "cloud_mask" in {process["id"] for process in connection.list_processes()}
    assert connection.describe_account()["name"] == "ann"
    assert "GTiff" in connection.list_file_formats()["output"]
    assert "Python" in connection.list_udf_runtimes()
    cube = connection.load_collection("S2")
    assert cube.metadata.band_names[:3] == ["B01", "B02", "B03"]
    assert cube.metadata.has_temporal_dimension()


def test_synchronous_mask(
    connection: openeo.Connection, tmp_path: Path, expected: np.ndarray[Any, Any]
) -> None:
    cube = connection.load_collection("S2", temporal_extent=MAY)
    cloud_mask(cube, model="hollstein").download(tmp_path / "mask.tif", format="GTiff")
    assert np.array_equal(_read(tmp_path / "mask.tif"), expected)


def test_synchronous_value(connection: openeo.Connection) -> None:
    graph = {"a": {"process_id": "add", "arguments": {"x": 1, "y": 2}, "result": True}}
    assert connection.execute(graph) == 3


def test_batch_job(
    connection: openeo.Connection, tmp_path: Path, expected: np.ndarray[Any, Any]
) -> None:
    cube = connection.load_collection("S2", temporal_extent=MAY)
    job = cloud_mask(cube, model="hollstein").create_job(title="mask", out_format="GTiff")
    assert job.estimate()["size"] > 0
    job.start_and_wait(print=lambda _: None, max_poll_interval=0.2, connection_retry_interval=1)
    assert job.status() == "finished"
    lines = wait_for(lambda: [e.message for e in job.logs() if "finished" in e.message])
    assert len(lines) == 1
    found = job.get_results().download_files(tmp_path, include_stac_metadata=False)
    mask = tmp_path / "openEO_2024-05-01.tif"
    assert mask in found
    assert np.array_equal(_read(mask), expected)
    with rasterio.open(mask) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert job.describe()["progress"] == 100
    job.delete()
    assert job.job_id not in {item["id"] for item in connection.list_jobs()}


def test_stored_process(
    connection: openeo.Connection, tmp_path: Path, expected: np.ndarray[Any, Any]
) -> None:
    spec = build_udp()
    stored = connection.save_user_defined_process(
        "my_mask", spec["process_graph"], parameters=spec["parameters"]
    )
    assert "my_mask" in {item["id"] for item in connection.list_user_defined_processes()}
    cube = connection.load_collection("S2", temporal_extent=MAY)
    masked = cube.process("my_mask", data=cube, model="hollstein")
    masked.download(tmp_path / "mask.tif", format="GTiff")
    assert np.array_equal(_read(tmp_path / "mask.tif"), expected)
    stored.delete()


def test_validation(connection: openeo.Connection) -> None:
    cube = connection.load_collection("S2")
    assert cloud_mask(cube, model="hollstein").validate() == []
    found = connection.validate_process_graph(
        {"a": {"process_id": "nope", "arguments": {}, "result": True}}
    )
    assert [error["code"] for error in found] == ["ProcessUnsupported"]


def test_failing_job_says_why(connection: openeo.Connection) -> None:
    cube = connection.load_collection("S2", temporal_extent=["2000-01-01", "2000-02-01"])
    job = cloud_mask(cube, model="hollstein").create_job(out_format="GTiff").start()
    wait_for(lambda: job.status() == "error")
    errors = wait_for(lambda: job.logs(level="error"))
    assert errors[0]["code"] == "NoDataAvailable"
    with pytest.raises(OpenEoApiError, match="NoDataAvailable"):
        job.get_results().get_metadata()


def test_other_code_is_refused(connection: openeo.Connection) -> None:
    code = "import xarray\ndef apply_datacube(cube: xarray.DataArray, context: dict):\n    ..."
    cube = connection.load_collection("S2").apply(process=openeo.UDF(code, runtime="Python"))
    with pytest.raises(OpenEoApiError, match="UdfNotAllowed"):
        cube.download("/dev/null", format="GTiff")


def test_results_are_the_users_own(server: Server) -> None:
    ann, bob = log_in(server), log_in(server, "bob")
    body = {"process": {"process_graph": mask_graph()}}
    answer = requests.post(f"{server.url}/jobs", json=body, headers=ann, timeout=30)
    url = f"{server.url}/jobs/{answer.headers['OpenEO-Identifier']}"
    assert requests.post(f"{url}/results", headers=ann, timeout=30).status_code == 202
    assert requests.get(f"{url}/results", headers=bob, timeout=30).status_code == 404
    assert requests.delete(url, headers=bob, timeout=30).status_code == 404
    ends = ("finished", "error", "canceled")
    status = wait_for(
        lambda: (s := requests.get(url, headers=ann, timeout=30).json()["status"]) in ends and s
    )
    assert status == "finished", requests.get(f"{url}/logs", headers=ann, timeout=30).text


@pytest.mark.slow
def test_cancel_stops_the_work(make_server: Any, tmp_path: Path) -> None:
    """A function that never ends is ended with its worker process."""
    server = make_server("--allow-any-udf", "--max-jobs", "1")
    headers = log_in(server)
    mark = tmp_path / "alive"
    code = (
        "import xarray, time, pathlib\n"
        "def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:\n"
        "    while True:\n"
        f"        pathlib.Path({str(mark)!r}).touch()\n"
        "        time.sleep(0.05)\n"
    )
    graph = mask_graph()
    graph["mask"] = {"process_id": "run_udf", "arguments": {
        "data": {"from_node": "load"}, "udf": code, "runtime": "Python"}}  # fmt: skip
    body = {"process": {"process_graph": graph}}
    answer = requests.post(f"{server.url}/jobs", json=body, headers=headers, timeout=30)
    url = f"{server.url}/jobs/{answer.headers['OpenEO-Identifier']}"
    requests.post(f"{url}/results", headers=headers, timeout=30)
    wait_for(mark.exists)
    assert requests.delete(f"{url}/results", headers=headers, timeout=30).status_code == 204
    assert requests.get(url, headers=headers, timeout=30).json()["status"] == "canceled"

    def still() -> bool:
        before = mark.stat().st_mtime_ns
        time.sleep(0.5)
        return mark.stat().st_mtime_ns == before

    wait_for(still, 40)
    body = {"process": {"process_graph": mask_graph()}}  # the next one runs as ever
    answer = requests.post(f"{server.url}/result", json=body, headers=headers, timeout=60)
    assert answer.status_code == 200


@pytest.mark.slow
def test_server_killed_in_the_middle_of_a_job(make_server: Any, tmp_path: Path) -> None:
    server = make_server("--allow-any-udf")
    headers = log_in(server)
    mark = tmp_path / "runs"
    code = (
        "import xarray, time, pathlib\n"
        "def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:\n"
        f"    mark = pathlib.Path({str(mark)!r})\n"
        "    first = not mark.exists()\n"
        "    mark.touch()\n"
        "    time.sleep(30 if first else 0)\n"
        "    return cube\n"
    )
    graph = mask_graph()
    graph["mask"] = {"process_id": "run_udf", "arguments": {
        "data": {"from_node": "load"}, "udf": code, "runtime": "Python"}}  # fmt: skip
    body = {"process": {"process_graph": graph}}
    answer = requests.post(f"{server.url}/jobs", json=body, headers=headers, timeout=30)
    path = f"/jobs/{answer.headers['OpenEO-Identifier']}"
    requests.post(f"{server.url}{path}/results", headers=headers, timeout=30)
    wait_for(mark.exists)
    server.kill()
    server.start("--allow-any-udf")
    headers = log_in(server)
    url = f"{server.url}{path}"
    wait_for(lambda: requests.get(url, headers=headers, timeout=30).json()["status"] == "finished")

    def told() -> bool:
        logs = requests.get(f"{url}/logs", headers=headers, timeout=30).json()["logs"]
        return any("started again" in line["message"] for line in logs)

    wait_for(told)  # lines are written a moment after what they tell of
