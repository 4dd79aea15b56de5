from __future__ import annotations

import math
import re

import numpy as np
import pytest
import rasterio

from openeo_cloudmask.errors import BandError, InputError, ProductError
from openeo_cloudmask.products import open_product
from openeo_cloudmask.products.mtl import parse_mtl


def _read(scene, *bands):
    return scene.cube(bands)[:, 0:40, 0:50]


@pytest.mark.parametrize("form", ["txt", "json", "xml"])
def test_reflectance_is_divided_by_the_sine_of_the_suns_elevation(write_landsat, form):
    path, counts = write_landsat(form=form)
    with open_product(path) as scene:
        assert scene.shape == (11, 40, 50)
        assert scene.sensor.id == "landsat-8-9-l1"
        red = _read(scene, "red")[0]
    # The sun stands 30 degrees high, and sin(30 degrees) = 1/2.
    np.testing.assert_allclose(red, (2e-5 * counts["B4"].astype(float) - 0.1) / 0.5, atol=1e-6)


def test_thermal_bands_become_normalised_temperatures(write_landsat):
    counts = np.full((40, 50), 25000, np.uint16)
    path, _ = write_landsat(counts={10: counts, 11: counts})
    with open_product(path) as scene:
        b10, b11 = _read(scene, "B10", "B11")
    # By hand: L = 3.342e-4 * 25000 + 0.1 = 8.455; T = 1321.0789 / ln(774.8853 / 8.455 + 1)
    assert math.log(774.8853 / 8.455 + 1) == pytest.approx(4.52881, abs=1e-5)
    kelvin = 1321.0789 / math.log(774.8853 / 8.455 + 1)
    assert kelvin == pytest.approx(291.71, abs=0.01)
    assert b10[0, 0] == 1.0  # warmer than the range the published model was trained with
    assert b11[0, 0] == 1.0
    cold = np.full((40, 50), 4000, np.uint16)  # L = 1.4368; T = 1321.0789 / 6.2921 = 209.96 K
    path, _ = write_landsat(counts={10: cold}, name="COLD")
    with open_product(path) as scene:
        value = _read(scene, "B10")[0, 3, 4]
    assert value == pytest.approx((209.96 - 132) / (249 - 132), abs=1e-3)


def test_panchromatic_band_is_averaged_over_the_pixels_of_the_others(write_landsat):
    path, counts = write_landsat()
    with open_product(path) as scene:
        pan = _read(scene, "B8")[0]
    source = counts["B8"].astype(float)
    kernel = np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25])
    expected = (source[2 * 6 - 1 : 2 * 6 + 2, 2 * 9 - 1 : 2 * 9 + 2] * kernel).sum()
    assert pan[6, 9] == pytest.approx((2e-5 * expected - 0.1) / 0.5, abs=1e-5)
    assert np.isfinite(pan).all()


def test_fill_is_nodata(write_landsat):
    blue = np.full((40, 50), 9000, np.uint16)
    blue[2, 3] = 0
    path, _ = write_landsat(counts={2: blue})
    flags = np.full((40, 50), 21824, np.uint16)  # clear, bit 0 not set
    flags[7, 8] = 1
    with (
        rasterio.open(path / "LC08_L1TP_TEST_B2.TIF") as dataset,
        rasterio.open(path / "LC08_L1TP_TEST_QA_PIXEL.TIF", "w", **dataset.profile) as quality,
    ):
        quality.write(flags, 1)
    with open_product(path) as scene:
        seen = np.isfinite(_read(scene, "B2", "B3"))
    assert not seen[0, 2, 3]
    assert seen[1, 2, 3]
    assert not seen[:, 7, 8].any()
    assert (~seen).sum() == 3


def test_tar(write_landsat, pack):
    path, counts = write_landsat()
    with open_product(pack(path, "tar")) as scene:
        expected = (2e-5 * counts["B5"].astype(float) - 0.1) / 0.5
        np.testing.assert_allclose(_read(scene, "B5")[0], expected, atol=1e-6)


def test_metadata_and_the_mtl_file_as_the_input(write_landsat):
    path, _ = write_landsat()
    with open_product(path / "LC08_L1TP_TEST_MTL.txt") as scene:
        assert scene.acquired.isoformat() == "2022-01-29T15:28:34.396428+00:00"
        assert scene.metadata["sun_elevation_deg"] == 30
        assert scene.metadata["id"] == "LC08_L1TP_TEST"
        assert scene.origin_yx == (22790, 16400)


def test_without_sun_elevation(write_landsat):
    path, _ = write_landsat(changes={"IMAGE_ATTRIBUTES": {"SUN_ELEVATION": None}})
    with pytest.raises(ProductError, match="no SUN_ELEVATION in the group IMAGE_ATTRIBUTES"):
        open_product(path)


def test_sun_below_the_horizon(write_landsat):
    path, _ = write_landsat(changes={"IMAGE_ATTRIBUTES": {"SUN_ELEVATION": "-12.5"}})
    with open_product(path) as scene, pytest.raises(InputError, match=r"elevation is -12\.5"):
        _read(scene, "B4")


