import numpy as np
import pytest
import rasterio

from openeo_cloudmask.alcd.archive import AlcdArchive
from openeo_cloudmask.alcd.writer import write_alcd_scene
from openeo_cloudmask.errors import OptionError, OutputError
from openeo_cloudmask.products import open_product
from openeo_cloudmask.simulator.products import (
    make_reference,
    write_geotiff,
    write_product,
    write_truth,
)
from openeo_cloudmask.simulator.scene import simulate_scene


@pytest.fixture(scope="module")
def scene():
    return simulate_scene(2, size=120, decks=("cumulus",), cloud_fraction=0.4, nodata_fraction=0.1)


def test_a_safe_reads_back_what_was_simulated(tmp_path, scene):
    path = write_product(scene, tmp_path)
    assert path.name.endswith(".SAFE")
    with open_product(path) as product:
        assert product.band_labels == scene.band_names
        assert product.grid.transform == scene.transform
        pixels = product.cube()[:, :, :]
        assert product.metadata["cloud_cover"] == scene.cloud_percent
    seen = scene.truth[scene.truth != 255]
    assert scene.cloud_percent == pytest.approx(100 * np.isin(seen, (1, 2)).mean(), abs=0.01)
    fine = [scene.band_names.index(name) for name in ("B02", "B03", "B04", "B08")]
    # One count is 0.0001; a pixel is no-data in the product where any band is.
    np.testing.assert_allclose(pixels[fine], scene.cube[fine], atol=6e-5)


def test_a_level_2a_reads_back_too(tmp_path):
    scene = simulate_scene(2, size=60, sensor="sentinel-2-l2a")
    path = write_product(scene, tmp_path)
    assert path.name.startswith("S2A_MSIL2A_")
    assert len(list(path.glob("GRANULE/*/IMG_DATA/R20m/*_B8A_20m.jp2"))) == 1
    with open_product(path) as product:
        assert product.sensor.id == "sentinel-2-l2a"
        assert product.band_labels == scene.band_names
        pixels = product.cube(["B02", "B08"])[:, :, :]
    kept = [scene.band_names.index(name) for name in ("B02", "B08")]
    np.testing.assert_allclose(pixels, scene.cube[kept], atol=6e-5)


def test_a_landsat_product_reads_back_what_was_simulated(tmp_path):
    scene = simulate_scene(2, sensor="landsat-8-9-l1", size=96, decks=("tower",))
    with open_product(write_product(scene, tmp_path)) as product:
        assert set(product.band_labels) == set(scene.band_names)
        pixels = product.cube(scene.band_names)[:, :, :]
        assert product.metadata["cloud_cover"] == scene.cloud_percent
    np.testing.assert_allclose(pixels, scene.cube, atol=2e-3)


def test_geotiff_and_truth(tmp_path, scene):
    with rasterio.open(write_geotiff(scene, tmp_path / "scene.tif")) as raster:
        np.testing.assert_array_equal(raster.read(), scene.cube)
        assert raster.descriptions == scene.band_names
        assert raster.transform == scene.transform
    with open_product(tmp_path / "scene.tif", sensor=scene.sensor) as product:
        assert product.metadata["cloud_cover"] == scene.cloud_percent
    with rasterio.open(write_truth(scene, tmp_path / "truth.tif")) as raster:
        np.testing.assert_array_equal(raster.read(1), scene.truth)
        assert raster.nodata == 255
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scene.tif", "truth.tif"]


def test_the_alcd_reference_has_the_class_most_pixels_have(tmp_path, scene):
    write_alcd_scene(tmp_path, make_reference(scene, "a-scene"))
    with AlcdArchive(tmp_path) as archive:
        read = archive.read(archive.entries[0])
    assert read.labels.shape == (20, 20)
    assert read.grid.transform.a == 60
    block = scene.truth_alcd[60:66, 30:36]
    assert np.bincount(block.ravel(), minlength=8)[read.labels[10, 5]] == max(
        np.bincount(block.ravel(), minlength=8)
    )


def test_what_cannot_be_written(tmp_path, scene):
    with pytest.raises(OptionError, match="multiple of 6"):
        write_product(simulate_scene(1, size=100), tmp_path)
    with pytest.raises(OptionError, match="write a GeoTIFF"):
        write_product(simulate_scene(1, sensor="landsat-8-9-l2", size=60), tmp_path)
    assert list(tmp_path.iterdir()) == []
    write_product(scene, tmp_path)
    with pytest.raises(OutputError, match="exists; remove it"):
        write_product(scene, tmp_path)
    with pytest.raises(OutputError, match="cannot write"):
        write_geotiff(scene, tmp_path / "missing" / "scene.tif")
    with pytest.raises(OptionError, match="do not fit"):
        make_reference(simulate_scene(1, size=60, pixel_m=25, bands=("B02",)), "x")
