from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import rasterio

from openeo_cloudmask.classes import FOUR_CLASS, OutputStyle, apply_style
from openeo_cloudmask.errors import (
    BandError,
    InputError,
    OutputError,
    ProductError,
    SensorError,
    UnknownModelError,
)
from openeo_cloudmask.inference import Window, predict
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products import ReadOptions, mask_product, open_product
from openeo_cloudmask.sensors import SENSORS

S2 = SENSORS["sentinel-2-l1c"].band_names


@dataclass(frozen=True)
class BrightnessDetector:
    """Thick cloud where the window is bright; depends on its neighbours as a network does."""

    band_names: tuple[str, ...] = ("B02", "B03")
    scheme = FOUR_CLASS
    window = Window(size_px=128)

    def predict_windows(self, windows, valid):
        mean = windows.mean(axis=1)
        blurred = (mean + np.roll(mean, 1, axis=1) + np.roll(mean, 1, axis=2)) / 3
        cloud = np.clip(blurred, 0, 1)
        return np.stack([1 - cloud, cloud * 0.7, cloud * 0.3, 0 * cloud], axis=1)


HOLLSTEIN = MaskOptions(model="hollstein")


def _expected(path, options, **how):
    detector = BrightnessDetector()
    with open_product(path, **how) as scene:
        probabilities = predict(
            scene.cube(detector.band_names),
            detector,
            stride=options.stride,
            origin_yx=scene.origin_yx,
        )
    return apply_style(
        probabilities, FOUR_CLASS, options.output_style, categorise=options.categorise
    )


@pytest.mark.parametrize("categorise", [True, False])
@pytest.mark.parametrize("style", [OutputStyle.FOUR_CLASS, OutputStyle.CLOUD_NONCLOUD])
def test_the_file_holds_what_the_kernel_predicts(tmp_path, write_safe, style, categorise):
    counts = np.full((240, 300), 9000, np.uint16)
    counts[:40, :50] = 0
    path, _ = write_safe(counts={"B02": counts})
    options = MaskOptions(model="hollstein", stride=64, output_style=style, categorise=categorise)
    seen = []
    report = mask_product(
        path,
        tmp_path / "mask.tif",
        options,
        detector=BrightnessDetector(),
        progress=lambda done, total: seen.append((done, total)),
    )
    with rasterio.open(report.path) as dataset:
        pixels = dataset.read()
        assert dataset.res == (10, 10)
        assert dataset.crs.to_epsg() == 32632
        assert dataset.tags()["ACQUIRED"].startswith("2023-06-25T10:20:30")
        assert dataset.tags()["OUTPUT_STYLE"] == style.value
    np.testing.assert_array_equal(pixels, _expected(path, options))
    assert (pixels[:, :40, :50] == 255).all()
    assert report.nodata_share == pytest.approx(2000 / 72000)
    assert sum(report.shares.values()) == pytest.approx(1)
    assert seen[-1][0] == seen[-1][1] == len(seen)
    if categorise:
        names = report.scheme.names
        for value, name in enumerate(names):
            assert report.shares[name] == pytest.approx((pixels == value).sum() / 70000)


@pytest.mark.parametrize(("level", "bands"), [("L1C", 10), ("L2A", 9)])
def test_a_model_of_the_registry_finds_its_bands(tmp_path, write_safe, level, bands):
    path, _ = write_safe(level)
    report = mask_product(path, tmp_path / "mask.tif", HOLLSTEIN)
    assert report.sensor == f"sentinel-2-{level.lower()}"
    assert len(report.band_names) == bands
    with rasterio.open(report.path) as dataset:
        assert dataset.tags()["MODEL_LICENCE"] == "Apache-2.0"
        assert set(np.unique(dataset.read())) <= {0, 1, 2, 3}


def test_a_raster_and_a_safe_with_the_same_pixels_get_the_same_mask(
    tmp_path, write_safe, write_raster
):
    path, _ = write_safe()
    with open_product(path) as scene:
        pixels = scene.cube()[:, 0:240, 0:300]
    raster = write_raster(pixels, labels=S2)
    masks = []
    for source in (path, raster):
        report = mask_product(source, tmp_path / "mask.tif", HOLLSTEIN, overwrite=True)
        with rasterio.open(report.path) as dataset:
            masks.append(dataset.read())
    np.testing.assert_array_equal(*masks)


def test_a_missing_band_is_named_with_where_it_is_looked_for(tmp_path, write_safe):
    path, _ = write_safe(without=("B10",))
    with pytest.raises(BandError, match=r"missing band B10 .*IMG_DATA"):
        mask_product(path, tmp_path / "mask.tif", HOLLSTEIN)
    assert not (tmp_path / "mask.tif").exists()


