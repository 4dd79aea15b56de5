"""Process graphs run in this process: values, cubes, masks and files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr

from openeo_cloudmask.backend.jobs import runtime
from openeo_cloudmask.backend.jobs.tasks import GraphAnswer, GraphRequest, run_graph
from openeo_cloudmask.backend.processes import results
from openeo_cloudmask.models import registry
from openeo_cloudmask.openeo.client import udf_text
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products import mask_product
from tests.backend.conftest import ingest, make_spec, mask_graph, write_scene
from tests.models import mlm_items

Run = Callable[..., GraphAnswer]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    ingest(write_scene(tmp_path / "scene.tif"), tmp_path)
    return tmp_path


@pytest.fixture
def run(data_dir: Path) -> Run:
    def call(graph: dict[str, Any], library: dict[str, Any] | None = None, **spec: Any) -> Any:
        request = GraphRequest(
            run=make_spec(data_dir, **spec), graph=graph, library=library or {}, synchronous=True
        )
        return run_graph(request)

    return call


def _one(process_id: str, **arguments: Any) -> dict[str, Any]:
    return {"a": {"process_id": process_id, "arguments": arguments, "result": True}}


@pytest.mark.parametrize(
    ("graph", "value"),
    [
        (_one("add", x=1, y=2), 3),
        (_one("add", x=1, y=None), None),
        (_one("gt", x=2, y=1), True),
        (_one("gt", x=2, y="1"), False),
        (_one("mean", data=[1, 2, None]), 1.5),
        (_one("max", data=[]), None),
        (_one("sqrt", x=-1), None),
        (_one("text_concat", data=["a", 1, None], separator="-"), "a-1-null"),
        (_one("array_find", data=[1, 2], value=3), None),
        (_one("order", data=[3, None, 1]), [2, 0]),
        (_one("array_element", data=[5, 6], index=1), 6),
        (_one("array_apply", data=[1, 2], process={"process_graph": _one(
            "add", x={"from_parameter": "x"}, y=10)}), [11, 12]),
    ],
)  # fmt: skip
def test_values(run: Run, graph: dict[str, Any], value: Any) -> None:
    answer = run(graph)
    assert answer.error is None
    assert answer.value == value


def test_answers_and_reasons_leave_the_server_its_memory(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go through the server's own process, whatever a worker has room for."""
    monkeypatch.setattr(results, "_JSON_BYTES", 1 << 20)
    assert len(run(_one("text_concat", data=["x" * 1000], separator="")).value) == 1000
    code, message = run(_one("text_concat", data=["x" * 10_000] * 300, separator="")).error
    assert (code, "has 3 MB as JSON, at most 1 MB" in message) == ("ProcessGraphComplexity", True)
    lines: list[Any] = []
    monkeypatch.setattr(runtime, "listeners", [lines.append])
    spec = make_spec(Path("nowhere"))
    runtime.log(spec, "info", "x" * 10**6)
    assert len(lines[0]["message"]) == runtime.MAX_MESSAGE


@pytest.mark.parametrize("odd", [{"features": [None]}, {"features": [5]}, {"crs": "x"}])
def test_odd_geojson_is_told(run: Run, odd: dict[str, Any]) -> None:
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}}
    data = {"type": "FeatureCollection", "features": [point], **odd}
    answer = run(_one("load_geojson", data=data))
    assert answer.error is None or answer.error[0] == "ProcessParameterInvalid"


def test_stored_process(run: Run) -> None:
    stored = {
        "parameters": [{"name": "a"}, {"name": "b", "optional": True, "default": 5}],
        "process_graph": _one("add", x={"from_parameter": "a"}, y={"from_parameter": "b"}),
    }
    assert run(_one("plus", a=1), {"plus": stored}).value == 6


def test_process_that_calls_itself_ends(run: Run) -> None:
    stored = {"parameters": [], "process_graph": _one("again")}
    assert run(_one("again"), {"again": stored}).error[0] == "ProcessGraphInvalid"


def _udf_graph(udf: str, context: dict[str, Any], size: int, overlap: int) -> dict[str, Any]:
    graph = mask_graph()
    graph["mask"] = {
        "process_id": "apply_neighborhood",
        "arguments": {
            "data": {"from_node": "load"},
            "process": {"process_graph": {"udf": {"process_id": "run_udf", "arguments": {
                "data": {"from_parameter": "data"}, "udf": udf, "runtime": "Python",
                "context": {"from_parameter": "context"}}, "result": True}}},
            "size": [{"dimension": d, "value": size, "unit": "px"} for d in ("x", "y")],
            "overlap": [{"dimension": d, "value": overlap, "unit": "px"} for d in ("x", "y")],
            "context": context,
        },
    }  # fmt: skip
    return graph


