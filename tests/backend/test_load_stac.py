"""``load_stac`` from a static catalog and an API on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from openeo_cloudmask.backend.jobs.tasks import GraphAnswer, GraphRequest, run_graph
from tests.backend.conftest import answers, make_spec, wait_for
from tests.ports import free_port


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[str]:
    """Return the address of a catalog with two bands, of 10 m and 20 m, and one item."""
    rng = np.random.default_rng(0)
    for name, size, step in (("B02", 64, 10), ("B11", 32, 20)):
        with rasterio.open(
            tmp_path / f"{name}.tif", "w", driver="GTiff", width=size, height=size, count=1,
            dtype="uint16", crs="EPSG:32633", nodata=0,
            transform=from_origin(600_000, 5_400_000, step, step),
        ) as dataset:  # fmt: skip
            dataset.write(rng.integers(1, 9000, (1, size, size)).astype("uint16"))
    assets = {
        name: {"href": f"./{name}.tif", "type": "image/tiff; application=geotiff",
               "raster:bands": [{"scale": 0.0001, "offset": -0.1, "nodata": 0}]}
        for name in ("B02", "B11")
    }  # fmt: skip
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": "one", "links": [], "geometry": None,
        "properties": {"datetime": "2024-05-01T10:00:00Z", "eo:cloud_cover": 12},
        "assets": assets,
    }  # fmt: skip
    collection = {"type": "Collection", "id": "c", "links": [{"rel": "item", "href": "item.json"}]}
    (tmp_path / "item.json").write_text(json.dumps(item))
    (tmp_path / "collection.json").write_text(json.dumps(collection))
    api = {"type": "Collection", "id": "c", "links": [{"rel": "items", "href": "items.json"}]}
    (tmp_path / "api.json").write_text(json.dumps(api))
    found = {"type": "FeatureCollection", "features": [item], "links": []}
    (tmp_path / "items.json").write_text(json.dumps(found))
    port = free_port()
    program = Path(__file__).with_name("range_server.py")
    process = subprocess.Popen([sys.executable, str(program), str(tmp_path), str(port)])
    url = f"http://127.0.0.1:{port}"
    wait_for(lambda: answers(url))
    yield url
    process.terminate()
    process.wait(timeout=20)


def _run(tmp_path: Path, url: str, hosts: tuple[str, ...] = ("127.0.0.1",), **more: Any) -> Any:
    graph = {
        "load": {"process_id": "load_stac", "arguments": {"url": url, **more}},
        "save": {"process_id": "save_result", "result": True,
                 "arguments": {"data": {"from_node": "load"}, "format": "GTiff"}},
    }  # fmt: skip
    request = GraphRequest(
        run=make_spec(tmp_path, stac_hosts=hosts), graph=graph, library={}, synchronous=True
    )
    answer: GraphAnswer = run_graph(request)
    return answer


@pytest.mark.parametrize("name", ["item.json", "collection.json", "api.json"])
def test_bands_come_to_the_finest_grid(catalog: str, tmp_path: Path, name: str) -> None:
    answer = _run(tmp_path, f"{catalog}/{name}")
    assert answer.error is None
    with (
        rasterio.open(tmp_path / "out" / answer.files[0]["name"]) as found,
        rasterio.open(tmp_path / "B02.tif") as stored,
    ):
        assert found.descriptions == ("B02", "B11")
        assert found.transform == stored.transform
        assert np.allclose(found.read(1), stored.read(1) * 1e-4 - 0.1, atol=1e-6)


def test_filters(catalog: str, tmp_path: Path) -> None:
    url = f"{catalog}/collection.json"
    clear = {"process_graph": {"c": {"process_id": "lte", "result": True, "arguments": {
        "x": {"from_parameter": "value"}, "y": 20}}}}  # fmt: skip
    answer = _run(tmp_path, url, bands=["B02"], properties={"eo:cloud_cover": clear})
    assert answer.files[0]["about"]["bands"] == ["B02"]
    clear["process_graph"]["c"]["arguments"]["y"] = 5
    for more in ({"properties": {"eo:cloud_cover": clear}},
                 {"temporal_extent": ["2023-01-01", "2024-01-01"]}):  # fmt: skip
        assert _run(tmp_path, url, **more).error[0] == "NoDataAvailable"


@pytest.mark.parametrize(
    "path", ["nope.json", "B02.tif", "redirect"]
)  # fmt: skip
def test_what_is_no_catalog(catalog: str, tmp_path: Path, path: str) -> None:
    assert _run(tmp_path, f"{catalog}/{path}").error[0] == "ProcessParameterInvalid"


def test_hosts_inside_the_network_are_refused(catalog: str, tmp_path: Path) -> None:
    code, message = _run(tmp_path, f"{catalog}/item.json", hosts=()).error
    assert code == "ProcessParameterInvalid"
    assert "inside the server's network" in message


@pytest.mark.parametrize("stated", [True, False], ids=["shape stated", "shape read"])
def test_an_asset_that_is_a_vrt_is_refused(catalog: str, tmp_path: Path, *, stated: bool) -> None:
    secret = tmp_path / "secret.key"
    secret.write_bytes(bytes(64 * 64))
    (tmp_path / "evil.tif").write_text(
        '<VRTDataset rasterXSize="64" rasterYSize="64"><SRS>EPSG:32633</SRS>'
        "<GeoTransform>600000,10,0,5400000,0,-10</GeoTransform>"
        '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
        f'<SourceFilename relativetoVRT="0">{secret}</SourceFilename><ImageOffset>0</ImageOffset>'
        "<PixelOffset>1</PixelOffset><LineOffset>64</LineOffset></VRTRasterBand></VRTDataset>"
    )
    shape = {"proj:shape": [64, 64], "proj:transform": [10, 0, 600_000, 0, -10, 5_400_000],
             "proj:epsg": 32633}  # fmt: skip
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": "evil", "links": [], "geometry": None,
        "properties": {"datetime": "2024-05-01T10:00:00Z", **(shape if stated else {})},
        "assets": {"B02": {"href": "./evil.tif", "type": "image/tiff"}},
    }  # fmt: skip
    (tmp_path / "evil.json").write_text(json.dumps(item))
    answer = _run(tmp_path, f"{catalog}/evil.json")
    assert answer.error is not None
    assert "raster" in answer.error[1]
    assert not answer.files


@pytest.mark.slow  # a worker process; drivers are held to the same list in tests/products
def test_workers_have_no_driver_that_reads_other_files() -> None:
    from openeo_cloudmask.backend.jobs.cluster import Cluster
    from openeo_cloudmask.backend.settings import Settings
    from openeo_cloudmask.products.drivers import KEPT

    cluster = Cluster(Settings(data_dir=Path("unused"), workers=1), lambda _: None)
    try:
        drivers = cluster.submit(_drivers, None, key="drivers").result(timeout=60)
    finally:
        cluster.close()
    assert set(drivers) <= KEPT


def _drivers(_: object) -> list[str]:
    with rasterio.Env() as env:
        return sorted(env.drivers())


@pytest.mark.parametrize(
    "change",
    [{"assets": [1, 2]}, {"assets": {"B02": "x"}}, {"properties": None}, {"features": [1]},
     {"assets": {"B02": {"type": "tiff", "href": "B02.tif", "eo:bands": [1, 2]}}},
     {"properties": {"datetime": 5}}, {"type": "Collection", "links": None}],
)  # fmt: skip
def test_what_is_not_as_stac_has_it_is_told(
    catalog: str, tmp_path: Path, change: dict[str, Any]
) -> None:
    item = json.loads((tmp_path / "item.json").read_text())
    kind = {"type": "FeatureCollection"} if "features" in change else {}
    (tmp_path / "bad.json").write_text(json.dumps({**item, **kind, **change}))
    code, message = _run(tmp_path, f"{catalog}/bad.json").error
    assert (code, "is not as STAC has it" in message) == ("ProcessParameterInvalid", True)