def test_a_model_for_any_bands_wants_all_of_a_product_or_a_choice(tmp_path, write_landsat):
    path, _ = write_landsat(
        changes={"IMAGE_ATTRIBUTES": {"SENSOR_ID": "OLI"}}, bands=tuple(range(1, 10))
    )
    options = MaskOptions(model="senseiv2", stride=64)
    with pytest.raises(BandError, match=r"lacks bands B10, B11\. SENSOR_ID is OLI.*--bands B1,B2"):
        mask_product(path, tmp_path / "mask.tif", options)
    bands = ("B2", "B3", "B4")
    report = mask_product(
        path,
        tmp_path / "mask.tif",
        options,
        read=ReadOptions(bands=bands),
        detector=BrightnessDetector(band_names=bands),
    )
    assert report.band_names == bands
    with rasterio.open(report.path) as dataset:
        assert dataset.res == (30, 30)


def test_a_model_does_not_take_the_product_of_another_sensor(tmp_path, write_landsat):
    path, _ = write_landsat()
    with pytest.raises(SensorError, match="landsat-8-9-l1"):
        mask_product(path, tmp_path / "mask.tif", HOLLSTEIN)


def test_a_datacube_in_a_file_gets_the_mask_of_the_raster(tmp_path, write_raster):
    pytest.importorskip("h5netcdf", reason="the extra netcdf is not installed")
    pixels = np.random.default_rng(0).random((13, 40, 50), np.float32)
    raster = write_raster(pixels, labels=S2)
    with open_product(raster) as scene:
        scene.to_dataarray().to_netcdf(tmp_path / "cube.nc", engine="h5netcdf")
    masks = []
    for source in (raster, tmp_path / "cube.nc"):
        report = mask_product(source, tmp_path / "mask.tif", HOLLSTEIN, overwrite=True)
        with rasterio.open(report.path) as dataset:
            masks.append((dataset.read().tobytes(), dataset.transform, dataset.crs))
    assert masks[0] == masks[1]


def test_all_no_data_is_all_255(tmp_path, write_raster):
    path = write_raster(np.zeros((13, 40, 50), np.uint16), labels=S2)
    report = mask_product(path, tmp_path / "mask.tif", HOLLSTEIN)
    with rasterio.open(report.path) as dataset:
        assert (dataset.read() == 255).all()
    assert report.nodata_share == 1
    assert set(report.shares.values()) == {0}


def test_counts_without_a_scale_are_refused_with_the_factor(tmp_path, write_raster, digits):
    path = write_raster(digits(40, 50, bands=13), labels=S2)
    with pytest.raises(InputError, match=r"do not look like reflectance.*scale=0\.0001"):
        mask_product(path, tmp_path / "mask.tif", HOLLSTEIN)
    report = mask_product(
        path, tmp_path / "mask.tif", HOLLSTEIN, read=ReadOptions(scale=0.0001, offset=-0.1)
    )
    assert report.path.exists()


def test_scale_in_the_options_counts_as_well(tmp_path, write_raster, digits):
    path = write_raster(digits(40, 50, bands=13), labels=S2)
    report = mask_product(path, tmp_path / "mask.tif", MaskOptions(model="hollstein", scale=0.0001))
    assert report.nodata_share == 0


def test_without_georeference_the_report_says_so(tmp_path, write_raster, digits):
    path = write_raster(digits(40, 50, bands=13) / np.float32(1e4), labels=S2, georeferenced=False)
    with pytest.raises(ProductError, match="has no georeference, so its mask would lie nowhere"):
        mask_product(path, tmp_path / "mask.tif", HOLLSTEIN)
    read = ReadOptions(ungeoreferenced=True)
    report = mask_product(path, tmp_path / "mask.tif", HOLLSTEIN, read=read)
    assert not report.georeferenced
    with rasterio.open(report.path) as dataset:
        assert dataset.shape == (40, 50)


def test_a_bad_output_or_model_fails_before_the_input_is_opened(tmp_path):
    with pytest.raises(OutputError, match="is not there; create it first"):
        mask_product(tmp_path / "none.tif", tmp_path / "no/mask.tif", HOLLSTEIN)
    with pytest.raises(UnknownModelError, match="unknown model 'hollstien'"):
        mask_product(tmp_path / "none.tif", tmp_path / "mask.tif", MaskOptions(model="hollstien"))


def test_the_input_is_never_overwritten(tmp_path, write_raster, digits):
    path = write_raster(digits(40, 50, bands=13), labels=S2)
    before = path.read_bytes()
    with pytest.raises(OutputError, match="is the input"):
        mask_product(path, path, HOLLSTEIN, overwrite=True)
    assert path.read_bytes() == before


def test_a_scene_without_a_valid_pixel_needs_no_weights(tmp_path, write_raster, monkeypatch):
    monkeypatch.setenv("OPENEO_CLOUDMASK_WEIGHTS", str(tmp_path / "not there"))
    path = write_raster(np.full((13, 40, 50), np.nan, np.float32), labels=S2)
    report = mask_product(path, tmp_path / "mask.tif", MaskOptions(model="cloudsen12"))
    assert report.nodata_share == 1
