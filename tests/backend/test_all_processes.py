"""Every process that ``cloudmask serve`` lists takes every parameter of its description.

The graphs are those that ``openeo.processes`` of the public client writes, with all parameters.
"""

from __future__ import annotations

import json
import math
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

openeo = pytest.importorskip("openeo")

from openeo import processes
from openeo.internal.graph_building import PGNode
from openeo.processes import ProcessBuilder

from openeo_cloudmask.backend.cubes.collections import CollectionStore
from openeo_cloudmask.backend.cubes.ingest import ingest_product
from openeo_cloudmask.backend.graph.validate import validate_process
from openeo_cloudmask.backend.jobs.tasks import GraphAnswer, GraphRequest, run_graph
from openeo_cloudmask.backend.processes.registry import predefined_specs
from openeo_cloudmask.backend.settings import Settings
from openeo_cloudmask.openeo.client import udf_text
from tests.backend.conftest import make_spec, write_scene

CLIENT = vars(processes)
"""The functions of the client, one for each process."""
FIELD = {
    "type": "Polygon",
    "coordinates": [[[600_020, 5_399_800], [600_150, 5_399_800], [600_150, 5_399_950],
                     [600_020, 5_399_950], [600_020, 5_399_800]]],
    "crs": {"type": "name", "properties": {"name": "EPSG:32633"}},
}  # fmt: skip
BOX = {"west": 600_000, "south": 5_399_800, "east": 600_200, "north": 5_400_000, "crs": 32633}
PERIOD = ["2024-05-01", "2024-06-01"]
CUBE, OTHER, ONE_DATE = (PGNode("load_collection", id="S2", **extent) for extent in (
    {"spatial_extent": BOX, "temporal_extent": None},
    {"spatial_extent": BOX, "temporal_extent": ["2024-06-01", None]},
    {"spatial_extent": BOX, "temporal_extent": ["2024-05-01", "2024-05-02"]},
))  # fmt: skip


def graph_of(process_id: str, **arguments: Any) -> dict[str, Any]:
    """Return a callback of one node."""
    return {"process_graph": {"one": {"process_id": process_id, "arguments": arguments,
                                      "result": True}}}  # fmt: skip


