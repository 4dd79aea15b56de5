from __future__ import annotations

import shutil
from itertools import pairwise

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling

from openeo_cloudmask.errors import BandError, OptionError, ProductError, SensorError
from openeo_cloudmask.products import open_product

L1C = "S2A_MSIL1C_20210908T042701_N0301_R133_T46RER_20210908T070248.SAFE"
L2A = "S2A_MSIL2A_20230625T234621_N0509_R073_T01WCS_20230626T022157.SAFE"


def _read(scene, *bands):
    return scene.cube(bands)[:, 0:240, 0:300]


@pytest.mark.parametrize(("level", "bands"), [("L1C", 13), ("L2A", 12)])
@pytest.mark.parametrize(("offset", "added"), [(None, 0.0), (-1000, -0.1)])
def test_reflectance_uses_the_offset_of_the_metadata(write_safe, level, bands, offset, added):
    path, counts = write_safe(level, offset=offset)
    with open_product(path) as scene:
        assert scene.shape == (bands, 240, 300)
        assert scene.sensor.id == f"sentinel-2-{level.lower()}"
        np.testing.assert_allclose(_read(scene, "B03")[0], counts["B03"] / 1e4 + added, atol=1e-6)
        assert scene.metadata["add_offset_dn"] == (offset or 0)


def test_the_offset_of_each_band_is_its_own(write_safe):
    path, counts = write_safe()
    main = path / "MTD_MSIL1C.xml"
    text = main.read_text().replace('band_id="8">-1000', 'band_id="8">-500')
    main.write_text(text)
    with open_product(path) as scene:
        near, narrow = (_read(scene, band)[0] for band in ("B08", "B8A"))
    np.testing.assert_allclose(near, counts["B08"] / 1e4 - 0.1, atol=1e-6)
    np.testing.assert_allclose(narrow[0, 0], counts["B8A"][0, 0] / 1e4 - 0.05, atol=1e-6)


def test_coarse_bands_come_on_the_ten_metre_grid_as_gdal_interpolates(write_safe):
    path, counts = write_safe(offset=None)
    with open_product(path) as scene:
        read = _read(scene, "B11", "B01")
    for plane, band in zip(read, ("B11", "B01"), strict=True):
        with (
            rasterio.MemoryFile() as memory,
            memory.open(
                driver="GTiff",
                count=1,
                dtype="float32",
                height=counts[band].shape[0],
                width=counts[band].shape[1],
            ) as dataset,
        ):
            dataset.write(counts[band].astype(np.float32), 1)
            expected = dataset.read(1, out_shape=(240, 300), resampling=Resampling.bilinear)
        np.testing.assert_allclose(plane, expected / 1e4, atol=1e-5)


def test_strips_are_the_scene_however_they_are_cut(write_safe):
    path, _ = write_safe()
    with open_product(path) as scene:
        cube = scene.cube()
        whole = cube[:, 0:240, 0:300]
        edges = [0, 1, 7, 100, 101, 240]
        strips = [cube[:, top:bottom, 0:300] for top, bottom in pairwise(edges)]
        np.testing.assert_array_equal(np.concatenate(strips, axis=1), whole)
        np.testing.assert_array_equal(cube[2:5, 31:77, 13:290], whole[2:5, 31:77, 13:290])


def test_zero_is_no_data_before_the_offset_and_saturation_stays_seen(write_safe):
    fine = np.full((240, 300), 3000, np.uint16)
    fine[10, 20], fine[30, 40] = 0, 65535
    coarse = np.full((40, 50), 3000, np.uint16)
    coarse[1, 2] = 0
    path, _ = write_safe(counts={"B02": fine, "B09": coarse})
    with open_product(path) as scene:
        blue, vapour = _read(scene, "B02", "B09")
    assert np.isnan(blue[10, 20])
    assert np.isnan(blue).sum() == 1
    assert blue[30, 40] == pytest.approx(6.4535)
    nodata = np.zeros((240, 300), bool)
    nodata[6:12, 12:18] = True
    np.testing.assert_array_equal(np.isnan(vapour), nodata)
    np.testing.assert_allclose(vapour[~nodata], 0.2, atol=1e-6)


def test_jpeg_2000_as_the_products_have_it(write_safe):
    with rasterio.Env() as env:
        if "JP2OpenJPEG" not in env.drivers():
            pytest.skip("this GDAL cannot write JPEG 2000")
    path, counts = write_safe(driver="JP2OpenJPEG")
    with open_product(path) as scene:
        np.testing.assert_allclose(_read(scene, "B08")[0], counts["B08"] / 1e4 - 0.1, atol=1e-6)
        assert scene.grid.crs.to_epsg() == 32632
        assert scene.origin_yx == (-530004, 49998)


