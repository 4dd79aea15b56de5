"""The client function against the real openEO client and the processes' specifications."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import openeo
import pytest
from openeo.metadata import (
    Band,
    BandDimension,
    CubeMetadata,
    SpatialDimension,
    TemporalDimension,
)

from openeo_cloudmask import cloud_mask
from openeo_cloudmask.errors import InputError, OptionError, UnknownModelError
from openeo_cloudmask.openeo.client import to_uint8, udf_text
from openeo_cloudmask.openeo.udp import build_udp


def load(metadata: CubeMetadata | None = None) -> openeo.DataCube:
    cube = openeo.DataCube.load_collection("S2", connection=None, fetch_metadata=False)
    cube.metadata = metadata
    return cube


def s2_metadata(*, time: str | None = "t", bands: str = "bands") -> CubeMetadata:
    spatial = [SpatialDimension(name=axis, extent=[0, 1]) for axis in ("x", "y")]
    temporal = [] if time is None else [TemporalDimension(name=time, extent=["2026-01-01", None])]
    return CubeMetadata(
        [*spatial, *temporal, BandDimension(name=bands, bands=[Band("B02"), Band("B03")])]
    )


def arguments_of(cube: openeo.DataCube) -> dict[str, Any]:
    return cube.flat_graph()["applyneighborhood1"]["arguments"]


def test_graph_runs_the_udf_on_overlapping_neighbourhoods() -> None:
    given = arguments_of(cloud_mask(load(), model="cloudsen12", stride=256, scale=0.0001))
    assert given["size"] == [
        {"dimension": "x", "value": 1024, "unit": "px"},
        {"dimension": "y", "value": 1024, "unit": "px"},
        {"dimension": "t", "value": "P1D"},
    ]
    assert [item["value"] for item in given["overlap"]] == [512, 512]
    assert given["context"] == {
        "model": "cloudsen12",
        "stride": 256,
        "scale": 0.0001,
        "neighborhood": {"size": 1024, "overlap": 512},
    }
    run = given["process"]["process_graph"]["runudf1"]
    assert run["process_id"] == "run_udf"
    assert run["arguments"] == {
        "data": {"from_parameter": "data"},
        "udf": udf_text(),
        "runtime": "Python",
        "context": {"from_parameter": "context"},
    }


class Listing:
    """A connection as far as the client function asks it."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def list_processes(self) -> list[dict[str, Any]]:
        return [{"id": name} for name in self.names]


def offered(*names: str) -> openeo.DataCube:
    cube = load(s2_metadata())
    cube._connection = Listing(*names)
    return cube


def test_udf_gets_the_cube_where_there_are_no_neighbourhoods() -> None:
    both = cloud_mask(offered("apply_neighborhood", "run_udf"), model="hollstein").flat_graph()
    assert "applyneighborhood1" in both
    mask = cloud_mask(offered("load_collection", "run_udf"), model="hollstein", scale=0.0001)
    graph = mask.flat_graph()
    assert [node["process_id"] for node in graph.values()] == ["load_collection", "run_udf"]
    assert graph["runudf1"]["arguments"] == {
        "data": {"from_node": "loadcollection1"},
        "udf": udf_text(),
        "runtime": "Python",
        "context": {"model": "hollstein", "scale": 0.0001},
    }
    assert mask.metadata.band_names == ["mask"]
    with pytest.raises(InputError, match="neither apply_neighborhood nor run_udf"):
        cloud_mask(offered("load_collection"), model="hollstein")


def test_pixelwise_models_are_sent_without_overlap() -> None:
    given = arguments_of(cloud_mask(load(), model="hollstein"))
    assert [item["value"] for item in given["size"]] == [256, 256, "P1D"]
    assert [item["value"] for item in given["overlap"]] == [0, 0]


def test_one_byte_with_no_data_on_request() -> None:
    graph = to_uint8(cloud_mask(load(s2_metadata()), model="hollstein")).flat_graph()
    assert list(graph)[-4:] == ["applyneighborhood1", "apply1", "mask1", "apply2"]
    [nodata] = graph["apply1"]["arguments"]["process"]["process_graph"].values()
    assert (nodata["process_id"], nodata["arguments"]["y"]) == ("eq", 255)
    assert graph["mask1"]["arguments"]["mask"] == {"from_node": "apply1"}
    [scaled] = graph["apply2"]["arguments"]["process"]["process_graph"].values()
    numbers = {key: value for key, value in scaled["arguments"].items() if key != "x"}
    # Back ends look at these numbers to choose a type: they must be whole, and less than 254 apart.
    assert numbers == {"inputMin": 0, "inputMax": 253, "outputMin": 0, "outputMax": 253}
    assert all(type(value) is int for value in numbers.values())