def test_without_thermal_bands(write_landsat):
    path, _ = write_landsat(
        changes={"IMAGE_ATTRIBUTES": {"SENSOR_ID": "OLI"}}, bands=tuple(range(1, 10))
    )
    with open_product(path) as scene:
        assert scene.band_labels == tuple(f"B{n}" for n in range(1, 10))
        with pytest.raises(BandError, match=r"B10, B11 .*SENSOR_ID is OLI: .*without thermal"):
            scene.cube(["B4", "B10", "B11"])
    with pytest.raises(BandError, match="SENSOR_ID is OLI"):
        open_product(path, bands=["B10"])


def test_without_optical_bands(write_landsat):
    path, _ = write_landsat(changes={"IMAGE_ATTRIBUTES": {"SENSOR_ID": "TIRS"}}, bands=(10, 11))
    with (
        open_product(path) as scene,
        pytest.raises(BandError, match=r"missing band B4 .*without optical bands"),
    ):
        scene.cube(["B4"])


def test_level_2_is_refused(write_landsat):
    path, _ = write_landsat(changes={"PRODUCT_CONTENTS": {"PROCESSING_LEVEL": "L2SP"}})
    mtl = path / "LC08_L1TP_TEST_MTL.txt"
    mtl.write_text(
        mtl.read_text().replace(
            "  GROUP = IMAGE_ATTRIBUTES",
            "  GROUP = LEVEL1_PROCESSING_RECORD\n  END_GROUP = LEVEL1_PROCESSING_RECORD\n"
            "  GROUP = IMAGE_ATTRIBUTES",
        )
    )
    with pytest.raises(ProductError, match=r"level L2SP .*expected Level-1"):
        open_product(path)


