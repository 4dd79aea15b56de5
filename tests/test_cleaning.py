"""Thresholds, smallest areas and buffers; scipy.ndimage is the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from openeo_cloudmask.amounts import Amount, parse_amounts
from openeo_cloudmask.classes import SCHEMES
from openeo_cloudmask.cleaning import dilate, plan_cleaning
from openeo_cloudmask.datacube import mask_datacube
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.lazy import StripTask, mask_lazily
from openeo_cloudmask.masking import Masker
from openeo_cloudmask.options import MaskOptions, parse_context

FOUR = SCHEMES["4-class"]
CLEAR, THICK, THIN, SHADOW, NODATA = 0, 1, 2, 3, 255
TEN_M = (10.0, 10.0)


def certain(labels: np.ndarray, scheme=FOUR) -> np.ndarray:
    """Return probabilities that give ``labels``; the surface is the next probable everywhere."""
    planes = np.stack([np.where(labels == value, 0.7, 0.1) for value in scheme.values])
    planes[0] += np.where(labels == 0, 0, 0.1)
    planes[:, labels == NODATA] = np.nan
    return planes.astype(np.float32)


def clean(labels: np.ndarray, scheme=FOUR, rows: int = 1000, **options: object) -> np.ndarray:
    """Return what ``options`` make of ``labels`` that come in strips of so many rows."""
    cleaning = plan_cleaning(MaskOptions(**options), scheme, TEN_M)
    planes = cleaning.classify(certain(labels, scheme))
    strips = ((row, planes[:, row : row + rows]) for row in range(0, len(labels), rows))
    found = list(cleaning.finish(strips))
    starts = [row for row, _ in found]
    assert starts == list(np.cumsum([0, *(part.shape[1] for _, part in found)])[:-1])
    return np.concatenate([part for _, part in found], axis=1)[0]


@pytest.mark.parametrize(
    ("name", "text", "cloud", "shadow"),
    [
        ("buffer", "120m", 120, 120),
        ("buffer", "cloud=0.2km, shadow=60m", 200, 60),
        ("buffer", "cloud=120", 120, None),
        ("min_area", "1ha", 10_000, 10_000),
        ("min_area", "shadow=0.5ha", None, 5000),
        ("threshold", "cloud=.4", 0.4, None),
    ],
)
def test_amounts(name, text, cloud, shadow):
    amounts = parse_amounts(name, text)
    assert {kind: amount.value for kind, amount in amounts.items()} == {
        kind: pytest.approx(value)
        for kind, value in (("cloud", cloud), ("shadow", shadow))
        if value is not None
    }
    assert not any(amount.pixels for amount in amounts.values())


def test_numbers_and_pixels():
    assert MaskOptions(buffer=120).buffer == "120m"
    assert MaskOptions(threshold=0.4).amounts("threshold")["cloud"].value == 0.4
    assert parse_amounts("buffer", "3px")["shadow"] == Amount(value=3, pixels=True)
    assert parse_context({"min_area": "50px"}).to_context()["min_area"] == "50px"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"buffer": "wide"}, "buffer is 'wide'; expected an amount in m, km, px, such as 120m"),
        ({"buffer": "-5m"}, "buffer is '-5m'"),
        ({"buffer": "120 ha"}, "buffer is '120 ha'"),
        ({"buffer": "cloud=1m,cloud=2m"}, "expected an amount"),
        ({"buffer": "clouds=1m"}, "expected an amount"),
        ({"buffer": True}, "buffer is True; expected a text or a number"),
        ({"buffer": float("nan")}, "buffer is 'nanm'"),
        ({"buffer": ""}, "buffer is ''"),
        ({"min_area": "3 acres"}, "min_area is '3 acres'; expected an amount in m2, ha, km2, px"),
        ({"threshold": "40"}, "threshold is '40'; expected a probability above 0, up to 1"),
        ({"threshold": 0}, "threshold is '0'"),
        ({"buffer": "10m", "categorise": False}, "changes classes, but percentages are asked for"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(OptionError, match=message):
        parse_context(options)


@pytest.mark.parametrize(
    ("options", "style", "pixel_m", "message"),
    [
        ({"buffer": "120m"}, "4-class", None, "in pixels, such as 12px"),
        ({"min_area": "1ha"}, "4-class", None, "in pixels, such as 12px"),
        ({"min_area": "1km2"}, "4-class", TEN_M, "10000 pixels here; expected at most 2500"),
        ({"buffer": "cloud=1m"}, "valid-invalid", TEN_M, "one class for cloud and shadow"),
        ({"buffer": "cloud=1m,shadow=2m"}, "valid-invalid", TEN_M, "one amount for both"),
        ({"buffer": "shadow=1m"}, "cloud-noncloud", TEN_M, "has no such class"),
    ],
)
def test_what_a_mask_cannot_have_is_refused(options, style, pixel_m, message):
    with pytest.raises(OptionError, match=message):
        plan_cleaning(MaskOptions(**options), SCHEMES[style], pixel_m)


@given(
    radius=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    seed=st.integers(0, 1000),
    share=st.sampled_from([0.0, 0.002, 0.05, 1.0]),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
@settings(max_examples=80)
def test_dilation_is_scipys(radius, seed, share, shape):
    there = np.random.default_rng(seed).random(shape) < share
    high, wide = radius
    dy, dx = np.mgrid[-high : high + 1, -wide : wide + 1]
    ellipse = (dy * wide) ** 2 + (dx * high) ** 2 <= (high * wide) ** 2
    assert np.array_equal(dilate(there, radius), ndimage.binary_dilation(there, ellipse))


def random_labels(seed: int, shape=(90, 70)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(4, *shape)), (0, 2, 2))
    labels = smooth.argmax(axis=0).astype(np.uint8)
    labels[rng.random(shape) < 0.02] = NODATA
    return labels


def test_min_area_is_scipys():
    labels = random_labels(1)
    expected = labels.copy()
    for values, least in (((THICK, THIN), 40), ((SHADOW,), 15)):
        groups, count = ndimage.label(np.isin(labels, values), np.ones((3, 3)))
        for number in range(1, count + 1):
            if (groups == number).sum() < least:
                expected[groups == number] = CLEAR
    assert (expected != labels).any()
    assert np.array_equal(clean(labels, min_area="cloud=40px,shadow=1500m2"), expected)


def test_a_buffer_covers_in_order_and_leaves_no_data():
    labels = random_labels(2)
    disk = np.hypot(*np.mgrid[-3:4, -3:4]) <= 3
    small = np.hypot(*np.mgrid[-1:2, -1:2]) <= 1
    wide = {
        value: ndimage.binary_dilation(labels == value, disk if value != SHADOW else small)
        for value in (THICK, THIN, SHADOW)
    }
    expected = labels.copy()
    expected[wide[SHADOW]] = SHADOW
    expected[wide[THIN]] = THIN
    expected[wide[THICK]] = THICK
    for own in (THICK, THIN, NODATA):  # cloud stays the cloud it was
        expected[labels == own] = own
    assert np.array_equal(clean(labels, buffer="cloud=25m,shadow=10m"), expected)


def test_a_threshold_counts_the_classes_of_cloud_together():
    planes = np.array([[0.4, 0.5, 0.3], [0.25, 0.2, 0.1], [0.25, 0.1, 0.1], [0.1, 0.2, 0.5]])
    styled = planes[:, np.newaxis].astype(np.float32)

    def classes(text: str) -> list[int]:
        cleaning = plan_cleaning(MaskOptions(threshold=text), FOUR)
        return cleaning.classify(styled)[0, 0].tolist()

    assert classes("cloud=0.5") == [THICK, CLEAR, SHADOW]
    assert classes("cloud=0.3") == [THICK, THICK, SHADOW]
    assert classes("cloud=0.2,shadow=0.9") == [THICK, THICK, THICK]
    assert classes("shadow=0.2") == [CLEAR, SHADOW, SHADOW]
    assert classes("shadow=0.6") == [CLEAR, CLEAR, CLEAR]


def test_styles_with_fewer_classes():
    labels = np.zeros((9, 9), np.uint8)
    labels[4, 4] = 1
    for style in ("valid-invalid", "cloud-noncloud"):
        assert clean(labels, SCHEMES[style], buffer="20m").sum() == 13
        assert clean(labels, SCHEMES[style], min_area="2px").sum() == 0


@given(seed=st.integers(0, 50), rows=st.integers(1, 95), area=st.integers(2, 40))
@settings(max_examples=40)
def test_strips_are_the_whole(seed, rows, area):
    labels = random_labels(seed)
    options = {"min_area": f"cloud={area}px,shadow=9px", "buffer": "cloud=30m,shadow=1px"}
    assert np.array_equal(clean(labels, rows=rows, **options), clean(labels, **options))


OPTIONS = {
    "model": "hollstein",
    "threshold": "cloud=0.5",
    "min_area": "cloud=12px,shadow=5px",
    "buffer": "cloud=30m,shadow=20m",
}


@pytest.fixture(scope="module")
def cube():
    rng = np.random.default_rng(4)
    bands = ("B01", "B02", "B03", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
    smooth = ndimage.gaussian_filter(rng.normal(size=(12, 400, 90)), (0, 4, 4))
    pixels = np.clip(0.25 + 2.5 * smooth, 0.01, 1).astype(np.float32)
    pixels[:, 30:40, 20:25] = np.nan
    coords = {
        "bands": list(bands),
        "y": 5_000_005.0 - 10 * np.arange(400),
        "x": 300_005.0 + 10 * np.arange(90),
    }
    return xr.DataArray(pixels, dims=("bands", "y", "x"), coords=coords)


def test_cuts_of_a_scene_give_the_whole_masks_bits(cube):
    options = parse_context(OPTIONS)
    whole = mask_datacube(cube, options)
    plain = mask_datacube(cube, parse_context({"model": "hollstein"}))
    changed = int((whole != plain).sum())
    assert changed > 100
    assert np.array_equal(whole == NODATA, plain == NODATA)
    labels = [str(label) for label in cube["bands"].values]
    masker = Masker.open(options, labels)
    pixels = cube.values[masker.places(labels)]
    for rows, columns in (((0, 7), (0, 90)), ((100, 260), (13, 41)), ((399, 400), (89, 90))):
        part = masker.mask(pixels, rows=rows, columns=columns, pixel_m=TEN_M)
        assert np.array_equal(part, whole.values[:, slice(*rows), slice(*columns)])
    counts = np.zeros(256, np.int64)
    masker.mask(pixels, pixel_m=TEN_M, counts=counts)
    assert np.array_equal(counts, np.bincount(whole.values.ravel(), minlength=256))
    assert whole.attrs["buffer"] == "cloud=30m,shadow=20m"
    assert whole.attrs["threshold"] == "cloud=0.5"


def test_lazy_is_eager(cube, monkeypatch):
    pytest.importorskip("dask")
    ran = []
    run = StripTask.run
    monkeypatch.setattr(StripTask, "run", lambda task: ran.append(task.rows) or run(task))
    options = parse_context(OPTIONS)
    lazy = mask_lazily(cube, options, strips=3)
    assert np.array_equal(lazy.compute(scheduler="synchronous"), mask_datacube(cube, options))
    assert len(lazy.chunks[1]) > 1


def test_neighbourhoods_say_what_their_overlap_cannot_give(cube, caplog):
    options = parse_context(OPTIONS)
    whole = mask_datacube(cube, options)
    cut = cube.isel(y=slice(100, 190))
    seen = mask_datacube(cut, options, neighborhood=(50, 20)).values[0, 20:70, 20:70]
    assert np.array_equal(seen, whole.values[0, 120:170, 20:70])
    assert not caplog.records
    mask_datacube(cut, options, neighborhood=(80, 5))
    assert "look 14 pixels around" in caplog.text
    assert "an overlap of 14 pixels; they have 5" in caplog.text


def test_without_metres_pixels_are_asked_for(cube):
    plain = cube.drop_vars(["y", "x"])
    with pytest.raises(OptionError, match="such as 12px"):
        mask_datacube(plain, parse_context(OPTIONS))
    degrees = cube.assign_coords(y=cube.y * 1e-5, x=cube.x * 1e-5)
    with pytest.raises(OptionError, match="such as 12px"):
        mask_datacube(degrees, parse_context(OPTIONS))
    in_pixels = parse_context(OPTIONS | {"buffer": "cloud=3px,shadow=2px"})
    assert np.array_equal(
        mask_datacube(plain, in_pixels), mask_datacube(cube, parse_context(OPTIONS))
    )
