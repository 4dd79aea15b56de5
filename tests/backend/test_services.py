"""Secondary services: a graph as tiles of a map, seen by who has the signed address."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.warp import transform
from starlette.testclient import TestClient

from openeo_cloudmask.backend.api import services
from openeo_cloudmask.backend.app import create_app
from openeo_cloudmask.backend.settings import Settings
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products import mask_product
from openeo_cloudmask.products.xyz import TILE_PX, Tile
from tests.backend.conftest import PASSWORD, ingest, mask_graph, write_scene

ZOOM = 14


class _Cluster:
    """Runs what is submitted in this process."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)

    def submit(self, function: Any, request: Any, *, key: str) -> Any:
        del key
        return self._pool.submit(function, request)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    scene = write_scene(tmp_path / "scene.tif", shape_yx=(520, 500))
    ingest(scene, tmp_path / "data")
    app = create_app(Settings(data_dir=tmp_path / "data"))
    state = app.state.backend
    for name in ("ann", "bob"):
        state.users.add(name, PASSWORD)
    cluster = _Cluster()
    monkeypatch.setattr(state.engine.instant, "_cluster", lambda: cluster)
    monkeypatch.setattr(services, "_TILES", services._Tiles())
    yield TestClient(app, raise_server_exceptions=False)
    state.database.close()


def _headers(client: TestClient, name: str = "ann") -> dict[str, str]:
    token = client.get("/credentials/basic", auth=(name, PASSWORD)).json()["access_token"]
    return {"Authorization": f"Bearer basic//{token}"}


def _create(client: TestClient, graph: dict[str, Any], **fields: Any) -> str:
    body = {"type": "XYZ", "process": {"process_graph": graph}, **fields}
    answer = client.post("/services", json=body, headers=_headers(client))
    assert answer.status_code == 201, answer.text
    return str(answer.headers["OpenEO-Identifier"])


def _url(client: TestClient, service_id: str) -> str:
    found = client.get(f"/services/{service_id}", headers=_headers(client)).json()
    return str(found["url"]).removeprefix("http://testserver")


