"""Parts of a scene, shared out between workers, are those of the whole scene."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from openeo_cloudmask.classes import SCHEMES
from openeo_cloudmask.errors import InputError
from openeo_cloudmask.inference import Seam, Window, join_seam, predict, predict_strips


class _Net:
    """Classifies a pixel by its value and by the spread of its whole window."""

    band_names = ("a", "b")
    scheme = SCHEMES["4-class"]
    window = Window(size_px=64, multiple_px=32)

    def predict_windows(
        self, windows: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        spread = windows.std(axis=(1, 2, 3))[:, None, None]
        planes = np.exp(np.stack([windows[:, 0] * k + spread for k in range(4)], axis=1))
        return (planes / planes.sum(axis=1, keepdims=True)).astype(np.float32)


class _Watched:
    def __init__(self, pixels: NDArray[np.float32]) -> None:
        self.pixels, self.shape, self.rows = pixels, pixels.shape, set[int]()

    def __getitem__(self, key: tuple[slice, slice, slice]) -> NDArray[np.float32]:
        self.rows |= set(range(key[1].start, key[1].stop))
        return self.pixels[key]


@pytest.fixture
def pixels() -> NDArray[np.float32]:
    cube = np.random.default_rng(0).random((2, 300, 170), dtype=np.float32)
    cube[:, :40, :30] = np.nan
    return cube


@pytest.mark.parametrize("origin_y", [0, 13, -7])
@pytest.mark.parametrize("part", [(0, 300), (0, 100), (100, 101), (77, 250), (250, 300)])
def test_part_equals_whole(
    pixels: NDArray[np.float32], part: tuple[int, int], origin_y: int
) -> None:
    whole = predict(pixels, _Net(), stride=48, origin_yx=(origin_y, 5))
    cube = _Watched(pixels)
    strips = list(predict_strips(cube, _Net(), stride=48, origin_yx=(origin_y, 5), part=part))
    assert strips[0][0] == part[0]
    found = np.concatenate([strip for _, strip in strips], axis=1)
    assert np.array_equal(found, whole[:, part[0] : part[1]], equal_nan=True)
    assert min(cube.rows) >= max(part[0] - 63, 0)
    assert max(cube.rows) < min(part[1] + 63, 300)


@pytest.mark.parametrize("part", [(5, 5), (-1, 4), (0, 301)])
def test_part_outside_is_refused(pixels: NDArray[np.float32], part: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="rows"):
        next(predict_strips(pixels, _Net(), stride=48, part=part))


@pytest.mark.parametrize("origin_y", [0, 13, -7])
@pytest.mark.parametrize("stride", [32, 48, 57])
def test_a_seam_joined_from_both_sides_is_that_of_the_whole(
    pixels: NDArray[np.float32], stride: int, origin_y: int
) -> None:
    pixels[:, 130:200, 60:80] = np.nan
    where = {"stride": stride, "origin_yx": (origin_y, 5)}
    whole = predict(pixels, _Net(), **where)
    overlap = 64 - stride
    for cut in range(-origin_y % stride, 300, stride):
        rows = (cut, min(cut + overlap, 300))
        upper, lower = Seam(rows=rows), Seam(rows=rows)
        above, below = _Watched(pixels), _Watched(pixels)
        windows = [
            _count(above, part=(0, cut), seams=[upper], **where) if cut else 0,
            _count(below, part=(rows[1], 300), seams=[lower], **where) if rows[1] < 300 else 0,
        ]
        if 0 in windows:
            continue
        assert sum(windows) == _count(pixels, **where), "each window is computed once"
        assert len(above.rows & below.rows) == overlap
        found = join_seam(upper, lower, 4)
        assert np.array_equal(found, whole[:, slice(*rows)], equal_nan=True)


def _count(cube: Any, **where: Any) -> int:
    """How many windows are planned, once all are computed."""
    totals = set()
    for _ in predict_strips(cube, _Net(), progress=lambda _, total: totals.add(total), **where):
        pass
    (total,) = totals
    return int(total)


class _InPieces(_Watched):
    """Is to be read some columns at a time."""

    piece_px = 50

    def __init__(self, pixels: NDArray[np.float32]) -> None:
        super().__init__(pixels)
        self.widest = self.read = 0

    def __getitem__(self, key: tuple[slice, slice, slice]) -> NDArray[np.float32]:
        part = super().__getitem__(key)
        self.widest = max(self.widest, part.shape[2])
        self.read += part[0].size
        return part


class _Counting(_Net):
    """Notes how many windows it is given at a time."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def predict_windows(
        self, windows: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        self.sizes.append(len(windows))
        return super().predict_windows(windows, valid)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_pieces_of_rows_give_the_whole_and_are_each_read_once(
    pixels: NDArray[np.float32], batch_size: int
) -> None:
    whole = predict(pixels, _Net(), stride=48, origin_yx=(3, 5))
    cube = _InPieces(pixels)
    network = _Counting()
    found = predict(cube, network, stride=48, origin_yx=(3, 5), batch_size=batch_size)
    assert np.array_equal(found, whole, equal_nan=True)
    assert cube.widest == 50
    assert network.sizes[0] == 1  # two pieces hold the first window, three the second
    assert max(network.sizes) == batch_size
    assert cube.read == pixels[0].size
