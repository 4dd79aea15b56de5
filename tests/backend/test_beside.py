"""What a job offers beside its masks: percentages of the same run, and the image."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio

from openeo_cloudmask.backend.cubes.read import DateCube
from openeo_cloudmask.backend.jobs.tasks import GraphAnswer, GraphRequest, run_graph
from openeo_cloudmask.backend.outputs import beside
from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.models import get_model
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products import mask_product
from openeo_cloudmask.viewer.scenes import open_scene
from tests.backend.conftest import BANDS, ingest, make_spec, mask_graph, write_scene

OPTIONS = MaskOptions(model="hollstein", sensor="sentinel-2-l1c", buffer="cloud=30m")
SHOWN = ["B04", "B03", "B02", "B08"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("beside")
    ingest(write_scene(folder / "scene.tif"), folder)
    second = write_scene(folder / "second.tif", seed=1)
    ingest(second, folder, when=datetime(2024, 6, 1, tzinfo=UTC))
    return folder


def run(data_dir: Path, save: dict[str, Any], name: str, **spec: Any) -> tuple[GraphAnswer, Path]:
    graph = mask_graph(buffer="cloud=30m")
    graph["save"]["arguments"]["options"] = save
    made = make_spec(data_dir, output_dir=data_dir / name, **spec)
    return run_graph(GraphRequest(run=made, graph=graph, library={})), data_dir / name


@pytest.fixture(scope="module")
def saved(data_dir: Path) -> Path:
    answer, folder = run(data_dir, {"percentages": True, "image": SHOWN}, "all")
    assert answer.error is None, answer.error
    roles = {item["name"]: item["roles"] for item in answer.files}
    assert roles["openEO_2024-06-01-percent.tif"] == ["percentages"]
    assert roles["openEO_2024-06-01-image.tif"] == ["overview"]
    assert len(roles) == 8  # with an item for each mask
    return folder


def read(path: Path) -> np.ndarray[Any, Any]:
    with rasterio.open(path) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        return dataset.read()  # type: ignore[no-any-return]


def test_percentages_are_those_of_the_masks_own_run(saved: Path, data_dir: Path) -> None:
    for day, scene in (("2024-05-01", "scene"), ("2024-06-01", "second")):
        mask, percent = data_dir / "alone.tif", data_dir / "alone-percent.tif"
        mask_product(data_dir / f"{scene}.tif", mask, OPTIONS, overwrite=True, percentages=percent)
        assert np.array_equal(read(saved / f"openEO_{day}.tif"), read(mask))
        assert np.array_equal(read(saved / f"openEO_{day}-percent.tif"), read(percent))
    with rasterio.open(saved / "openEO_2024-05-01-percent.tif") as dataset:
        assert dataset.descriptions == FOUR_CLASS.names
        assert dataset.tags()["MODEL"] == "hollstein"


def test_image_is_what_was_masked(saved: Path, data_dir: Path) -> None:
    with (
        open_scene(saved / "openEO_2024-05-01-image.tif", sensor="sentinel-2-l1c") as image,
        open_scene(data_dir / "scene.tif", sensor="sentinel-2-l1c") as scene,
    ):
        assert image.band_labels == tuple(SHOWN)
        assert image.grid == scene.grid
        shown, given = (item.cube(SHOWN)[:, 0:300, 0:260] for item in (image, scene))
    assert np.isnan(given).any()
    assert np.allclose(shown, given, atol=beside.SCALE / 2, equal_nan=True)


def test_item_of_a_mask_has_them_as_assets(saved: Path) -> None:
    item = pystac.Item.from_dict(json.loads((saved / "openEO_2024-05-01.json").read_text()))
    assert {name: asset.href for name, asset in item.assets.items()} == {
        "mask": "./openEO_2024-05-01.tif",
        "percentages": "./openEO_2024-05-01-percent.tif",
        "image": "./openEO_2024-05-01-image.tif",
    }


def test_without_options_nothing_is_beside_a_mask(data_dir: Path) -> None:
    answer, folder = run(data_dir, {}, "none")
    assert answer.error is None
    assert sorted(path.name for path in folder.glob("*.tif")) == [
        "openEO_2024-05-01.tif", "openEO_2024-06-01.tif",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("save", "spec", "why"),
    [
        ({"image": ["B99"]}, {}, "expected bands of the cube that was masked: B01, "),
        ({"image": "B04"}, {}, "expected a list of names"),
        ({"percentages": "yes"}, {}, "expected true or false"),
        ({"percentages": True}, {"synchronous": True}, "only where a batch job"),
    ],
)
def test_what_cannot_be_offered_is_told(
    data_dir: Path, save: dict[str, Any], spec: dict[str, Any], why: str
) -> None:
    answer, _ = run(data_dir, save, "refused", **spec)
    assert answer.error is not None
    assert answer.error[0] == "ProcessParameterInvalid"
    assert why in answer.error[1]


def test_a_changed_mask_is_no_longer_that_of_the_run(data_dir: Path) -> None:
    graph = mask_graph()
    graph["cut"] = {
        "process_id": "apply",
        "arguments": {"data": {"from_node": "mask"}, "process": {"process_graph": {"a": {
            "process_id": "min", "arguments": {"data": [{"from_parameter": "x"}, 1]},
            "result": True,
        }}}},
    }  # fmt: skip
    graph["save"]["arguments"] |= {"data": {"from_node": "cut"}, "options": {"percentages": True}}
    made = make_spec(data_dir, output_dir=data_dir / "changed")
    answer = run_graph(GraphRequest(run=made, graph=graph, library={}))
    assert answer.error is not None
    assert "as it was made" in answer.error[1]


def test_too_large_ones_are_left_out_and_the_log_says_so(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from openeo_cloudmask.backend.jobs import runtime

    told: list[str] = []
    monkeypatch.setattr(runtime, "listeners", [lambda event: told.append(str(event))])
    monkeypatch.setattr(beside, "KEPT_VALUES", 1000)
    monkeypatch.setattr(beside, "IMAGE_VALUES", 1000)
    answer, folder = run(data_dir, {"percentages": True, "image": list(BANDS)}, "large")
    assert answer.error is None
    assert not list(folder.glob("*-*-*-*.tif"))
    assert any("no percentages" in line for line in told)
    assert any("ask for fewer bands" in line for line in told)


def test_options_are_offered() -> None:
    from openeo_cloudmask.backend.processes.results import FORMATS

    assert set(FORMATS["GTiff"]["parameters"]) == {"percentages", "image"}


def test_of_a_loaded_cube_the_bands_of_the_model_are_read_once(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not whole chunks of all bands, as where another process lies between; the mask is equal."""
    read_pixels: list[tuple[int, int]] = []
    plain = DateCube.__getitem__

    def counted(self: DateCube, key: tuple[slice, slice, slice]) -> Any:
        pixels = plain(self, key)
        read_pixels.append((len(pixels), pixels[0].size))
        return pixels

    monkeypatch.setattr(DateCube, "__getitem__", counted)
    graph = mask_graph()
    answer = run_graph(
        GraphRequest(
            run=make_spec(data_dir, output_dir=data_dir / "plain"), graph=graph, library={}
        )
    )
    assert answer.error is None, answer.error
    bands = len(get_model("hollstein").inputs["sentinel-2-l1c"])
    assert bands < len(BANDS)
    assert {count for count, _ in read_pixels} == {bands}
    with rasterio.open(data_dir / "scene.tif") as scene:
        size = scene.width * scene.height
    assert sum(pixels for _, pixels in read_pixels) == 2 * size  # two dates
    between = {"process_id": "apply", "arguments": {"data": {"from_node": "load"}, "process": {
        "process_graph": {"a": {"process_id": "add", "arguments": {
            "x": {"from_parameter": "x"}, "y": 0}, "result": True}}}}}  # fmt: skip
    graph = mask_graph() | {"between": between}
    graph["mask"]["arguments"]["data"] = {"from_node": "between"}
    answer = run_graph(
        GraphRequest(
            run=make_spec(data_dir, output_dir=data_dir / "between"), graph=graph, library={}
        )
    )
    assert answer.error is None, answer.error
    for name in ("openEO_2024-05-01.tif", "openEO_2024-06-01.tif"):
        assert np.array_equal(read(data_dir / "plain" / name), read(data_dir / "between" / name))
