"""The demo, small: every file it promises, and scores that come from the files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from typer.testing import CliRunner

from openeo_cloudmask.cli import build_app
from openeo_cloudmask.cli.demo_run import SENSOR, run_demo
from openeo_cloudmask.errors import OptionError, OutputError
from openeo_cloudmask.evaluation.summary import balanced_accuracies
from openeo_cloudmask.simulator.scene import simulate_scene


@pytest.mark.slow
def test_demo_writes_and_scores(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    done = CliRunner().invoke(
        build_app(), ["demo", str(folder), "--model", "hollstein", "--size", "600", "--seed", "3"]
    )
    assert done.exit_code == 0, done.output
    assert sorted(item.name for item in folder.iterdir()) == [
        "mask.tif",
        "process_graph.json",
        "quicklook.png",
    ]
    scene = simulate_scene(
        3,
        sensor=SENSOR,
        size=600,
        biome="cropland",
        decks=("cumulus", "cirrus"),
        cloud_fraction=0.3,
        nodata_fraction=0.05,
    )
    with rasterio.open(folder / "mask.tif") as stored:
        labels = stored.read(1)
        assert stored.transform == scene.transform
        assert stored.crs.to_string() == scene.crs
        assert stored.nodata == 255
        assert stored.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    np.testing.assert_array_equal(labels == 255, scene.truth == 255)
    for name, value in balanced_accuracies(scene.truth, labels).items():
        assert f"balanced accuracy, {name}: {value:.3f}" in done.stdout
    graph = json.loads((folder / "process_graph.json").read_text())["process_graph"]
    assert [node["process_id"] for node in graph.values()] == [
        "load_collection",
        "apply_neighborhood",
        "save_result",
    ]
    with Image.open(folder / "quicklook.png") as picture:
        assert picture.size == (20 + 3 * 532, 632)


def test_demo_refuses_models_for_other_data(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="'cloudsen12l2a' is not made for sentinel-2-l1c"):
        run_demo(tmp_path, model="cloudsen12l2a")
    with pytest.raises(OutputError, match="cannot make the folder"):
        run_demo(tmp_path / "no" / "demo", model="hollstein")


def test_balanced_accuracy_is_the_mean_of_both_sides() -> None:
    truth = np.array([[0, 0, 0, 0, 1, 2, 3, 255]], np.uint8)
    mask = np.array([[0, 0, 0, 1, 1, 0, 3, 1]], np.uint8)
    found = balanced_accuracies(truth, mask)
    assert found["cloud"] == pytest.approx((1 / 2 + 4 / 5) / 2)
    assert found["shadow"] == pytest.approx(1.0)
    assert found["valid/invalid"] == pytest.approx((2 / 3 + 3 / 4) / 2)
