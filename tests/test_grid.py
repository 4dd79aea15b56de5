"""One grid: its figures agree with rasterio's, and cuts of it keep their places."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio.transform
import rasterio.windows
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS

from openeo_cloudmask.grid import Axis, Grid, footprint, grid_of_axes, overlap, parse_axis

UTM = CRS.from_epsg(32631)
GRID = Grid(shape_yx=(40, 60), transform=Affine(30, 0, 499_785, 0, -30, 5_600_415), crs=UTM)
TURNED = Grid(shape_yx=(5, 7), transform=Affine.rotation(20) @ Affine.scale(3), crs=UTM)


@pytest.mark.parametrize("grid", [GRID, TURNED])
def test_bounds_and_places_are_rasterios(grid):
    height, width = grid.shape_yx
    assert grid.bounds == pytest.approx(
        rasterio.transform.array_bounds(height, width, grid.transform)
        if grid is GRID
        else (
            min(x for x, _ in _corners(grid)), min(y for _, y in _corners(grid)),
            max(x for x, _ in _corners(grid)), max(y for _, y in _corners(grid)),
        )
    )  # fmt: skip
    x, y = rasterio.transform.xy(grid.transform, 3, 4)
    assert grid.to_xy(3.5, 4.5) == pytest.approx((x, y))
    assert grid.to_pixel(x, y) == pytest.approx((3.5, 4.5))


def _corners(grid):
    height, width = grid.shape_yx
    return [grid.transform @ at for at in ((0, 0), (width, 0), (0, height), (width, height))]


@given(st.integers(0, 30), st.integers(0, 50))
def test_a_crop_keeps_its_place(row, column):
    part = GRID.crop(slice(row, 40), slice(column, 60))
    window = rasterio.windows.Window(column, row, 60 - column, 40 - row)
    assert part.transform == rasterio.windows.transform(window, GRID.transform)
    assert GRID.offset_yx(part) == pytest.approx((row, column))
    assert part.origin_yx == tuple(
        first + at for first, at in zip(GRID.origin_yx, (row, column), strict=True)
    )
    assert GRID.fits(part)
    assert GRID.touched_by(part.bounds, slack_px=1e-6) == (slice(row, 40), slice(column, 60))


def test_coordinates_and_axes_are_inverse():
    coords = GRID.coordinates()
    y, x = parse_axis(coords["y"]), parse_axis(coords["x"])
    assert grid_of_axes(y, x, GRID.shape_yx, UTM) == GRID
    assert (y.origin, x.origin) == GRID.origin_yx


@pytest.mark.parametrize("values", [["a", "b"], [5.0], [1.0, 1.0], [0.0, np.inf]])
def test_no_axis(values):
    assert parse_axis(values) is None


def test_what_lies_elsewhere_is_not_touched():
    assert GRID.touched_by((0, 0, 1, 1)) is None
    assert GRID.touched_by((np.nan, 0, 1, 1)) is None
    west, _, _, north = GRID.bounds
    assert GRID.touched_by((west + 30, north - 60, west + 30, north - 30), slack_px=-1e-6) == (
        slice(0, 3),
        slice(0, 2),
    )


def test_pixels_between_pixels_do_not_fit():
    half = Grid(shape_yx=(4, 4), transform=GRID.transform @ Affine.translation(0.5, 0), crs=UTM)
    assert not GRID.fits(half)
    assert not GRID.fits(Grid(shape_yx=(4, 4), transform=GRID.transform, crs=CRS.from_epsg(32632)))


def test_boxes_overlap_by_area_or_by_edges():
    box, beside = (0, 0, 2, 2), (2, 0, 4, 2)
    assert not overlap(box, beside)
    assert overlap(box, beside, edges=True)
    assert overlap(box, (1, 1, -9, 3, 3, 9))
    assert not overlap(box, (3, 3, 4, 4), edges=True)


def test_boxes_over_the_antimeridian_have_two_parts():
    fiji = (179.5, -17, -179.5, -16)
    assert overlap(fiji, (-179.8, -20, -179.6, -10))
    assert not overlap(fiji, (0, -20, 10, -10))
    assert overlap(fiji, fiji)
    assert footprint((0, 0, 2, 1))["type"] == "Polygon"
    shape = footprint(fiji)
    assert shape["type"] == "MultiPolygon"
    assert [ring[0][0] for (ring,) in shape["coordinates"]] == [179.5, -180.0]


def test_axis_counts_from_zero_in_its_direction():
    assert Axis(15.0, 30.0).origin == 0
    assert Axis(5_000_005.0, -10.0).origin == -500_001
