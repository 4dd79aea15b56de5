"""The names that others have for the mask: each gives the pixels of ``cloud_mask``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openeo
import pytest
import rasterio
import requests

from openeo_cloudmask import assets
from openeo_cloudmask.backend.cubes.outside import Outside
from openeo_cloudmask.backend.jobs.tasks import GraphAnswer, GraphRequest, run_graph
from openeo_cloudmask.backend.processes.registry import predefined_specs
from openeo_cloudmask.models import get_model
from openeo_cloudmask.models.onnx_detector import packaged_onnx
from openeo_cloudmask.stac.catalog import walk_catalog
from tests.backend.conftest import ingest, make_spec, mask_graph, write_scene

Run = Callable[[dict[str, Any]], np.ndarray]
URL = "https://models.example/item.json"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("methods")
    ingest(write_scene(folder / "scene.tif", shape_yx=(150, 140)), folder)
    return folder


@pytest.fixture
def answer(data_dir: Path) -> Callable[[dict[str, Any]], GraphAnswer]:
    def call(graph: dict[str, Any]) -> GraphAnswer:
        return run_graph(
            GraphRequest(run=make_spec(data_dir), graph=graph, library={}, synchronous=True)
        )

    return call


@pytest.fixture
def run(answer: Callable[[dict[str, Any]], GraphAnswer], data_dir: Path) -> Run:
    def call(graph: dict[str, Any]) -> np.ndarray:
        found = answer(graph)
        assert found.error is None, found.error
        with rasterio.open(data_dir / "out" / found.files[0]["name"]) as dataset:
            return dataset.read()

    return call


def _graph(process_id: str, **arguments: Any) -> dict[str, Any]:
    graph = mask_graph()
    data = {"from_node": "load"}
    graph["mask"] = {"process_id": process_id, "arguments": {"data": data, **arguments}}
    return graph


def _predict(loader: str, uri: str, **more: Any) -> dict[str, Any]:
    graph = _graph("ml_predict", model={"from_node": "model"}, **more)
    graph["model"] = {"process_id": loader, "arguments": {"uri": uri}}
    return graph


def _item(model: str) -> dict[str, Any]:
    items = walk_catalog(assets.path("catalog"))
    return next(content for _, content in items if content["id"] == model)


@pytest.mark.parametrize("loader", ["load_ml_model", "load_stac_ml"])
@pytest.mark.parametrize("uri", ["hollstein", URL])
def test_loaded_models_give_the_mask(
    run: Run, monkeypatch: pytest.MonkeyPatch, loader: str, uri: str
) -> None:
    monkeypatch.setattr(Outside, "read_json", lambda *_: _item("hollstein"))
    np.testing.assert_array_equal(run(_predict(loader, uri)), run(mask_graph()))


def test_the_openeo_client_loads_a_model(run: Run, answer: Any) -> None:
    """``connection.load_ml_model`` of the client names the model ``id``."""
    connection = openeo.Connection("https://none.example", session=_Offline())
    model = connection.load_ml_model(id="hollstein")
    graph = mask_graph()
    arguments = {"data": {"from_node": "load"}, "model": {"from_node": "loadmlmodel1"}}
    graph["mask"] = {"process_id": "ml_predict", "arguments": arguments}
    [(name, node)] = model.flat_graph().items()
    assert (name, set(node["arguments"])) == ("loadmlmodel1", {"id"})
    graph[name] = {key: value for key, value in node.items() if key != "result"}
    np.testing.assert_array_equal(run(graph), run(mask_graph()))
    for wrong in ({}, {"id": "hollstein", "uri": "hollstein"}):
        graph[name]["arguments"] = wrong
        assert "as one of them" in answer(graph).error[1]


class _Offline(requests.Session):
    def request(self, method: str, url: str | bytes, **_: Any) -> requests.Response:  # type: ignore[override]
        found = requests.Response()
        found.status_code, found.url = 200, str(url)
        found._content = b'{"api_version": "1.2.0", "endpoints": []}'
        return found


def test_dimensions_become_predictions(run: Run, answer: Any) -> None:
    graph = _predict("load_ml_model", "hollstein", dimensions=["bands"])
    graph["drop"] = {
        "process_id": "drop_dimension",
        "arguments": {"data": {"from_node": "mask"}, "name": "predictions"},
    }
    graph["save"]["arguments"]["data"] = {"from_node": "drop"}
    np.testing.assert_array_equal(run(graph), run(mask_graph()))
    error = answer(_predict("load_ml_model", "hollstein", dimensions=["height"])).error
    assert error[0] == "DimensionNotAvailable"


def test_items_of_models_that_the_server_does_not_have_are_refused(
    answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = _item("hollstein")
    item["properties"]["cloudmask:openeo"]["context"]["model"] = "other"
    for content in ({"id": "hollstein"}, item | {"id": "other"}, item):
        monkeypatch.setattr(Outside, "read_json", lambda *_, content=content: content)
        error = answer(_predict("load_ml_model", URL)).error
        assert error[0] == "CloudMaskModelUnknown"
        assert "no model of this server" in error[1]


def test_cloud_detection_is_the_percentages_of_the_mask(run: Run) -> None:
    percent = run(mask_graph(model="mini", categorise=False)).astype(np.float32)
    found = run(_graph("cloud_detection", method="mini"))
    seen = percent[0] != 255
    assert found.dtype == np.float32
    assert len(np.unique(found[0][seen])) > 5
    np.testing.assert_array_equal(np.isnan(found[0]), ~seen)
    cloud, shadow = (percent[1] + percent[2]) / np.float32(100), percent[3] / np.float32(100)
    np.testing.assert_array_equal(found[0][seen], cloud.clip(max=1)[seen])
    np.testing.assert_array_equal(found[1][seen], shadow[seen])


def test_cloud_detection_with_a_style_is_the_mask(run: Run) -> None:
    options = {"output_style": "cloud-noncloud"}
    found = run(_graph("cloud_detection", method="hollstein", options=options))
    np.testing.assert_array_equal(found, run(mask_graph(**options)))


@pytest.mark.parametrize("model", ["mini.onnx", "https://models.example/any.onnx"])
def test_predict_onnx_is_the_mask_of_the_file(
    run: Run, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    path = packaged_onnx(get_model("mini"))
    monkeypatch.setattr(Outside, "open_file", lambda *_: path.open("rb"))
    expected = run(mask_graph(model="mini", output_style="native", categorise=False))
    np.testing.assert_array_equal(run(_graph("predict_onnx", model=model)), expected)


def test_predict_onnx_runs_no_file_that_the_server_does_not_have(
    answer: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(b"other")
    monkeypatch.setattr(Outside, "open_file", lambda *_: other.open("rb"))
    for model in ("https://models.example/mini.onnx", "other.onnx", "../mini.onnx", str(other)):
        error = answer(_graph("predict_onnx", model=model)).error
        assert error[0] == "CloudMaskModelUnknown", model
        assert "mini.onnx" in error[1]
    assert hashlib.sha256(b"other").hexdigest() not in json.dumps(error)


def test_they_are_described_as_experimental() -> None:
    specs = predefined_specs()
    for name in ("cloud_detection", "load_ml_model", "load_stac_ml", "ml_predict", "predict_onnx"):
        assert specs[name]["experimental"] is True
    assert specs["cloud_mask"]["experimental"] is False
    method = {item["name"]: item for item in specs["cloud_detection"]["parameters"]}["method"]
    assert "s2cloudless" in method["schema"][0]["enum"]
