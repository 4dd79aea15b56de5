"""The endpoints without a cluster: answers, errors, and who may see what."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pystac.validation import validate_dict
from starlette.testclient import TestClient

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.api.state import State
from openeo_cloudmask.backend.app import create_app
from openeo_cloudmask.backend.jobs import clock
from openeo_cloudmask.backend.settings import TEMPORARY_DAYS, Settings
from openeo_cloudmask.stac.schemas import SchemaValidator
from tests.backend.conftest import PASSWORD, ingest, mask_graph, write_scene

DAY_S = 86400


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the data folder of a server with two users and a scene."""
    folder = tmp_path_factory.mktemp("api")
    ingest(write_scene(folder / "scene.tif"), folder / "data")
    state: State = create_app(Settings(data_dir=folder / "data")).state.backend
    for name in ("ann", "bob"):
        state.users.add(name, PASSWORD)
    state.database.close()
    return folder / "data"


@pytest.fixture
def client(prepared: Path, tmp_path: Path) -> Iterator[TestClient]:
    """Return a client of a server whose engine was not started."""
    shutil.copytree(prepared, tmp_path / "data")
    app = create_app(
        Settings(
            data_dir=tmp_path / "data", max_request_bytes=100_000,
            private_endpoints=("http://127.0.0.1:9",),
        )
    )  # fmt: skip
    yield TestClient(app, raise_server_exceptions=False)
    app.state.backend.database.close()


def _state(client: TestClient) -> State:
    return client.app.state.backend  # type: ignore[attr-defined,no-any-return]


def _headers(client: TestClient, name: str = "ann") -> dict[str, str]:
    answer = client.get("/credentials/basic", auth=(name, PASSWORD))
    return {"Authorization": f"Bearer basic//{answer.json()['access_token']}"}


def _create(client: TestClient, headers: dict[str, str], **fields: Any) -> str:
    body = {"process": {"process_graph": mask_graph()}, **fields}
    answer = client.post("/jobs", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.headers["OpenEO-Identifier"])


def _finish(
    client: TestClient, job_id: str, about: dict[str, Any] | None = None, **fields: Any
) -> None:
    """Make a job one that has finished with the file a.tif."""
    state = _state(client)
    folder = state.settings.jobs_dir / "attempt"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.tif").write_bytes(b"0123456789")
    stored = state.storage.store(job_id, folder, ["a.tif"])
    file = {"name": "a.tif", "type": "image/tiff", "size": 10, "roles": ["data"]}
    files = [file | {"about": about or {}}]
    state.jobs.move(
        job_id, to="finished", allowed=("created",), files=files, stored_at=stored, **fields
    )


@pytest.mark.parametrize(
    "path",
    ["/", "/.well-known/openeo", "/conformance", "/collections", "/collections/S2", "/processes",
     "/file_formats", "/udf_runtimes", "/service_types", "//collections/", "/collections/S2/"],
)  # fmt: skip
def test_open_endpoints(client: TestClient, path: str) -> None:
    answer = client.get(path, headers={"Origin": "http://elsewhere"})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/me"), ("GET", "/jobs"), ("POST", "/jobs"), ("GET", "/jobs/x"), ("POST", "/result"),
     ("DELETE", "/jobs/x"), ("GET", "/jobs/x/results"), ("GET", "/jobs/x/logs"),
     ("GET", "/process_graphs"), ("PUT", "/process_graphs/x"), ("POST", "/validation")],
)  # fmt: skip
def test_closed_endpoints(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, path, json={})
    assert (answer.status_code, answer.json()["code"]) == (401, "AuthenticationRequired")
    answer = client.request(method, path, json={}, headers={"Authorization": "Bearer basic//no"})
    assert (answer.status_code, answer.json()["code"]) == (403, "TokenInvalid")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/nope", "NotFound"),
        ("PATCH", "/collections", "MethodNotAllowed"),
        ("GET", "/collections/NOPE", "CollectionNotFound"),
        ("GET", "/collections/..%2f..%2fetc", "NotFound"),
        ("GET", "/jobs/nope", "JobNotFound"),
        ("GET", "/jobs/nope/logs", "JobNotFound"),
        ("GET", "/process_graphs/nope", "ProcessGraphNotFound"),
        ("DELETE", "/process_graphs/nope", "ProcessGraphNotFound"),
        ("GET", "/credentials/oidc", "FeatureUnsupported"),
        ("GET", "/jobs?limit=0", "ProcessParameterInvalid"),
    ],
)
def test_errors_are_openeo_errors(client: TestClient, method: str, path: str, code: str) -> None:
    answer = client.request(method, path, headers=_headers(client))
    assert answer.json()["code"] == code
    assert set(answer.json()) == {"id", "code", "message", "links"}
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("auth", [("ann", "wrong-password"), ("nobody", PASSWORD), ("", "")])
def test_wrong_credentials(client: TestClient, auth: tuple[str, str]) -> None:
    answer = client.get("/credentials/basic", auth=auth)
    assert (answer.status_code, answer.json()["code"]) == (403, "CredentialsInvalid")


