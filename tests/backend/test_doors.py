"""What an attacker sends, and odd values: refused with a reason, and the server goes on."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import event, insert
from starlette.testclient import TestClient

from openeo_cloudmask import publish
from openeo_cloudmask.backend.api import security
from openeo_cloudmask.backend.api.errors import STATUS, ApiError
from openeo_cloudmask.backend.api.results import parse_range
from openeo_cloudmask.backend.app import create_app
from openeo_cloudmask.backend.jobs import clock, database
from openeo_cloudmask.backend.jobs.instant import InstantRuns
from openeo_cloudmask.backend.jobs.storage import DiskStorage
from openeo_cloudmask.backend.jobs.tables import Job
from openeo_cloudmask.backend.outputs.mask_items import ITEM_TYPE
from openeo_cloudmask.backend.settings import TEMPORARY_DAYS, Settings
from tests.backend.conftest import PASSWORD, ingest, mask_graph, write_scene
from tests.backend.test_api import DAY_S, _create, _finish, _state


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Return a client of one server for all tests here; its engine was not started."""
    folder = tmp_path_factory.mktemp("doors")
    ingest(write_scene(folder / "scene.tif"), folder / "data")
    app = create_app(Settings(data_dir=folder / "data", max_request_bytes=100_000))
    yield TestClient(app, raise_server_exceptions=False)
    app.state.backend.database.close()


@pytest.fixture
def headers(client: TestClient, request: pytest.FixtureRequest) -> dict[str, str]:
    """Return the headers of a user of the test's own."""
    return _log_in(client, f"user{abs(hash(request.node.nodeid))}")


def _log_in(client: TestClient, name: str) -> dict[str, str]:
    users = _state(client).users
    users.add(name, PASSWORD)
    return {"Authorization": f"Bearer basic//{users.log_in(name, PASSWORD)}"}


@pytest.mark.parametrize("path", ["/jobs", "/result", "/validation", "/stac/search", "/nowhere"])
def test_large_bodies_are_refused_before_they_are_there(client: TestClient, path: str) -> None:
    answer = client.post(path, content=b" " * 200_000)
    assert (answer.status_code, answer.json()["code"]) == (413, "RequestTooLarge")
    read: list[int] = []

    def endless() -> Iterator[bytes]:
        for number in range(50):
            read.append(number)
            yield b" " * 10_000

    answer = client.post(path, content=endless(), headers={"Content-Type": "application/json"})
    assert answer.status_code in (401, 404, 413)  # without a login it is not even read