@pytest.mark.parametrize("main_file", [False, True])
def test_metadata(write_safe, main_file):
    path, _ = write_safe()
    with open_product(path / "MTD_MSIL1C.xml" if main_file else path) as scene:
        assert scene.acquired.isoformat() == "2023-06-25T10:20:30.024000+00:00"
        assert scene.metadata["sun_elevation_deg"] == 60
        assert scene.metadata["processing_baseline"] == "05.09"
        assert scene.metadata["id"] == "S2A_TEST"


def test_zipped(write_safe, pack):
    path, counts = write_safe()
    with open_product(pack(path, "zip")) as scene:
        assert len(scene.band_labels) == 13
        np.testing.assert_allclose(_read(scene, "B04")[0], counts["B04"] / 1e4 - 0.1, atol=1e-6)


def test_the_finest_image_of_a_band_is_taken(write_safe, write_image):
    path, counts = write_safe("L2A", granules=("L2A_T32TTT_A1",))
    folder = path / "GRANULE/L2A_T32TTT_A1/IMG_DATA"
    coarse = np.full((40, 50), 9999, np.uint16)
    write_image(folder / "R60m/T32TTT_20230625T102030_B02_60m.jp2", coarse, 60, "GTiff")
    fine = np.full((120, 150), 5000, np.uint16)
    write_image(folder / "R20m/T32TTT_20230625T102030_B01_20m.jp2", fine, 20, "GTiff")
    with open_product(path) as scene:
        blue, coastal = _read(scene, "B02", "B01")
    np.testing.assert_allclose(blue, counts["B02"] / 1e4 - 0.1, atol=1e-6)
    np.testing.assert_allclose(coastal, 0.4, atol=1e-6)


def test_products_before_december_2016(write_safe):
    names = ("S2A_OPER_MSI_L1C_TL_EPA__1_T31TFJ_N02.04", "S2A_OPER_MSI_L1C_TL_EPA__1_T32TTT_N02.04")
    path, counts = write_safe(offset=None, granules=names)
    (path / "MTD_MSIL1C.xml").rename(path / "S2A_OPER_MTD_SAFL1C_PDMC_20160605T113933.xml")
    for name in names:
        folder = path / "GRANULE" / name
        (folder / "MTD_TL.xml").rename(folder / f"{name.replace('_MSI_', '_MTD_')[:-7]}.xml")
        for image in list((folder / "IMG_DATA").iterdir()):
            image.rename(image.with_name(f"{name[:-7]}_{image.name[-7:]}"))
    with pytest.raises(ProductError, match=r"2 granules: .*T31TFJ.*T32TTT.*--granule"):
        open_product(path)
    with open_product(path, granule="T32TTT") as scene:
        np.testing.assert_allclose(_read(scene, "B02")[0], counts["B02"] / 1e4, atol=1e-6)
        assert scene.metadata["sun_elevation_deg"] == 60


def test_images_without_georeference_lie_where_the_tile_metadata_says(write_safe):
    path, _ = write_safe()
    for image in path.rglob("*.jp2"):
        with rasterio.open(image) as dataset:
            pixels = dataset.read()
        with rasterio.open(
            image, "w", driver="GTiff", count=1, height=pixels.shape[1], width=pixels.shape[2],
            dtype="uint16",
        ) as dataset:  # fmt: skip
            dataset.write(pixels)
    with open_product(path) as scene:
        assert scene.grid.crs.to_epsg() == 32632
        assert scene.origin_yx == (-530004, 49998)
        assert np.isfinite(scene.cube()[:, 0:240, 0:300]).all()


def test_missing_bands_are_named_with_where_they_are_looked_for(write_safe):
    path, _ = write_safe(without=("B10",))
    with open_product(path) as scene:
        assert "B10" not in scene.band_labels
        with pytest.raises(BandError, match=r"missing band B10 .*IMG_DATA as \*_Bxx.jp2"):
            scene.cube(["B02", "B10"])
    with pytest.raises(BandError, match=r"missing bands B10: expected .*IMG_DATA.*_B10\*\.jp2"):
        open_product(path, bands=["B02", "B10"])
    with open_product(path, bands=["red", "B2"]) as scene:
        assert scene.band_labels == ("B04", "B02")