def test_mask_has_its_own_band_labels() -> None:
    cube = load(s2_metadata())
    assert cloud_mask(cube, model="hollstein").metadata.band_names == ["mask"]
    shares = cloud_mask(cube, model="hollstein", categorise=False, output_style="valid-invalid")
    assert shares.metadata.band_names == ["valid", "invalid"]
    native = cloud_mask(cube, model="hollstein", categorise=False, output_style="native")
    assert native.metadata.band_names[:3] == ["clear", "water", "snow"]
    assert cube.metadata.band_names == ["B02", "B03"]


def test_client_goes_on_with_the_mask() -> None:
    cube = load(s2_metadata())
    mask = cloud_mask(cube, model="hollstein")
    graph = cube.mask(mask.band("mask") > 0).flat_graph()
    element = graph["reducedimension1"]["arguments"]["reducer"]["process_graph"]
    assert element["arrayelement1"]["arguments"]["index"] == 0
    assert element["gt1"]["result"]
    assert graph["mask1"]["arguments"]["mask"] == {"from_node": "reducedimension1"}


def test_dimensions_follow_the_metadata() -> None:
    def named(cube: openeo.DataCube) -> list[str]:
        return [item["dimension"] for item in arguments_of(cube)["size"]]

    other = cloud_mask(load(s2_metadata(time="date", bands="spectral")), model="hollstein")
    assert named(other) == ["x", "y", "date"]
    assert other.metadata.band_dimension.name == "spectral"
    assert named(cloud_mask(load(s2_metadata(time=None)), model="hollstein")) == ["x", "y"]
    unknown = cloud_mask(load(), model="hollstein", temporal_dimension="time")
    assert named(unknown) == ["x", "y", "time"]
    assert unknown.metadata.dimension_names() == ["x", "y", "time", "bands"]


def test_bad_options_are_told_before_any_job() -> None:
    with pytest.raises(OptionError, match="stride is 100; expected one of 64, 128"):
        cloud_mask(load(), stride=100)
    with pytest.raises(OptionError, match="output_style is '5-class'; expected one of 4-class"):
        cloud_mask(load(), output_style="5-class")
    with pytest.raises(UnknownModelError, match="unknown model 'cloudsen13'"):
        cloud_mask(load(), model="cloudsen13")
    with pytest.raises(InputError, match=r"cube is of type str; expected an openeo\.DataCube"):
        cloud_mask("S2")  # type: ignore[arg-type]


def test_flat_graph_is_valid_against_the_process_specifications(
    shared: Callable[[str], Path],
) -> None:
    graph = cloud_mask(load(), model="cloudsen12").save_result("GTiff").flat_graph()
    checked = check_graph(graph, shared("openeo/assets/processes"))
    checked |= check_graph(build_udp()["process_graph"], shared("openeo/assets/processes"))
    assert checked == {"load_collection", "apply_neighborhood", "run_udf", "save_result"}


def test_the_check_of_graphs_finds_a_wrong_argument(shared: Callable[[str], Path]) -> None:
    graph = cloud_mask(load(), model="cloudsen12").flat_graph()
    graph["applyneighborhood1"]["arguments"]["size"][0]["value"] = -1
    with pytest.raises(jsonschema.ValidationError, match="-1 is less than the minimum"):
        check_graph(graph, shared("openeo/assets/processes"))


def check_graph(graph: dict[str, Any], specs: Path) -> set[str]:
    """Check every node's arguments against its process, and return the processes seen."""
    assert sum(node.get("result", False) for node in graph.values()) == 1
    seen: set[str] = set()
    for node in graph.values():
        process = json.loads((specs / f"{node['process_id']}.json").read_text())
        known = {item["name"]: item for item in process["parameters"]}
        assert set(node["arguments"]) <= set(known)
        needed = {name for name, item in known.items() if not item.get("optional")}
        assert needed <= set(node["arguments"])
        for name, value in node["arguments"].items():
            if isinstance(value, dict) and set(value) & {"from_node", "from_parameter"}:
                continue
            if isinstance(value, dict) and "process_graph" in value:
                seen |= check_graph(value["process_graph"], specs)
                continue
            schema = known[name]["schema"]
            either = {"anyOf": schema} if isinstance(schema, list) else schema
            jsonschema.validate(value, either, cls=jsonschema.Draft7Validator)
        seen.add(node["process_id"])
    return seen
