"""Scenes of the collections, as pystac-client and plain requests find them."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient

from openeo_cloudmask.backend.app import create_app
from openeo_cloudmask.backend.settings import Settings
from openeo_cloudmask.grid import footprint
from tests.backend.conftest import ingest, write_scene
from tests.ports import free_port

pystac_client = pytest.importorskip("pystac_client")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a back end with scenes of two collections, whose engine is not started."""
    folder = tmp_path_factory.mktemp("scenes")
    for number, (collection, month) in enumerate((("S2", 5), ("S2", 7), ("S2", 6), ("OTHER", 8))):
        path = write_scene(folder / f"scene-{number}.tif", shape_yx=(64, 64), seed=number)
        ingest(path, folder / "data", collection, datetime(2024, month, 1, tzinfo=UTC))
    app = create_app(Settings(data_dir=folder / "data"))
    yield app
    app.state.backend.database.close()


@pytest.fixture(scope="module")
def url(app: Any) -> Iterator[str]:
    port = free_port()
    config = uvicorn.Config(app, port=port, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    started = threading.Event()
    begin = server.startup

    async def startup(*given: Any, **options: Any) -> None:
        await begin(*given, **options)
        started.set()

    server.startup = startup  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert started.wait(timeout=60)
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join(timeout=60)


@pytest.fixture
def client(app: Any) -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


def _ids(found: Any) -> list[str]:
    return [item.id for item in found]


def test_pystac_client_walks_the_back_end(url: str) -> None:
    client = pystac_client.Client.open(url)
    assert sorted(_ids(client.get_items())) == [f"scene-{number}" for number in range(4)]
    assert sorted(_ids(client.get_all_items())) == sorted(_ids(client.get_items()))
    assert sorted(child.id for child in client.get_children()) == ["OTHER", "S2"]
    collection = client.get_collection("S2")
    assert _ids(collection.get_items()) == ["scene-0", "scene-2", "scene-1"]  # oldest first
    assert _ids(collection.get_items("scene-1")) == ["scene-1"]
    assert collection.get_item("scene-2").get_collection().id == "S2"
    assert collection.get_parent().id == client.id
    assert {"gsd", "datetime"} <= set(client.get_queryables()["properties"])
    assert "gsd" in collection.get_queryables()["properties"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pystac_client_searches_scenes(url: str, method: str) -> None:
    def search(**asked: Any) -> list[str]:
        found = pystac_client.Client.open(url).search(method=method, limit=2, **asked)
        ids = _ids(found.items())
        assert found.matched() == len(ids)
        return ids

    west, south, east, north = next(pystac_client.Client.open(url).get_items()).bbox
    assert search(sortby="-datetime") == ["scene-3", "scene-1", "scene-2", "scene-0"]
    assert search(sortby=["+collection", "-properties.datetime"], fields="gsd,-assets") == [
        "scene-3", "scene-1", "scene-2", "scene-0",
    ]  # fmt: skip
    assert search(collections=["S2"], datetime="2024-06/2024-07") == ["scene-2", "scene-1"]
    assert search(ids=["scene-3", "none"]) == ["scene-3"]
    assert search(collections=["NONE"]) == []
    assert search(bbox=[west, south, east, north], collections=["OTHER"]) == ["scene-3"]
    assert search(bbox=[west - 20, south, west - 10, north]) == []
    assert search(intersects={"type": "Point", "coordinates": [west - 20, south]}) == []
    assert search(datetime="2024-06-01t00:00:00z/..") == ["scene-3", "scene-2", "scene-1"]
    diamond = {"type": "LineString", "coordinates": [[west - 1, north], [west, north + 1]]}
    assert search(intersects=diamond) == []  # its box touches the scenes
    text = "gsd = 10 AND datetime > '2024-06-30'"
    asked = text if method == "GET" else {
        "op": "and", "args": [
            {"op": "=", "args": [{"property": "gsd"}, 10]},
            {"op": ">", "args": [{"property": "datetime"}, "2024-06-30"]},
        ],
    }  # fmt: skip
    assert search(filter=asked, sortby="id") == ["scene-1", "scene-3"]


def test_fields_of_scenes_are_picked(client: TestClient) -> None:
    for path in ("/search", "/collections/S2/items"):
        answer = client.get(path, params={"fields": "gsd,-links", "sortby": "-id", "limit": 1})
        assert answer.headers["content-type"] == "application/geo+json"
        (item,) = answer.json()["features"]
        assert set(item["properties"]) == {"datetime", "gsd"}
        assert "links" not in item
        assert answer.json()["numberMatched"] == (4 if path == "/search" else 3)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"query": {"gsd": {"eq": 10}}}, "Use filter"),
        ({"filter": {"op": "=", "args": [{"property": "wavelength"}, 5]}}, "names 'wavelength'"),
        ({"filter": "gsd = "}, "filter is no CQL2"),
        ({"sortby": [{"field": "nonesuch"}]}, "sortby names 'nonesuch'"),
        ({"sortby": [{"direction": "asc"}]}, "not valid: sortby"),
        ({"sortby": 5}, "not valid: sortby"),
        ({"fields": {"include": [5]}}, "not valid: fields"),
        ({"bbox": [1, 2, 3]}, "bbox has 3 numbers"),
        ({"bbox": ["west", 2, 3, 4]}, "not valid: bbox"),
        ({"intersects": {"type": "Point"}}, "intersects"),
        ({"bbox": []}, "bbox has 0 numbers"),
        ({"bbox": [0, 1, 5, 0]}, "the south not above the north"),
        ({"bbox": ["nan", 0, 1, 1]}, "bbox is nan, 0, 1, 1; expected west"),
        ({"bbox": [0, 0, 1, 1], "intersects": {}}, "bbox and intersects are both given"),
        ({"intersects": {"type": "Blob", "coordinates": [1, 2]}}, "no GeoJSON geometry"),
        ({"intersects": {"type": "Point", "coordinates": ["a", "b"]}}, "no GeoJSON geometry"),
        ({"intersects": {"type": "Polygon", "coordinates": []}}, "intersects is empty"),
        ({"filter": "gsd = 10", "filter-lang": "sql"}, "not valid: filter-lang"),
        ({"filter": "t_after(datetime, '2024')"}, "uses t_after, which is not supported here; sup"),
        ({"datetime": "May"}, "datetime is 'May'"),
        ({"datetime": "2024-05-01"}, "such as 2024-05-01T00:00:00Z"),
        ({"datetime": "2024-05-01T00:00:00"}, "such as 2024-05-01T00:00:00Z"),
        ({"datetime": ""}, "such as 2024-05-01T00:00:00Z"),
        ({"datetime": "../.."}, "two of them: start/end"),
        ({"datetime": "2024-05-02T00:00:00Z/2024-05-01T00:00:00Z"}, "end is before its start"),
        ({"limit": 0}, "not valid: limit"),
        ({"limit": -1}, "not valid: limit"),
        ({"limit": "many"}, "not valid: limit"),
        ({"offset": -1}, "not valid: offset"),
        ({"collections": "S2"}, "not valid: collections"),
        ([], "no JSON object"),
    ],
)
def test_bad_searches_of_scenes_are_answered_with_400(
    client: TestClient, asked: Any, reason: str
) -> None:
    answer = client.post("/search", json=asked)
    assert answer.status_code == 400
    assert reason in answer.json()["message"]


