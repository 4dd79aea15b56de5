"""When a raster was taken, by its tags."""

from datetime import UTC, datetime

import pytest
import rasterio

from openeo_cloudmask.backend.cubes.collections import CollectionStore
from openeo_cloudmask.backend.cubes.ingest import ingest_product
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products import mask_product, open_product

BANDS = ("B02", "B03", "B04", "B08")
TEN = datetime(2024, 5, 1, 10, 20, 30, tzinfo=UTC)


@pytest.fixture
def write_dated(write_raster, digits):
    """Return the writer of a scene with tags: (domain, name) -> text."""

    def write(tags: dict[tuple[str | None, str], str]):
        path = write_raster(digits(32, 32, bands=4), labels=BANDS)
        with rasterio.open(path, "r+") as dataset:
            for (domain, name), text in tags.items():
                dataset.update_tags(ns=domain, **{name: text})
        return path

    return write


@pytest.mark.parametrize(
    ("tags", "when"),
    [
        ({(None, "ACQUIRED"): "2024-05-01T12:20:30+02:00"}, TEN),
        ({(None, "Acquired"): "2024-05-01"}, datetime(2024, 5, 1, tzinfo=UTC)),
        ({("IMAGERY", "ACQUISITIONDATETIME"): "2024-05-01 10:20:30"}, TEN),
        ({(None, "SENSING_TIME"): "2024-05-01T10:20:30Z"}, TEN),
        ({(None, "ACQUIRED"): "2024-05-01T10:20:30Z", (None, "SENSING_TIME"): "2024-05-01"}, TEN),
        ({(None, "ACQUIRED"): "2024-05-01", (None, "SENSING_TIME"): "2024-05-02"}, None),
        ({(None, "TIFFTAG_DATETIME"): "2024:05:01 10:20:30"}, None),
        ({(None, "ACQUIRED"): "2024-13-01"}, None),
        ({(None, "ACQUIRED"): "0001-01-01T00:00+10:00"}, None),
        ({(None, "ACQUIRED"): "in May"}, None),
        ({}, None),
    ],
)
def test_only_tags_of_acquisition_count(write_dated, tags, when):
    with open_product(write_dated(tags)) as scene:
        assert scene.acquired == when


def test_masks_and_items_have_the_date_of_the_file(write_dated, tmp_path):
    path = write_dated({("IMAGERY", "ACQUISITIONDATETIME"): "2024-05-01 10:20:30"})
    with rasterio.open(path, "r+") as dataset:
        dataset.scales = [1e-4] * 4
    options = MaskOptions(model="mini", sensor="sentinel-2-l1c")
    mask_product(path, tmp_path / "mask.tif", options)
    with rasterio.open(tmp_path / "mask.tif") as mask:
        assert mask.tags()["ACQUIRED"] == "2024-05-01T10:20:30+00:00"
    store = CollectionStore(tmp_path / "collections")
    collection, item = ingest_product(path, store, sensor="sentinel-2-l1c")
    found = store.items(collection)
    assert [one["properties"]["datetime"] for one in found if one["id"] == item] == [
        "2024-05-01T10:20:30Z"
    ]


def test_a_folder_of_bands_has_the_date_of_its_files(write_raster, digits):
    for band in BANDS:
        path = write_raster(digits(24, 24), f"bands/HLS.S30.T32TMR.2024122T102019.v2.0.{band}.tif")
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(SENSING_TIME="2024-05-01T10:20:30Z")
    with open_product(path.parent) as scene:
        assert scene.acquired == TEN
