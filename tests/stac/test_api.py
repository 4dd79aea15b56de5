"""The STAC API, asked by pystac-client and by plain requests over loopback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from openeo_cloudmask.models import MODELS
from openeo_cloudmask.sensors import SENSORS

pystac_client = pytest.importorskip("pystac_client")


@pytest.fixture
def client(stac_url: str) -> Any:
    return pystac_client.Client.open(stac_url)


@pytest.fixture
def get(stac_url: str) -> Callable[..., tuple[int, Any]]:
    """Return a function that asks the API and returns status and JSON."""

    def ask(path: str, body: Any = None, **parameters: str) -> tuple[int, Any]:
        query = f"?{urlencode(parameters)}" if parameters else ""
        data = None if body is None else json.dumps(body).encode()
        request = Request(stac_url + path + query, data, {"Content-Type": "application/json"})
        try:
            with urlopen(request, timeout=20) as answer:
                return answer.status, json.load(answer)
        except HTTPError as err:
            with err:
                return err.code, json.load(err)

    return ask


def _ids(search: Any) -> list[str]:
    return sorted(item.id for item in search.items())


def _models(test: Callable[[Any], bool]) -> list[str]:
    return sorted(entry.id for entry in MODELS.values() if test(entry))


def _has_band(entry: Any, name: str) -> bool:
    return any(
        SENSORS[sensor].band(band).common_name == name
        for sensor, bands in entry.inputs.items()
        for band in bands
    )


def test_models_are_found_by_band(client: Any) -> None:
    wanted = {"op": "a_contains", "args": [{"property": "bands"}, ["cirrus"]]}
    found = _ids(client.search(filter=wanted))
    assert found == _models(lambda entry: _has_band(entry, "cirrus"))
    assert 0 < len(found) < len(MODELS)


def test_models_are_found_by_sensor(client: Any) -> None:
    text = "a_contains(\"cloudmask:sensors\", ('landsat-8-9-l1'))"
    found = _ids(client.search(filter=text, method="GET"))
    assert found == _models(lambda entry: "landsat-8-9-l1" in entry.inputs)
    assert 0 < len(found) < len(MODELS)


def test_models_are_found_by_licence_and_task(client: Any) -> None:
    wanted = {
        "op": "and",
        "args": [
            {"op": "=", "args": [{"property": "license"}, "Apache-2.0"]},
            {"op": "a_contains", "args": [{"property": "mlm:tasks"}, ["semantic-segmentation"]]},
        ],
    }
    found = _ids(client.search(filter=wanted))
    assert found == _models(lambda entry: entry.licence.spdx == "Apache-2.0")
    no_task = {"op": "a_contains", "args": [{"property": "mlm:tasks"}, ["regression"]]}
    assert _ids(client.search(filter=no_task)) == []


def test_models_are_found_by_everything_at_once(client: Any) -> None:
    text = (
        "a_contains(\"bands\", ('nir', 'red')) AND a_contains(processing_levels, ('L2A')) "
        "AND \"cloudmask:non_commercial\" = false AND license LIKE 'Apache%'"
    )
    assert "ukis-csmask" in _ids(client.search(filter=text, method="GET"))


def test_pages_follow_each_other(client: Any) -> None:
    for method in ("GET", "POST"):
        search = client.search(method=method, limit=2)
        assert _ids(search) == sorted(MODELS)
        assert search.matched() == len(MODELS)
        assert {len(page.items) for page in search.pages()} <= {1, 2}


def test_collections_and_items_link_to_each_other(client: Any) -> None:
    families = {entry.family for entry in MODELS.values()}
    assert {found.id for found in client.get_collections()} == families
    collection = client.get_collection("CloudSEN12")
    assert {item.id for item in collection.get_items()} == set(
        _models(lambda entry: entry.family == "CloudSEN12")
    )
    item = collection.get_item("cloudsen12")
    assert item.get_collection().id == "CloudSEN12"


def test_the_client_walks_the_api_as_a_catalog(client: Any) -> None:
    assert {item.id for item in client.get_items(recursive=True)} == set(MODELS)


def test_the_function_can_be_fetched(client: Any) -> None:
    href = client.get_collection("Hollstein").get_item("hollstein").assets["udf"].href
    with urlopen(href, timeout=20) as answer:
        assert b"def apply_datacube" in answer.read()


def test_place_and_time_are_understood(client: Any) -> None:
    assert _ids(client.search(bbox=[5, 50, 6, 51], datetime="2021-09-08")) == sorted(MODELS)
    point = {"type": "Point", "coordinates": [5.5, 50.5]}
    assert _ids(client.search(intersects=point)) == sorted(MODELS)
    assert _ids(client.search(datetime="../1850-01-01T00:00:00Z")) == []


def test_ids_and_collections_narrow_the_search(client: Any) -> None:
    assert _ids(client.search(ids=["hollstein", "mini"])) == ["hollstein", "mini"]
    assert _ids(client.search(collections=["Hollstein"])) == ["hollstein"]
    assert _ids(client.search(collections=["Nonesuch"])) == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_models_are_sorted(client: Any, method: str) -> None:
    def ids(sortby: Any) -> list[str]:
        found = client.search(method=method, limit=7, sortby=sortby).items()
        return [item.id for item in found]

    assert ids("id") == sorted(MODELS)
    assert ids(["+collection", "-id"]) == sorted(
        sorted(MODELS, reverse=True), key=lambda key: MODELS[key].family
    )
    unlike = ids("cloudmask:non_commercial,datetime,id")
    assert [MODELS[key].licence.non_commercial for key in unlike] == sorted(
        entry.licence.non_commercial for entry in MODELS.values()
    )


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_fields_of_models_are_picked(client: Any, method: str) -> None:
    def first(*fields: str) -> Any:
        search = client.search(method=method, ids=["mini"], fields=list(fields))
        return next(search.items_as_dicts())

    bare = first("license", "-links", "-assets")
    valid = ("id", "type", "stac_version", "collection", "geometry", "bbox", "properties")
    assert set(bare) == set(valid)
    assert set(bare["properties"]) == {"license", "datetime", "start_datetime", "end_datetime"}
    item = first("properties", "-properties.mlm:input", "-assets.model.description", "nonesuch.a")
    assert "mlm:output" in item["properties"]
    assert "mlm:input" not in item["properties"]
    assert "href" in item["assets"]["model"]
    assert "description" not in item["assets"]["model"]
    assert first("assets.model.href", "-geometry").keys() == first("-geometry").keys()
    search = client.search(method=method, fields="license", sortby="id", limit=5)
    assert [item.id for item in search.items()] == sorted(MODELS)


def test_items_of_a_collection_are_sorted_and_picked(get: Callable[..., Any]) -> None:
    path = "collections/CloudSEN12/items"
    found = get(path, sortby="-id", fields="license,-assets", limit="100")[1]["features"]
    assert [item["id"] for item in found] == sorted(
        _models(lambda entry: entry.family == "CloudSEN12"), reverse=True
    )
    assert all("assets" not in item and "license" in item["properties"] for item in found)
    assert get(path, query="{}")[0] == get(path, sortby="nonesuch")[0] == 400


def test_query_is_refused_and_names_filter(get: Callable[..., Any]) -> None:
    for answer in (
        get("search", query='{"license": {"eq": "MIT"}}'),
        get("search", body={"query": {"license": {"eq": "MIT"}}}),
        get("search", body={"query": "license=MIT"}),
    ):
        assert answer[0] == 400
        assert "license" in answer[1]["description"]
        assert "Use filter" in answer[1]["description"]
    assert get("search", nonesuch="1")[0] == 200
    assert get("search", body={"query": None, "nonesuch": 1})[0] == 200


def test_queryables_are_what_a_filter_can_name(client: Any, get: Callable[..., Any]) -> None:
    known = client.get_queryables()["properties"]
    for name in ("bands", "license", "mlm:tasks", "cloudmask:sensors", "processing_levels", "id"):
        assert name in known
        assert get("search", filter=f'"{name}" IS NOT NULL')[0] == 200
    assert get("collections/Nonesuch/queryables")[0] == 404
    assert "bands" in get("collections/Hollstein/queryables")[1]["properties"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"filter": "wavelength = 5"}, "filter names 'wavelength', which no item has"),
        ({"filter": "license = "}, "filter is no CQL2"),
        ({"filter": "nearby(license, 'MIT')"}, "filter uses nearby"),
        ({"filter": "{", "filter-lang": "cql2-json"}, "filter is no JSON"),
        ({"intersects": "[]"}, "expected a JSON object"),
        ({"intersects": '{"type": "Point"}'}, "intersects"),
        ({"token": "second"}, "token is 'second'"),
        ({"sortby": "nonesuch"}, "sortby names 'nonesuch'"),
        ({"sortby": "-bands"}, "sortby names 'bands'"),
        ({"sortby": ","}, "sortby names ''"),
    ],
)
def test_bad_searches_are_answered_with_400(
    parameters: dict[str, str], message: str, get: Callable[..., Any]
) -> None:
    status, answer = get("search", **parameters)
    assert status == 400
    assert message in answer["description"]


def test_bad_bodies_are_answered_with_400(get: Callable[..., Any]) -> None:
    assert get("search", body={"limit": "many"})[0] == 400
    bad = {"filter": {"op": "=", "args": [{"property": "wavelength"}, 5]}}
    status, answer = get("search", body=bad)
    assert status == 400
    assert "wavelength" in answer["description"]


def test_what_is_not_there_is_404(get: Callable[..., Any]) -> None:
    for path in (
        "collections/Nonesuch",
        "collections/Nonesuch/items",
        "collections/CloudSEN12/items/hollstein",
    ):
        assert get(path)[0] == 404


def test_links_carry_the_place_the_api_is_mounted_at(
    get: Callable[..., Any], stac_url: str
) -> None:
    def hrefs(content: Any) -> Iterator[str]:
        if isinstance(content, dict):
            if content.get("rel") in ("self", "root", "parent", "collection", "items", "data"):
                yield content["href"]
            for inner in content.values():
                yield from hrefs(inner)
        elif isinstance(content, list):
            for inner in content:
                yield from hrefs(inner)

    for path in ("", "collections", "collections/Hollstein/items", "search"):
        found = list(hrefs(get(path)[1]))
        assert found
        assert all(href.startswith(stac_url) for href in found), found


def test_links_of_the_landing_page_lead_somewhere(get: Callable[..., Any], stac_url: str) -> None:
    for link in get("")[1]["links"]:
        with urlopen(link["href"], timeout=20) as answer:
            assert answer.headers["content-type"].split(";")[0] == link["type"].split(";")[0]


def test_the_landing_page_answers_without_its_slash(get: Callable[..., Any], stac_url: str) -> None:
    with urlopen(stac_url.rstrip("/"), timeout=20) as answer:
        assert json.load(answer) == get("")[1]


def test_the_api_answers_alone_too(catalog: Any) -> None:
    pytest.importorskip("stac_fastapi.api.app")
    pytest.importorskip("httpx2" if _starlette_uses_httpx2() else "httpx")
    from starlette.testclient import TestClient

    from openeo_cloudmask.stac.api import build_stac_app

    with TestClient(build_stac_app(catalog), base_url="http://alone.example") as alone:
        landing = alone.get("/").json()
        links = {link["rel"]: link["href"] for link in landing["links"]}
        assert links["self"] == "http://alone.example/"
        assert links["data"] == "http://alone.example/collections"
        assert alone.get("search").headers["content-type"] == "application/geo+json"


def _starlette_uses_httpx2() -> bool:
    import importlib.util

    return importlib.util.find_spec("httpx2") is not None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(" * 2000, "nested 2000 deep"),
        ("(" * 40 + "id='a'", "nested 40 deep"),
        ("NOT " * 4000 + "id='a'", "16006 characters"),
        ("id='a' AND " * 2000 + "id='a'", "22006 characters"),
        (r"id='\'" + "(" * 2000, "2006 characters"),
        (r"id='\'" + "(" * 40, "backslash"),
        ("id='a' OR " + "(" * 11 + "id=')))))))))))'" + ")" * 11, "nested 11 deep"),
    ],
)
def test_filters_that_would_end_the_process(get: Any, text: str, reason: str) -> None:
    for answer in (
        get("search", filter=text),
        get("search", {"filter": text, "filter-lang": "cql2-text"}),
    ):
        assert answer[0] == 400
    assert reason in get("search", filter=text)[1]["description"]
    assert get("")[0] == 200


def test_deep_json_is_refused(get: Any) -> None:
    deep: dict[str, Any] = {"op": "=", "args": [{"property": "id"}, "a"]}
    for _ in range(60):
        deep = {"op": "not", "args": [deep]}
    assert "nested" in get("search", {"filter": deep})[1]["description"]
    for _ in range(300):
        deep = {"args": deep}
    assert get("search", {"filter": deep})[0] == get("search", {"query": deep})[0] == 400
    lists = "[" * 10_000 + "]" * 10_000
    assert get("search", filter=f'{{"op": {lists}}}', **{"filter-lang": "cql2-json"})[0] == 400
    geometry = f'{{"type": "Point", "coordinates": {lists}}}'
    assert get("search", intersects=geometry)[0] == 400
    assert get("search", token="9" * 5000)[0] == 400
    assert get("search", token="")[0] == 400


@pytest.mark.parametrize("parameters", [{"datetime": "9" * 5000}, {"bbox": "0x1,0,1,1"}])
def test_what_the_framework_refuses_has_the_form_of_all_errors(
    get: Any, parameters: dict[str, str]
) -> None:
    status, answer = get("search", **parameters)
    assert (status, answer["code"]) == (400, "BadRequest")
    assert "invalid" in answer["description"].lower()
    assert get("nowhere") == (404, {"code": "NotFound", "description": "Not Found"})


def test_a_field_that_is_given_again_changes_nothing():
    """Each sorts all items: thousands of them in one address must not."""
    from openeo_cloudmask.stac import arrange

    items = [
        {"id": name, "collection": "c", "properties": {"gsd": gsd}}
        for name, gsd in (("a", 10), ("b", 30), ("c", 30))
    ]
    found = arrange.sort_items(items, ["-properties.gsd", "gsd", "-id", *["id"] * 1000], items)
    assert [item["id"] for item in found] == ["c", "b", "a"]