def test_other_broken_products_are_refused(write_landsat):
    path, _ = write_landsat(changes={"IMAGE_ATTRIBUTES": {"SPACECRAFT_ID": "LANDSAT_1"}})
    with pytest.raises(ProductError, match="SPACECRAFT_ID is 'LANDSAT_1'"):
        open_product(path)
    mtl = path / "LC08_L1TP_TEST_MTL.txt"
    good = mtl.read_text()
    mtl.write_text(good[: len(good) // 2])
    with pytest.raises(ProductError, match="the file is cut off"):
        open_product(path)
    mtl.write_text(good.replace("LANDSAT_METADATA_FILE", "L0_METADATA_FILE"))
    with pytest.raises(ProductError, match=r"'L0_METADATA_FILE'; expected .*Collection 2"):
        open_product(path)
    mtl.write_text(good.replace("LANDSAT_1", "LANDSAT_8").replace('"2.0000E-05"', '"two"'))
    with pytest.raises(ProductError, match="REFLECTANCE_MULT_BAND_1 is 'two'"):
        open_product(path)
    mtl.write_text(good.replace("LANDSAT_1", "LANDSAT_8"))
    for image in path.glob("*.TIF"):
        image.unlink()
    with pytest.raises(ProductError, match=r"none of the images .*_B1\.TIF.*incomplete"):
        open_product(path)


def test_thematic_mapper(write_landsat):
    path, counts = write_landsat(
        changes={"IMAGE_ATTRIBUTES": {"SPACECRAFT_ID": "LANDSAT_5", "SENSOR_ID": "TM"}},
        bands=(1, 2, 3, 4, 5, 6, 7),
    )
    with open_product(path) as scene:
        assert scene.sensor.id == "landsat-4-5-l1"
        assert scene.band_labels == ("B1", "B2", "B3", "B4", "B5", "B7")
        expected = (2e-5 * counts["B4"].astype(float) - 0.1) / 0.5
        np.testing.assert_allclose(_read(scene, "nir")[0], expected, atol=1e-6)


@pytest.mark.parametrize("form", ["txt", "xml"])
@pytest.mark.parametrize(
    ("name", "elevation", "kelvin_constants"),
    [
        ("LC08_L2SP_047027_20201204_20210313_02_T1", None, (774.8853, 1321.0789)),
        ("LC09_L2SP_010065_20220129_20220131_02_T1", 57.84396063, (799.0284, 1329.2405)),
    ],
)
def test_real_metadata(shared, write_landsat, form, name, elevation, kelvin_constants):
    real = shared(f"products/{name}_MTL.{form}")
    text = real.read_text()
    level1 = re.search(r"(L[CE]0\d_L1TP_\w+)_B1\.TIF", text)[1]
    path, counts = write_landsat(name=level1)
    (path / f"{level1}_MTL.txt").unlink()
    (path / f"{level1}_MTL.{form}").write_text(text)
    mtl = parse_mtl(real.read_bytes(), real.name)
    group = "LEVEL1_THERMAL_CONSTANTS"
    assert mtl.number(group, "K1_CONSTANT_BAND_10") == kelvin_constants[0]
    assert mtl.number(group, "K2_CONSTANT_BAND_10") == kelvin_constants[1]
    angle = mtl.number("IMAGE_ATTRIBUTES", "SUN_ELEVATION")
    assert elevation is None or angle == elevation
    with open_product(path) as scene:
        green, thermal = _read(scene, "B3", "B10")
    # Those of the Level-1 groups; the same file's Level-2 groups say 2.75e-05 and -0.2.
    expected = (2e-5 * counts["B3"].astype(float) - 0.1) / math.sin(math.radians(angle))
    np.testing.assert_allclose(green, expected, atol=1e-5)
    radiance = (
        mtl.number("LEVEL1_RADIOMETRIC_RESCALING", "RADIANCE_MULT_BAND_10")
        * counts["B10"].astype(float)
        + 0.1
    )
    kelvin = kelvin_constants[1] / np.log(kelvin_constants[0] / radiance + 1)
    np.testing.assert_allclose(thermal, np.clip((kelvin - 132) / 117, 0, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("REFLECTANCE_MULT_BAND_2", "0"), ("REFLECTANCE_MULT_BAND_2", "inf"),
        ("REFLECTANCE_MULT_BAND_2", "1e300"), ("REFLECTANCE_ADD_BAND_2", "nan"),
        ("REFLECTANCE_ADD_BAND_2", "1e300"), ("RADIANCE_MULT_BAND_10", "-1"),
        ("RADIANCE_ADD_BAND_10", "1e300"),
    ],
)  # fmt: skip
def test_rescaling_that_cannot_be_is_refused(write_landsat, key, value):
    path, _ = write_landsat(changes={"LEVEL1_RADIOMETRIC_RESCALING": {key: value}})
    with pytest.raises(ProductError, match=f"{key} is .*; expected"):
        open_product(path)


def test_a_band_of_the_wrong_size_is_refused(write_landsat):
    path, _ = write_landsat(counts={3: np.full((40, 49), 9000, np.uint16)})
    with pytest.raises(ProductError, match="has 40 x 49 pixels"):
        open_product(path)


_OLD_GROUPS = {
    "LEVEL1_RADIOMETRIC_RESCALING": "RADIOMETRIC_RESCALING",
    "LEVEL1_THERMAL_CONSTANTS": "TIRS_THERMAL_CONSTANTS",
}


@pytest.mark.parametrize("collection", ["PRE", "01"])
def test_products_of_before_collection_2_are_read_alike(write_landsat, collection):
    path, _ = write_landsat(form="json")
    with open_product(path) as scene:
        new, about = _read(scene, *scene.band_labels), scene.metadata
    (mtl,) = path.glob("*_MTL.json")
    groups = dict(parse_mtl(mtl.read_bytes(), mtl.name).groups)
    mtl.unlink()
    image, contents = dict(groups["IMAGE_ATTRIBUTES"]), dict(groups["PRODUCT_CONTENTS"])
    moved = ("SPACECRAFT_ID", "SENSOR_ID", "DATE_ACQUIRED", "SCENE_CENTER_TIME")
    level = contents.pop("PROCESSING_LEVEL")
    product = {
        "DATA_TYPE": "L1T" if collection == "PRE" else level,
        **{key: image.pop(key) for key in moved},
        **{key: value for key, value in contents.items() if key.startswith("FILE_NAME")},
    }
    info = {"LANDSAT_SCENE_ID": "LC80010112014080LGN00"}
    if collection == "01":
        info["LANDSAT_PRODUCT_ID"] = contents["LANDSAT_PRODUCT_ID"]
    old = {
        "METADATA_FILE_INFO": info,
        "PRODUCT_METADATA": product,
        "IMAGE_ATTRIBUTES": image,
        **{_OLD_GROUPS[key]: groups[key] for key in _OLD_GROUPS},
    }
    lines = [
        line
        for group, items in old.items()
        for line in (
            f"GROUP = {group}",
            *(f'  {key} = "{value}"' for key, value in items.items()),
            f"END_GROUP = {group}",
        )
    ]
    text = "\n".join(["GROUP = L1_METADATA_FILE", *lines, "END_GROUP = L1_METADATA_FILE", "END"])
    mtl.with_suffix(".txt").write_text(text)
    (first, *_) = sorted(path.glob("*_B2.TIF"))
    with rasterio.open(first) as data:
        profile = data.profile
    fill = np.ones((40, 50), np.uint16) * 2720
    fill[:4] = 1
    with rasterio.open(path / "SCENE_BQA.TIF", "w", **profile) as data:
        data.write(fill, 1)
    with open_product(path) as scene:
        read = _read(scene, *scene.band_labels)
        assert scene.acquired is not None
        expected = about["id"] if collection == "01" else "LC80010112014080LGN00"
        assert scene.metadata["id"] == expected
    assert np.isnan(read[:, :4]).all()
    np.testing.assert_array_equal(read[:, 4:], new[:, 4:])


@pytest.mark.parametrize("text", ["{}", '["a"]', '"x"', '{"LANDSAT_METADATA_FILE": {"a": 5}}', "["])
def test_json_that_is_no_metadata_is_refused(write_landsat, text):
    path, _ = write_landsat()
    (path / "LC08_L1TP_TEST_MTL.txt").unlink()
    deep = text * 100_000 if text == "[" else text
    (path / "LC08_L1TP_TEST_MTL.json").write_text(deep)
    with pytest.raises(ProductError, match="cannot be read as Landsat metadata"):
        open_product(path)