def test_nothing_is_parsed_without_a_login(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(*_: object, **__: object) -> None:
        pytest.fail("was parsed")

    monkeypatch.setattr("openeo_cloudmask.backend.api.common.json.loads", parse)
    for path in ("/jobs", "/result", "/validation"):
        assert client.post(path, content=b"{}").status_code == 401


@pytest.mark.parametrize(
    "text",
    ['{"title": "\\ud800", "process": {"process_graph": {}}}', '{"budget": 1e999}',
     '{"title": "a\\u0000b"}', '{"process": {"process_graph": {"\\udfff": {}}}}',
     '{"a": ' * 5000 + "1" + "}" * 5000, '{"budget": NaN}', '{"title": "\ud800"}'],
)  # fmt: skip
def test_what_no_database_keeps_is_refused(
    client: TestClient, headers: dict[str, str], text: str
) -> None:
    content = text.encode("utf-8", "surrogatepass")
    for method, path in (("POST", "/jobs"), ("POST", "/result"), ("PUT", "/process_graphs/a")):
        answer = client.request(method, path, content=content, headers=headers)
        assert answer.status_code == 400, answer.text
        # Whether 5000 levels can be parsed depends on the recursion limit of the process.
        refusals = ("ProcessInvalid", "ProcessGraphInvalid", "ProcessGraphMissing")
        assert answer.json()["code"] in refusals


def test_backslash_before_a_zero_is_no_nul(client: TestClient, headers: dict[str, str]) -> None:
    job_id = _create(client, headers, title=r"\u0000")
    assert client.get(f"/jobs/{job_id}", headers=headers).json()["title"] == r"\u0000"


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("GET", "/jobs?offset=99999999999999999999", None),
        ("GET", "/jobs?limit=99999999999999999999", None),
        ("GET", "/jobs/%00", None),
        ("GET", "/jobs?offset=%00", None),
        ("GET", "/jobs/{job}/logs?offset=99999999999999999999999", None),
        ("GET", "/jobs/{job}/logs?limit=99999999999999999999999", None),
        ("GET", "/jobs/{job}/logs?offset=²", None),
        ("GET", "/stac/search?token=" + "9" * 5000, None),
        ("GET", "/stac/search?token=", None),
        ("GET", "/stac/search?limit=99999999999999999999", None),
        ("GET", "/collections/S2/items?limit=99999999999999999999", None),
        ("GET", "/collections/S2/items?bbox=nan,nan,nan,nan", None),
        ("GET", "/collections/S2/items?datetime=" + "9" * 5000, None),
        ("POST", "/jobs", {"plan": "x" * 65}),
        ("POST", "/jobs", {"budget": 1e300}),
        ("POST", "/jobs", {"budget": 10**400}),
        ("PATCH", "/jobs/{job}", {"plan": "x" * 65}),
    ],
)
def test_odd_values_are_no_fault_of_the_server(
    client: TestClient,
    headers: dict[str, str],
    method: str,
    path: str,
    fields: dict[str, Any] | None,
) -> None:
    job_id = _create(client, headers)
    body = None if fields is None else {"process": {"process_graph": mask_graph()}, **fields}
    answer = client.request(method, path.format(job=job_id), json=body, headers=headers)
    assert answer.status_code < 500, answer.text
    if fields is not None:
        assert answer.status_code == 400


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        (5, "list of objects with a name"),
        ([{"schema": {}}], "list of objects with a name"),
        ([5], "list of objects with a name"),
        ([{"name": "x", "schema": {"type": 5}}], "no JSON schema"),
        ([{"name": "x", "schema": {"$ref": "file:///etc/passwd"}}], "write the schema out"),
        ([{"name": "x", "schema": [{"items": {"$ref": "http://127.0.0.1/x"}}]}], "write the"),
    ],
)
def test_bad_parameters_of_a_stored_process(
    client: TestClient, headers: dict[str, str], parameters: object, reason: str
) -> None:
    graph = {"a": {"process_id": "add", "arguments": {"x": 1, "y": 2}, "result": True}}
    spec = {"process_graph": graph, "parameters": parameters}
    answer = client.put("/process_graphs/mine", json=spec, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "ProcessInvalid")
    assert reason in answer.json()["message"]
    # An older server has stored it.
    _state(client).processes.put(client.get("/me", headers=headers).json()["user_id"], "mine", spec)
    call = {"a": {"process_id": "mine", "arguments": {"x": "a"}, "result": True}}
    found = client.post("/validation", json={"process_graph": call}, headers=headers)
    assert [error["code"] for error in found.json()["errors"]] == ["ProcessInvalid"]


def test_patterns_of_users_are_not_run(client: TestClient, headers: dict[str, str]) -> None:
    graph = {"a": {"process_id": "constant", "arguments": {"x": 1}, "result": True}}
    schema = {"type": "string", "pattern": "^(a+)+$", "patternProperties": {"^(a+)+$": {}}}
    spec = {"process_graph": graph, "parameters": [{"name": "x", "schema": schema}]}
    assert client.put("/process_graphs/mine", json=spec, headers=headers).status_code == 200
    call = {"a": {"process_id": "mine", "arguments": {"x": "a" * 40 + "!"}, "result": True}}
    found = client.post("/validation", json={"process_graph": call}, headers=headers)  # in time
    assert found.json()["errors"] == []
    call["a"]["arguments"] = {"x": 1}
    found = client.post("/validation", json={"process_graph": call}, headers=headers)
    assert found.json()["errors"][0]["code"] == "ProcessParameterInvalid"


@pytest.mark.parametrize("crs", ["EPSG:999999", "http://127.0.0.1:1/x", "/etc/passwd", "nonsense"])
def test_unknown_reference_systems(client: TestClient, headers: dict[str, str], crs: str) -> None:
    graph = mask_graph()
    graph["load"]["arguments"]["spatial_extent"] = {
        "west": 0, "south": 0, "east": 1, "north": 1, "crs": crs
    }  # fmt: skip
    found = client.post("/validation", json={"process_graph": graph}, headers=headers)
    assert "reference system" in found.json()["errors"][0]["message"]


