"""Rasters that do not say where they lie are asked about, and then used as any other."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from openeo_cloudmask.errors import OptionError, ProductError
from openeo_cloudmask.products.crs import parse_crs
from openeo_cloudmask.simulator.products import write_geotiff, write_product
from openeo_cloudmask.simulator.scene import simulate_scene
from openeo_cloudmask.viewer import placing
from tests.viewer.conftest import ROOT, TRANSFORM


@pytest.fixture
def write_bare(tmp_path):
    """Return the writer of a raster (band, y, x) with only the place it is given."""

    def write(values: np.ndarray, name: str = "bare.tif", **place):
        path = tmp_path / name
        with rasterio.open(
            path, "w", height=values.shape[1], width=values.shape[2],
            count=len(values), dtype=values.dtype, **{"driver": "GTiff"} | place,
        ) as out:  # fmt: skip
            out.write(values)
        return path

    return write


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_what_is_lacking_is_found_and_given(write_bare):
    values = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    path = write_bare(values)
    assert placing.find_lack(path) == placing.Lack(crs=True, transform=True)
    placing.give_place(path, crs=parse_crs(" epsg:32631 "), transform=placing.corner(5e5, 5e6, 20))
    assert not placing.find_lack(path)
    with rasterio.open(path) as found:
        assert found.crs.to_epsg() == 32631
        assert found.transform == Affine(20, 0, 5e5, 0, -20, 5e6)
        assert np.array_equal(found.read(), values)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_cog_gets_its_place_too(write_bare):
    path = write_bare(np.ones((1, 600, 600), np.uint8), driver="COG")
    placing.give_place(path, crs=parse_crs("EPSG:32631"), transform=TRANSFORM)
    with rasterio.open(path) as found:
        assert found.transform == TRANSFORM
        assert found.read().min() == 1


def test_where_only_the_projection_is_lacking_the_corner_stays(write_bare):
    path = write_bare(np.zeros((1, 4, 4), np.uint8), transform=TRANSFORM)
    assert placing.find_lack(path) == placing.Lack(crs=True, transform=False)
    placing.give_place(path, crs=parse_crs("EPSG:32631"))
    with rasterio.open(path) as found:
        assert found.transform == TRANSFORM


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_reference_may_cover_what_the_image_covers(write_bare):
    image = write_bare(
        np.zeros((2, 60, 120), np.uint8), "image.tif", crs="EPSG:32631", transform=TRANSFORM
    )
    coarse = write_bare(np.zeros((1, 10, 20), np.uint8))
    assert placing.covers_like(coarse, image)
    crs, transform = placing.cover(coarse, image)
    assert crs.to_epsg() == 32631
    assert transform == TRANSFORM @ Affine.scale(6)
    assert not placing.covers_like(write_bare(np.zeros((1, 20, 20), np.uint8), "a.tif"), image)
    with pytest.raises(ProductError, match="does not say where it lies either"):
        placing.cover(image, coarse)


def test_no_such_place(write_bare):
    with pytest.raises(OptionError, match="expected more than 0"):
        placing.corner(0, 0, 0)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_import_asks_for_the_place(no_backend, write_bare, tmp_path):
    from streamlit.testing.v1 import AppTest

    scene = write_geotiff(simulate_scene(5, size=64), tmp_path / "scene.tif")
    with rasterio.open(scene) as source:
        image = write_bare(source.read(), "mine.tif")
    truth = write_bare(np.ones((1, 64, 64), np.float32), "truth.tif")
    page = AppTest.from_file(str(ROOT / "viewer" / "app.py"), default_timeout=120).run()
    page.switch_page("screens/import_own.py").run()
    page.file_uploader[0].set_value(("mine.tif", image.read_bytes(), "image/tiff")).run()
    assert "mine.tif does not say where it lies" in page.warning[0].value
    assert not page.button
    secret = tmp_path / "secret.prj"
    secret.write_text(CRS.from_epsg(32631).to_wkt())
    page.text_input[0].set_value(str(secret))  # GDAL would open it, and addresses, too
    for field, value in zip(page.number_input, (5e5, 5e6, 10), strict=True):
        field.set_value(value)
    page.run()
    assert "is not known; expected a code" in page.error[0].value
    page.text_input[0].set_value("EPSG:32631").run()
    assert [button.label for button in page.button] == ["Mask"]
    page.file_uploader[1].set_value(("truth.tif", truth.read_bytes(), "image/tiff")).run()
    assert page.toggle[0].label == "It covers what mine.tif covers"
    assert [button.label for button in page.button] == ["Mask and score"]
    assert not page.exception


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_reference_without_place_beside_a_product(no_backend, write_bare, tmp_path):
    from streamlit.testing.v1 import AppTest

    safe = write_product(simulate_scene(5, size=96), tmp_path)
    image = Path(shutil.make_archive(str(tmp_path / "product"), "zip", tmp_path, safe.name))
    truth = write_bare(np.ones((1, 96, 96), np.uint8), "truth.tif")
    page = AppTest.from_file(str(ROOT / "viewer" / "app.py"), default_timeout=120).run()
    page.switch_page("screens/import_own.py").run()
    page.file_uploader[0].set_value(("product.zip", image.read_bytes(), "application/zip"))
    page.file_uploader[1].set_value(("truth.tif", truth.read_bytes(), "image/tiff")).run()
    assert "truth.tif does not say where it lies" in page.warning[0].value
    assert not page.error
    assert page.text_input[0].label == "Coordinate reference system"