def test_mask_is_that_of_the_command_line(run: Run, data_dir: Path) -> None:
    expected = data_dir / "expected.tif"
    options = MaskOptions(model="hollstein", sensor="sentinel-2-l1c")
    mask_product(data_dir / "scene.tif", expected, options)
    for graph in (mask_graph(), _udf_graph(udf_text(), {"model": "hollstein"}, 64, 0)):
        answer = run(graph)
        assert answer.error is None
        assert [item["name"] for item in answer.files] == ["openEO_2024-05-01.tif"]
        with (
            rasterio.open(expected) as one,
            rasterio.open(data_dir / "out" / answer.files[0]["name"]) as other,
        ):
            assert np.array_equal(one.read(), other.read())
            assert one.profile == other.profile
            assert one.colormap(1) == other.colormap(1)
            assert one.tags()["CLASSES"] == other.tags()["CLASSES"]


def test_models_of_others_run_from_the_items_in_the_operators_folder(
    run: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    folder = data_dir / "models"
    folder.mkdir()
    made = next(made for made in mlm_items.NINE if made.name == "min-max-old-names")
    item = mlm_items.write_item(made, folder)
    text = item.read_text(encoding="utf-8")
    item.write_text(text.replace('"B02"', '{"name": "B02", "nodata": 0}'), encoding="utf-8")
    (folder / "broken.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(registry, "_ADOPTED", {})
    assert run(mask_graph(model=made.name)).error[0] == "CloudMaskModelUnknown"
    monkeypatch.setenv(registry.MODELS_VARIABLE, str(folder))
    answer = run(mask_graph(model=made.name))
    assert answer.error is None
    expected = data_dir / "expected.tif"
    mask_product(data_dir / "scene.tif", expected, MaskOptions(model=made.name))
    with (
        rasterio.open(expected) as one,
        rasterio.open(data_dir / "out" / answer.files[0]["name"]) as other,
    ):
        np.testing.assert_array_equal(one.read(), other.read())
        assert len(np.unique(one.read())) >= 3


def test_percentages(run: Run, data_dir: Path) -> None:
    answer = run(mask_graph(categorise=False, output_style="cloud-noncloud"))
    with rasterio.open(data_dir / "out" / answer.files[0]["name"]) as dataset:
        assert dataset.descriptions == ("non-cloud", "cloud")
        assert set(np.unique(dataset.read())) <= {0, 100, 255}


@pytest.mark.parametrize("kind", ["netCDF", "Zarr", "PNG"])
def test_other_formats_hold_the_same_mask(run: Run, data_dir: Path, kind: str) -> None:
    graph = mask_graph()
    tif = run(graph).files[0]["name"]
    graph["save"]["arguments"]["format"] = kind
    answer = run(graph)
    assert answer.error is None
    path = data_dir / "out" / answer.files[0]["name"]
    with rasterio.open(data_dir / "out" / tif) as dataset:
        expected = dataset.read(1)
    if kind == "netCDF":
        with xr.open_dataset(path, engine="h5netcdf", mask_and_scale=False) as found:
            assert np.array_equal(found["mask"].to_numpy()[0], expected)
            assert found["t"].to_numpy()[0] == np.datetime64("2024-05-01T10:20:00", "ns")
    elif kind == "Zarr":
        import zarr

        store = zarr.storage.ZipStore(path, mode="r")
        assert np.array_equal(zarr.open_group(store, mode="r")["data"][0, 0], expected)
        store.close()
    else:
        from PIL import Image

        with Image.open(path) as image:
            assert np.array_equal(np.asarray(image), expected)


SMOOTH = """
import xarray
def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    assert list(cube.bands.values), "labels"
    return cube.rolling(x=3, center=True, min_periods=1).mean() * context["factor"]
"""


def test_other_udf_runs_only_where_allowed(run: Run, data_dir: Path) -> None:
    graph = _udf_graph(SMOOTH, {"factor": 2}, 100, 4)
    assert run(graph).error[0] == "UdfNotAllowed"
    answer = run(graph, allow_any_udf=True)
    assert answer.error is None
    with rasterio.open(data_dir / "out" / answer.files[0]["name"]) as dataset:
        found = dataset.read(3)
    with rasterio.open(data_dir / "scene.tif") as dataset:
        pixels = dataset.read(3).astype(float) * 1e-4
    pixels[:20, :30] = np.nan
    cube = xr.DataArray(pixels, dims=("y", "x"))
    expected = cube.rolling(x=3, center=True, min_periods=1).mean() * 2
    assert np.allclose(found, expected, equal_nan=True, atol=1e-5)


def test_broken_udf_is_an_error(run: Run) -> None:
    udf = SMOOTH.split("    assert", maxsplit=1)[0] + "    1 / 0\n"
    code, message = run(_udf_graph(udf, {}, 100, 0), allow_any_udf=True).error
    assert code == "UdfFailed"
    assert "ZeroDivisionError" in message


def test_neighborhoods_see_their_overlap(run: Run, data_dir: Path) -> None:
    graph = mask_graph()
    kernel = {
        "process_id": "apply_kernel",
        "arguments": {"data": {"from_parameter": "data"}, "kernel": [[1, 1, 1]], "factor": 1 / 3},
        "result": True,
    }
    graph["mask"] = {
        "process_id": "apply_neighborhood",
        "arguments": {
            "data": {"from_node": "load"},
            "process": {"process_graph": {"k": kernel}},
            "size": [{"dimension": d, "value": 90, "unit": "px"} for d in ("x", "y")],
            "overlap": [{"dimension": d, "value": 10, "unit": "px"} for d in ("x", "y")],
        },
    }  # fmt: skip
    cut = run(graph)
    graph["mask"] = {"process_id": "apply_kernel", "arguments": {
        "data": {"from_node": "load"}, "kernel": [[1, 1, 1]], "factor": 1 / 3}}  # fmt: skip
    whole = run(graph, output_dir=data_dir / "whole")
    assert (cut.error, whole.error) == (None, None)
    with (
        rasterio.open(data_dir / "out" / cut.files[0]["name"]) as one,
        rasterio.open(data_dir / "whole" / whole.files[0]["name"]) as other,
    ):
        assert np.allclose(one.read(5)[30:-2, 2:-2], other.read(5)[30:-2, 2:-2], atol=1e-5)


def _load(**arguments: Any) -> dict[str, Any]:
    graph = mask_graph()
    graph["load"]["arguments"].update(arguments)
    return graph


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"spatial_extent": {"west": 0, "south": 0, "east": 1, "north": 1}}, "NoDataAvailable"),
        ({"temporal_extent": ["2020-01-01", "2020-02-01"]}, "NoDataAvailable"),
        ({"temporal_extent": ["2024-06-01", "2024-05-01"]}, "TemporalExtentEmpty"),
        ({"id": "NOPE"}, "CollectionNotFound"),
        ({"id": "../S2"}, "CollectionNotFound"),
        ({"bands": ["B99"]}, "ProcessParameterInvalid"),
    ],
)
def test_loading_what_is_not_there(run: Run, arguments: dict[str, Any], code: str) -> None:
    assert run(_load(**arguments)).error[0] == code


