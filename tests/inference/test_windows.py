"""Placement and filling of windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.inference.spares import Spares
from openeo_cloudmask.inference.windows import Layout, fill_window, mirror_indices, plan_axis


@given(
    length=st.integers(1, 400),
    size=st.integers(1, 100),
    origin=st.integers(-500, 500),
    data=st.data(),
)
def test_anchored_windows_are_all_that_see_more_than_the_next(length, size, origin, data):
    stride = data.draw(st.integers(1, size))
    shared = size - stride if size - stride < stride else 0
    plan = plan_axis(
        length, size_px=size, stride_px=stride, origin_px=origin, layout=Layout.ANCHORED
    )
    expected = [
        k * stride - origin
        for k in range((origin - size) // stride - 1, (origin + length) // stride + 2)
        if k * stride - origin < length and k * stride - origin + size > shared
    ]
    assert list(plan.starts) == expected
    # A pixel counts 1/32 at the window's edge, 2/32 beside it, and 1 from the 32nd on.
    weights = [min(k + 1, size - k, 32) / 32 for k in range(size)]
    np.testing.assert_array_equal(plan.weights, weights)
    assert min(_sums(plan, length)) > 0
    assert plan.shared_px == shared


@given(length=st.integers(1, 300), size=st.integers(1, 100), data=st.data())
def test_centred_windows_cover_every_pixel(length, size, data):
    stride = data.draw(st.integers(1, size))
    plan = plan_axis(length, size_px=size, stride_px=stride, layout=Layout.CENTRED)
    np.testing.assert_array_equal(plan.weights, np.ones(size))
    assert min(_sums(plan, length)) >= 1
    assert plan.shared_px == 0


def test_a_rim_counts_nothing_and_the_taper_begins_inside_it():
    plan = plan_axis(100, size_px=80, stride_px=60, layout=Layout.ANCHORED, rim_px=8)
    assert plan.weights[[0, 7, 8, 9, 39, 40, 70, 71, 72, 79]].tolist() == [
        0, 0, 1 / 32, 2 / 32, 1, 1, 2 / 32, 1 / 32, 0, 0,
    ]  # fmt: skip
    assert min(_sums(plan, 100)) > 0
    assert plan.shared_px == 4


@given(length=st.integers(1, 200), origin=st.integers(-50, 50), stride=st.integers(17, 32))
def test_needed_windows_are_those_that_are_filled_where_all_is_valid(length, origin, stride):
    plan = plan_axis(length, size_px=32, stride_px=stride, origin_px=origin, layout=Layout.ANCHORED)
    seen = []

    def look(rows, columns):
        raise AssertionError("nothing lies above the first row")

    spares = Spares(plan, look)
    valid = np.ones((length, 32), bool)
    for start in plan.starts:
        rows = valid[max(start, 0) : start + 32]
        if not spares.has(rows, start, 0):
            seen.append(start)
        spares.turn(rows, start)
    assert plan.needed(length) == tuple(seen)


def _sums(plan, length):
    """What the windows at each pixel count together."""
    size = len(plan.weights)
    return [
        sum(plan.weights[pixel - start] for start in plan.starts if start <= pixel < start + size)
        for pixel in range(length)
    ]


def test_centred_windows_sit_where_the_published_code_puts_them():
    # 150 rows, patch 64, stride 48: shift (64 + (1 + 102 // 48) * 48 - 150) // 2 = 29.
    plan = plan_axis(150, size_px=64, stride_px=48, layout=Layout.CENTRED)
    assert plan.starts == (-29, 19, 67, 115)


@pytest.mark.parametrize("stride", [0, 65, -1])
def test_stride_that_leaves_gaps_is_refused(stride):
    with pytest.raises(OptionError, match="would stay no-data"):
        plan_axis(100, size_px=64, stride_px=stride, layout=Layout.ANCHORED)


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.0.0",
    reason="numpy 1 mirrors wrongly where the pad is longer than the array",
)
@given(first=st.integers(0, 20), span=st.integers(1, 20), extra=st.integers(0, 60))
def test_mirroring_is_numpy_reflection(first, span, extra):
    size = first + span + 1 + extra
    values = np.arange(first, first + span + 1)
    np.testing.assert_array_equal(
        mirror_indices(first, first + span, size), np.pad(values, (first, extra), mode="reflect")
    )


def test_a_single_pixel_is_repeated():
    np.testing.assert_array_equal(mirror_indices(3, 3, 6), np.full(6, 3))


def test_outside_is_mirrored_whether_absent_or_padded():
    block = np.arange(2 * 5 * 6, dtype=np.float32).reshape(2, 5, 6)
    valid = np.ones((5, 6), bool)
    padded = np.full((2, 9, 10), np.nan, np.float32)
    padded[:, 2:7, 3:9] = block
    seen = np.isfinite(padded).all(axis=0)
    absent = fill_window(block, valid, row=-2, column=-3, size_px=9)
    nodata = fill_window(padded, seen, row=0, column=0, size_px=9)
    assert absent is not None
    assert nodata is not None
    np.testing.assert_array_equal(absent[0], nodata[0])
    np.testing.assert_array_equal(absent[1], nodata[1])
    expected = np.pad(block, ((0, 0), (2, 2), (3, 0)), mode="reflect")
    np.testing.assert_array_equal(absent[0], expected)


def test_holes_are_zero_and_invalid():
    block = np.ones((1, 4, 4), np.float32)
    block[0, 1, 2] = np.nan
    valid = np.isfinite(block[0])
    pixels, seen = fill_window(block, valid, row=0, column=0, size_px=4)  # type: ignore[misc]
    assert pixels[0, 1, 2] == 0
    assert not seen[1, 2]
    assert seen.sum() == 15


def test_a_window_that_sees_nothing_is_none():
    assert (
        fill_window(
            np.zeros((1, 4, 4), np.float32), np.zeros((4, 4), bool), row=0, column=0, size_px=4
        )
        is None
    )
