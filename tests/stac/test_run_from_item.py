"""A script that knows only an item runs its network and makes the mask of `cloudmask run`."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from pystac.validation import validate_dict

from openeo_cloudmask.cli.export import export
from openeo_cloudmask.errors import CatalogError, WeightsError
from openeo_cloudmask.models import get_model, load_detector
from openeo_cloudmask.models.onnx_detector import packaged_onnx
from openeo_cloudmask.models.weights import sha256_of
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products.mask import mask_product
from openeo_cloudmask.simulator.scene import simulate_scene
from openeo_cloudmask.stac import recipe
from openeo_cloudmask.stac.fields import parse_multihash
from openeo_cloudmask.stac.reader import read_model_item
from openeo_cloudmask.stac.schemas import SchemaValidator

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "docs" / "examples" / "run_from_item.py"
MINI = ROOT / "catalog" / "openeo-cloudmask" / "mini" / "mini.json"


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Return a GeoTIFF of counts with no-data at two sides, its layers in no special order."""
    made = simulate_scene(6, size=560, sensor="sentinel-2-l1c", cloud_fraction=0.4)
    cube = np.where(np.isfinite(made.cube), np.clip(np.round(made.cube * 1e4), 1, 65535), 0)
    cube[:, :70], cube[:, :, -33:], cube[:, 300:310, 200:240] = 0, 0, 0
    names = made.band_names[::-1]
    path = tmp_path / "scene.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=560,
        height=560,
        count=len(names),
        dtype="uint16",
        nodata=0,
        crs="EPSG:32631",
        transform=rasterio.Affine(10, 0, 600020, 0, -10, 5000040),
    ) as file:
        file.descriptions, file.scales = names, [0.0001] * len(names)
        file.write(cube[::-1].astype(np.uint16))
    return path


def _script(item: Path, scene: Path) -> np.ndarray:
    target = scene.with_name("own.tif")
    subprocess.run([sys.executable, SCRIPT, item, scene, target], check=True, timeout=120)
    with rasterio.open(target) as mask:
        return mask.read(1)


def _run(scene: Path, **options: Any) -> np.ndarray:
    target = scene.with_name("run.tif")
    mask_product(scene, target, MaskOptions(sensor="sentinel-2-l1c", **options))
    with rasterio.open(target) as mask:
        return mask.read(1)


def _compare(found: np.ndarray, expected: np.ndarray) -> None:
    assert len(np.unique(expected)) >= 3, "a scene of one class compares nothing"
    np.testing.assert_array_equal(found == 255, expected == 255)
    assert (found == expected).mean() >= 0.999


def test_the_script_is_short_and_imports_nothing_of_this_package() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    assert "cloudmask" not in text
    code = text.partition("\nitem_path")[2].splitlines()
    assert len([line for line in code if line.strip() and '"""' not in line]) < 60


def test_mini_from_its_item_makes_the_mask_of_cloudmask_run(scene: Path) -> None:
    _compare(_script(MINI, scene), _run(scene, precision="fp32"))


def test_minis_item_says_which_file_it_is_and_what_goes_in() -> None:
    item = json.loads(MINI.read_text(encoding="utf-8"))
    asset, onnx = item["assets"]["model"], packaged_onnx(get_model("mini"))
    assert (MINI.parent / asset["href"]).read_bytes() == onnx.read_bytes(), "`catalog build`"
    assert asset["file:size"] == onnx.stat().st_size
    assert parse_multihash(asset["file:checksum"], "") == sha256_of(onnx)
    assert (asset["mlm:artifact_type"], item["properties"]["mlm:framework"]) == ("onnx", "ONNX")
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(onnx)
    said = [(each["name"], each["input"]["shape"][1:]) for each in item["properties"]["mlm:input"]]
    assert said == [(each.name, each.shape[1:]) for each in session.get_inputs()]


def test_the_functions_in_the_items_do_what_they_say(
    item_of: Callable[[str], dict[str, Any]],
) -> None:
    told = item_of("mini")["properties"]
    before = told["mlm:input"][0]["pre_processing_function"]["expression"]
    after = told["mlm:output"][0]["post_processing_function"]["expression"]
    valid = np.array([[True, False]])
    names = {"numpy": np, "valid": valid, "windows": np.array([[[[0.5, np.nan]]]])}
    np.testing.assert_array_equal(eval(before, names), np.float32([[[[0.5, 0]]]]))
    names |= {"values": np.arange(4), "probabilities": np.eye(4)[:, None, 2:]}
    np.testing.assert_array_equal(eval(after, names), np.uint8([[2, 255]]))