def test_jobs_come_in_pages_without_their_graphs(
    client: TestClient, headers: dict[str, str]
) -> None:
    state = _state(client)
    user_id = client.get("/me", headers=headers).json()["user_id"]
    with state.database.session() as session:
        session.execute(
            insert(Job),
            [{"id": f"j-{number}", "user_id": user_id, "process": {"process_graph": {}},
              "log_level": "info", "options": {}, "status": "created", "created": number,
              "updated": number, "attempts": 0} for number in range(1500)],
        )  # fmt: skip
    statements: list[str] = []
    event.listen(
        state.database.engine, "before_cursor_execute", lambda *args: statements.append(args[2])
    )
    seen: list[str] = []
    path = "/jobs"
    while path:
        answer = client.get(path, headers=headers).json()
        assert len(answer["jobs"]) <= 100
        seen += [job["id"] for job in answer["jobs"]]
        links = [link["href"] for link in answer["links"] if link["rel"] == "next"]
        path = links[0].removeprefix("http://testserver") if links else ""
    assert seen == [f"j-{number}" for number in reversed(range(1500))]
    assert not [text for text in statements if "jobs.process" in text]
    assert len(client.get("/jobs?limit=5000", headers=headers).json()["jobs"]) == 1000


def test_quota_of_jobs(
    client: TestClient, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_state(client).jobs, "_max_jobs", 2)
    for _ in range(2):
        _create(client, headers)
    body = {"process": {"process_graph": mask_graph()}}
    answer = client.post("/jobs", json=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "QuotaExceeded")
    _create(client, _log_in(client, "bob"))