def test_broken_products_are_refused(write_safe):
    path, _ = write_safe()
    main = path / "MTD_MSIL1C.xml"
    good = main.read_text()
    main.write_text(good[: len(good) // 2])
    with pytest.raises(ProductError, match=r"MTD_MSIL1C\.xml is not readable XML"):
        open_product(path)
    main.write_text(good.replace("QUANTIFICATION_VALUE", "SOMETHING"))
    with pytest.raises(ProductError, match="has no QUANTIFICATION_VALUE"):
        open_product(path)
    main.write_text(good.replace('band_id="4"', 'band_id="40"'))
    with pytest.raises(ProductError, match=r"RADIO_ADD_OFFSET but none for band_id 4 \(B05\)"):
        open_product(path)
    main.write_text(good.replace("S2MSI1C", "S2MSI1B"))
    with pytest.raises(ProductError, match="PRODUCT_TYPE is 'S2MSI1B'"):
        open_product(path)
    main.write_text(good)
    tile = next(path.rglob("MTD_TL.xml"))
    tile.write_text("<a><b></a>")
    with pytest.raises(ProductError, match=r"MTD_TL\.xml is not readable XML"):
        open_product(path)
    shutil.rmtree(path / "GRANULE")
    with pytest.raises(ProductError, match="has no granule"):
        open_product(path)


def test_a_granule_without_images_is_refused(write_safe):
    path, _ = write_safe()
    shutil.rmtree(next(path.rglob("IMG_DATA")))
    with pytest.raises(ProductError, match="the granule has no images"):
        open_product(path)


def test_options_that_the_product_answers_itself_are_refused(write_safe):
    path, _ = write_safe()
    with pytest.raises(OptionError, match="scale and offset cannot be given"):
        open_product(path, scale=0.0001, offset=-0.1)
    with pytest.raises(SensorError, match="product of sentinel-2-l1c"):
        open_product(path, sensor="sentinel-2-l2a")


@pytest.mark.parametrize(
    ("name", "added", "sensor", "elevation"),
    [(L1C, 0.0, "sentinel-2-l1c", 63.5068), (L2A, -0.1, "sentinel-2-l2a", None)],
)
def test_metadata_of_real_products(shared, write_safe, name, added, sensor, elevation):
    real = shared(f"products/{name}")
    level = "L1C" if "L1C" in name else "L2A"
    granule = next((real / "GRANULE").iterdir()).name
    path, counts = write_safe(level, name=name, granules=(granule,))
    shutil.copy(real / f"MTD_MSI{level}.xml", path)
    shutil.copy(real / "GRANULE" / granule / "MTD_TL.xml", path / "GRANULE" / granule)
    with open_product(path) as scene:
        assert scene.sensor.id == sensor
        assert scene.metadata["id"] == name.removesuffix(".SAFE")
        if elevation is not None:
            assert scene.metadata["sun_elevation_deg"] == pytest.approx(elevation, abs=1e-3)
        np.testing.assert_allclose(_read(scene, "B03")[0], counts["B03"] / 1e4 + added, atol=1e-6)


def test_a_folder_of_something_else_is_not_searched_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("openeo_cloudmask.products.files.FILES", 3)
    for number in range(5):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(ProductError, match="more than 3 files; expected those of one product"):
        open_product(tmp_path)


@pytest.mark.parametrize("value", ["inf", "1e300", "nan", "-10000", "1", "9e999"])
def test_a_quantification_that_cannot_be_is_refused(write_safe, value):
    path, _ = write_safe()
    main = path / "MTD_MSIL1C.xml"
    main.write_text(main.read_text().replace(">10000<", f">{value}<"))
    with pytest.raises(ProductError, match=r"QUANTIFICATION_VALUE is .*; expected 10000 or so"):
        open_product(path)


@pytest.mark.parametrize("value", ["inf", "nan", "1e300", "-20000"])
def test_an_offset_that_cannot_be_is_refused(write_safe, value):
    path, _ = write_safe()
    main = path / "MTD_MSIL1C.xml"
    main.write_text(main.read_text().replace(">-1000<", f">{value}<"))
    with pytest.raises(ProductError, match=r"RADIO_ADD_OFFSET is .*; expected -1000 or so"):
        open_product(path)


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "70000", "9" * 5000, "nothing", ""])
def test_a_no_data_value_that_cannot_be_is_refused(write_safe, value):
    path, _ = write_safe()
    main = path / "MTD_MSIL1C.xml"
    main.write_text(main.read_text().replace("INDEX>0<", f"INDEX>{value}<"))
    with pytest.raises(ProductError, match=r"NODATA is .*; expected a count such as 0"):
        open_product(path)


@pytest.mark.parametrize(
    ("band", "shape"),
    [("B03", (100, 100)), ("B03", (240, 299)), ("B11", (100, 150)), ("B11", (12, 15))],
)
def test_a_band_of_the_wrong_size_is_refused(write_safe, band, shape):
    path, _ = write_safe(counts={band: np.full(shape, 3000, np.uint16)})
    with pytest.raises(ProductError, match=rf"{band}.*has {shape[0]} x {shape[1]} pixels"):
        open_product(path)