@pytest.mark.parametrize(
    ("content", "kind", "code"),
    [
        (b"x" * 200_000, "application/json", "RequestTooLarge"),
        (b"{", "application/json", "ProcessInvalid"),
        (b"[]", "application/json", "ProcessInvalid"),
        (b'{"process": NaN}', "application/json", "ProcessInvalid"),
        (b'{"a":' * 20_000, "application/json", "ProcessGraphInvalid"),
        (b"{}", "text/plain", "ContentTypeInvalid"),
        (b'{"process": {}}', "application/json", "ProcessGraphMissing"),
    ],
)
def test_bad_bodies(client: TestClient, content: bytes, kind: str, code: str) -> None:
    headers = {**_headers(client), "Content-Type": kind}
    for path in ("/jobs", "/result"):
        assert client.post(path, content=content, headers=headers).json()["code"] == code


def test_bad_requests_for_results(client: TestClient) -> None:
    headers = _headers(client)
    graph = mask_graph()
    graph["load"]["arguments"]["id"] = "NOPE"
    answer = client.post("/result", json={"process": {"process_graph": graph}}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (404, "CollectionNotFound")
    found = client.post("/validation", json={"process_graph": graph}, headers=headers).json()
    assert [error["code"] for error in found["errors"]] == ["CollectionNotFound"]
    good = client.post("/validation", json={"process_graph": mask_graph()}, headers=headers)
    assert good.json() == {"errors": []}


def test_job_from_creation_to_deletion(client: TestClient) -> None:
    headers = _headers(client)
    job_id = _create(client, headers, title="one", log_level="debug")
    found = client.get(f"/jobs/{job_id}", headers=headers).json()
    assert (found["status"], found["title"]) == ("created", "one")
    assert found["process"]["process_graph"] == mask_graph()
    assert (
        client.patch(f"/jobs/{job_id}", json={"title": "two"}, headers=headers).status_code == 204
    )
    assert client.get("/jobs", headers=headers).json()["jobs"][0]["title"] == "two"
    answer = client.patch(f"/jobs/{job_id}", json={"id": "x"}, headers=headers)
    assert answer.json()["code"] == "NoDataForUpdate"
    answer = client.get(f"/jobs/{job_id}/results", headers=headers)
    assert answer.json()["code"] == "JobNotStarted"
    estimate = client.get(f"/jobs/{job_id}/estimate", headers=headers).json()
    assert estimate["size"] == 300 * 260
    assert client.post(f"/jobs/{job_id}/results", headers=headers).status_code == 202
    assert client.post(f"/jobs/{job_id}/results", headers=headers).json()["code"] == "JobLocked"
    answer = client.patch(f"/jobs/{job_id}", json={"title": "x"}, headers=headers)
    assert answer.json()["code"] == "JobLocked"
    assert client.delete(f"/jobs/{job_id}/results", headers=headers).status_code == 204
    assert client.get(f"/jobs/{job_id}", headers=headers).json()["status"] == "canceled"
    assert client.delete(f"/jobs/{job_id}", headers=headers).status_code == 204
    assert client.get(f"/jobs/{job_id}", headers=headers).json()["code"] == "JobNotFound"


def test_jobs_come_in_pages(client: TestClient) -> None:
    headers = _headers(client)
    ids = {_create(client, headers) for _ in range(5)}
    first = client.get("/jobs?limit=3", headers=headers).json()
    second = client.get(first["links"][0]["href"], headers=headers).json()
    assert {job["id"] for job in first["jobs"] + second["jobs"]} == ids
    assert second["links"] == []


def test_users_see_only_their_own(client: TestClient) -> None:
    ann, bob = _headers(client), _headers(client, "bob")
    job_id = _create(client, ann)
    _finish(client, job_id)
    graph = {"process_graph": mask_graph()}
    assert client.put("/process_graphs/mine", json=graph, headers=ann).status_code == 200
    assert client.get("/jobs", headers=bob).json()["jobs"] == []
    assert client.get("/process_graphs", headers=bob).json()["processes"] == []
    for method, path in (
        ("GET", ""), ("GET", "/results"), ("GET", "/logs"), ("GET", "/estimate"),
        ("POST", "/results"), ("DELETE", "/results"), ("DELETE", ""),
    ):  # fmt: skip
        answer = client.request(method, f"/jobs/{job_id}{path}", headers=bob)
        assert answer.json()["code"] == "JobNotFound", path
    answer = client.patch(f"/jobs/{job_id}", json={"title": "x"}, headers=bob)
    assert answer.json()["code"] == "JobNotFound"
    assert client.get("/process_graphs/mine", headers=bob).status_code == 404


def test_links_open_one_file_until_they_expire(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = _headers(client)
    job_id = _create(client, headers)
    _finish(client, job_id)
    document = client.get(f"/jobs/{job_id}/results", headers=headers).json()
    href = document["assets"]["a.tif"]["href"]
    assert client.get(href).content == b"0123456789"
    part = client.get(href, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    canonical = next(link["href"] for link in document["links"] if link["rel"] == "canonical")
    assert client.get(canonical).json()["id"] == job_id
    for changed in (
        href.replace("a.tif", "b.tif"),
        href.replace("expires=", "expires=9"),
        href.split("&signature")[0],
        href.split("?")[0],
    ):
        assert client.get(changed).json()["code"] == "PermissionsInsufficient"
    now = clock.now_s()
    monkeypatch.setattr("openeo_cloudmask.backend.api.results.now_s", lambda: now + 8 * DAY_S)
    answer = client.get(href)
    assert (answer.status_code, answer.json()["code"]) == (410, "ResultLinkExpired")
    document = client.get(f"/jobs/{job_id}/results", headers=headers).json()  # fresh links
    assert client.get(document["assets"]["a.tif"]["href"]).status_code == 200


def test_temporary_results_last_14_days(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = _headers(client)
    job_id = _create(client, headers, job_options={"output_storage": "TEMPORARY"})
    now = clock.now_s()
    _finish(client, job_id, expires=now + TEMPORARY_DAYS * DAY_S)
    href = client.get(f"/jobs/{job_id}/results", headers=headers).json()["assets"]["a.tif"]["href"]
    state = _state(client)
    for days, status in ((13.9, 200), (14.1, 410)):
        later = now + days * DAY_S
        monkeypatch.setattr("openeo_cloudmask.backend.api.results.now_s", lambda t=later: t)
        monkeypatch.setattr(clock, "now_s", lambda t=later: t)
        assert client.get(href).status_code == status
        assert client.get(f"/jobs/{job_id}/results", headers=headers).status_code == status
        assert state.engine.clean_up() == (status == 410)
        assert (state.settings.jobs_dir / job_id).exists() == (status == 200)
    assert state.engine.clean_up() == 0


def test_private_keys_are_never_seen_again(client: TestClient, tmp_path: Path) -> None:
    headers = _headers(client)
    s3 = {"bucket": "mine", "access_key": "AKIDPRIVATE", "secret_key": "SECRETPRIVATE",
          "endpoint": "http://127.0.0.1:9"}  # fmt: skip
    job_id = _create(client, headers, job_options={"output_storage": "PRIVATE", "s3": s3})
    text = client.get(f"/jobs/{job_id}", headers=headers).text
    assert "mine" in text
    assert "PRIVATE" not in text.replace('"PRIVATE"', "")
    for path in (tmp_path / "data").glob("cloudmask.db*"):
        content = path.read_bytes()
        assert b"SECRETPRIVATE" not in content
        assert b"AKIDPRIVATE" not in content
    bad = {"bucket": "mine", "secret_key": "SECRETPRIVATE"}
    body = {"process": {"process_graph": mask_graph()},
            "job_options": {"output_storage": "PRIVATE", "s3": bad}}  # fmt: skip
    answer = client.post("/jobs", json=body, headers=headers)
    assert answer.status_code == 400
    assert "SECRETPRIVATE" not in answer.text


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"title": 3}, "PropertyNotEditable"),
        ({"budget": "much"}, "BudgetInvalid"),
        ({"log_level": "loud"}, "PropertyNotEditable"),
        ({"job_options": []}, "ProcessInvalid"),
        ({"job_options": {"output_storage": "ELSEWHERE"}}, "ProcessParameterInvalid"),
        ({"job_options": {"s3": {}}}, "ProcessParameterInvalid"),
    ],
)
def test_bad_fields(client: TestClient, fields: dict[str, Any], code: str) -> None:
    body = {"process": {"process_graph": mask_graph()}, **fields}
    if fields == {"job_options": []}:
        body["job_options"] = [1]
    assert client.post("/jobs", json=body, headers=_headers(client)).json()["code"] == code


