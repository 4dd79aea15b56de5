"""Results in buckets: a server, an S3-speaking process that checks keys, the real client."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import openeo
import pytest
import rasterio
import requests
from openeo.rest.job import BatchJob

from openeo_cloudmask import cloud_mask
from openeo_cloudmask.backend.api.security import sign
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products import mask_product
from tests.backend.conftest import PASSWORD, S3Server, Server, ingest, wait_for, write_scene

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # botocore warns of its own doings
]
NAME = "openEO_2024-05-01.tif"
WRONG = {"access_key": "AKIDWRONGWRONG", "secret_key": "WRONGSECRETWRONG"}


@pytest.fixture(scope="module")
def server(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server that keeps results in a bucket and delivers to its users' buckets."""
    folder = tmp_path_factory.mktemp("buckets")
    sooner = "from openeo_cloudmask.backend.jobs import engine; engine._JANITOR_S = 2"
    found = Server(folder / "data", patch=sooner)
    found.run("users", "add", "ann")
    ingest(write_scene(folder / "scene.tif"), found.data_dir)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        _start(found, s3)
        yield found
        found.stop()


def _start(server: Server, s3: S3Server) -> None:
    server.start(
        "--results", "s3://results/masks", "--s3-endpoint", s3.url, "--private-endpoint", s3.url
    )


@pytest.fixture(scope="module")
def connection(server: Server) -> openeo.Connection:
    return openeo.connect(server.url).authenticate_basic("ann", PASSWORD)


@pytest.fixture(scope="module")
def expected(server: Server, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray[Any, Any]:
    """Return the mask as ``cloudmask run`` writes it."""
    path = tmp_path_factory.mktemp("expected") / "mask.tif"
    options = MaskOptions(model="hollstein", sensor="sentinel-2-l1c")
    mask_product(server.data_dir.parent / "scene.tif", path, options)
    return _read(path.read_bytes())


def _read(content: bytes) -> np.ndarray[Any, Any]:
    with rasterio.MemoryFile(content) as file, file.open() as dataset:
        return dataset.read()  # type: ignore[no-any-return]


def _submit(connection: openeo.Connection, **options: Any) -> BatchJob:
    cube = connection.load_collection("S2", temporal_extent=["2024-05-01", "2024-05-31"])
    return cloud_mask(cube, model="hollstein").create_job(out_format="GTiff", job_options=options)


def _run(job: BatchJob) -> str:
    job.start()
    return _end(job)


def _end(job: BatchJob) -> str:
    ends = ("finished", "error", "canceled")
    return str(wait_for(lambda: (status := job.status()) in ends and status, 180))


def _answers(connection: openeo.Connection, job: BatchJob) -> bytes:
    """Return everything the server says of a job."""
    path = f"/jobs/{job.job_id}"
    paths = ("/jobs", path, f"{path}/logs?level=debug", f"{path}/results", f"{path}/estimate")
    return b"\n".join(
        connection.get(path, expected_status=range(200, 600)).content for path in paths
    )


def _assert_unknown(secrets: list[str], server: Server, answers: bytes) -> None:
    """Check that no file of the server (database, log, results) and no answer holds a secret."""
    log = server.data_dir.parent / f"server-{server.port}.log"
    files = [path for path in server.data_dir.rglob("*") if path.is_file()]
    assert any(path.name == "cloudmask.db" for path in files)
    places = {str(path): path.read_bytes() for path in [*files, log]} | {"answers": answers}
    for secret in secrets:
        assert [place for place, content in places.items() if secret.encode() in content] == []


def test_private_delivery(
    server: Server, connection: openeo.Connection, s3: S3Server, expected: np.ndarray[Any, Any]
) -> None:
    job = _submit(connection, output_storage="PRIVATE", s3={**s3.private("mine"), "prefix": "a/b"})
    assert _run(job) == "finished"
    names = [f"a/b/{job.job_id}/{name}" for name in ("openEO_2024-05-01.json", NAME)]
    assert s3.objects("mine", "a/b/") == names
    assert np.array_equal(_read(s3.read("mine", names[1])), expected)
    assets = job.get_results().get_metadata()["assets"]
    assert {asset["href"] for asset in assets.values()} == {f"s3://mine/{name}" for name in names}
    assert s3.objects("results", f"masks/{job.job_id}/") == []
    assert job.describe()["job_options"]["s3"]["bucket"] == "mine"
    secrets = [*s3.keys.values(), s3.environment["AWS_SECRET_ACCESS_KEY"]]
    answers = _answers(connection, job) + b"".join(s3.read("mine", name) for name in names)
    _assert_unknown(secrets, server, answers)
    again = requests.post(
        f"{server.url}/jobs/{job.job_id}/results", auth=connection.auth, timeout=30
    )
    assert again.json()["code"] == "CredentialsInvalid"  # they were used, and are gone
    job.delete()
    assert s3.objects("mine", "a/b/") == names  # what is the user's stays the user's


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"bucket": "not-there"}, "'not-there' did not take the results: there is no bucket"),
        ({"secret_key": WRONG["secret_key"]}, "the keys are wrong"),
        (WRONG, "the keys are wrong"),
    ],
)
def test_results_wait_for_the_right_keys(
    server: Server,
    connection: openeo.Connection,
    s3: S3Server,
    expected: np.ndarray[Any, Any],
    wrong: dict[str, str],
    reason: str,
) -> None:
    right = s3.private("mine")
    job = _submit(connection, output_storage="PRIVATE", s3=right | wrong)
    assert _run(job) == "error"
    error = job.logs(level="error")[0]
    assert error["code"] == "StorageFailure"
    assert reason in error["message"]
    assert "kept for 14 days" in error["message"]
    secrets = [*s3.keys.values(), *WRONG.values()]
    _assert_unknown(secrets, server, _answers(connection, job))
    # The input may be gone by now: nothing is computed again.
    scene = server.data_dir.parent / "scene.tif"
    scene.rename(scene.with_suffix(".away"))
    try:
        options = {"output_storage": "PRIVATE", "s3": right}
        connection.patch(f"/jobs/{job.job_id}", json={"job_options": options}, expected_status=204)
        assert _run(job) == "finished"
    finally:
        scene.with_suffix(".away").rename(scene)
    assert np.array_equal(_read(s3.read("mine", f"{job.job_id}/{NAME}")), expected)
    _assert_unknown(secrets, server, _answers(connection, job))
    assert not (server.data_dir / "jobs" / job.job_id / "kept").exists()


