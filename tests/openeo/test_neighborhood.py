"""Size and overlap of neighbourhoods."""

from __future__ import annotations

import pytest

from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.inference import Window
from openeo_cloudmask.models.registry import MODELS
from openeo_cloudmask.openeo.neighborhood import Neighborhood, plan_neighborhood


@pytest.mark.parametrize(("window", "overlap"), [(512, 512), (256, 256), (480, 480), (96, 96)])
def test_overlap_reaches_every_window_that_covers_a_pixel(window: int, overlap: int) -> None:
    around = plan_neighborhood(Window(size_px=window))
    assert around.overlap_px == overlap >= window - 1
    assert around.input_px == 1024 + 2 * overlap


def test_detectors_of_single_pixels_need_no_overlap() -> None:
    around = plan_neighborhood(Window(size_px=512, multiple_px=1, pixelwise=True), size_px=64)
    assert (around.size_px, around.overlap_px, around.input_px) == (64, 0, 64)
    assert [item["value"] for item in around.overlap_argument()] == [0, 0]


def test_sizes_follow_the_window() -> None:
    single = plan_neighborhood(Window(size_px=512, multiple_px=1, pixelwise=True))
    assert (single.size_px, single.input_px) == (256, 256)
    assert plan_neighborhood(Window()).input_px == 2048


def test_default_suits_every_model() -> None:
    largest = max(plan_neighborhood(entry.window).overlap_px for entry in MODELS.values())
    assert largest <= Neighborhood().overlap_px


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (480, "size_px is 480; a mask that looks 511 px around needs an overlap of 512"),
        (True, "size_px is True; expected a whole number from 32"),
        (1024.5, "size_px is 1024.5; expected a whole number"),
    ],
)
def test_sizes_that_cannot_work_are_refused(size: int, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        plan_neighborhood(Window(), size_px=size)


def test_overlap_larger_than_size_is_refused() -> None:
    with pytest.raises(OptionError, match="back ends shift the result"):
        Neighborhood(size_px=64, overlap_px=65)
    with pytest.raises(OptionError, match="overlap_px is -1; expected a whole number from 0"):
        Neighborhood(overlap_px=-1)


def test_time_is_one_day_or_not_named() -> None:
    assert Neighborhood().size_argument("t")[-1] == {"dimension": "t", "value": "P1D"}
    assert [item["dimension"] for item in Neighborhood().size_argument(None)] == ["x", "y"]