def test_odd_addresses_of_searches(client: TestClient) -> None:
    for query in (
        {"query": "{}"},
        {"intersects": "[]"},
        {"filter": "{", "filter-lang": "cql2-json"},
    ):
        for path in ("/search", "/collections/S2/items"):
            assert client.get(path, params=query).status_code == 400
    for query in (
        {"nonesuch": "1"},
        {"offset": "9" * 4000},
        {"limit": "9" * 20},
        {"fields": "a.b.c,"},
    ):
        assert client.get("/search", params=query).status_code == 200
    deep = '{"filter":' + "[" * 20_000 + "]" * 20_000 + "}"
    answer = client.post("/search", content=deep, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    large = {"ids": ["a" * 70_000]}
    assert client.post("/search", json=large).status_code == 413
    assert client.get("/collections/NONE/items").status_code == 404
    assert client.get("/collections/NONE/queryables").status_code == 404


def test_a_scene_without_a_reference_lies_nowhere(
    client: TestClient, app: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = app.state.backend.collections
    (first, *_) = store.items("S2")
    placeless = {key: value for key, value in first.items() if key != "bbox"} | {"geometry": None}
    monkeypatch.setattr(type(store), "items", lambda *_: [placeless])
    for query, count in (({}, 1), ({"bbox": "-180,-90,180,90"}, 0)):
        answer = client.get("/collections/S2/items", params=query)
        assert answer.json()["numberMatched"] == count


def test_scenes_over_the_antimeridian_are_found(app: Any, client: TestClient) -> None:
    store = app.state.backend.collections
    box = (179.5, -17.0, -179.5, -16.0)
    item = {**store.items("S2")[0], "id": "fiji", "bbox": box, "geometry": footprint(box)}
    store.put_item("FIJI", item)
    store.rebuild("FIJI", title=None, licence="other")
    try:
        assert store.get("FIJI")["extent"]["spatial"]["bbox"] == [[-180.0, -17.0, 180.0, -16.0]]
        for where, count in (
            ({"bbox": "179,-20,-179,-10"}, 1),
            ({"bbox": "-179.8,-20,-179.6,-10"}, 1),
            ({"bbox": "0,-20,10,-10"}, 0),
            ({"filter": "S_INTERSECTS(geometry, POINT(179.9 -16.5))"}, 1),
            ({"filter": "S_INTERSECTS(geometry, POINT(0 -16.5))"}, 0),
        ):
            found = client.get("/search", params={"collections": "FIJI", **where}).json()
            assert found["numberMatched"] == count, where
    finally:
        shutil.rmtree(store.folder / "FIJI")


def test_links_and_types_are_those_of_a_stac_api(client: TestClient) -> None:
    base = "http://testserver"
    for path in (
        "/collections",
        "/search",
        "/collections/S2/items",
        "/collections/S2/items/scene-0",
    ):
        links = {link["rel"]: link["href"] for link in client.get(path).json()["links"]}
        assert links["root"] == f"{base}/"
    assert links["parent"] == links["collection"] == f"{base}/collections/S2"
    (described,) = (x for x in client.get("/").json()["links"] if x["rel"] == "service-desc")
    answer = client.get(described["href"])
    assert answer.headers["content-type"] == described["type"]
    assert "/collections/{collection_id}/items" in answer.json()["paths"]
    for path in ("/queryables", "/collections/S2/queryables"):
        answer = client.get(path)
        assert answer.headers["content-type"] == "application/schema+json"
        assert answer.json()["$schema"] == "https://json-schema.org/draft/2019-09/schema"


def test_what_a_caller_does_to_a_collection_is_the_callers_own(app: Any) -> None:
    store = app.state.backend.collections
    store.get("S2")["links"].append({"rel": "odd"})
    assert store.get("S2")["links"] == []
