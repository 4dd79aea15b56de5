"""Masks as items: what they show, where they lie, what they were made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from numpy.typing import NDArray
from pystac.validation import validate_dict
from rasterio.transform import from_origin

from openeo_cloudmask import __version__
from openeo_cloudmask.classes import SCHEMES
from openeo_cloudmask.errors import InputError, ProductError, UnknownModelError
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.stac.extension import CloudMaskExtension
from openeo_cloudmask.stac.mask_item import MaskOrigin, cloud_values, describe_mask
from openeo_cloudmask.stac.schemas import SchemaValidator

TIME = datetime(2021, 9, 8, 4, 27, 1, tzinfo=UTC)
Write = Callable[..., Path]


@pytest.fixture
def write_mask(tmp_path: Path) -> Write:
    """Return a function that writes class values as a GeoTIFF on a grid of UTM zone 31."""

    def write(values: NDArray[np.uint8], crs: str | None = "EPSG:32631") -> Path:
        planes = values if values.ndim == 3 else values[np.newaxis]
        path = tmp_path / "mask.tif"
        profile = {"driver": "GTiff", "count": len(planes), "dtype": "uint8", "nodata": 255}
        profile |= {"height": planes.shape[1], "width": planes.shape[2]}
        if crs:
            profile |= {"crs": crs, "transform": from_origin(600000, 4900020, 10, 10)}
        with rasterio.open(path, "w", **profile) as target:
            target.write(planes)
        return path

    return write


def _values() -> NDArray[np.uint8]:
    values = np.zeros((40, 60), np.uint8)
    values[:, :15] = 1  # a quarter thick cloud
    values[:, 15:18] = 3
    values[:10] = 255
    return values


def test_a_mask_item_is_valid_and_says_how_it_was_made(
    write_mask: Write, validator: SchemaValidator
) -> None:
    options = MaskOptions(model="hollstein", stride=256, scale=0.0001)
    origin = MaskOrigin(
        model_href="https://example.org/catalog/Hollstein/hollstein/hollstein.json",
        input_hrefs=("https://example.org/scene.json",),
        process_graph={"load1": {"process_id": "load_collection", "arguments": {}}},
        created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        platform="sentinel-2a",
    )
    path = write_mask(_values())
    item = describe_mask(path, options, item_id="a-mask", time=TIME, origin=origin)
    content = item.to_dict(include_self_link=False)
    assert len(validate_dict(content, validator=validator)) == 8
    properties = content["properties"]
    assert properties["datetime"] == "2021-09-08T04:27:01Z"
    assert properties["proj:code"] == "EPSG:32631"
    assert properties["proj:shape"] == [40, 60]
    assert properties["proj:transform"] == [10, 0, 600000, 0, -10, 4900020]
    assert properties["gsd"] == 10
    assert properties["eo:cloud_cover"] == 25
    assert properties["platform"] == "sentinel-2a"
    asset = content["assets"]["mask"]
    assert asset["file:size"] == path.stat().st_size
    assert asset["file:checksum"] == "1220" + hashlib.sha256(path.read_bytes()).hexdigest()
    render = properties["renders"]["mask"]
    assert render["assets"] == ["mask"]
    assert set(render["colormap"]) == {"0", "1", "2", "3"}
    assert properties["processing:software"] == {"openeo-cloudmask": __version__}
    assert properties["processing:expression"]["expression"] == origin.process_graph
    assert properties["processing:datetime"] == "2026-01-02T03:04:05Z"
    derived = [link["href"] for link in content["links"] if link["rel"] == "derived_from"]
    assert derived == [*origin.input_hrefs, origin.model_href]
    fields = CloudMaskExtension.ext(item)
    assert (fields.model, fields.output_style) == ("hollstein", "4-class")
    assert MaskOptions(**fields.parameters) == options


def test_stac_check_finds_a_fresh_mask_item_valid(write_mask: Write, stac_check: Any) -> None:
    item = describe_mask(
        write_mask(_values()),
        MaskOptions(model="hollstein"),
        item_id="a-mask",
        time=TIME,
        origin=MaskOrigin(model_href="https://example.org/hollstein.json"),
    )
    text = json.dumps(item.to_dict(include_self_link=False))
    [found] = stac_check({"a-mask.json": text}).values()
    assert (found["valid"], found["error"]) == (True, "")
    assert not found["advice"]


def test_its_rectangle_is_where_rasterio_says(write_mask: Write) -> None:
    item = describe_mask(
        write_mask(_values()), MaskOptions(model="hollstein"), item_id="m", time=TIME
    )
    with rasterio.open(write_mask(_values())) as source:
        lon, lat = rasterio.warp.transform(source.crs, "EPSG:4326", [600300], [4899820])
    assert item.bbox is not None
    west, south, east, north = item.bbox
    assert west < lon[0] < east
    assert south < lat[0] < north
    assert east - west < 0.01


@pytest.mark.parametrize("style", ["4-class", "cloud-noncloud", "valid-invalid", "native"])
def test_its_classes_are_those_of_the_style(
    style: str, write_mask: Write, validator: SchemaValidator
) -> None:
    options = MaskOptions(model="hollstein", output_style=style)  # type: ignore[arg-type]
    item = describe_mask(write_mask(_values()), options, item_id="m", time=TIME)
    validate_dict(item.to_dict(include_self_link=False), validator=validator)
    classes = item.assets["mask"].extra_fields["classification:classes"]
    scheme = SCHEMES["hollstein-6-class" if style == "native" else style]
    assert [given["value"] for given in classes] == [*scheme.values, 255]
    assert [given["name"] for given in classes] == [*scheme.names, "no-data"]
    assert classes[-1]["nodata"] is True
    assert ("eo:cloud_cover" in item.properties) == (style != "valid-invalid")


def test_percentages_have_a_band_a_class(write_mask: Write, validator: SchemaValidator) -> None:
    options = MaskOptions(model="hollstein", categorise=False)
    planes = np.full((4, 20, 20), 25, np.uint8)
    item = describe_mask(write_mask(planes), options, item_id="m", time=TIME)
    validate_dict(item.to_dict(include_self_link=False), validator=validator)
    asset = item.assets["mask"].extra_fields
    assert [band["name"] for band in asset["bands"]] == list(SCHEMES["4-class"].names)
    assert asset["unit"] == "%"
    assert "classification:classes" not in asset
    assert "eo:cloud_cover" not in item.properties


def test_a_mask_without_georeference_or_valid_pixels(
    write_mask: Write, validator: SchemaValidator
) -> None:
    path = write_mask(np.full((20, 20), 255, np.uint8), crs=None)
    item = describe_mask(path, MaskOptions(model="hollstein"), item_id="m", time=TIME)
    content = item.to_dict(include_self_link=False)
    validate_dict(content, validator=validator)
    assert content["geometry"] is None
    assert "eo:cloud_cover" not in content["properties"]
    assert "proj:code" not in content["properties"]


def test_a_span_of_time_is_kept(write_mask: Write, validator: SchemaValidator) -> None:
    last = datetime(2021, 9, 30, tzinfo=UTC)
    options = MaskOptions(model="hollstein")
    item = describe_mask(write_mask(_values()), options, item_id="m", time=(TIME, last))
    content = item.to_dict(include_self_link=False)
    validate_dict(content, validator=validator)
    assert content["properties"]["datetime"] is None
    assert content["properties"]["end_datetime"] == "2021-09-30T00:00:00Z"


def test_what_cannot_be_described_is_refused(write_mask: Write, tmp_path: Path) -> None:
    path, options = write_mask(_values()), MaskOptions(model="hollstein")
    local = TIME.replace(tzinfo=None)
    with pytest.raises(InputError, match="no time zone"):
        describe_mask(path, options, item_id="m", time=local)
    (tmp_path / "text.tif").write_text("no raster", encoding="utf-8")
    with pytest.raises(ProductError, match=r"cannot open .*text\.tif"):
        describe_mask(tmp_path / "text.tif", options, item_id="m", time=TIME)
    with pytest.raises(UnknownModelError, match="nonesuch"):
        describe_mask(path, MaskOptions(model="nonesuch"), item_id="m", time=TIME)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"MODEL": "mini"}, "its model is mini, but it is described as hollstein"),
        ({"OUTPUT_STYLE": "cloud-noncloud"}, "its output_style is cloud-noncloud"),
        ({"CATEGORISE": "false"}, "its categorise is false, but it is described as true"),
    ],
)
def test_a_file_that_says_otherwise_is_refused(
    write_mask: Write, tags: dict[str, str], message: str
) -> None:
    import rasterio

    path = write_mask(_values())
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        dataset.update_tags(**tags)
    with pytest.raises(ProductError, match=message):
        describe_mask(path, MaskOptions(model="hollstein"), item_id="m", time=TIME)


def test_cloud_values_are_cloud_and_nothing_else() -> None:
    found = {
        name: [scheme.names[scheme.values.index(value)] for value in cloud_values(scheme)]
        for name, scheme in SCHEMES.items()
    }
    assert found["4-class"] == ["thick-cloud", "thin-cloud"]
    assert found["cloud-noncloud"] == ["cloud"]
    assert found["valid-invalid"] == []
    assert found["hollstein-6-class"] == ["cloud", "cirrus"]
    assert found["alcd"] == ["low-cloud", "high-cloud"]


def test_corrupted_mask_items_are_refused(write_mask: Write, validator: SchemaValidator) -> None:
    item = describe_mask(
        write_mask(_values()), MaskOptions(model="hollstein"), item_id="m", time=TIME
    )
    good = item.to_dict(include_self_link=False)

    def refused(edit: Callable[[dict[str, Any]], Any]) -> str:
        corrupted = json.loads(json.dumps(good))
        edit(corrupted)
        with pytest.raises(pystac.STACValidationError, match="schema") as caught:
            validate_dict(
                corrupted,
                stac_object_type=pystac.STACObjectType.ITEM,
                stac_version="1.1.0",
                extensions=corrupted["stac_extensions"],
                validator=validator,
            )
        return str(caught.value)

    assert "cloudmask:model" in refused(lambda each: each["properties"].pop("cloudmask:model"))
    assert "model" in refused(lambda each: each["properties"]["cloudmask:parameters"].clear())
    assert "mask" in refused(lambda each: each["assets"].clear())
    assert "links" in refused(lambda each: each["links"].clear())
    assert "cloudmask:window" in refused(
        lambda each: each["properties"].update({"cloudmask:window": {}})
    )
    assert "cloudmask:output_style" in refused(
        lambda each: each["properties"].update({"cloudmask:output_style": "5-class"})
    )
