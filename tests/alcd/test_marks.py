"""Marks: which pixels they cover, and that a file keeps them exactly."""

import json
import math

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from openeo_cloudmask.alcd import marks, marks_file
from openeo_cloudmask.alcd.marks import MAX_CORNERS, Mark
from openeo_cloudmask.alcd.marks_file import Work, read_marks, write_marks
from openeo_cloudmask.errors import OptionError, ReferenceDataError
from openeo_cloudmask.grid import Grid

GRID = Grid(
    shape_yx=(40, 50),
    transform=Affine(20, 0, 300_000, 0, -20, 5_000_000),
    crs=CRS.from_epsg(32631),
)


def at(row, column):
    """The middle of a pixel."""
    return GRID.to_xy(row + 0.5, column + 0.5)


def covered(mark):
    found = np.zeros(GRID.shape_yx, bool)
    found.ravel()[mark.pixels(GRID)] = True
    return found


def test_a_dot_covers_the_pixels_whose_centre_is_within_its_radius():
    mark = Mark(code=2, points=(at(10, 20),), radius_m=50)
    rows, columns = np.indices(GRID.shape_yx)
    assert np.array_equal(covered(mark), np.hypot(rows - 10, columns - 20) * 20 <= 50)


def test_a_stroke_covers_what_lies_along_its_line():
    mark = Mark(code=2, points=(at(5, 5), at(5, 15), at(9, 15)), radius_m=0.1)
    wanted = np.zeros(GRID.shape_yx, bool)
    wanted[5, 5:16] = True
    wanted[5:10, 15] = True
    assert np.array_equal(covered(mark), wanted)


def test_a_stroke_is_looked_for_around_its_pieces_alone(monkeypatch):
    rng = np.random.default_rng(0)
    looked: list[np.ndarray] = []
    near_piece = marks._near_piece
    monkeypatch.setattr(
        marks, "_near_piece",
        lambda *given: looked.append(near_piece(*given)) or looked[-1],
    )  # fmt: skip
    for radius in (5.0, 15.0, 90.0):
        points = tuple(at(*place) for place in rng.uniform(-5, 55, (30, 2)))
        looked.clear()
        some = marks._near(GRID, points, radius)
        assert sum(part.size for part in looked) < 30 * some.size
        whole = np.zeros(GRID.shape_yx, bool)
        for piece in marks._pieces(points):
            whole |= near_piece(GRID, slice(0, 40), slice(0, 50), piece, radius)
        assert np.array_equal(some, whole)
        assert whole.any()


def test_a_stroke_that_takes_for_ever_is_refused(monkeypatch):
    ends = GRID.to_xy(0, 0), GRID.to_xy(40, 50)
    Mark(code=2, points=ends * 10, radius_m=30).pixels(GRID)
    monkeypatch.setattr(marks, "MAX_LOOKED_PX", 10 * 40 * 50)
    with pytest.raises(OptionError, match="draw an area instead"):
        Mark(code=2, points=ends * 10, radius_m=30).pixels(GRID)


def test_an_area_covers_the_pixels_whose_centre_is_inside():
    corners = tuple(GRID.to_xy(row, column) for row, column in ((2, 3), (2, 8), (6, 8), (6, 3)))
    wanted = np.zeros(GRID.shape_yx, bool)
    wanted[2:6, 3:8] = True
    assert np.array_equal(covered(Mark(code=5, points=corners, area=True)), wanted)


@pytest.mark.parametrize("area", [True, False])
def test_a_mark_smaller_than_a_pixel_covers_what_it_touches(area):
    x, y = at(3, 4)
    points = ((x + 6, y + 6), (x + 7, y + 6), (x + 7, y + 7)) if area else ((x + 6, y + 6),)
    found = covered(Mark(code=5, points=points, area=area))
    assert found[3, 4]
    assert found.sum() == 1


def test_a_mark_beside_the_scene_covers_nothing():
    assert Mark(code=2, points=((0.0, 0.0),), radius_m=50).pixels(GRID).size == 0
    edge = Mark(code=2, points=(GRID.to_xy(0, 0),), radius_m=30)
    assert covered(edge).sum() == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"code": 1}, "class 1; expected one of 2 Low cloud"),
        ({"points": ()}, "0 points; expected 1"),
        ({"area": True}, "1 points; expected 3"),
        ({"points": ((0.0, 0.0),) * (MAX_CORNERS + 1)}, "expected 1 to"),
        ({"points": ((math.nan, 0.0),)}, "no place"),
        ({"radius_m": -1.0}, "no width"),
    ],
)
def test_what_is_no_mark_is_refused(changes, message):
    with pytest.raises(OptionError, match=message):
        Mark(**{"code": 2, "points": ((1.0, 2.0),), **changes})


def test_a_file_keeps_marks_exactly():
    marks = (
        Mark(code=2, points=((1 / 3, 2 / 3),), radius_m=1 / 7),
        Mark(code=3, points=((0.1, 0.2), (0.3, 0.4)), radius_m=5),
        Mark(code=7, points=((0.1, 0.2), (0.3, 0.4), (0.5, 0.7)), area=True),
    )
    work = Work(scene="Scène 1", pixel_m=20, marks=marks)
    text = write_marks(work, GRID)
    assert read_marks(text, GRID) == work
    assert {item["geometry"]["type"] for item in json.loads(text)["features"]} == {
        "Point", "LineString", "Polygon",
    }  # fmt: skip


def test_a_file_that_holds_no_marks_of_the_scene_is_refused():
    text = write_marks(Work(scene="a", pixel_m=20, marks=()), GRID)
    other = Grid(shape_yx=(4, 4), transform=GRID.transform, crs=CRS.from_epsg(32632))
    with pytest.raises(
        ReferenceDataError, match="made in EPSG:32631, the scene lies in EPSG:32632"
    ):
        read_marks(text, other)
    for wrong in ("", "[]", "{}", text.replace('"features": []', '"features": [{}]'), b"\xff"):
        with pytest.raises(ReferenceDataError, match="holds no marks"):
            read_marks(wrong, GRID)
    mark = Mark(code=2, points=((0.1, 0.2),))
    bad = write_marks(Work(scene="a", pixel_m=20, marks=(mark,)), GRID)
    with pytest.raises(ReferenceDataError, match="class 9"):
        read_marks(bad.replace('"code": 2', '"code": 9'), GRID)
    for key, number in (('"code": 2', "Infinity"), ('"radius_m": 0.0', "1" + "0" * 400)):
        assert key in bad
        with pytest.raises(ReferenceDataError, match="holds no marks"):
            read_marks(bad.replace(key, f"{key.split()[0]} {number}"), GRID)


def test_a_file_that_is_too_large_is_not_parsed(monkeypatch):
    monkeypatch.setattr(marks_file.json, "loads", lambda _: pytest.fail("it was parsed"))
    with pytest.raises(ReferenceDataError, match="expected marks, of at most 32 MB"):
        read_marks(b"[" * (marks_file.MAX_BYTES + 1), GRID)
