from __future__ import annotations

import numpy as np
import pytest

from openeo_cloudmask.errors import ProductError
from openeo_cloudmask.products.ahead import ReadAhead
from openeo_cloudmask.products.scene import SceneCube


class Source:
    def __init__(self, pixels, fails_from=10**9):
        self.pixels, self.fails_from, self.reads = pixels, fails_from, []

    def read(self, planes, rows, columns):
        self.reads.append((rows.start, rows.stop))
        if rows.stop > self.fails_from:
            raise ProductError("cannot read pixels")
        return self.pixels[list(planes), rows, columns]

    def close(self):
        pass


class TiledSource(Source):
    def piece_px(self, planes):
        assert planes == (1, 0)
        return 13


@pytest.fixture
def pixels():
    return np.random.default_rng(0).random((2, 50, 30), np.float32)


def _cube(source):
    return SceneCube(source=source, planes=(1, 0), shape_yx=(50, 30))


def test_rows_from_top_to_bottom_are_each_read_once(pixels):
    source = Source(pixels)
    with ReadAhead(_cube(source), 16) as cube:
        parts = [cube[:, top:bottom, 0:30] for top, bottom in ((0, 9), (9, 25), (25, 41), (41, 50))]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), pixels[::-1])
    assert source.reads == [(0, 9), (9, 25), (25, 41), (41, 50)]


def test_rows_in_tiles_are_read_piece_by_piece(pixels):
    source = TiledSource(pixels)
    with ReadAhead(_cube(source), 16) as cube:
        assert cube.piece_px == 13
        columns = (slice(0, 13), slice(13, 26), slice(26, 30))
        rows = [
            np.concatenate([cube[:, top:bottom, part] for part in columns], axis=2)
            for top, bottom in ((0, 16), (16, 32), (32, 48), (48, 50))
        ]
    np.testing.assert_array_equal(np.concatenate(rows, axis=1), pixels[::-1])
    assert len(source.reads) == 12


def test_any_other_order_gives_the_pixels_asked_for(pixels):
    with ReadAhead(_cube(Source(pixels)), 16) as cube:
        assert cube.shape == (2, 50, 30)
        for key in (np.s_[:, 20:30, 0:30], np.s_[:, 0:5, 0:30], np.s_[0:1, 3:9, 4:8]):
            np.testing.assert_array_equal(cube[key], pixels[::-1][key])


def test_what_goes_wrong_ahead_is_raised_when_those_rows_are_asked_for(pixels):
    with ReadAhead(_cube(Source(pixels, fails_from=20)), 16) as cube:
        assert cube[:, 0:16, 0:30].shape == (2, 16, 30)
        with pytest.raises(ProductError, match="cannot read pixels"):
            cube[:, 16:32, 0:30]
