"""A mask or reference is no scene, whether or not the sensor is known."""

import numpy as np
import pytest
import rasterio
from affine import Affine

from openeo_cloudmask.backend.cubes.collections import CollectionStore
from openeo_cloudmask.backend.cubes.ingest import ingest_product
from openeo_cloudmask.errors import BandError


@pytest.fixture
def classes(tmp_path):
    path = tmp_path / "truth.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=32, width=32, count=1, dtype="uint8",
        crs="EPSG:32631", transform=Affine(10, 0, 500_000, 0, -10, 5_000_000),
    ) as out:  # fmt: skip
        out.write(np.ones((1, 32, 32), np.uint8))
    return path


@pytest.mark.parametrize("sensor", [None, "sentinel-2-l1c"])
def test_one_band_of_bytes_is_no_scene(classes, tmp_path, sensor):
    store = CollectionStore(tmp_path / "collections")
    with pytest.raises(BandError, match=r"name its bands with --bands|one band of uint8"):
        ingest_product(classes, store, sensor=sensor)


def test_an_image_of_one_band_is_taken_once_its_band_is_named(classes, tmp_path):
    store = CollectionStore(tmp_path / "collections")
    name, _ = ingest_product(classes, store, bands=("pan",), scale=1 / 255)
    assert name == "RASTERS"
