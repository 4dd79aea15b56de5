"""The user-defined process and the file that holds it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields

import jsonschema
import numpy as np
import pytest
import xarray as xr
from openeo_pg_parser_networkx import OpenEOProcessGraph
from typer.testing import CliRunner

from openeo_cloudmask import assets, datacube
from openeo_cloudmask.backend import run_local
from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import BackendError, OptionError
from openeo_cloudmask.openeo.neighborhood import Neighborhood
from openeo_cloudmask.openeo.udp import build_udp
from openeo_cloudmask.options import MaskOptions, parse_context


def defaults() -> dict[str, object]:
    return {
        item["name"]: item["default"] for item in build_udp()["parameters"] if "default" in item
    }


def test_file_is_what_is_built() -> None:
    stored = assets.path("udf/cloud_mask.json").read_text(encoding="utf-8")
    assert json.loads(stored) == build_udp()
    assert CliRunner().invoke(build_app(), ["udf", "--json"]).stdout == stored
    source = assets.path("udf/cloud_mask.py").read_text(encoding="utf-8")
    assert CliRunner().invoke(build_app(), ["udf"]).stdout == source


def test_a_process_of_one_model_has_its_overlap() -> None:
    process = json.loads(
        CliRunner().invoke(build_app(), ["udf", "--json", "--model", "hollstein"]).stdout
    )
    assert process == build_udp(model="hollstein")
    assert process["id"] == "cloud_mask_hollstein"
    given = process["process_graph"]["applyneighborhood1"]["arguments"]
    assert [item["value"] for item in given["overlap"]] == [0, 0]
    assert [item["value"] for item in given["size"]] == [256, 256, "P1D"]
    assert given["context"]["model"] == "hollstein"
    assert given["context"]["neighborhood"] == {"size": 256, "overlap": 0}
    names = [item["name"] for item in process["parameters"]]
    assert "model" not in names
    assert {"data", "scale", "categorise"} <= set(names)
    assert build_udp(model="senseiv2")["id"] == "cloud_mask_senseiv2_segformerb2_alldata_ambiguous"
    refused = CliRunner().invoke(build_app(), ["udf", "--model", "hollstein"])
    assert isinstance(refused.exception, OptionError)


def test_every_option_is_a_documented_parameter() -> None:
    parameters = {item["name"]: item for item in build_udp()["parameters"]}
    assert list(parameters) == ["data", *(item.name for item in fields(MaskOptions))]
    assert all(len(item["description"]) > 20 for item in parameters.values())
    assert parse_context(defaults()) == MaskOptions()


def test_defaults_fit_their_schemas() -> None:
    for item in build_udp()["parameters"]:
        jsonschema.Draft7Validator.check_schema(item["schema"])
        if "default" in item:
            jsonschema.validate(item["default"], item["schema"])


def test_parser_reads_it() -> None:
    parsed = OpenEOProcessGraph(pg_data={"process_graph": build_udp()["process_graph"]})
    assert parsed.required_processes == {"apply_neighborhood", "run_udf"}


def test_it_runs_with_its_parameters(
    make_cube: Callable[..., xr.DataArray], tiny: str, cut_by_client: Callable[[object], None]
) -> None:
    cube = make_cube(dates=2)
    udp = build_udp(Neighborhood(size_px=96, overlap_px=96))
    cut_by_client(udp["process_graph"])
    values = {**defaults(), "data": cube, "model": tiny, "stride": 64, "categorise": False}
    result = run_local(udp["process_graph"], {}, parameters=values)
    whole = datacube.mask_datacube(cube, MaskOptions(model=tiny, stride=64, categorise=False))
    np.testing.assert_array_equal(result, whole)
    assert result.bands.to_numpy().tolist() == whole.bands.to_numpy().tolist()
    assert result.dims == whole.dims


def test_a_parameter_without_value_is_named(make_cube: Callable[..., xr.DataArray]) -> None:
    values = {**defaults(), "data": make_cube()}
    del values["stride"]
    with pytest.raises(BackendError, match="'stride'"):
        run_local(build_udp()["process_graph"], {}, parameters=values)
