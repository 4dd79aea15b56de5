from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openeo_cloudmask.classes import HOLLSTEIN_SIX
from openeo_cloudmask.errors import BandError
from openeo_cloudmask.inference import Window, predict
from openeo_cloudmask.models import get_model, load_detector
from openeo_cloudmask.models.families.hollstein import HollsteinDetector, classify_hollstein

BANDS = ("B01", "B02", "B03", "B05", "B06", "B07", "B8A", "B09", "B10", "B11")


def ratio(over: np.float32, under: np.float32) -> float:
    return float(np.float32(over) / np.float32(under)) if under > 0 else float("inf")


def one_pixel(b: dict[str, np.float32]) -> str:  # noqa: PLR0911 - the tree itself
    """The published tree, branch by branch."""
    level_2a = "B10" not in b
    if b["B03"] < np.float32(0.319):
        if b["B8A"] < np.float32(0.166):
            if b["B03"] - b["B07"] < np.float32(0.027):
                return "clear" if b["B09"] - b["B11"] < np.float32(-0.097) else "cloud-shadow"
            return "water" if b["B09"] - b["B11"] < np.float32(0.021) else "cloud-shadow"
        faint = b["B02"] < np.float32(0.2) if level_2a else ratio(b["B02"], b["B10"]) < 14.689
        if faint:
            return "clear" if ratio(b["B02"], b["B09"]) < 0.788 else "cirrus"
        return "clear"
    if ratio(b["B05"], b["B11"]) < 4.330:
        swir = b["B11"] < np.float32(0.3) if level_2a else b["B11"] - b["B10"] < np.float32(0.255)
        if swir:
            return "cloud" if b["B06"] - b["B07"] < np.float32(-0.016) else "cirrus"
        return "clear" if b["B01"] < np.float32(0.300) else "cloud"
    if b["B03"] < np.float32(0.525):
        return "clear" if ratio(b["B01"], b["B05"]) < 1.184 else "cloud-shadow"
    return "snow"


@pytest.mark.parametrize("bands", [BANDS, tuple(name for name in BANDS if name != "B10")])
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), zeros=st.floats(0, 0.5), top=st.sampled_from([0.1, 0.5, 1]))
def test_tree_is_the_published_one(
    bands: tuple[str, ...], seed: int, zeros: float, top: float
) -> None:
    rng = np.random.default_rng(seed)
    cube = (rng.random((len(bands), 8, 8)) * top).astype(np.float32)
    cube[rng.random(cube.shape) < zeros] = 0
    named = dict(zip(bands, cube, strict=True))
    classes = classify_hollstein(named)
    for place in np.ndindex(8, 8):
        pixel = {name: plane[place] for name, plane in named.items()}
        assert HOLLSTEIN_SIX.names[classes[place]] == one_pixel(pixel)


def test_every_class_can_be_reached() -> None:
    rng = np.random.default_rng(1)
    named = dict(zip(BANDS, rng.random((10, 200, 200), np.float32) ** 2, strict=True))
    assert set(np.unique(classify_hollstein(named))) == set(range(6))


def test_detector_is_certain_and_pixelwise() -> None:
    detector = load_detector("hollstein")
    assert detector.window.pixelwise
    assert detector.scheme is HOLLSTEIN_SIX
    assert detector.band_names == BANDS
    rng = np.random.default_rng(2)
    cube = rng.random((10, 40, 50), np.float32)
    cube[3, 10:20, 10:20] = np.nan
    answer = predict(cube, detector)
    assert np.isnan(answer[:, 10:20, 10:20]).all()
    seen = ~np.isnan(answer[0])
    assert set(np.unique(answer[:, seen])) == {0.0, 1.0}
    np.testing.assert_array_equal(answer[:, seen].sum(axis=0), 1.0)


def test_level_2a_variant_is_taken_where_b10_is_missing() -> None:
    labels = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
    assert "B10" not in load_detector("hollstein", bands=labels).band_names
    assert "B10" in load_detector("hollstein", bands=[*labels, "B10"]).band_names


def test_missing_bands_are_named() -> None:
    with pytest.raises(BandError, match="missing: B07, B11"):
        HollsteinDetector(
            band_names=tuple(name for name in BANDS if name not in ("B07", "B11")),
            window=Window(),
        )
    with pytest.raises(BandError, match="B11"):
        load_detector("hollstein", bands=[name for name in BANDS if name != "B11"])


def test_entry_says_it_needs_nothing() -> None:
    entry = get_model("hollstein")
    assert entry.weights is None
    assert entry.extra is None