def test_quota_of_what_is_stored(
    client: TestClient, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 processes of 4 MB each were read into memory by a list of them."""
    monkeypatch.setattr(database, "MAX_STORED_BYTES", 100_000)
    body = {"process_graph": {"a": {"process_id": "text_concat", "result": True, "arguments": {
        "data": ["x" * 40_000]}}}}  # fmt: skip
    answers = [
        client.put(f"/process_graphs/{name}", json=body, headers=headers) for name in "ababc"
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 400]
    assert answers[-1].json()["code"] == "QuotaExceeded"
    graph = mask_graph()
    graph["save"]["arguments"] |= {"format": "PNG", "options": {"min": 0, "x": "x" * 40_000}}
    service = {"type": "XYZ", "process": {"process_graph": graph}}
    made = [client.post("/services", json=service, headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in made] == [201, 201, 400]
    assert len(client.get("/services", headers=headers).json()["services"]) == 2
    path = f"/services/{made[0].headers['OpenEO-Identifier']}"
    assert client.patch(path, json=service, headers=headers).status_code == 204
    graph["save"]["arguments"]["options"]["x"] *= 2
    answer = client.patch(path, json=service, headers=headers)
    assert answer.json()["code"] == "QuotaExceeded"


def test_a_disk_that_is_nearly_full_takes_no_more(
    client: TestClient, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish.shutil, "disk_usage", lambda _: SimpleNamespace(free=600 << 20))
    process = {"process_graph": mask_graph()}
    for answer in (
        client.post("/jobs", json={"process": process}, headers=headers),
        client.put("/process_graphs/a", json=process, headers=headers),
        client.post("/services", json={"type": "XYZ", "process": process}, headers=headers),
    ):
        assert answer.json()["code"] == "StorageFailure"
        assert "full: 0.6 GB are free, expected 1.0 GB" in answer.json()["message"]


def test_unknown_job_options_are_left_out(client: TestClient, headers: dict[str, str]) -> None:
    secret = {"access_key": "AKIA", "secret_key": "hush-hush"}
    job_id = _create(client, headers, job_options={"S3": secret, "output_storage": "TEMPORARY"})
    shown = client.get(f"/jobs/{job_id}", headers=headers).text
    assert "hush-hush" not in shown
    data = _state(client).settings.data_dir
    assert not [path for path in data.glob("cloudmask.db*") if b"hush-hush" in path.read_bytes()]
    client.patch(f"/jobs/{job_id}", json={"job_options": {"S3": secret}}, headers=headers)
    assert "hush-hush" not in client.get(f"/jobs/{job_id}", headers=headers).text


def test_removed_user_gets_no_error_of_the_server(
    client: TestClient, headers: dict[str, str]
) -> None:
    user_id = client.get("/me", headers=headers).json()["user_id"]
    _state(client).users.remove(client.get("/me", headers=headers).json()["name"])
    body = {"process": {"process_graph": mask_graph()}}
    assert client.post("/jobs", json=body, headers=headers).status_code == 403
    with pytest.raises(ApiError, match="not there any longer"):  # removed in the very moment
        _state(client).jobs.create(user_id, process={}, log_level="info", options={})


@pytest.mark.parametrize(
    ("host", "status"),
    [("testserver", 200), ("localhost:8080", 200), ("127.0.0.1", 200), ("[::1]:8080", 200),
     ("evil.example", 400), ("localhost@evil.example", 400), ("", 400), ("evil\\@localhost", 400)],
)  # fmt: skip
def test_requests_for_other_hosts_are_refused(client: TestClient, host: str, status: int) -> None:
    assert client.get("/conformance", headers={"Host": host}).status_code == status


def test_answers_carry_safe_headers(client: TestClient) -> None:
    for path in ("/", "/stac/", "/nowhere", "/me", "/jobs/%00"):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["Referrer-Policy"] == "no-referrer"


def test_results_that_are_gone_stay_gone(
    client: TestClient, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock goes forward, results are deleted, and it goes back."""
    job_id = _create(client, headers, job_options={"output_storage": "TEMPORARY"})
    _finish(client, job_id, expires=clock.now_s() + TEMPORARY_DAYS * DAY_S)
    path = f"/jobs/{job_id}/results"
    link = client.get(path, headers=headers).json()["assets"]["a.tif"]["href"]
    with monkeypatch.context() as patched:
        now = clock.now_s()
        patched.setattr(clock, "now_s", lambda: now + (TEMPORARY_DAYS + 1) * DAY_S)
        assert _state(client).engine.clean_up() == 1
    assert client.get(path, headers=headers).status_code == 410
    assert client.get(link).status_code == 410


class NeverDone:
    """A cluster whose tasks never end."""

    def submit(self, *_: object, key: str) -> Any:
        del key
        return Future()

    def stop_work(self, *_: object) -> None:
        """Do nothing."""


def test_slow_requests_of_one_user(client: TestClient) -> None:
    """They wait without threads, and only a few of them at a time."""
    state = _state(client)
    instant = InstantRuns(
        replace(state.settings, sync_timeout_s=2.0), state.planner, NeverDone, threading.Event()  # type: ignore[arg-type]
    )  # fmt: skip
    process = {"process_graph": mask_graph()}

    async def run() -> tuple[list[str], int]:
        before = threading.active_count()
        tasks = [asyncio.create_task(instant.run(user, process)) for user in ["ann"] * 45 + ["bob"]]
        await asyncio.sleep(1.0)
        waiting = threading.active_count() - before
        found = await asyncio.gather(*tasks, return_exceptions=True)
        return [error.code for error in found if isinstance(error, ApiError)], waiting

    codes, threads = asyncio.run(run())
    assert codes.count("TooManyRequests") == 41
    assert codes.count("RequestTimeout") == 5
    assert codes[-1] == "RequestTimeout"  # bob's own was taken
    assert threads <= 5  # those that planned, and nothing that waits
    assert STATUS["TooManyRequests"] == 429


@pytest.mark.parametrize(
    "body",
    ['{"filter": "\\ud800"}', '{"limit": 1e999}', '{"ids": ["\\ud800"], "limit": "\\ud800"}',
     '{"bbox": [1e999, 0, 1, 1]}', '{"bbox": [1]}', '{"intersects": {"geometries": 5}}',
     '{"filter": {"op": "=", "args": [{"property": "id"}, "\\ud800"]}}', '{"token": "\\ud800"}',
     '{"datetime": "\\ud800"}', '{"filter": 1e999}', "[" * 10_000],
)  # fmt: skip
def test_odd_searches_are_no_fault_of_the_server(client: TestClient, body: str) -> None:
    answer = client.post(
        "/stac/search", content=body, headers={"Content-Type": "application/json"}
    )  # fmt: skip
    assert answer.status_code < 500, answer.text
    assert client.get("/stac/search?bbox=1").status_code == 400


def test_jobs_are_not_changed_before_they_were_made(
    client: TestClient, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = _create(client, headers)
    before = clock.now_s() - DAY_S
    monkeypatch.setattr("openeo_cloudmask.backend.jobs.states.now_s", lambda: before)
    client.patch(f"/jobs/{job_id}", json={"title": "after the clock was put back"}, headers=headers)
    found = client.get(f"/jobs/{job_id}", headers=headers).json()
    assert found["updated"] >= found["created"]


@pytest.mark.parametrize("kind", ["image/tiff", ITEM_TYPE])
def test_files_that_are_deleted_while_they_are_asked_for(
    client: TestClient, headers: dict[str, str], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = _create(client, headers)
    _finish(client, job_id)
    state = _state(client)
    link = client.get(f"/jobs/{job_id}/results", headers=headers).json()["assets"]["a.tif"]["href"]
    files = state.jobs.find(job_id).files
    state.jobs.set_fields(job_id, files=[{**files[0], "type": kind, "roles": ["metadata"]}])
    find = DiskStorage.local_path

    def delete_after(self: DiskStorage, stored_at: str, name: str) -> Any:
        path = find(self, stored_at, name)
        if path is not None:
            path.unlink()
        return path

    monkeypatch.setattr(DiskStorage, "local_path", delete_after)
    answer = client.get(link)
    assert (answer.status_code, answer.json()["code"]) == (404, "FileNotFound")


@pytest.mark.parametrize("digits", ["9" * 5000, "9" * 4000, "9" * 30, "-" + "9" * 5000])
def test_numbers_of_thousands_of_digits(
    client: TestClient, headers: dict[str, str], digits: str
) -> None:
    job_id = _create(client, headers)
    _finish(client, job_id)
    secret = _state(client).settings.secret
    service = {"type": "XYZ", "process": {"process_graph": mask_graph()}}
    service["process"]["process_graph"]["save"]["arguments"]["format"] = "PNG"
    place = client.post("/services", json=service, headers=headers).headers["Location"]
    tiles = client.get(place, headers=headers).json()["url"].format(z=digits, x=0, y=0)
    signature = security.sign(secret, job_id, "a.tif", digits)
    link = client.get(f"/jobs/{job_id}/results", headers=headers).json()["assets"]["a.tif"]["href"]
    answers = {
        path: client.get(path, headers=headers)
        for path in (
            tiles, f"/jobs?limit={digits}", f"/jobs?offset={digits}",
            f"/jobs/{job_id}/logs?limit={digits}", f"/jobs/{job_id}/logs?offset={digits}",
            f"/processes?limit={digits}", f"/processes?offset={digits}", f"/jobs/{digits}",
            f"/collections/S2/items?limit={digits}", f"/collections/S2/items?offset={digits}",
            f"/collections/S2/items?bbox={digits},0,1,1", f"/services/{digits}",
            f"/stac/search?limit={digits}", f"/stac/search?bbox={digits},0,1,1",
            f"/stac/search?datetime={digits}", f"/stac/collections/models/items?token={digits}",
            f"/results/{job_id}/a.tif?expires={digits}&signature={signature}",
        )
    }  # fmt: skip
    for path, answer in answers.items():
        assert answer.status_code < 500, path
        assert answer.status_code < 400 or answer.json()["code"], path
    assert answers[tiles].status_code == 400
    assert "there is no tile" in answers[tiles].json()["message"]
    for part in (f"bytes={digits}-", f"bytes=0-{digits}", f"bytes=-{digits}"):
        assert client.get(link, headers={"Range": part}).status_code < 500
    assert parse_range(f"bytes=0-{digits}", 5) == (0, 5)


@pytest.mark.parametrize("name", ["a\x00b", "a" * 300, "\ud83d"])
def test_odd_names_cannot_log_in(client: TestClient, name: str) -> None:
    content = base64.b64encode(f"{name}:x".encode("utf-8", "surrogatepass")).decode()
    answer = client.get("/credentials/basic", headers={"Authorization": f"Basic {content}"})
    assert (answer.status_code, answer.json()["code"]) == (403, "CredentialsInvalid")