def test_stored_processes(client: TestClient) -> None:
    headers = _headers(client)
    spec = {"process_graph": {"a": {"process_id": "pi", "arguments": {}, "result": True}},
            "parameters": [], "summary": "pi"}  # fmt: skip
    assert client.put("/process_graphs/my_pi", json=spec, headers=headers).status_code == 200
    found = client.get("/process_graphs/my_pi", headers=headers).json()
    assert found == {**spec, "id": "my_pi"}
    listed = client.get("/process_graphs", headers=headers).json()["processes"]
    assert listed == [{"id": "my_pi", "summary": "pi", "parameters": []}]
    answer = client.put("/process_graphs/add", json=spec, headers=headers)
    assert answer.json()["code"] == "PredefinedProcessExists"
    graph = {"a": {"process_id": "my_pi", "arguments": {}, "result": True}}
    found = client.post("/validation", json={"process_graph": graph}, headers=headers).json()
    assert found == {"errors": []}
    assert client.delete("/process_graphs/my_pi", headers=headers).status_code == 204
    found = client.post("/validation", json={"process_graph": graph}, headers=headers).json()
    assert found["errors"][0]["code"] == "ProcessUnsupported"


def test_unexpected_errors_show_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(type(_state(client).collections), "ids", fail)
    answer = client.get("/collections")
    assert (answer.status_code, answer.json()["code"]) == (500, "Internal")
    assert "secret" not in answer.text


