from __future__ import annotations

from threading import Barrier, current_thread, main_thread

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from openeo_cloudmask.errors import BandError, OptionError, ProductError
from openeo_cloudmask.products import open_product, stack
from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.products.resample import AxisMap
from openeo_cloudmask.products.stack import Plane, RasterStack
from openeo_cloudmask.sensors import SENSORS, band_decoder
from openeo_cloudmask.simulator.products import write_product
from openeo_cloudmask.simulator.scene import simulate_scene

RGBN = ("B02", "B03", "B04", "B08")


def test_pixels_are_those_rasterio_reads_scaled(write_raster, digits):
    counts = digits(70, 90, bands=4)
    path = write_raster(counts, labels=RGBN)
    with open_product(path, scale=0.0001, offset=-0.1) as scene:
        cube = scene.cube()
        assert cube.shape == scene.shape == (4, 70, 90)
        part = cube[:, 5:40, 7:80]
    with rasterio.open(path) as dataset:
        expected = dataset.read(window=Window(7, 5, 73, 35)) * 0.0001 - 0.1
        assert scene.grid.transform == dataset.transform
        assert scene.grid.crs == dataset.crs
    np.testing.assert_allclose(part, expected, atol=1e-6)
    assert part.dtype == np.float32


def test_bands_come_in_the_order_asked_for_by_any_name(write_raster, digits):
    counts = digits(8, 9, bands=4)
    path = write_raster(counts, labels=("blue", "B3", "red", "nir"))
    with open_product(path, sensor="sentinel-2-l2a") as scene:
        swapped = scene.cube(["B08", "B02"])[:, 0:8, 0:9]
    np.testing.assert_array_equal(swapped, counts[[3, 0]])


def test_the_sensor_of_the_model_gives_the_names_where_the_file_has_none(write_raster, digits):
    path = write_raster(digits(8, 9, bands=2), labels=("red", "nir"))
    with open_product(path) as scene:
        assert scene.cube(["RED"]).planes == (0,)
        assert scene.cube(["B08"], sensor=SENSORS["sentinel-2-l1c"]).planes == (1,)


def test_scale_and_offset_of_the_file_count_unless_given(write_raster, digits):
    counts = digits(4, 5)
    path = write_raster(counts, labels=["B02"], scales=0.0001, offsets=-0.1)
    with open_product(path) as scene:
        np.testing.assert_allclose(scene.cube()[:, 0:4, 0:5], counts * 1e-4 - 0.1, atol=1e-6)
    with open_product(path, scale=0.001, offset=0.0) as scene:
        np.testing.assert_allclose(scene.cube()[:, 0:4, 0:5], counts * 1e-3, rtol=1e-6)


def test_no_data_value_is_nodata_before_scaling(write_raster, digits):
    counts = digits(4, 5, bands=2)
    counts[0, 1, 2] = 77
    path = write_raster(counts, labels=("B02", "B03"), nodata=77)
    with open_product(path, scale=0.0001, offset=-0.1) as scene:
        pixels = scene.cube()[:, 0:4, 0:5]
    nodata = np.zeros((2, 4, 5), bool)
    nodata[0, 1, 2] = True
    np.testing.assert_array_equal(np.isnan(pixels), nodata)


def test_integers_that_are_zero_in_all_bands_are_nodata(write_raster, digits):
    counts = digits(4, 5, bands=2)
    counts[:, 0, 0] = 0
    counts[0, 3, 3] = 0
    path = write_raster(counts, labels=("B02", "B03"))
    with open_product(path, offset=-0.1) as scene:
        pixels = scene.cube()[:, 0:4, 0:5]
    assert np.isnan(pixels[:, 0, 0]).all()
    assert np.isnan(pixels).sum() == 2
    assert pixels[0, 3, 3] == np.float32(-0.1)


