"""Folders of single bands, named as their providers name them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from openeo_cloudmask.errors import BandError, OptionError, ProductError
from openeo_cloudmask.products import open_product

Write = Callable[..., Path]
FOUR = ("B02", "B03", "B04", "B08")
PROVIDERS = {
    # Names of files, sensor, scale and offset of the counts, no-data as stored.
    "HLS S30": (
        [f"HLS.S30.T32TMR.2021001T102019.v2.0.{band}.tif" for band in ("B02", "B03", "B04", "B8A")],
        "sentinel-2-l2a", 0.0001, 0, -9999,
    ),
    "HLS L30": (
        [f"HLS.L30.T32TMR.2021001T102019.v2.0.B0{n}.tif" for n in (2, 3, 4, 5)],
        "landsat-8-9-l2", 0.0001, 0, -9999,
    ),
    "Landsat 8 Level-2": (
        [f"LC08_L2SP_047027_20201204_20210313_02_T1_SR_B{n}.TIF" for n in (2, 3, 4, 5)],
        "landsat-8-9-l2", 0.0000275, -0.2, 0,
    ),
    "Landsat 7 Level-2": (
        [f"LE07_L2SP_047027_20101204_20210313_02_T1_SR_B{n}.TIF" for n in (1, 2, 3, 4)],
        "landsat-7-l2", 0.0000275, -0.2, 0,
    ),
    "Landsat 5 Level-2": (
        [f"LT05_L2SP_047027_20001204_20210313_02_T1_SR_B{n}.TIF" for n in (1, 2, 3, 4)],
        "landsat-4-5-l2", 0.0000275, -0.2, 0,
    ),
    "DEA Landsat": (
        [f"ga_ls8c_nbart_3-2-1_091084_2023-01-01_final_band0{n}.tif" for n in (2, 3, 4, 5)],
        "landsat-8-9-l2", 0.0001, 0, -999,
    ),
    "DEA Sentinel-2": (
        [f"ga_s2am_nbart_3-2-1_55HFA_2022-01-01_final_band0{n}.tif" for n in (2, 3, 4, 8)],
        "sentinel-2-l2a", 0.0001, 0, -999,
    ),
    "Copernicus Browser": (
        [f"2024-10-02-00_00_2024-10-02-23_59_Sentinel-2_L2A_{band}_(Raw).tiff" for band in FOUR],
        "sentinel-2-l2a", 1, 0, 0,
    ),
}  # fmt: skip


def counts(nodata: float, seed: int = 0) -> NDArray[Any]:
    pixels = np.random.default_rng(seed).integers(7500, 30000, (4, 24, 30))
    pixels[:, :3] = nodata
    return pixels.astype(np.uint16 if nodata == 0 else np.int16)


def write_bands(write: Write, pixels: NDArray[Any], names: list[str], **profile: Any) -> Path:
    for name, plane in zip(names, pixels, strict=True):
        path = write(plane[np.newaxis], f"folder/{name}", **profile)
    return path.parent


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_folder_is_the_array_of_its_bands(provider: str, write_raster: Write) -> None:
    names, sensor, scale, offset, nodata = PROVIDERS[provider]
    pixels = counts(nodata)
    folder = write_bands(write_raster, pixels, names, resolution=30)
    write_raster(pixels[:1], "folder/Fmask.tif", resolution=30)
    write_raster(pixels[:1], "folder/LC08_L2SP_047027_20201204_20210313_02_T1_QA_PIXEL.TIF")
    plain = write_raster(
        pixels, "plain.tif", labels=names, resolution=30, nodata=nodata,
    )  # fmt: skip
    with (
        open_product(folder) as scene,
        open_product(plain, scale=scale, offset=offset) as expected,
    ):
        assert scene.sensor is not None
        assert scene.sensor.id == sensor
        found = [scene.sensor.band(label).common_name for label in scene.band_labels]
        assert found[:3] == ["blue", "green", "red"]
        assert found[3] in ("nir", "nir08")
        assert scene.grid == expected.grid
        np.testing.assert_array_equal(scene.cube()[:, :, :], expected.cube()[:, :, :])
        assert np.isnan(scene.cube()[:, :3, :]).all()


@pytest.mark.parametrize(
    "names",
    [
        [f"{band}.jp2" for band in FOUR],
        [f"S2A_36QWD_20200701_0_L2A_{band}.tif" for band in FOUR],
        [f"R10m/T32TMR_20210101T102019_{band}_10m.jp2" for band in FOUR],
        ["blue.tif", "green.tif", "red.tif", "nir.tif"],
        ["export-2021.blue.tif", "export-2021.green.tif", "export-2021.red.tif",
         "export-2021.nir.tif"],
    ],
    ids=lambda names: names[0],
)  # fmt: skip
def test_names_that_are_bands_alone_need_a_scale(names: list[str], write_raster: Write) -> None:
    pixels = counts(0)
    driver = {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES"}
    folder = write_bands(write_raster, pixels, names, **(driver if ".jp2" in names[0] else {}))
    folder = folder.parent if folder.name == "R10m" else folder
    with open_product(folder, sensor="sentinel-2-l2a", scale=0.0001, offset=-0.1) as scene:
        expected = pixels.astype(np.float32) * np.float32(0.0001) + np.float32(-0.1)
        found = scene.cube(FOUR)[:, :, :]
        np.testing.assert_allclose(found[:, 3:], expected[:, 3:], rtol=1e-6)
        assert np.isnan(found[:, :3]).all()


def test_the_finest_file_of_a_band_is_taken(write_raster: Write) -> None:
    names = [f"R10m/T32TMR_20210101T102019_{band}_10m.tif" for band in FOUR]
    folder = write_bands(write_raster, counts(0), names).parent
    for resolution in (20, 60):
        write_raster(
            counts(0, 1)[:1, ::2, ::2],
            f"folder/R{resolution}m/T32TMR_20210101T102019_B02_{resolution}m.tif",
            resolution=resolution,
        )
    write_raster(
        counts(0, 2)[:1, ::2, ::2], "folder/R20m/T32TMR_20210101T102019_B11_20m.tif", resolution=20
    )
    with open_product(folder, scale=0.0001) as scene:
        assert scene.band_labels == ("B02", "B03", "B04", "B08", "B11")
        assert scene.grid.shape_yx == (24, 30)
        expected = counts(0)[:, 3:] * np.float32(0.0001)
        np.testing.assert_allclose(scene.cube(FOUR)[:, 3:, :], expected, rtol=1e-6)


def test_tags_of_the_file_and_options_come_before_the_provider(write_raster: Write) -> None:
    names, *_ = PROVIDERS["HLS S30"]
    pixels = counts(-9999)
    tagged = write_bands(write_raster, pixels, names, scales=0.00005)
    with open_product(tagged) as scene:
        np.testing.assert_allclose(scene.cube()[:, 3:, :], pixels[:, 3:] * 0.00005, rtol=1e-6)
    with open_product(tagged, scale=0.0002) as scene:
        np.testing.assert_allclose(scene.cube()[:, 3:, :], pixels[:, 3:] * 0.0002, rtol=1e-6)
    floats = write_bands(write_raster, (pixels * 0.0001).astype(np.float32), names)
    with open_product(floats) as scene:  # of reflectance already
        np.testing.assert_allclose(scene.cube()[:, 3:, :], pixels[:, 3:] * 0.0001, rtol=1e-6)


def test_what_is_not_one_scene_is_refused(write_raster: Write, tmp_path: Path) -> None:
    names, *_ = PROVIDERS["HLS S30"]
    folder = write_bands(write_raster, counts(-9999), names)
    with pytest.raises(BandError, match="missing band B12; there are B02, B03, B04, B8A"):
        open_product(folder, bands=["B02", "B12"])
    with pytest.raises(OptionError, match="is a folder of bands: date cannot be given"):
        open_product(folder, date="2021-01-01")
    write_bands(write_raster, counts(-9999), [name.replace("2021001", "2021006") for name in names])
    with pytest.raises(
        ProductError, match=r"holds bands of 2 scenes, HLS\.S30\.T32TMR\.2021001T102019"
    ):
        open_product(folder)
    (tmp_path / "other").mkdir()
    write_raster(counts(0)[:1], "other/thumbnail.tif")
    with pytest.raises(ProductError, match="nor files named by their bands"):
        open_product(tmp_path / "other")
    write_raster(counts(0)[:2], "two/B02.tif")
    with pytest.raises(ProductError, match=r"B02\.tif holds 2 bands; expected one band per file"):
        open_product(tmp_path / "two")
    write_raster(counts(0)[:1], "zones/B02.tif")
    write_raster(counts(0)[:1], "zones/B03.tif", crs="EPSG:4326", georeferenced=False)
    with pytest.raises(ProductError, match="in another coordinate reference system"):
        open_product(tmp_path / "zones")