def test_an_input_that_files_took_before_is_not_told_as_another() -> None:
    with pytest.raises(WeightsError, match=r"takes 'valid'; expected .* Export it anew"):
        recipe.further_input("valid", 3)


def test_no_models_asset_is_a_page_or_a_name(item_of: Callable[[str], dict[str, Any]]) -> None:
    from openeo_cloudmask.models import MODELS

    for model in MODELS:
        for key, asset in item_of(model)["assets"].items():
            assert not asset["href"].startswith("urn:"), (model, key)
            assert key != "model" or "html" not in asset["type"], model
            assert key != "model" or "doi.org" not in asset["href"], model


def test_an_item_of_another_mini_is_refused(item_of: Callable[[str], dict[str, Any]]) -> None:
    item = item_of("mini")
    item["assets"]["model"]["file:checksum"] = "1220" + "0" * 64
    with pytest.raises(CatalogError, match=r"file:checksum is .*; expected .* of the mini\.onnx"):
        read_model_item(item)


def test_ukis_item_says_how_its_published_file_is_fed_and_read(
    item_of: Callable[[str], dict[str, Any]],
) -> None:
    """Tiles, scaling and classes by the item alone give the probabilities of the detector."""
    package = pytest.importorskip("ukis_csmask")
    onnxruntime = pytest.importorskip("onnxruntime")
    path = Path(package.__file__).with_name("model_6b_l1c.onnx")
    told = item_of("ukis-csmask")
    given, answer = told["properties"]["mlm:input"][0], told["properties"]["mlm:output"][0]
    steps = told["properties"]["mlm:hyperparameters"]
    assert parse_multihash(told["assets"]["model"]["file:checksum"], "") == sha256_of(path)
    session = onnxruntime.InferenceSession(path)
    assert (given["name"], given["input"]["shape"][1:]) == ("input", [6, 256, 256])
    assert session.get_outputs()[0].shape[1:] == answer["result"]["shape"][1:]

    made = simulate_scene(6, size=steps["window_px"], sensor="sentinel-2-l1c", cloud_fraction=0.4)
    window = made.cube[[made.band_names.index(name) for name in given["bands"]]]
    mean, std = (
        np.float32([each[key] for each in given["value_scaling"]])[:, None, None]
        for key in ("mean", "stddev")
    )
    scaled, tile = (np.nan_to_num(window) - mean) / std, given["input"]["shape"][-1]
    rise = np.sin(np.pi * (np.arange(tile) + 0.5) / tile) ** 2
    total, weights = np.zeros((4, *window.shape[1:])), np.zeros(window.shape[1:])
    starts = range(0, steps["window_px"] - tile + 1, steps["tile_stride_px"])
    values = [each["value"] for each in answer["classification:classes"]]
    for row, column in itertools.product(starts, starts):
        place = slice(row, row + tile), slice(column, column + tile)
        (logits,) = session.run(None, {given["name"]: scaled[None, :, *place]})[0]
        raised = np.exp(logits - logits.max(axis=0))
        total[values, *place] += raised / raised.sum(axis=0) * np.outer(rise, rise)
        weights[place] += np.outer(rise, rise)
    detector = load_detector("ukis-csmask", sensor="sentinel-2-l1c")
    found = detector.predict_windows(np.nan_to_num(window)[None], np.isfinite(window).all(0)[None])
    np.testing.assert_allclose(total / weights, found[0], atol=1e-4)
    assert len(np.unique(found[0].argmax(axis=0))) == 3


@pytest.fixture
def exported(tmp_path: Path, shared: Callable[[str], Path]) -> Path:
    """Return the item beside an exported file whose published weights are available."""
    for package in ("torch", "onnx", "onnxscript", "h5py"):
        pytest.importorskip(package)
    weights = shared("weights/dl_l8s2_uv_landsatbiomeRGBISWIR7.hdf5")
    export("dl-l8s2-uv", tmp_path / "uv.onnx", "sentinel-2-l1c", weights=str(weights), item=True)
    return tmp_path / "uv.json"


def test_an_exported_network_runs_from_the_item_beside_it(
    exported: Path, scene: Path, validator: SchemaValidator
) -> None:
    item = json.loads(exported.read_text(encoding="utf-8"))
    validate_dict(item, validator=validator, stac_object_type=pystac.STACObjectType.ITEM)
    assert item["assets"]["model"]["href"] == "uv.onnx"
    expected = _run(scene, model="dl-l8s2-uv", weights=str(exported.with_name("uv.onnx")))
    assert len(np.unique(expected)) >= 2
    assert (_script(exported, scene) == expected).mean() >= 0.999
