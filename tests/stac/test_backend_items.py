"""The embedded back end: items beside its masks, and the catalog under /stac."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from pystac.validation import validate_dict
from rasterio.transform import from_origin

from openeo_cloudmask.models import MODELS
from openeo_cloudmask.stac.schemas import SchemaValidator

pytest.importorskip("fastapi")
pytest.importorskip("sqlalchemy")

from openeo_cloudmask.backend.jobs import runtime
from openeo_cloudmask.backend.jobs.runtime import Run, RunSpec
from openeo_cloudmask.backend.outputs.mask_items import ITEM_TYPE, add_mask_items

MASK = {
    "model": "hollstein",
    "scheme": "4-class",
    "categorise": True,
    "style": "4-class",
    "stride": 256,
    "precision": "auto",
    "cleaning": {"buffer": "120m"},
    "sensor": "sentinel-2-l1c",
    "bands": ["B01"],
}
GRAPH = {"mask": {"process_id": "cloud_mask", "arguments": {}, "result": True}}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    spec = RunSpec(
        job_id="j-1", output_dir=tmp_path, collections_dir=tmp_path, weights_dir=tmp_path
    )
    values = np.zeros((16, 16), np.uint8)
    values[:4] = 1
    profile = {"driver": "GTiff", "height": 16, "width": 16, "count": 1, "dtype": "uint8"}
    profile |= {"crs": "EPSG:32631", "transform": from_origin(600000, 4900020, 10, 10)}
    with rasterio.open(tmp_path / "openEO.tif", "w", **profile) as target:
        target.write(values, 1)
    return Run(spec=spec)


def _file(**about: Any) -> dict[str, Any]:
    return {
        "name": "openEO.tif",
        "type": "image/tiff",
        "size": 1,
        "roles": ["data"],
        "about": about,
    }


def test_a_mask_of_a_job_gets_its_item(run: Run, validator: SchemaValidator) -> None:
    run.files.append(_file(mask=MASK, datetime="2021-09-08T04:27:01Z"))
    add_mask_items(run, GRAPH)
    noted = run.files[1]
    assert (noted["name"], noted["type"], noted["roles"]) == (
        "openEO.json",
        ITEM_TYPE,
        ["metadata"],
    )
    content = json.loads((run.spec.output_dir / "openEO.json").read_text(encoding="utf-8"))
    assert noted["size"] == (run.spec.output_dir / "openEO.json").stat().st_size
    validate_dict(content, validator=validator)
    assert content["id"] == "j-1-openEO"
    assert content["assets"]["mask"]["href"] == "./openEO.tif"
    properties = content["properties"]
    assert properties["eo:cloud_cover"] == 25
    assert properties["cloudmask:parameters"] == {
        "model": "hollstein",
        "stride": 256,
        "sensor": "sentinel-2-l1c",
        "buffer": "120m",
    }
    assert properties["processing:expression"] == {"format": "openeo", "expression": GRAPH}


def test_the_graph_of_the_client_s_cloud_mask_is_short_and_fits_a_table(run: Run) -> None:
    """Its lists mix texts and numbers, which GeoParquet cannot hold, and it has a program in it."""
    openeo = pytest.importorskip("openeo")
    from openeo_cloudmask import cloud_mask

    cube = openeo.DataCube.load_collection("S2", connection=None, fetch_metadata=False)
    graph = cloud_mask(cube, model="hollstein").flat_graph()
    run.files.append(_file(mask=MASK, datetime="2021-09-08T04:27:01Z"))
    add_mask_items(run, graph)
    content = json.loads((run.spec.output_dir / "openEO.json").read_text(encoding="utf-8"))
    nodes = content["properties"]["processing:expression"]["expression"]
    (mask,) = (node for node in nodes.values() if node["process_id"] != "load_collection")
    assert mask["process_id"] == "cloud_mask"
    assert mask["arguments"] == {"data": {"from_node": "loadcollection1"}, "model": "hollstein"}


def test_other_files_and_masks_without_a_date_get_none(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(runtime, "log", lambda _, __, message: lines.append(message))
    run.files += [_file(datetime="2021-09-08T04:27:01Z"), _file(mask=MASK)]
    add_mask_items(run, GRAPH)
    assert len(run.files) == 2
    assert lines == ["openEO.tif has no date, so it gets no STAC item"]


def test_a_mask_of_many_dates_says_when_it_begins_and_ends(run: Run) -> None:
    run.files.append(_file(mask=MASK, dates=["2021-09-18T04:27:01Z", "2021-09-08T04:27:01Z"]))
    add_mask_items(run, GRAPH)
    content = json.loads((run.spec.output_dir / "openEO.json").read_text(encoding="utf-8"))
    assert content["properties"]["start_datetime"] == "2021-09-08T04:27:01Z"
    assert content["properties"]["end_datetime"] == "2021-09-18T04:27:01Z"


@pytest.fixture
def client(tmp_path: Path) -> Any:
    from starlette.testclient import TestClient

    from openeo_cloudmask.backend.app import create_app
    from openeo_cloudmask.backend.settings import Settings

    return TestClient(create_app(Settings(data_dir=tmp_path).prepare()))  # no cluster is started


def test_the_back_end_serves_the_catalog(client: Any) -> None:
    for path in ("/stac", "/stac/"):
        landing = client.get(path)
        assert landing.status_code == 200
        links = {link["rel"]: link["href"] for link in landing.json()["links"]}
        assert links["self"] == "http://testserver/stac/"
    found = client.get("/stac/search", params={"limit": 100}).json()["features"]
    assert {item["id"] for item in found} == set(MODELS)
    assert client.get("/stac/files/cloud_mask.py").status_code == 200


def test_a_batch_jobs_mask_comes_with_its_item(tmp_path: Path, validator: SchemaValidator) -> None:
    pytest.importorskip("distributed")
    from datetime import UTC, datetime

    from openeo_cloudmask.backend.cubes.collections import CollectionStore
    from openeo_cloudmask.backend.cubes.ingest import ingest_product
    from openeo_cloudmask.backend.jobs.tasks import GraphRequest, run_graph
    from openeo_cloudmask.sensors import SENSORS

    bands = SENSORS["sentinel-2-l1c"].band_names
    pixels = np.random.default_rng(2).integers(500, 6000, (len(bands), 64, 64)).astype("uint16")
    profile = {"driver": "GTiff", "height": 64, "width": 64, "count": len(bands), "nodata": 0}
    profile |= {"crs": "EPSG:32633", "transform": from_origin(600000, 5400000, 10, 10)}
    with rasterio.open(tmp_path / "scene.tif", "w", dtype="uint16", **profile) as target:
        target.write(pixels)
        target.descriptions = bands
        target.scales = [1e-4] * len(bands)
    store = CollectionStore(tmp_path / "collections")
    when = datetime(2024, 5, 1, 10, 20, tzinfo=UTC)
    ingest_product(
        tmp_path / "scene.tif", store, collection_id="S2", sensor="sentinel-2-l1c", acquired=when
    )
    nothing = {"spatial_extent": None, "temporal_extent": None}
    graph = {
        "load": {"process_id": "load_collection", "arguments": {"id": "S2", **nothing}},
        "mask": {
            "process_id": "cloud_mask",
            "arguments": {"data": {"from_node": "load"}, "model": "hollstein"},
        },
        "save": {
            "process_id": "save_result",
            "arguments": {"data": {"from_node": "mask"}, "format": "GTiff"},
            "result": True,
        },
    }
    spec = RunSpec(
        job_id="j-2",
        public_url="https://masks.example/",
        output_dir=tmp_path / "out",
        collections_dir=tmp_path / "collections",
        weights_dir=tmp_path / "weights",
    )
    answer = run_graph(GraphRequest(run=spec, graph=graph, library={}))
    assert answer.error is None
    names = [file["name"] for file in answer.files]
    assert names == ["openEO_2024-05-01.tif", "openEO_2024-05-01.json"]
    content = json.loads((tmp_path / "out" / names[1]).read_text(encoding="utf-8"))
    validate_dict(content, validator=validator)
    assert content["properties"]["datetime"] == "2024-05-01T10:20:00Z"
    assert content["properties"]["cloudmask:model"] == "hollstein"
    derived = [link["href"] for link in content["links"] if link["rel"] == "derived_from"]
    assert derived == [
        "https://masks.example/collections/S2/items/scene",
        "https://masks.example/stac/collections/Hollstein/items/hollstein",
    ]
    with rasterio.open(tmp_path / "out" / names[0]) as source:
        mask = source.read(1)
        assert content["properties"]["proj:transform"] == list(source.transform)[:6]
    share = 100 * np.isin(mask, (1, 2)).sum() / (mask != 255).sum()
    assert content["properties"]["eo:cloud_cover"] == pytest.approx(share, abs=0.01)
    waiting = GraphRequest(run=spec, graph=graph, library={}, synchronous=True)
    assert len(run_graph(waiting).files) == 1


def _write_scene(path: Path, value: int, bands: tuple[str, ...]) -> None:
    profile = {"driver": "GTiff", "height": 64, "width": 64, "count": len(bands), "nodata": 0}
    profile |= {"crs": "EPSG:32633", "transform": from_origin(600000, 5400000, 10, 10)}
    with rasterio.open(path, "w", dtype="uint16", **profile) as target:
        target.write(np.full((len(bands), 64, 64), value, "uint16"))
        target.descriptions = bands
        target.scales = [1e-4] * len(bands)


def test_a_doubt_is_told_with_the_results(
    client: Any, tmp_path: Path, validator: SchemaValidator, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    from datetime import UTC, datetime

    from openeo_cloudmask import lazy
    from openeo_cloudmask.backend.api import results
    from openeo_cloudmask.backend.cubes.collections import CollectionStore
    from openeo_cloudmask.backend.cubes.ingest import ingest_product
    from openeo_cloudmask.backend.jobs.tables import Job
    from openeo_cloudmask.backend.jobs.tasks import GraphRequest, run_graph
    from openeo_cloudmask.guard import DOUBT
    from openeo_cloudmask.inference import Window
    from openeo_cloudmask.sensors import SENSORS
    from openeo_cloudmask.stac.extension import WARNINGS

    class Blind:
        """Calls everything clear."""

        scheme = MODELS["hollstein"].scheme
        window = Window(size_px=64, multiple_px=1, pixelwise=True)
        band_names = MODELS["hollstein"].inputs["sentinel-2-l1c"]

        def predict_windows(self, windows: Any, valid: Any) -> Any:
            out = np.zeros((len(windows), len(self.scheme.classes), *valid.shape[1:]), np.float32)
            out[:, 0] = 1
            return out

    class BlindMasker(lazy.Masker):
        def __init__(self, options: Any, inputs: Any, **_: Any) -> None:
            super().__init__(options, inputs, detector=Blind())

    monkeypatch.setattr(lazy, "Masker", BlindMasker)
    bands = SENSORS["sentinel-2-l1c"].band_names
    store = CollectionStore(tmp_path / "collections")
    for day, value in ((1, 6000), (6, 500)):  # a white sky, then dark land
        path = tmp_path / f"scene_{day}.tif"
        _write_scene(path, value, bands)
        when = datetime(2024, 5, day, tzinfo=UTC)
        ingest_product(path, store, collection_id="S2", sensor="sentinel-2-l1c", acquired=when)
    load = {"id": "S2", "spatial_extent": None, "temporal_extent": None}
    mask = {"data": {"from_node": "load"}, "model": "hollstein"}
    save = {"data": {"from_node": "mask"}, "format": "GTiff"}
    graph = {
        "load": {"process_id": "load_collection", "arguments": load},
        "mask": {"process_id": "cloud_mask", "arguments": mask},
        "save": {"process_id": "save_result", "arguments": save, "result": True},
    }
    out = tmp_path / "out"
    spec = RunSpec(
        job_id="j-3",
        output_dir=out,
        collections_dir=tmp_path / "collections",
        weights_dir=tmp_path / "weights",
    )
    answer = run_graph(GraphRequest(run=spec, graph=graph, library={}))
    assert answer.error is None
    told, tags = {}, {}
    for path in sorted(out.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        validate_dict(content, validator=validator)
        told[path.stem] = content["properties"].get(WARNINGS)
        with rasterio.open(path.with_suffix(".tif")) as source:
            tags[path.stem] = source.tags().get("WARNING")
    assert told == {"openEO_2024-05-01": [DOUBT], "openEO_2024-05-06": None}
    assert tags == {"openEO_2024-05-01": DOUBT, "openEO_2024-05-06": None}
    job = Job(id="j-3", files=list(answer.files), expires=2e9, updated=0.0)
    document = results._document(job, client.app.state.backend, "http://here")
    assert document[WARNINGS] == [DOUBT]
    assert document["assets"]["openEO_2024-05-01.tif"]["description"] == DOUBT
    assert "description" not in document["assets"]["openEO_2024-05-06.tif"]
