"""Errors as places, and cells of a confusion matrix as pixels."""

import numpy as np
import pytest
import rasterio

from openeo_cloudmask.viewer.comparison import compare_masks
from openeo_cloudmask.viewer.explorer import cell_class, largest_errors, list_cells, write_cells
from openeo_cloudmask.viewer.probabilities import values_at


@pytest.fixture
def comparison(write_classes, tmp_path):
    """A mask that misses a cloud of 30 pixels and one of 6, and makes up one of 12."""
    reference, mask = np.zeros((100, 100)), np.zeros((100, 100))
    reference[10:15, 20:26] = 1
    reference[60:62, 60:63] = 1
    reference[80:90, 80:90] = mask[80:90, 80:90] = 1
    mask[40:43, 50:54] = 2
    tags = {"CLASS_SCHEME": "4-class"}
    return compare_masks(
        write_classes(mask, "mask.tif", **tags),
        write_classes(reference, "ref.tif", **tags),
        tmp_path,
    )


def test_the_largest_errors_come_first_with_their_places(comparison):
    spots = largest_errors(comparison.evaluation)
    assert [(spot.kind, spot.pixels) for spot in spots] == [
        ("omission", 30), ("commission", 12), ("omission", 6),
    ]  # fmt: skip
    assert spots[0].area_km2 == pytest.approx(30 * 0.06**2)
    wrong = {"omission": 3, "commission": 2}
    for spot in spots:
        latitude, longitude = spot.point
        assert values_at(comparison.error_path, longitude, latitude) == (wrong[spot.kind],)
        west, south, east, north = spot.bounds
        assert west < longitude < east
        assert south < latitude < north
    assert largest_errors(comparison.evaluation, 1) == spots[:1]


def test_errors_that_touch_by_a_corner_are_one(write_classes, tmp_path):
    reference = np.eye(20)
    tags = {"CLASS_SCHEME": "4-class"}
    mask = write_classes(np.zeros((20, 20)), "mask.tif", **tags)
    other = write_classes(reference, "ref.tif", **tags)
    spots = largest_errors(compare_masks(mask, other, tmp_path).evaluation)
    assert [spot.pixels for spot in spots] == [20]


def test_a_perfect_mask_has_none(write_classes, tmp_path):
    tags = {"CLASS_SCHEME": "4-class"}
    mask = write_classes(np.eye(20), "mask.tif", **tags)
    assert largest_errors(compare_masks(mask, mask, tmp_path).evaluation) == ()


def test_cells_hold_the_pixels_of_the_matrix(comparison, tmp_path):
    for result in comparison.evaluation.result.results:
        if result.case.dilate:
            continue
        with rasterio.open(write_cells(comparison.evaluation, result, tmp_path)) as source:
            cells = source.read(1)
        listed = list_cells(result)
        assert sum(pixels for *_, pixels in listed) == result.confusion.counts.sum()
        for row, column, pixels in listed:
            value = cell_class(result.confusion.scheme, row, column).value
            assert (cells == value).sum() == pixels == result.confusion.counts[row, column]
        errors = [row != column for row, column, _ in listed]
        assert errors == sorted(errors, reverse=True)