def test_folders_of_removed_users_are_cleaned_up(client: TestClient) -> None:
    job_id = _create(client, _headers(client))
    _finish(client, job_id)
    state = _state(client)
    folder = state.settings.jobs_dir / job_id
    os.utime(folder, (1, 1))
    state.engine.clean_up()
    assert folder.exists()
    state.users.remove("ann")
    state.engine.clean_up()
    assert not folder.exists()


def test_items_of_a_collection_show_no_path_of_the_server(
    client: TestClient, prepared: Path
) -> None:
    name = client.get("/collections").json()["collections"][0]["id"]
    answer = client.get(f"/collections/{name}/items").json()
    assert answer["numberMatched"] == 1
    found = answer["features"][0]
    assert str(prepared.parent) not in str(answer)
    assert client.get(f"/collections/{name}/items/{found['id']}").json() == found
    west, south, east, north = found["bbox"]
    there = f"{west},{south},{east},{north}"
    elsewhere = f"{west - 20},{south},{west - 10},{north}"
    day = found["properties"]["datetime"][:10]
    for query, count in (
        ({"bbox": there, "datetime": f"{day}T00:00:00Z/{day}T23:59:59Z"}, 1),
        ({"bbox": elsewhere}, 0),
        ({"datetime": "2001-01-01T00:00:00Z/2001-02-01T00:00:00Z"}, 0),
    ):
        answer = client.get(f"/collections/{name}/items", params=query).json()
        assert answer["numberMatched"] == count
    for query in ({"bbox": "1,2,3"}, {"datetime": "May"}):
        wrong = client.get(f"/collections/{name}/items", params=query)
        assert wrong.status_code == 400
        assert "expected" in wrong.json()["message"]
    assert client.get(f"/collections/{name}/items/none").status_code == 404


