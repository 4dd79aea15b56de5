"""The contract of ``predict``: invariance to chunks and batches, no-data, errors, progress."""

import itertools
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.errors import BandError, InputError, OptionError
from openeo_cloudmask.inference import Layout, Window, predict, predict_strips
from openeo_cloudmask.inference.spares import Spares
from openeo_cloudmask.inference.windows import fill_window, plan_axis

SIZE = 64
relaxed = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def spared(valid, row, column, stride, size=SIZE):
    """Whether a neighbour sees all that the window sees, said pixel by pixel."""
    shared = size - stride
    if not 0 < shared < stride:
        return False

    def sees(row, column):
        return {
            (y, x)
            for y, x in np.argwhere(valid).tolist()
            if row <= y < row + size and column <= x < column + size
        }

    def alone(row, column):
        return any(
            row + shared <= y < row + stride and column + shared <= x < column + stride
            for y, x in sees(row, column)
        )

    seen = sees(row, column)
    around = [(dy * stride, dx * stride) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
    better = {step for step in around if seen <= sees(row + step[0], column + step[1])}
    if better & {(stride, 0), (0, stride)}:
        return True
    before = better & {(-stride, 0), (0, -stride), (-stride, -stride)}
    return any(alone(row + dy, column + dx) for dy, dx in before)


def brute_force(cube, detector, stride, origin_yx, layout):
    """Average every window's answer, one window at a time, without strips."""
    ramp = np.minimum(np.arange(SIZE), np.arange(SIZE)[::-1]) + 1.0
    if layout is Layout.CENTRED:
        ramp[:] = 1
    weight = np.outer(ramp, ramp)
    _, height, width = cube.shape
    valid = np.isfinite(cube).all(axis=0)
    total = np.zeros((4, height, width))
    count = np.zeros((height, width))
    plans = [
        plan_axis(n, size_px=SIZE, stride_px=stride, origin_px=o, layout=layout).starts
        for n, o in zip((height, width), origin_yx, strict=True)
    ]
    for row in plans[0]:
        for column in plans[1]:
            filled = fill_window(cube, valid, row=row, column=column, size_px=SIZE)
            if filled is None or (layout is Layout.ANCHORED and spared(valid, row, column, stride)):
                continue
            answer = detector.predict_windows(filled[0][None], filled[1][None])[0]
            for y in range(max(row, 0), min(row + SIZE, height)):
                x0, x1 = max(column, 0), min(column + SIZE, width)
                w = weight[y - row, x0 - column : x1 - column]
                total[:, y, x0:x1] += w * answer[:, y - row, x0 - column : x1 - column]
                count[y, x0:x1] += w
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
    mean[:, ~valid] = np.nan
    return mean


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize(("stride", "origin"), [(64, (0, 0)), (48, (17, -5)), (16, (1000, 33))])
def test_equals_the_average_of_all_windows(make_detector, reflectance, stride, origin, layout):
    detector = make_detector()
    cube = reflectance(1, (3, 150, 171))
    cube[:, 20:30, 40:60] = np.nan
    cube[:, :, 160:] = np.nan
    cube[1, 100, 100] = np.nan
    got = predict(cube, detector, stride=stride, origin_yx=origin, layout=layout)
    np.testing.assert_allclose(
        got, brute_force(cube, detector, stride, origin, layout), rtol=0, atol=1e-6
    )
    assert np.isnan(got[:, 100, 100]).all()
    assert np.isnan(got).sum() == 4 * (150 * 11 + 10 * 20 + 1)
    np.testing.assert_allclose(np.nansum(got, axis=0)[0, 0], 1, atol=1e-6)


class Counting:
    """Classifies nothing and notes what it is shown."""

    band_names = ("a",)
    scheme = FOUR_CLASS

    def __init__(self, **options):
        self.window = Window(**{"size_px": 32, "multiple_px": 1, **options})
        self.seen = 0

    def predict_windows(self, windows, valid):
        self.seen += len(windows)
        return np.full((len(windows), 4, *windows.shape[2:]), 0.25, np.float32)


@relaxed
@given(
    shape=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    stride=st.integers(17, 32),
    rim=st.sampled_from([0, 0, 3]),
    origin=st.tuples(st.integers(-50, 50), st.integers(-50, 50)),
    seed=st.integers(0, 1000),
)
def test_each_pixel_keeps_a_window(shape, stride, rim, origin, seed):
    """Of whatever shape the valid part of a scene is."""
    rng = np.random.default_rng(seed)
    cube = np.full((1, *shape), np.nan, np.float32)
    for _ in range(rng.integers(1, 5)):  # boxes, and slanted edges as of a swath
        (y0, y1), (x0, x1) = (sorted(rng.integers(0, length + 1, 2)) for length in shape)
        cube[0, y0:y1, x0:x1] = 0.1
    y, x = np.indices(shape)
    cube[0, y * rng.normal() + x * rng.normal() > rng.normal(scale=60)] = np.nan
    detector = Counting(rim_px=rim)
    stride = min(stride, 32 - 2 * rim)
    found = predict(cube, detector, stride=stride, origin_yx=origin)
    np.testing.assert_array_equal(np.isfinite(found[0]), np.isfinite(cube[0]))
    np.testing.assert_array_equal(found[np.isfinite(found)], np.float32(0.25))


def test_windows_are_spared_as_the_rule_says():
    """In a scene and in a part of it, which begins with any row of windows."""
    rng = np.random.default_rng(0)
    for _ in range(1200):
        shape, origin = rng.integers(1, 40, 2), rng.integers(0, 20, 2)
        stride = int(rng.integers(9, 16))
        valid = np.zeros(shape, bool)
        for _ in range(rng.integers(1, 3)):
            (y0, y1), (x0, x1) = (sorted(rng.integers(0, length + 1, 2)) for length in shape)
            valid[y0:y1, x0:x1] = True
        rows, columns = (
            plan_axis(length, size_px=16, stride_px=stride, origin_px=begin, layout=Layout.ANCHORED)
            for length, begin in zip(shape.tolist(), origin.tolist(), strict=True)
        )
        spares = Spares(rows, lambda rows, columns, valid=valid: valid[rows, columns])
        for row in rows.starts[rng.integers(0, 3) :]:
            seen = valid[max(row, 0) : row + 16]
            for column in columns.starts:
                if seen[:, max(column, 0) : column + 16].any():
                    assert spares.has(seen, row, column) == spared(valid, row, column, stride, 16)
            spares.turn(seen, row)


@pytest.mark.parametrize(
    ("length", "origin", "windows"),
    [(512, 0, 1), (100, 390, 1), (384, 128, 1), (400, 256, 4), (513, 0, 4), (1024, 0, 9)],
)
def test_windows_that_see_a_strip_are_spared(length, origin, windows):
    """A strip that the next window sees too: at the edge of a scene, padded or not."""
    for pad in (0, 70, 512):
        cube = np.pad(np.ones((1, length, length)), ((0, 0), *((pad, pad),) * 2),
                      constant_values=np.nan)  # fmt: skip
        detector = Counting(size_px=512)
        predict(cube, detector, stride=384, origin_yx=(origin - pad, origin - pad))
        assert detector.seen == windows


@pytest.mark.parametrize(
    ("options", "windows"), [({"layout": Layout.CENTRED, "stride": 24}, 4), ({"stride": 16}, 9)]
)
def test_published_layout_and_small_strides_spare_nothing(options, windows):
    detector = Counting()
    predict(np.ones((1, 32, 32)), detector, **options)
    assert detector.seen == windows


@relaxed
@given(
    height=st.integers(1, 220),
    width=st.integers(1, 220),
    stride=st.sampled_from([16, 48, 64]),
    origin=st.tuples(st.integers(-300, 300), st.integers(-300, 300)),
    data=st.data(),
)
def test_any_cut_gives_the_same_mask(
    make_detector, reflectance, height, width, stride, origin, data
):
    cube = reflectance(2, (3, height, width))
    hole = data.draw(st.integers(0, width))
    cube[:, height // 3 : height // 2, hole : hole + 20] = np.nan
    whole = predict(cube, make_detector(), stride=stride, origin_yx=origin)
    y0 = data.draw(st.integers(0, height - 1))
    y1 = data.draw(st.integers(y0 + 1, height))
    x0 = data.draw(st.integers(0, width - 1))
    x1 = data.draw(st.integers(x0 + 1, width))
    margin = SIZE - 1
    top, left = max(y0 - margin, 0), max(x0 - margin, 0)
    chunk = cube[:, top : y1 + margin, left : x1 + margin]
    if data.draw(st.booleans()):  # back ends pad the edge of a cube with no-data, or cut it
        pad = data.draw(st.integers(1, SIZE))
        chunk = np.pad(chunk, ((0, 0), (pad, pad), (pad, pad)), constant_values=np.nan)
        top, left = top - pad, left - pad
    part = predict(
        chunk, make_detector(), stride=stride, origin_yx=(origin[0] + top, origin[1] + left)
    )
    np.testing.assert_allclose(
        part[:, y0 - top : y1 - top, x0 - left : x1 - left],
        whole[:, y0:y1, x0:x1],
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize("batch", range(1, 9))
def test_batches_change_nothing(make_detector, reflectance, batch):
    cube = reflectance(3, (3, 100, 230))
    one = predict(cube, make_detector(), stride=48, batch_size=1)
    np.testing.assert_array_equal(predict(cube, make_detector(), stride=48, batch_size=batch), one)


def test_dask_equals_eager(make_detector, reflectance):
    dask_array = pytest.importorskip("dask.array")
    cube = reflectance(4, (3, 130, 140))
    lazy = dask_array.from_array(cube, chunks=(2, 33, 50))
    np.testing.assert_array_equal(
        predict(lazy, make_detector(), stride=48), predict(cube, make_detector(), stride=48)
    )


def test_strips_cover_every_row_once_and_hold_few_rows(make_detector, reflectance):
    cube = reflectance(5, (3, 1000, 70))
    read = []

    class Lazy:
        shape = cube.shape

        def __getitem__(self, key):
            read.append((key[1].start, key[1].stop))
            return cube[key]

    rows = [
        (row, strip.shape[1]) for row, strip in predict_strips(Lazy(), make_detector(), stride=48)
    ]
    assert [row for row, _ in rows] == list(np.cumsum([0] + [count for _, count in rows[:-1]]))
    assert sum(count for _, count in rows) == 1000
    assert max(count for _, count in rows) <= SIZE
    assert read[0][0] == 0
    assert all(before[1] == after[0] for before, after in itertools.pairwise(read))


def test_pixelwise_detectors_see_each_pixel_once(make_detector, reflectance):
    detector = make_detector()
    detector.window = type(detector.window)(size_px=SIZE, multiple_px=1, pixelwise=True)
    predict(reflectance(6, (3, 128, 128)), detector, stride=16)
    assert detector.calls == 4


def test_all_nodata_stays_nodata_without_a_call(make_detector):
    detector = make_detector()
    got = predict(np.full((3, 70, 70), np.nan, np.float32), detector, stride=64)
    assert np.isnan(got).all()
    assert detector.calls == 0


def test_progress_counts_every_window_and_can_stop_the_work(make_detector, reflectance):
    seen = []
    cube = reflectance(7, (3, 100, 100))
    predict(
        cube, make_detector(), stride=64, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]

    class StopError(Exception):
        pass

    def stop(done, total):
        raise StopError("enough")

    with pytest.raises(StopError, match="enough"):
        predict(cube, make_detector(), stride=64, progress=stop)


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        ((3, 0, 5), InputError, "at least one pixel"),
        ((5, 5), InputError, r"expected \(band, y, x\)"),
        ((2, 5, 5), BandError, "2 bands; expected 3, in this order: B01, B02, B03"),
    ],
)
def test_wrong_shapes(make_detector, shape, error, message):
    with pytest.raises(error, match=message):
        predict(np.zeros(shape, np.float32), make_detector())


def test_wrong_type(make_detector):
    with pytest.raises(InputError, match="type complex64"):
        predict(np.zeros((3, 5, 5), np.complex64), make_detector(), stride=64)
    with pytest.raises(InputError, match="type <U1"):
        predict(np.full((3, 5, 5), "a"), make_detector(), stride=64)


@pytest.mark.parametrize(("factor", "hint"), [(10000, "scale=0.0001"), (100, "scale=0.01")])
def test_scaled_integers_are_refused_with_the_factor_to_pass(
    make_detector, reflectance, factor, hint
):
    with pytest.raises(InputError, match=hint):
        predict(reflectance(8, (3, 40, 40)) * factor, make_detector(), stride=64)


def test_stride_larger_than_the_window(make_detector, reflectance):
    with pytest.raises(OptionError, match="stride 384 px does not fit a window of 64 px"):
        predict(reflectance(9, (3, 40, 40)), make_detector(), stride=384)


def test_the_next_rows_are_read_while_the_network_is_at_these(make_detector, reflectance):
    """Without that, the first window would wait for rows that are read after it."""
    pixels = reflectance(1, (3, 200, 64))
    read = threading.Event()

    class Rows:
        shape = pixels.shape

        def __getitem__(self, key):
            if key[1].stop > 100:
                read.set()
            return pixels[key]

    class Waiting:
        def __init__(self, detector):
            self._detector = detector

        def __getattr__(self, name):
            return getattr(self._detector, name)

        def predict_windows(self, windows, valid):
            assert read.wait(timeout=20)
            return self._detector.predict_windows(windows, valid)

    where = {"stride": 64, "origin_yx": (-64, 0)}
    answer = predict(Rows(), Waiting(make_detector()), **where)
    np.testing.assert_array_equal(answer, predict(pixels, make_detector(), **where))


def test_an_error_of_the_network_is_raised_and_nothing_goes_on(make_detector, reflectance):
    detector, calls = make_detector(), []

    class Failing:
        def __getattr__(self, name):
            return getattr(detector, name)

        def predict_windows(self, windows, valid):
            calls.append(len(windows))
            raise RuntimeError("the network is broken")

    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match="the network is broken"):
        predict(reflectance(1, (3, 90, 90)), Failing(), stride=64)
    assert set(threading.enumerate()) <= before
    assert calls == [1]


@pytest.mark.parametrize("overlaps", [True, False])
def test_a_call_begins_before_the_last_ends_where_that_suits(make_detector, reflectance, overlaps):
    detector = make_detector()
    detector.window = replace(detector.window, overlaps=overlaps)
    plain, second, under_way, most = detector.predict_windows, threading.Event(), [], []

    def work(windows, valid):
        under_way.append(windows)
        most.append(len(under_way))
        if len(most) > 1:
            second.set()
        # The first call ends once the second has begun: no thread waits for the rest of a batch.
        assert second.wait(20) or not overlaps
        answer = plain(windows, valid)
        under_way.pop()
        return answer

    if not overlaps:
        second.set()
    detector.predict_windows = work
    cube = reflectance(3, (3, 100, 230))
    answer = predict(cube, detector, stride=48)
    assert max(most) == (2 if overlaps else 1)
    np.testing.assert_array_equal(answer, predict(cube, make_detector(), stride=48))
