"""Every model of the registry as an item: valid, complete, and read back the same."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
from numpy.typing import NDArray
from pystac.extensions.mlm import MLMExtension
from pystac.validation import validate_dict

from openeo_cloudmask.classes import MAPPINGS
from openeo_cloudmask.inference import Detector, predict
from openeo_cloudmask.models import MODELS, build_network, load
from openeo_cloudmask.models.load import load_detector
from openeo_cloudmask.openeo.neighborhood import plan_neighborhood
from openeo_cloudmask.sensors import SENSORS
from openeo_cloudmask.stac.extension import SCHEMA_URI, CloudMaskExtension
from openeo_cloudmask.stac.reader import load_item_detector, read_model_item
from openeo_cloudmask.stac.schemas import SchemaValidator

ItemOf = Callable[[str], dict[str, Any]]
each_model = pytest.mark.parametrize("model", MODELS)


@each_model
def test_item_is_valid_against_all_schemas_it_names(
    model: str, item_of: ItemOf, validator: SchemaValidator
) -> None:
    checked = validate_dict(item_of(model), validator=validator)
    found = {"/".join(uri.split("/")[3:5]) for uri in checked}
    assert {"mlm/v1.5.2", "file/v2.1.0"} <= found
    names = next(iter(MODELS[model].inputs.values()))
    assert ("eo/v2.0.0" in found) == (set(names) > set(MODELS[model].layers))
    assert SCHEMA_URI in checked
    assert len(checked) == len(item_of(model)["stac_extensions"]) + 1


@each_model
def test_registry_to_item_and_back_is_the_same_entry(model: str, item_of: ItemOf) -> None:
    assert read_model_item(item_of(model)) == MODELS[model]


def test_an_item_read_by_pystac_or_from_a_file_gives_the_entry(catalog: Path) -> None:
    path = catalog / "CloudSEN12" / "cloudsen12" / "cloudsen12.json"
    assert read_model_item(path) == MODELS["cloudsen12"]
    assert read_model_item(pystac.Item.from_file(path)) == MODELS["cloudsen12"]


@each_model
def test_mlm_clients_see_bands_classes_and_window(model: str, item_of: ItemOf) -> None:
    entry, content = MODELS[model], item_of(model)
    mlm = MLMExtension.ext(pystac.Item.from_dict(content, migrate=False))
    (given, *_), (result,) = mlm.input, mlm.output
    sensor_id, names = next(iter(entry.inputs.items()))
    assert given.bands == list(names)
    side = entry.kind.tiled.tile_px if entry.kind.tiled else entry.window.size_px
    assert given.input.shape == [-1, len(names), side, side]
    assert given.input.dim_order == ["batch", "bands", "height", "width"]
    classes = result.classes
    assert classes is not None
    planes = entry.kind.tiled.classes if entry.kind.tiled else entry.scheme.names
    told = [entry.scheme.classes[entry.scheme.index(name)] for name in planes]
    assert [item.value for item in classes] == [item.value for item in told]
    assert [item.color_hint for item in classes] == [item.color for item in told]
    assert result.result.shape[1] == len(told)
    for described, band in zip(content["properties"]["bands"], names, strict=True):
        known = SENSORS[sensor_id].band(band)
        assert described["name"] == band
        found = described.get("eo:center_wavelength", np.nan) * 1000
        assert found == pytest.approx(known.centre_nm or np.nan, nan_ok=True)


@each_model
def test_mappings_are_those_of_the_classes_module(model: str, item_of: ItemOf) -> None:
    entry = MODELS[model]
    fields = CloudMaskExtension.ext(pystac.Item.from_dict(item_of(model), migrate=False))
    for style, values in fields.class_mappings.items():
        if style == entry.scheme_name:
            assert values == list(entry.scheme.values)
        else:
            assert tuple(values) == MAPPINGS[entry.scheme_name, style]
    assert fields.output_styles == [*fields.class_mappings, "native"]


@each_model
def test_overlap_makes_masks_without_seams(model: str, item_of: ItemOf) -> None:
    overlap = item_of(model)["properties"]["cloudmask:openeo"]["overlap_px"]
    planned = plan_neighborhood(MODELS[model].window)
    assert overlap == planned.overlap_px


def test_thermal_bands_are_scaled_from_kelvin(item_of: ItemOf) -> None:
    for model, sensor in (("SEnSeIv2-SegFormerB2-alldata-ambiguous", "landsat-8-9-l1"),):
        content = item_of(model)
        units = {band["name"]: band["unit"] for band in content["properties"]["bands"]}
        assert set(units.values()) <= {"1", "K"}
        inputs = content["properties"]["cloudmask:inputs"]
        landsat = next(given for given in inputs if given["sensor"] == sensor)
        kinds = {band["name"]: band["kind"] for band in landsat["bands"]}
        assert kinds["B10"] == kinds["B11"] == "thermal"
        assert content["properties"]["cloudmask:band_requirements"]["kinds"] == [
            "optical",
            "thermal",
        ]


def test_networks_tell_how_many_parameters_they_have(item_of: ItemOf) -> None:
    # Counted by hand from the published layer sizes of the patch network: facts of its authors.
    assert item_of("kristollari-cnn")["properties"]["mlm:total_parameters"] == 6363
    network = build_network("unet-mobilenet-v2", {"bands": 13, "classes": 4})
    counted = sum(part.numel() for part in network.parameters())
    assert item_of("cloudsen12")["properties"]["mlm:total_parameters"] == counted
    assert "mlm:total_parameters" not in item_of("cloudsen12l2a")["properties"]


@pytest.fixture
def _no_detectors_in_memory() -> Iterator[None]:
    load._load.cache_clear()
    yield
    load._load.cache_clear()


def _scene(detector: Detector) -> NDArray[np.float32]:
    numbers = np.random.default_rng(5)
    cube = numbers.uniform(0, 0.6, (len(detector.band_names), 96, 128)).astype(np.float32)
    cube[:, :7, :9] = np.nan
    return cube


def _both_ways(
    model: str, content: dict[str, Any], **options: Any
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what the registry's detector and the item's detector predict for one scene."""
    first = load_detector(model, device="cpu", precision="fp32", **options)
    expected = predict(_scene(first), first)
    load._load.cache_clear()  # otherwise both would be one detector
    second = load_item_detector(content, device="cpu", precision="fp32", **options)
    assert second is not first
    return expected, predict(_scene(second), second)


