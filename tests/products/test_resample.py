from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import Resampling
from rasterio.io import MemoryFile

from openeo_cloudmask.products.resample import AxisMap, plan_taps, resample


def _apply(source, axis_y, axis_x, rows, columns):
    down, across = plan_taps(axis_y, *rows), plan_taps(axis_x, *columns)
    part = source[down.first : down.stop, across.first : across.stop]
    return resample(part, down, across)


@pytest.mark.parametrize("factor", [2, 3, 6])
def test_coarse_bands_are_interpolated_as_gdal_does(factor):
    source = np.random.default_rng(0).random((11, 13), np.float32)
    axis_y = AxisMap(step=1 / factor, length=11)
    axis_x = AxisMap(step=1 / factor, length=13)
    ours = _apply(source, axis_y, axis_x, (0, 11 * factor), (0, 13 * factor))
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", width=13, height=11, count=1, dtype="float32") as dataset:
            dataset.write(source, 1)
        with memory.open() as dataset:
            theirs = dataset.read(
                1, out_shape=(11 * factor, 13 * factor), resampling=Resampling.bilinear
            )
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@settings(max_examples=40)
@given(
    data=st.data(),
    step=st.sampled_from([0.5, 1 / 6, 2.0]),
    holes=st.floats(0, 0.4),
    seed=st.integers(0, 999),
)
def test_any_cut_gives_the_same_bits(data, step, holes, seed):
    generator = np.random.default_rng(seed)
    source = generator.random((24, 30), np.float32)
    source[generator.random(source.shape) < holes] = np.nan
    shift = -0.5 if step == 2.0 else 0.0
    axis_y = AxisMap(step=step, shift=shift, length=24)
    axis_x = AxisMap(step=step, shift=shift, length=30)
    height, width = int(24 / step), int(30 / step)
    whole = _apply(source, axis_y, axis_x, (0, height), (0, width))
    top = data.draw(st.integers(0, height - 1))
    left = data.draw(st.integers(0, width - 1))
    bottom = data.draw(st.integers(top + 1, height))
    right = data.draw(st.integers(left + 1, width))
    part = _apply(source, axis_y, axis_x, (top, bottom), (left, right))
    np.testing.assert_array_equal(part, whole[top:bottom, left:right])


def test_no_data_does_not_bleed():
    source = np.full((4, 4), 0.5, np.float32)
    source[1, 2] = np.nan
    axis = AxisMap(step=0.5, length=4)
    out = _apply(source, axis, axis, (0, 8), (0, 8))
    nodata = np.zeros((8, 8), bool)
    nodata[2:4, 4:6] = True
    np.testing.assert_array_equal(np.isnan(out), nodata)
    np.testing.assert_allclose(out[~nodata], 0.5, rtol=1e-6)


def test_fine_bands_are_averaged_over_the_area_of_a_pixel():
    source = np.arange(49, dtype=np.float32).reshape(7, 7)
    axis = AxisMap(step=2.0, shift=-0.5, length=7)  # as Landsat's panchromatic band lies
    out = _apply(source, axis, axis, (0, 4), (0, 4))
    kernel = np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25])
    assert out[1, 1] == pytest.approx((source[1:4, 1:4] * kernel).sum())
    corner = np.outer([2 / 3, 1 / 3], [2 / 3, 1 / 3])  # the first pixel sticks out of the image
    assert out[0, 0] == pytest.approx((source[:2, :2] * corner).sum())


def test_pixels_beyond_the_source_are_nodata():
    axis = AxisMap(step=0.5, length=3)
    out = _apply(np.ones((3, 3), np.float32), axis, axis, (0, 8), (0, 6))
    assert np.isnan(out[6:]).all()
    assert not np.isnan(out[:6]).any()