def test_zero_in_one_band_of_floats_is_seen_and_nan_is_not(write_raster):
    pixels = np.full((2, 3, 3), 0.1, np.float32)
    pixels[0] = 0
    pixels[1, 2, 2] = np.nan
    path = write_raster(pixels, labels=("B02", "B03"))
    with open_product(path) as scene:
        assert np.isnan(scene.cube()[:, 0:3, 0:3]).sum() == 1


def test_a_mask_in_the_file_holds_for_all_bands(write_raster, digits):
    path = write_raster(digits(6, 7, bands=2), labels=("B02", "B03"))
    mask = np.full((6, 7), 255, np.uint8)
    mask[2:4, 1] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask)
    with open_product(path) as scene:
        pixels = scene.cube()[:, 1:6, 0:7]
    assert np.isnan(pixels[:, 1:3, 1]).all()
    assert np.isnan(pixels).sum() == 4


def test_kelvin_of_a_thermal_band_becomes_a_normalised_temperature(write_raster):
    pixels = np.full((2, 2, 2), 0.25, np.float32)
    pixels[1] = 132 + 0.75 * (249 - 132)
    path = write_raster(pixels, labels=("B4", "B10"))
    with open_product(path, sensor="landsat-8-9-l1", scale=2.0) as scene:
        read = scene.cube()[:, 0:2, 0:2]
    np.testing.assert_allclose(read[0], 0.5)
    np.testing.assert_allclose(read[1], 0.75, rtol=1e-5)


def test_names_given_by_the_user(write_raster, digits):
    path = write_raster(digits(3, 3, bands=4))
    with open_product(path, bands=RGBN) as scene:
        assert scene.band_labels == RGBN
    with pytest.raises(BandError, match=r"2 band names .* has 4 bands"):
        open_product(path, bands=("B02", "B03"))


def test_missing_names_say_how_to_give_them(write_raster, digits):
    path = write_raster(digits(3, 3, bands=4))
    with open_product(path) as scene, pytest.raises(BandError, match=r"B02.*--bands B02"):
        scene.cube(["B02"])


def test_origin_is_the_same_for_any_cut_of_a_grid(write_raster, digits):
    with open_product(write_raster(digits(3, 4), labels=["B02"])) as scene:
        assert scene.origin_yx == (-530004, 49998)
    with open_product(
        write_raster(digits(3, 4), "bare.tif", labels=["B02"], georeferenced=False)
    ) as scene:
        assert scene.origin_yx == (0, 0)
        assert scene.grid.transform is None


def test_dataarray_has_the_dimensions_and_coordinates_of_a_datacube(write_raster, digits):
    counts = digits(30, 40, bands=2)
    path = write_raster(counts, labels=("B02", "B03"))
    with open_product(path, scale=0.0001) as scene:
        eager = scene.to_dataarray(["B03"])
        lazy = scene.to_dataarray(["B03"], chunks_px=16)
        assert lazy.chunks is not None
        np.testing.assert_array_equal(lazy.to_numpy(), eager.to_numpy())
    assert eager.dims == ("t", "bands", "y", "x")
    assert eager.bands.to_numpy().tolist() == ["B03"]
    assert float(eager.x[0]) == 499985
    assert float(eager.y[0]) == 5300035
    assert "UTM zone 32N" in eager.spatial_ref.attrs["crs_wkt"]
    np.testing.assert_allclose(eager.to_numpy()[0, 0], counts[1] * 1e-4, rtol=1e-6)


def test_wide_files_are_read_in_pieces_where_they_lie_in_tiles(write_raster, digits, monkeypatch):
    pixels = digits(32, 5000)
    tiles = write_raster(pixels, "tiles.tif", tiled=True, blockxsize=16, blockysize=16)
    rows = write_raster(pixels, "rows.tif")
    for threads, piece in (("1", 2048), ("3", 3072), ("64", 4096)):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        with open_product(tiles) as scene:
            assert scene.cube().piece_px == piece
    with open_product(tiles) as scene, open_product(rows) as other:
        assert (scene.cube().piece_px, other.cube().piece_px) == (4096, 5000)
        np.testing.assert_array_equal(scene.cube()[:, 0:32, 4096:5000],
                                      other.cube()[:, 0:32, 0:5000][..., 4096:])  # fmt: skip