@pytest.mark.usefixtures("_no_detectors_in_memory")
def test_a_rules_mask_from_the_item_is_the_registrys_bit_for_bit(item_of: ItemOf) -> None:
    expected, found = _both_ways("hollstein", item_of("hollstein"))
    np.testing.assert_array_equal(found, expected)
    assert np.isnan(expected).any()
    assert np.nanmax(expected) <= 1


@pytest.mark.slow
@pytest.mark.usefixtures("_no_detectors_in_memory")
def test_a_networks_mask_from_the_item_is_the_registrys_bit_for_bit(
    item_of: ItemOf, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    network = build_network("unet-mobilenet-v2", {"bands": 13, "classes": 4})
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    expected, found = _both_ways(
        "cloudsen12", item_of("cloudsen12"), weights=tmp_path / "weights.pt"
    )
    np.testing.assert_array_equal(found, expected)


def test_items_say_who_may_use_the_weights_and_which_file_they_are(item_of: ItemOf) -> None:
    for model, entry in MODELS.items():
        content = item_of(model)
        assert content["properties"]["license"] == entry.licence.spdx
        licence = [link["href"] for link in content["links"] if link["rel"] == "license"]
        assert licence == [entry.licence.url]
        if entry.weights is not None and entry.weights.sha256 is not None:
            checksum = content["assets"]["model"]["file:checksum"]
            assert bytes.fromhex(checksum)[:2] == b"\x12\x20"  # SHA2-256, 32 bytes
            assert len(bytes.fromhex(checksum)) == 2 + hashlib.sha256().digest_size
            assert checksum.endswith(entry.weights.sha256)


def test_scores_are_there_only_with_how_they_were_obtained(item_of: ItemOf) -> None:
    rows = itertools.chain.from_iterable(
        item_of(model)["properties"].get("cloudmask:scores", ()) for model in MODELS
    )
    for row in rows:
        assert row["command"].startswith("cloudmask ")
        assert {"data", "date", "software", "metrics"} <= set(row)
    assert "cloudmask:scores" not in item_of("cloudsen12l2a")["properties"]


def test_items_are_plain_json(item_of: ItemOf) -> None:
    for model in MODELS:
        content = item_of(model)
        assert json.loads(json.dumps(content, allow_nan=False)) == content