X, VALUE, DATA = ({"from_parameter": name} for name in ("x", "value", "data"))
PLUS_ONE, MEAN = PGNode("add", x=X, y=1), PGNode("mean", data=DATA)
BY_NAME: dict[str, Any] = {
    "array1": [1, 2], "array2": [3], "asc": False, "axis": None, "bands": ["B04", "B08"],
    "base": 2, "border": "replicate", "case_sensitive": False, "code": None, "context": {"a": 1},
    "cube1": CUBE, "cube2": OTHER, "date": "2024-05-01T00:00:00Z", "date1": "2024-05-01",
    "date2": "2024-06-01", "delta": 0.5, "dimension": "t", "exclude_max": True,
    "extent": PERIOD, "factor": 0.5, "geometries": FIELD, "ignore_nodata": False, "index": 0,
    "inputMax": 3, "inputMin": 0, "inside": True, "intervals": [PERIOD], "kernel": [[1, 1, 1]] * 3,
    "label": None, "labels": ["a", "b", "c"], "length": 1, "level": "info", "mask_value": -1,
    "max": 3, "message": "seen", "min": 0, "name": "more", "nir": "B08", "nodata": True,
    "order": [2, 0, 1], "outputMax": 255, "outputMin": 0, "p": 2, "pattern": "b",
    "period": "month", "probabilities": [0.5], "process": PLUS_ONE, "projection": 4326,
    "properties": ["a"], "q": None, "red": "B04", "reducer": MEAN, "repeat": 2,
    "replace_invalid": 0, "replacement": 7, "resolution": 20, "return_nodata": True,
    "reverse": True, "runtime": "Python", "separator": "-", "target_band": "NDVI",
    "target_dimension": None, "unit": "day", "valid_within": 400, "value": 2, "values": [8],
    "version": None, "wavelengths": None, "x": 0.5, "y": 0.25, "method": "near",
    "align": "lower-left", "repeat_count": 1, "accept": 1, "reject": 2,
}  # fmt: skip
"""Arguments by the names of parameters, where the process needs nothing special. What is not here
takes its default, or what the examples of its description say."""
NUMBERS = [3, 1, 2]
SPECIAL: dict[str, dict[str, Any]] = {
    "add_dimension": {"label": "a", "type": "other"},
    "aggregate_spatial": {"target_dimension": "result"},
    "aggregate_temporal": {"labels": ["may"]},
    "all": {"data": [True, False]},
    "and": {"x": True, "y": False},
    "any": {"data": [True, False]},
    "apply_neighborhood": {
        "size": [{"dimension": "x", "value": 10, "unit": "px"},
                 {"dimension": "y", "value": 10, "unit": "px"}],
        "overlap": [{"dimension": "x", "value": 2, "unit": "px"},
                    {"dimension": "y", "value": 2, "unit": "px"}],
        "process": PGNode("apply", data=DATA, process=graph_of("add", x=X, y=1)),
    },
    "apply_dimension": {"process": PGNode("sort", data=DATA), "target_dimension": "t"},
    "apply_polygon": {"process": graph_of("add", x=DATA, y=1)},
    "arcosh": {"x": 2},
    "array_apply": {"data": NUMBERS},
    "array_create_labeled": {"data": NUMBERS},
    "array_filter": {"condition": PGNode("gt", x=X, y=1)},
    "array_find_label": {"label": "a"},
    "array_labels": {},
    "between": {"x": 1},
    "clip": {"x": 5},
    "cloud_detection": {"method": "hollstein", "options": {}},
    "constant": {"x": 5},
    "count": {"condition": graph_of("gt", x=X, y=1)},  # the client takes it as it is
    "create_data_cube": {},
    "date_between": {"x": "2024-05-01", "min": "2024-01-01", "max": "2024-06-01"},
    "drop_dimension": {"data": ONE_DATE, "name": "t"},
    "eq": {"x": 1, "y": 1},
    "filter_bbox": {"extent": BOX},
    "filter_labels": {"condition": PGNode("neq", x=VALUE, y="B04"), "dimension": "bands"},
    "if": {"value": True},
    "load_collection": {
        "id": "S2", "spatial_extent": BOX, "temporal_extent": PERIOD,
        "properties": {"eo:cloud_cover": graph_of("lte", x=VALUE, y=50)},
    },
    "load_geojson": {"data": FIELD},
    "load_ml_model": {"uri": "hollstein", "model_asset": None},
    "load_stac_ml": {"uri": "hollstein", "model_asset": None, "input_index": 0, "output_index": 0},
    "mask": {"mask": PGNode("filter_bands", data=CUBE, bands=["B01"])},
    "mask_polygon": {"mask": FIELD},
    "merge_cubes": {"overlap_resolver": graph_of("max", data=[X, {"from_parameter": "y"}])},
    "ml_predict": {"model": PGNode("load_ml_model", uri="hollstein"), "dimensions": None},
    "neq": {"x": 1, "y": 1},
    "not": {"x": True},
    "or": {"x": True, "y": False},
    "power": {"base": 2},
    "predict_onnx": {"model": "mini.onnx"},
    "reduce_dimension": {"dimension": "bands"},
    "rename_dimension": {"source": "t", "target": "time"},
    "rename_labels": {"dimension": "bands", "source": ["B04"], "target": ["red"]},
    "resample_cube_spatial": {"target": PGNode("resample_spatial", data=CUBE, resolution=30)},
    "resample_cube_temporal": {"target": OTHER},
    "resample_spatial": {"resolution": 0.0002},
    "run_udf": {"udf": udf_text(), "context": {"model": "hollstein"}},
    "save_result": {"format": "netCDF", "options": {}},
    "cloud_mask": {"model": "hollstein"},
    "text_begins": {"data": "bat"}, "text_contains": {"data": "bat"}, "text_ends": {"data": "bat"},
    "text_concat": {"data": ["a", "b"]}, "text_find": {"data": "abc"},
    "xor": {"x": True, "y": False},
}  # fmt: skip
ON_CUBES = {
    "add_dimension", "aggregate_spatial", "aggregate_temporal", "aggregate_temporal_period",
    "apply", "apply_dimension", "apply_kernel", "apply_neighborhood", "apply_polygon",
    "cloud_detection", "cloud_mask", "dimension_labels", "drop_dimension", "filter_bands",
    "filter_bbox",
    "filter_labels", "filter_spatial", "filter_temporal", "mask", "mask_polygon", "ml_predict",
    "ndvi", "predict_onnx",
    "reduce_dimension", "reduce_spatial", "rename_dimension", "rename_labels",
    "resample_cube_spatial", "resample_cube_temporal", "resample_spatial", "run_udf",
    "save_result", "trim_cube",
}  # fmt: skip
LOADS_A_MODEL = ("load_ml_model", "load_stac_ml")
WRITTEN_BY_METHODS = ("apply_polygon", "load_collection", "load_ml_model", "merge_cubes")
"""Processes whose graphs the client's methods write otherwise than its functions; its function for
``load_ml_model`` follows an older draft, with ``id``."""
SAYS_WHY_NOT = {
    # The items' own grid is kept; resample_spatial changes it.
    "load_stac": ("url", "resolution", "projection", "resampling"),
}
"""Processes with parameters that are answered with a reason; tests/backend/test_load_stac.py."""