def test_a_safe_is_read_in_pieces_though_a_coarse_band_is_one_tile(tmp_path, monkeypatch):
    pixels = simulate_scene(1, size=96, sensor="sentinel-2-l1c")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with open_product(write_product(pixels, tmp_path)) as scene:
        assert scene.cube().piece_px == 1024  # the network waited for all tiles of a row


def test_files_of_bands_are_read_side_by_side(write_raster, digits, monkeypatch, tmp_path):
    pixels = digits(20, 30)
    for band in ("B02", "B03", "B04", "B08"):
        write_raster(pixels, f"{band}.tif", labels=[band])
    both, plain = Barrier(2), RasterStack._read  # each of two waits for the other
    opened = []

    def read(*what):
        both.wait(timeout=10)
        return plain(*what)

    def open_it(path):
        opened.append(current_thread())
        return open_raster(path)

    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(RasterStack, "_read", read)
    monkeypatch.setattr(stack, "open_raster", open_it)
    with open_product(tmp_path, sensor="sentinel-2-l2a", scale=0.0001) as scene:
        found = scene.cube()[:, 0:20, 0:30]
    np.testing.assert_allclose(found, np.repeat(pixels, 4, axis=0) * 1e-4, rtol=1e-6)
    assert opened == 4 * [main_thread()]  # a thread that silences warnings does so for all


def test_a_file_smaller_than_it_is_said_to_be_is_not_stretched(write_raster, digits):
    axis = AxisMap(step=1.0, length=20)
    decode = band_decoder(None, 1.0, 0.0)
    path = str(write_raster(digits(10, 10)))
    stack = RasterStack([Plane(path=path, decode=decode, rows=axis, columns=axis)])
    assert stack.read([0], slice(0, 10), slice(0, 10)).shape == (1, 10, 10)
    for rows, columns in ((slice(0, 5), slice(5, 15)), (slice(5, 15), slice(0, 5))):
        with pytest.raises(ProductError, match=r"10 x 10 pixels.*smaller than what describes it"):
            stack.read([0], rows, columns)
    stack.close()


def test_what_is_no_raster_is_refused(tmp_path, write_raster, digits):
    text = tmp_path / "notes.tif"
    text.write_text("no pixels here")
    with pytest.raises(
        ProductError,
        match=r"cannot open .*Expected a GeoTIFF.*translate notes\.tif notes_converted\.tif",
    ):
        open_product(text)
    with pytest.raises(ProductError, match="is not there"):
        open_product(tmp_path / "absent.tif")
    with pytest.raises(ProductError, match=r"no product this package knows.*MTL"):
        open_product(tmp_path)
    with pytest.raises(ProductError, match=r"complex64; expected bands of whole or floating-point"):
        open_product(write_raster(np.ones((1, 2, 2), np.complex64), "complex.tif"))
    with pytest.raises(OptionError, match=r"scale is 0\.0; expected a number"):
        open_product(write_raster(digits(2, 2)), scale=0.0)
    with pytest.raises(OptionError, match="granule cannot be given"):
        open_product(write_raster(digits(2, 2)), granule="T32")


def test_a_truncated_file_is_reported_when_it_is_read(write_raster, digits):
    path = write_raster(digits(600, 600, bands=2), labels=("B02", "B03"), compress="deflate")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ProductError, match=r"damaged or incomplete|cannot open"):  # noqa: SIM117
        with open_product(path) as scene:
            scene.cube()[:, 0:600, 0:600]


def test_band_names_that_are_no_utf_8_are_refused_with_a_reason(write_raster, digits):
    path = write_raster(digits(8, 8, bands=2), labels=("grQQn", "B04"))
    path.write_bytes(path.read_bytes().replace(b"grQQn", "gr\u00fc\u00dfn".encode("latin-1")))
    with pytest.raises(ProductError, match="are not UTF-8; write them anew"):
        open_product(path, sensor="sentinel-2-l1c")