def _middle() -> tuple[int, int]:
    """Return the tile at row 260, column 250 of the scene."""
    (x,), (y,) = transform("EPSG:32633", "EPSG:3857", [602_500], [5_397_400])
    half = np.pi * 6378137
    side = 2 * half / 2**ZOOM
    return int((x + half) // side), int((half - y) // side)


def _pixels(client: TestClient, url: str, x: int, y: int) -> np.ndarray:
    answer = client.get(url.format(z=ZOOM, x=x, y=y))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def _under(path: Path, x: int, y: int) -> np.ndarray:
    """Return the pixels of a raster under those of a tile."""
    west, _, east, north = Tile(z=ZOOM, x=x, y=y).bounds
    steps = (np.arange(TILE_PX) + 0.5) * (east - west) / TILE_PX
    xs, ys = np.meshgrid(west + steps, north - steps)
    with rasterio.open(path) as mask:
        values = mask.read(1)
        there = transform("EPSG:3857", mask.crs, xs.ravel(), ys.ravel())
        rows, columns = rasterio.transform.rowcol(mask.transform, *there)
    rows, columns = (np.asarray(at, int).reshape(xs.shape) for at in (rows, columns))
    inside = (rows >= 0) & (rows < values.shape[0]) & (columns >= 0) & (columns < values.shape[1])
    return np.where(inside, values[rows * inside, columns * inside], 255)


@pytest.mark.parametrize("model", ["hollstein", "mini"])
def test_tiles_are_the_batch_result_bit_for_bit(
    client: TestClient, tmp_path: Path, model: str
) -> None:
    target = tmp_path / "mask.tif"
    mask_product(tmp_path / "scene.tif", target, MaskOptions(model=model))
    graph = mask_graph(model=model)
    if model == "hollstein":  # without save_result, as clients send it
        del graph["save"]
        graph["mask"]["result"] = True
    url = _url(client, _create(client, graph))
    x, y = _middle()
    for place in [(x, y), (x + 1, y)][: 1 if model == "mini" else 2]:
        expected = _under(target, *place)
        np.testing.assert_array_equal(_pixels(client, url, *place), expected)
    assert len(np.unique(_under(target, x, y))) >= 2


def test_other_pictures_and_elsewhere(client: TestClient) -> None:
    graph = mask_graph()
    graph["save"]["arguments"]["data"] = {"from_node": "bands"}
    graph["bands"] = {
        "process_id": "filter_bands",
        "arguments": {"data": {"from_node": "load"}, "bands": ["B04", "B03", "B02"]},
    }
    del graph["mask"]
    url = _url(client, _create(client, graph))
    assert _pixels(client, url, *_middle()).shape == (TILE_PX, TILE_PX, 3)
    assert (_pixels(client, url, 3, 3) == 255).all()
    assert client.get(url.format(z=2, x=9, y=0)).status_code == 400


def test_an_address_is_signed_and_ends_with_the_service(client: TestClient) -> None:
    service_id = _create(client, mask_graph(), title="A mask")
    url, (x, y) = _url(client, service_id), _middle()
    first = _pixels(client, url, x, y)
    other = url.replace(url.split("/")[3], "0" * 64)
    assert client.get(other.format(z=ZOOM, x=x, y=y)).status_code == 404
    headers = _headers(client)
    off = client.patch(f"/services/{service_id}", json={"enabled": False}, headers=headers)
    assert off.status_code == 204
    assert client.get(url.format(z=ZOOM, x=x, y=y)).status_code == 404
    client.patch(f"/services/{service_id}", json={"enabled": True, "title": "B"}, headers=headers)
    np.testing.assert_array_equal(_pixels(client, url, x, y), first)
    assert client.get(f"/services/{service_id}", headers=headers).json()["title"] == "B"
    assert client.delete(f"/services/{service_id}", headers=headers).status_code == 204
    assert client.get(url.format(z=ZOOM, x=x, y=y)).status_code == 404


def test_gdal_reads_a_service_by_wmts(client: TestClient, tmp_path: Path) -> None:
    service_id = _create(client, mask_graph(), title="Clouds & shadows")
    about = client.get(f"/services/{service_id}", headers=_headers(client)).json()
    answer = client.get(about["attributes"]["wmts"].removeprefix("http://testserver"))
    assert answer.headers["content-type"] == "application/xml"
    template = about["url"].format(z="{TileMatrix}", x="{TileCol}", y="{TileRow}")
    assert f'template="{template}"' in answer.text
    path = tmp_path / "capabilities.xml"
    path.write_text(answer.text)
    with rasterio.open(f"WMTS:{path},layer={service_id},zoom_level=12") as source:
        assert source.crs.to_epsg() == 3857
        assert source.res == pytest.approx([2 * 20037508.342789244 / 256 / 4096] * 2)
        assert source.bounds.left == pytest.approx(-20037508.342789244)
    headers = _headers(client)
    client.patch(f"/services/{service_id}", json={"enabled": False}, headers=headers)
    assert client.get(about["attributes"]["wmts"]).status_code == 404


def test_services_are_their_owners_alone(client: TestClient) -> None:
    service_id = _create(client, mask_graph())
    bob = _headers(client, "bob")
    assert client.get("/services", headers=bob).json()["services"] == []
    for method in ("get", "delete"):
        assert getattr(client, method)(f"/services/{service_id}", headers=bob).status_code == 404
    answer = client.patch(f"/services/{service_id}", json={"title": "x"}, headers=bob)
    assert answer.status_code == 404
    assert client.get("/services").status_code == 401
    (listed,) = client.get("/services", headers=_headers(client)).json()["services"]
    assert listed["id"] == service_id
    assert "process" not in listed


def test_what_cannot_be_tiled_is_refused(client: TestClient) -> None:
    def refusal(**body: Any) -> str:
        answer = client.post("/services", json=body, headers=_headers(client))
        assert answer.status_code in (400, 501), answer.text
        return str(answer.json()["code"])

    graph = mask_graph()
    graph["mask"] = {
        "process_id": "resample_spatial",
        "arguments": {"data": {"from_node": "load"}, "resolution": 20},
    }
    process = {"process_graph": graph}
    assert refusal(type="XYZ", process=process) == "FeatureUnsupported"
    good = {"process_graph": mask_graph()}
    assert refusal(type="WMS", process=good) == "ServiceUnsupported"
    assert refusal(type="XYZ", process=good, configuration={"a": 1}) == "ServiceConfigUnsupported"
    assert refusal(type="XYZ") == "ProcessGraphMissing"
    assert refusal(type="XYZ", process={"process_graph": mask_graph(stride=7)}) == (
        "ProcessParameterInvalid"
    )


def test_what_the_client_s_cloud_mask_sends_is_a_service(client: TestClient) -> None:
    """It sends the package's function to every back end, in an ``apply_neighborhood``."""
    openeo = pytest.importorskip("openeo")
    from openeo_cloudmask import cloud_mask

    cube = openeo.DataCube.load_collection("S2", connection=None, fetch_metadata=False)
    graph = cloud_mask(cube, model="hollstein", output_style="valid-invalid").flat_graph()
    assert "apply_neighborhood" in {node["process_id"] for node in graph.values()}
    made = _create(client, graph)
    found = client.get(f"/services/{made}", headers=_headers(client)).json()
    assert found["process"]["process_graph"] == graph
    same = _create(client, mask_graph(output_style="valid-invalid"))
    x, y = _middle()
    tiles = [_pixels(client, _url(client, name), x, y) for name in (made, same)]
    np.testing.assert_array_equal(*tiles)
    assert len(np.unique(tiles[0])) > 1

    node = next(n for n in graph.values() if n["process_id"] == "apply_neighborhood")
    node["arguments"]["context"]["buffer"] = 3
    body = {"type": "XYZ", "process": {"process_graph": graph}}
    answer = client.post("/services", json=body, headers=_headers(client)).json()
    assert "has buffer, which look further than a tile" in answer["message"]


def test_service_types_say_what_there_is(client: TestClient) -> None:
    types = client.get("/service_types").json()
    assert list(types) == ["XYZ"]
    assert "cloud_mask" in types["XYZ"]["description"]
    paths = {item["path"] for item in client.get("/").json()["endpoints"]}
    assert {"/service_types", "/services", "/services/{service_id}"} <= paths