def test_stac_clients_walk_the_items_of_a_collection_page_by_page(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = client.get("/collections").json()["collections"][0]
    (pages,) = (link["href"] for link in collection["links"] if link["rel"] == "items")
    (one,) = client.get(pages).json()["features"]
    three = [{**one, "id": name} for name in "abc"]
    store = type(_state(client).collections)
    monkeypatch.setattr(store, "items", lambda *_: three)
    assert "https://api.stacspec.org/v1.0.0/ogcapi-features" in client.get("/").json()["conformsTo"]
    found, href = [], f"{pages}?limit=2&bbox=-180,-90,180,90"
    while href:
        page = client.get(href).json()
        found += [item["id"] for item in page["features"]]
        links = {link["rel"]: link["href"] for link in page["links"]}
        assert links["self"].endswith("bbox=-180%2C-90%2C180%2C90") or "offset" in links["self"]
        href = links.get("next")
    assert found == ["a", "b", "c"]


def test_stac_documents_are_valid_by_the_published_schemas(
    client: TestClient, shared: Callable[[str], Path]
) -> None:
    validator = SchemaValidator(shared("schemas"), skip_unknown=True)  # datacube's is not there
    collection = client.get("/collections/S2").json()
    items = client.get("/collections/S2/items").json()["features"]
    headers = _headers(client)
    job_id = _create(client, headers)
    about = {
        "bands": ["mask"],
        "shape": [4, 4],
        "bbox": [1, 2, 3, 4],
        "dates": ["2024-05-01T00:00:00Z"],
        "mask": {"scheme": "4-class", "categorise": True},
    }
    _finish(client, job_id, about=about)
    results = client.get(f"/jobs/{job_id}/results", headers=headers).json()
    for document in (collection, *items, results):
        found = validate_dict(document, validator=validator)
        assert {uri for uri in document["stac_extensions"] if "datacube" not in uri} < set(found)
    prefixes = {key.split(":")[0] for key in results["assets"]["a.tif"] if ":" in key}
    assert prefixes == {"classification", "file", "proj"}
    asset = results["assets"]["a.tif"]
    classes = {item["value"]: item["color_hint"] for item in asset["classification:classes"]}
    assert classes[1] == "E69F00"  # STAC Browser and the Web Editor draw the mask with these
    assert (asset["data_type"], asset["nodata"], asset["bands"]) == (
        "uint8",
        255,
        [{"name": "mask"}],
    )
    bands = {band["name"]: band for band in collection["summaries"]["bands"]}
    assert bands["B04"]["eo:common_name"] == "red"


def test_stac_check_finds_the_results_valid(client: TestClient, stac_check: Any) -> None:
    headers = _headers(client)
    job_id = _create(client, headers)
    _finish(client, job_id, about={"shape": [4, 4], "bbox": [1, 2, 3, 4], "bands": ["mask"]})
    results = client.get(f"/jobs/{job_id}/results", headers=headers).json()
    links = {link["rel"]: link["href"] for link in results["links"]}
    assert client.get(links["self"]).json()["id"] == job_id  # to whoever has it
    [found] = stac_check({"collection.json": json.dumps(results)}).values()
    assert (found["valid"], found["error"]) == (True, "")
    assert set(found["advice"]) <= {"check_thumbnail", "check_summaries"}


def test_files_of_deleted_jobs_are_deleted_once_that_is_possible(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = _headers(client)
    state = _state(client)
    ids = [_create(client, headers) for _ in range(2)]
    for job_id in ids:
        _finish(client, job_id)
    real = type(state.storage).delete

    def away(*_: object) -> None:
        raise ApiError("StorageFailure", "the bucket is away")

    monkeypatch.setattr(type(state.storage), "delete", away)
    assert client.delete(f"/jobs/{ids[0]}", headers=headers).status_code == 204
    state.users.remove("ann")
    state.engine.clean_up()
    assert all((state.settings.jobs_dir / job_id / "results").exists() for job_id in ids)
    monkeypatch.setattr(type(state.storage), "delete", real)
    state.engine.clean_up()
    assert not any((state.settings.jobs_dir / job_id).exists() for job_id in ids)
    assert state.jobs.leftovers() == []


def test_types_of_format_options_have_a_subtype(client: TestClient) -> None:
    # openEO's openapi.yaml: a type without one fits "Generic", "Process Graph" and "Datacube" at
    # once, where it has to fit exactly one.
    formats = client.get("/file_formats").json()["output"]
    options = [one for each in formats.values() for one in each["parameters"].values()]
    assert len(options) >= len(formats["GTiff"]["parameters"]) > 0
    assert all("subtype" in option for option in options)


def test_processes_are_filtered_and_never_paged(client: TestClient) -> None:
    def ids(query: str) -> list[str]:
        return [spec["id"] for spec in client.get(f"/processes{query}").json()["processes"]]

    everything = ids("")
    assert ids("?category=machine%20learning&experimental=true") == [
        "load_ml_model", "load_stac_ml", "ml_predict", "predict_onnx",
    ]  # fmt: skip
    assert "cloud_mask" in ids("?q=cloud+shadow&experimental=false")
    assert ids("?q=nonesuch") == []
    assert len(everything) > 50
    assert ids("?limit=50") == everything  # the JavaScript client asks so, and reads one page