def test_too_much_for_a_synchronous_request(run: Run) -> None:
    assert run(mask_graph(), max_pixels=1000).error[0] == "ProcessGraphComplexity"


def test_cut_scene_keeps_its_pixels(run: Run, data_dir: Path) -> None:
    whole = run(mask_graph())
    extent = {"west": 600_500, "east": 601_500, "south": 5_398_000, "north": 5_399_000,
              "crs": 32633}  # fmt: skip
    part = run(_load(spatial_extent=extent), output_dir=data_dir / "part")
    with (
        rasterio.open(data_dir / "out" / whole.files[0]["name"]) as one,
        rasterio.open(data_dir / "part" / part.files[0]["name"]) as other,
    ):
        assert other.shape == (100, 100)
        window = rasterio.windows.from_bounds(*other.bounds, one.transform)
        assert np.array_equal(one.read(1, window=window), other.read(1))


def test_scenes_beside_each_other_are_one_date(run: Run, data_dir: Path) -> None:
    right = write_scene(data_dir / "right.tif", seed=3, left=600_000 + 2600)
    ingest(right, data_dir)
    answer = run(mask_graph())
    with rasterio.open(data_dir / "out" / answer.files[0]["name"]) as dataset:
        assert dataset.shape == (300, 520)


def test_dates_are_files(run: Run, data_dir: Path) -> None:
    ingest(write_scene(data_dir / "b.tif", seed=4), data_dir, when=datetime(2024, 7, 1, tzinfo=UTC))
    names = [item["name"] for item in run(mask_graph()).files]
    assert names == ["openEO_2024-05-01.tif", "openEO_2024-07-01.tif"]


@pytest.mark.parametrize(
    "options",
    [
        {"weights": "/etc/passwd"},
        {"weights": "../scene.tif"},
        {"sensor": "/etc/passwd"},
        {"model": "nope"},
        {"stride": 7},
    ],
)
def test_clients_cannot_name_files_of_the_server(run: Run, options: dict[str, Any]) -> None:
    for graph in (mask_graph(**options), _udf_graph(udf_text(), options, 512, 0)):
        answer = run(graph)
        assert answer.error is not None
        assert answer.error[0] in ("ProcessParameterInvalid", "CloudMaskModelUnknown")
        assert "root:" not in answer.error[1]


def test_deleted_input_is_an_error(run: Run, data_dir: Path) -> None:
    (data_dir / "scene.tif").unlink()
    code, message = run(mask_graph()).error
    assert code == "CloudMaskProductInvalid"
    assert "not there any longer" in message