def arguments_of(process_id: str) -> dict[str, Any]:
    """Return an argument for each parameter of a process."""
    special = SPECIAL.get(process_id, {})
    found: dict[str, Any] = {}
    for parameter in predefined_specs()[process_id]["parameters"]:
        name = parameter["name"]
        if parameter.get("deprecated"):
            continue
        if name in special:
            found[name] = special[name]
        elif name == "data":
            found[name] = CUBE if process_id in ON_CUBES else NUMBERS
        elif process_id == "cloud_mask":
            found[name] = parameter["default"]
        elif name in BY_NAME:
            found[name] = BY_NAME[name]
        else:
            found[name] = _told(process_id, parameter)
    return found


def _told(process_id: str, parameter: dict[str, Any]) -> Any:
    """Return a parameter's default, or the argument of the process's own example."""
    if parameter.get("optional"):
        return parameter.get("default")
    examples = predefined_specs()[process_id].get("examples", ())
    given = [one["arguments"][parameter["name"]] for one in examples if "arguments" in one]
    assert given, f"{process_id}: give an argument for {parameter['name']} in its examples"
    return given[0]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("all")
    store = CollectionStore(Settings(data_dir=folder).prepare().collections_dir)
    for seed, day in enumerate(("2024-05-01", "2024-05-11", "2024-06-01")):
        scene = write_scene(folder / f"{day}.tif", shape_yx=(24, 24), seed=seed)
        ingest_product(
            scene, store, collection_id="S2", sensor="sentinel-2-l1c", cloud_cover=seed,
            acquired=datetime.fromisoformat(f"{day}T10:00:00+00:00"),
        )  # fmt: skip
    return folder


def run(graph: dict[str, Any], data_dir: Path) -> GraphAnswer:
    spec = make_spec(data_dir, synchronous=True)
    return run_graph(GraphRequest(run=spec, graph=graph, library={}, synchronous=True))


@pytest.mark.parametrize("process_id", sorted(set(predefined_specs()) - set(SAYS_WHY_NOT)))
def test_takes_every_parameter(process_id: str, data_dir: Path) -> None:
    arguments = arguments_of(process_id)
    function = CLIENT.get(f"{process_id}_", CLIENT.get(process_id))
    if function is None or process_id in WRITTEN_BY_METHODS:
        node = ProcessBuilder.process(process_id, arguments=arguments)
    else:
        node = function(**arguments)
    if process_id == "add_dimension":  # which leaves more than a file takes
        node = PGNode("dimension_labels", data=node, dimension="more")
    if process_id in LOADS_A_MODEL:
        node = PGNode("ml_predict", data=CUBE, model=node)
    graph = node.flat_graph()
    assert set(arguments) in [
        set(item["arguments"]) for item in graph.values() if item["process_id"] == process_id
    ]
    errors = validate_process(
        {"process_graph": graph}, lambda name, _: predefined_specs().get(name), max_nodes=100
    )
    assert not errors
    answer = run(graph, data_dir)
    assert answer.error is None, answer.error


@pytest.mark.parametrize("process_id", ["max", "mean", "median", "min", "sum", "product", "sd",
                                        "variance", "first", "last", "count"])  # fmt: skip
@pytest.mark.parametrize("ignore_nodata", [True, False])
def test_reducers_of_cubes_are_those_of_lists(
    process_id: str, *, ignore_nodata: bool, data_dir: Path
) -> None:
    """The same process on the values of one pixel, sent as a list, is an oracle for cubes."""
    extra = {} if process_id == "count" else {"ignore_nodata": ignore_nodata}
    reducer = graph_of(process_id, data=DATA, **extra)
    graph = PGNode("reduce_dimension", data=CUBE, reducer=reducer, dimension="t").flat_graph()
    whole = PGNode("apply", data=CUBE, process=graph_of("constant", x=X)).flat_graph()
    reduced, values = (values_of(found, data_dir) for found in (graph, whole))
    for row, column in ((0, 0), (23 - 4, 19), (10, 3)):
        pixel = [None if math.isnan(v) else float(v) for v in values[:, 3, row, column]]
        answer = run(PGNode(process_id, data=pixel, **extra).flat_graph(), data_dir)
        wanted = math.nan if answer.value is None else float(answer.value)
        np.testing.assert_allclose(reduced[3, row, column], wanted, rtol=1e-5)


def values_of(graph: dict[str, Any], data_dir: Path) -> np.ndarray:
    """Return a graph's cube, saved as JSON; no data is NaN."""
    name = next(key for key, node in graph.items() if node.pop("result", False))
    save = {"data": {"from_node": name}, "format": "JSON"}
    graph["save"] = {"process_id": "save_result", "arguments": save, "result": True}
    answer = run(graph, data_dir)
    assert answer.error is None, answer.error
    [file] = answer.files
    content = json.loads((data_dir / "out" / file["name"]).read_text(encoding="utf-8"))
    return np.array(content["data"], float)
