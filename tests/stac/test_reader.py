"""Items edited by hand: what cannot be run is refused, with the field named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pystac
import pytest

from openeo_cloudmask.errors import CatalogError, WeightsError
from openeo_cloudmask.models import MODELS
from openeo_cloudmask.models.weights import WEIGHTS_VARIABLE
from openeo_cloudmask.stac import fields
from openeo_cloudmask.stac.reader import load_item_detector, read_model_item

ItemOf = Callable[[str], dict[str, Any]]
Edit = Callable[[dict[str, Any]], None]


def _set(path: str, value: Any) -> Edit:
    """Return an edit that sets e.g. ``properties/cloudmask:inputs/0/sensor``."""

    def edit(item: dict[str, Any]) -> None:
        *parents, last = [int(key) if key.isdigit() else key for key in path.split("/")]
        place: Any = item
        for key in parents:
            place = place[key]
        place[last] = value

    return edit


def _remove(path: str) -> Edit:
    def edit(item: dict[str, Any]) -> None:
        *parents, last = [int(key) if key.isdigit() else key for key in path.split("/")]
        place: Any = item
        for key in parents:
            place = place[key]
        del place[last]

    return edit


EDITS: dict[str, tuple[Edit, str]] = {
    "unknown band": (
        _set("properties/cloudmask:inputs/0/bands/2/name", "B99"),
        r"cloudmask:inputs\[0\]\.bands\[2\]\.name is 'B99'.*it has B01",
    ),
    "wrong wavelength": (
        _set("properties/cloudmask:inputs/0/bands/2/min_nm", 500.0),
        r"bands\[2\]\.min_nm is 500\.0; expected 537\.5",
    ),
    "unknown sensor": (
        _set("properties/cloudmask:inputs/0/sensor", "pushbroom-9"),
        r"cloudmask:inputs\[0\]\.sensor is 'pushbroom-9'; expected one of sentinel-2-l1c",
    ),
    "sensors that contradict the inputs": (
        _set("properties/cloudmask:sensors", ["landsat-8-9-l1"]),
        "cloudmask:sensors is",
    ),
    "other bands for MLM": (
        _set("properties/mlm:input/0/bands", ["B02", "B03"]),
        r"mlm:input\[0\]\.bands is \['B02', 'B03'\]; expected the bands of sentinel-2-l1c",
    ),
    "other bands in the asset": (
        _set("assets/model/bands/0/name", "B02"),
        r"assets\.model\.bands",
    ),
    "shape of other bands": (
        _set("properties/mlm:input/0/input/shape", [-1, 4, 512, 512]),
        r"input\.shape is \[-1, 4, 512, 512\]; expected \[-1, 13",
    ),
    "oblong window": (
        _set("properties/mlm:input/0/input/shape", [-1, 13, 512, 256]),
        "expected squares and whole numbers",
    ),
    "window that the network cannot take": (
        _set("properties/mlm:input/0/input/shape", [-1, 13, 500, 500]),
        "window size 500 px is no positive multiple of 32",
    ),
    "digest too short": (
        _set("assets/model/file:checksum", "1220abcd"),
        "file:checksum is '1220abcd'; expected a multihash of SHA2-256",
    ),
    "digest of another kind": (
        _set("assets/model/file:checksum", "1114" + "0" * 40),
        "file:checksum is '1114",
    ),
    "weights elsewhere": (
        _set("assets/model/href", "ftp://example.org/weights.pt"),
        "assets.model.href is 'ftp://example.org/weights.pt'; expected a file of the Hugging",
    ),
    "weights asset without the role": (
        _set("assets/model/roles", ["mlm:model"]),
        "assets.model.roles has no 'weights'",
    ),
    "unsupported framework": (
        _set("properties/mlm:framework", "TensorFlow"),
        "mlm:framework is 'TensorFlow', which does not run .* expected 'PyTorch'",
    ),
    "framework that contradicts the dependencies": (
        _set("properties/cloudmask:openeo/dependencies", ["openeo-cloudmask[onnx]"]),
        r"cloudmask:openeo.dependencies\[0\] is .*\[onnx\]'; expected .*\[torch\]'",
    ),
    "unknown network": (
        _set("properties/mlm:hyperparameters/kind", "transformer-xxl"),
        "mlm:hyperparameters.kind is 'transformer-xxl'; expected one of .*unet-mobilenet-v2",
    ),
    "unknown classes": (
        _set("properties/cloudmask:class_scheme", "nine-class"),
        "cloudmask:class_scheme is 'nine-class'; expected one of 4-class",
    ),
    "classes in another order": (
        _set("properties/mlm:output/0/classification:classes/1/value", 3),
        r"classification:classes\[1\]\.value: expected 1",
    ),
    "a class less": (
        _remove("properties/mlm:output/0/classification:classes/1"),
        "expected the 4 classes",
    ),
    "another mapping": (
        _set("properties/cloudmask:class_mappings/cloud-noncloud", [0, 1, 0, 0]),
        r"class_mappings\.cloud-noncloud is \[0, 1, 0, 0\]; expected \[0, 1, 1, 0\]",
    ),
    "another stride": (
        _set("properties/cloudmask:strides", [100]),
        r"cloudmask:strides has \[100\]; expected some of \[64",
    ),
    "context of another model": (
        _set("properties/cloudmask:openeo/context/model", "hollstein"),
        "context.model is 'hollstein'; expected 'cloudsen12'",
    ),
    "function that is not there": (
        _set("properties/cloudmask:openeo/udf", "function"),
        "cloudmask:openeo.udf is 'function'; expected the key of an asset",
    ),
    "other name": (_set("properties/mlm:name", "other"), "mlm:name is 'other'"),
    "no licence link": (_remove("links/0"), "none has the rel 'license'"),
    "no collection": (_remove("collection"), "collection"),
    "no title": (_remove("properties/title"), "properties.title is None"),
    "size in words": (_set("assets/model/file:size", "big"), "file:size is 'big'"),
    "publication without DOI": (
        _set("properties/sci:publications", [{"citation": "A book"}]),
        r"sci:publications\[0\]\.doi is None",
    ),
    "extension not declared": (
        _set("stac_extensions", ["https://stac-extensions.github.io/mlm/v1.5.2/schema.json"]),
        "does not name the cloudmask extension",
    ),
    "not MLM": (
        _set(
            "stac_extensions",
            ["https://openeo-cloudmask.github.io/stac-extension/v1.0.0/schema.json"],
        ),
        "does not name the MLM",
    ),
    "extensions in words": (_set("stac_extensions", "mlm"), "stac_extensions is 'mlm'"),
    "a misspelt field": (
        _set("properties/cloudmask:strids", [384]),
        "'cloudmask:strids' was unexpected|strids",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_clear_error_names_the_field(name: str, item_of: ItemOf) -> None:
    edit, message = EDITS[name]
    content = item_of("cloudsen12")
    assert read_model_item(content) == MODELS["cloudsen12"]
    edit(content)
    with pytest.raises(CatalogError, match=message):
        load_item_detector(content)


def test_alternatives_have_to_be_bands_of_the_input(item_of: ItemOf) -> None:
    content = item_of("ukis-csmask")
    content["properties"]["cloudmask:inputs"][0]["alternatives"][0].append("B99")
    with pytest.raises(CatalogError, match=r"inputs\[0\]\.alternatives\[0\] is"):
        read_model_item(content)


def test_a_rule_of_another_name_is_refused(item_of: ItemOf) -> None:
    content = item_of("hollstein")
    content["id"] = content["properties"]["mlm:name"] = "holstein"
    content["properties"]["cloudmask:openeo"]["context"]["model"] = "holstein"
    with pytest.raises(CatalogError, match="'holstein' of the kind 'rule' is not among the models"):
        read_model_item(content)


def test_weights_that_are_not_the_items_are_refused(
    item_of: ItemOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cloudsen12.pt").write_bytes(b"not the published weights")
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    content = item_of("cloudsen12")
    content["assets"]["model"]["file:checksum"] = "1220" + "0" * 64
    with pytest.raises(WeightsError, match=r"0{64}"):
        load_item_detector(content)


def test_what_is_null_may_be_missing(item_of: ItemOf) -> None:
    # As pgstac keeps items, and stac-fastapi and Planetary Computer give them back.
    def strip(content: Any) -> Any:
        if isinstance(content, dict):
            return {key: strip(value) for key, value in content.items() if value is not None}
        return [strip(value) for value in content] if isinstance(content, list) else content

    for name in ("mini", "hollstein", "cloudsen12"):
        content = item_of(name)
        stripped = strip(content)
        assert "datetime" in content["properties"]
        assert "datetime" not in stripped["properties"]
        assert read_model_item(stripped) == MODELS[name]
    del stripped["properties"]["start_datetime"]
    with pytest.raises(CatalogError, match="datetime"):
        read_model_item(stripped)


def test_what_is_no_item_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "item.json"
    broken.write_text("{", encoding="utf-8")
    with pytest.raises(CatalogError, match="is no STAC item"):
        read_model_item(broken)
    with pytest.raises(CatalogError, match="type 'Feature'"):
        read_model_item({"type": "Catalog"})
    with pytest.raises(CatalogError, match="is no STAC item"):
        read_model_item(tmp_path / "none.json")


def test_an_items_own_additions_do_no_harm(item_of: ItemOf) -> None:
    content = item_of("cloudsen12")
    content["properties"]["keywords"] = ["mine"]
    content["links"].append({"rel": "about", "href": "https://example.org"})
    content["stac_extensions"].append("https://example.org/unknown/v1.0.0/schema.json")
    assert read_model_item(pystac.Item.from_dict(content)) == MODELS["cloudsen12"]


def test_weights_are_of_the_hub_or_github() -> None:
    sources = [entry.weights for entry in MODELS.values() if entry.weights is not None]
    assert {source.host for source in sources} == {"huggingface", "github"}
    for source in sources:
        read = fields.parse_weights_url(source.url, "href")
        assert read == dataclasses.replace(source, sha256=None, size_bytes=None)
    for url in (
        "https://raw.githubusercontent.com.evil.example/a/b/c/d.pt",
        "https://raw-githubusercontent.com/a/b/c/d.pt",
        "http://raw.githubusercontent.com/a/b/c/d.pt",
        "https://raw.githubusercontent.com/a/b/d.pt",
        "https://github.com/a/b/raw/c/d.pt",
    ):
        with pytest.raises(CatalogError, match="expected a file of the Hugging Face hub or GitHub"):
            fields.parse_weights_url(url, "href")


HUB = "https://huggingface.co/some/repository/resolve/main/"


@pytest.mark.parametrize(
    "file",
    [
        "../../../../evil.pt", "a/../b.pt", "%2e%2e/evil.pt", "..%2fevil.pt", "a\\..\\evil.pt",
        "/etc/evil.pt", "a//evil.pt", ".hidden.pt", "evil.pt?download=1", "evil.pt\nx",
    ],
)  # fmt: skip
def test_weights_that_lead_out_of_the_cache_are_refused(item_of: ItemOf, file: str) -> None:
    content = item_of("cloudsen12l2a")
    content["assets"]["model"]["href"] = HUB + file
    with pytest.raises(CatalogError, match=r"plain names|letters, digits|expected a file of the"):
        load_item_detector(content, trust=True)


def test_an_untrusted_program_needs_a_checksum_and_a_word(
    item_of: ItemOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    (tmp_path / "evil.pt").write_bytes(b"some program")
    content = item_of("cloudsen12l2a")
    model = content["assets"]["model"]
    model["href"] = HUB + "evil.pt"
    for key in ("file:checksum", "file:size"):
        model.pop(key, None)
    with pytest.raises(CatalogError, match=r"no file:checksum.*TorchScript, a program"):
        load_item_detector(content, trust=True)
    model["file:checksum"] = "1220" + "0" * 64
    with pytest.raises(CatalogError, match=r"would run with your rights.*trust=True"):
        load_item_detector(content)
    with pytest.raises(WeightsError, match="is not the file that was published"):
        load_item_detector(content, trust=True)


def test_the_packages_own_programs_need_no_word(
    item_of: ItemOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    (tmp_path / "landsat30.pt").write_bytes(b"not the published weights")
    with pytest.raises(WeightsError, match="is not the file that was published"):
        load_item_detector(item_of("landsat30"), sensor="landsat-8-9-l1")