def test_kept_results_are_of_one_process(
    server: Server, connection: openeo.Connection, s3: S3Server
) -> None:
    job = _submit(connection, output_storage="PRIVATE", s3=s3.private("not-there"))
    assert _run(job) == "error"
    graph = {"one": {"process_id": "add", "arguments": {"x": 1, "y": 2}, "result": True}}
    changes = {"process": {"process_graph": graph}, "job_options": {"output_storage": "TEMPORARY"}}
    connection.patch(f"/jobs/{job.job_id}", json=changes, expected_status=204)
    assert _run(job) == "finished"
    assert s3.objects("results", f"masks/{job.job_id}/") == [f"masks/{job.job_id}/openEO.json"]
    job.delete()
    assert not (server.data_dir / "jobs" / job.job_id).exists()


def test_results_kept_in_a_bucket(
    server: Server,
    connection: openeo.Connection,
    s3: S3Server,
    expected: np.ndarray[Any, Any],
    tmp_path: Path,
) -> None:
    job = _submit(connection)
    assert _run(job) == "finished"
    prefix = f"masks/{job.job_id}/"
    assert s3.objects("results", prefix) == [f"{prefix}openEO_2024-05-01.json", prefix + NAME]
    assert not (server.data_dir / "jobs" / job.job_id).exists()
    job.get_results().download_files(tmp_path)
    content = (tmp_path / NAME).read_bytes()
    assert content == s3.read("results", prefix + NAME)
    assert np.array_equal(_read(content), expected)
    link = job.get_results().get_metadata()["assets"][NAME]["href"]
    _check_ranges(link, content)
    with rasterio.open(link) as dataset:  # GDAL reads parts of it
        assert np.array_equal(dataset.read(), expected)
    secrets = list(s3.environment.values())[:2]
    _assert_unknown(secrets, server, _answers(connection, job))

    server.kill()
    _start(server, s3)
    assert requests.get(link, timeout=30).content == content
    past = str(int(time.time()) - 1)
    secret = (server.data_dir / "secret.key").read_bytes()
    signature = sign(secret, job.job_id, NAME, past)
    old = f"{link.partition('?')[0]}?expires={past}&signature={signature}"
    assert _code(old) == (410, "ResultLinkExpired")
    s3.client.delete_object(Bucket="results", Key=prefix + NAME)
    assert _code(link) == (404, "FileNotFound")  # and no 200 that breaks off
    job.delete()
    assert s3.objects("results", prefix) == []
    assert _code(link) == (410, "ResultLinkExpired")


def _check_ranges(link: str, content: bytes) -> None:
    head = requests.head(link, timeout=30)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(content)))
    for asked, part in (
        ("bytes=0-0", content[:1]),
        ("bytes=100-1099", content[100:1100]),
        ("bytes=100-", content[100:]),
        ("bytes=-10", content[-10:]),
    ):
        answer = requests.get(link, headers={"Range": asked}, timeout=30)
        assert (answer.status_code, answer.content) == (206, part)
        assert answer.headers["Content-Range"].endswith(f"/{len(content)}")
    for asked in ("bytes=5-2", "lines=1-2", "bytes=-", "bytes=0-1,3-4"):
        answer = requests.get(link, headers={"Range": asked}, timeout=30)
        assert (answer.status_code, answer.content) == (200, content)
    answer = requests.get(link, headers={"Range": f"bytes={len(content)}-"}, timeout=30)
    assert answer.status_code == 416


def _code(link: str) -> tuple[int, str]:
    answer = requests.get(link, timeout=30)
    return answer.status_code, answer.json()["code"]


def test_temporary_results_in_a_bucket(
    server: Server, connection: openeo.Connection, s3: S3Server, expected: np.ndarray[Any, Any]
) -> None:
    job = _submit(connection, output_storage="TEMPORARY")
    before = time.time()
    assert _run(job) == "finished"
    link = job.get_results().get_metadata()["assets"][NAME]["href"]
    assert np.array_equal(_read(requests.get(link, timeout=30).content), expected)
    query = dict(part.split("=") for part in urlsplit(link).query.split("&"))
    assert 14 * 86400 - 1 <= int(query["expires"]) - before <= 14 * 86400 + 200
    with sqlite3.connect(server.data_dir / "cloudmask.db", timeout=30) as database:
        database.execute("UPDATE jobs SET expires = ? WHERE id = ?", (before, job.job_id))
    database.close()
    assert _code(link) == (410, "ResultLinkExpired")
    found = requests.get(
        f"{server.url}/jobs/{job.job_id}/results", auth=connection.auth, timeout=30
    )
    assert (found.status_code, found.json()["code"]) == (410, "ResultLinkExpired")
    wait_for(lambda: not s3.objects("results", f"masks/{job.job_id}/"), 120)
    assert job.status() == "finished"
