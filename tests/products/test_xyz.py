"""Tiles of a map: their pixels are those of the whole mask, bit for bit."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from affine import Affine
from PIL import Image
from rasterio.crs import CRS
from rasterio.warp import transform

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.errors import InputError, OptionError
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.masking import Masker
from openeo_cloudmask.models import ModelInput
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products.xyz import (
    MAX_SOURCE_PX,
    TILE_PX,
    Tile,
    empty_tile,
    encode_classes,
    mask_tile,
)
from openeo_cloudmask.sensors import SENSORS

GRID = Grid(
    shape_yx=(700, 620),
    transform=Affine(10, 0, 600_040, 0, -10, 5_000_070),
    crs=CRS.from_epsg(32631),
)
BANDS = ("B02", "B03", "B04")


@pytest.fixture
def masker(make_detector: Callable[..., object]) -> Masker:
    return _masker(make_detector, MaskOptions(model="mini", stride=64))


def _masker(make_detector: Callable[..., object], options: MaskOptions) -> Masker:
    inputs = ModelInput(sensor=SENSORS["sentinel-2-l1c"], band_names=BANDS)
    return Masker(options, inputs, detector=make_detector(bands=3, size_px=64))


@pytest.fixture
def cube() -> np.ndarray:
    pixels = np.random.default_rng(3).random((3, *GRID.shape_yx), np.float32)
    pixels[:, :90], pixels[:, 300:330, 200:260] = np.nan, np.nan
    return pixels


def _tile_at(z: int, row: float, column: float) -> Tile:
    x, y = GRID.to_xy(row, column)
    (east,), (north,) = transform(GRID.crs, "EPSG:3857", [x], [y])
    half = np.pi * 6378137
    side = 2 * half / 2**z
    return Tile(z=z, x=int((east + half) // side), y=int((half - north) // side))


@pytest.mark.parametrize("z", [14, 15, 17])
@pytest.mark.parametrize("place", [(5, 5), (350, 300), (690, 610), (120, 400)])
def test_a_tile_is_the_whole_mask_under_its_pixels(
    masker: Masker, cube: np.ndarray, z: int, place: tuple[int, int]
) -> None:
    whole = masker.mask(cube, origin_yx=GRID.origin_yx)[0]
    tile = _tile_at(z, *place)
    found = mask_tile(cube, masker, GRID, tile)
    assert found is not None
    west, _, east, north = tile.bounds
    steps = (np.arange(TILE_PX) + 0.5) * (east - west) / TILE_PX
    expected = np.full((TILE_PX, TILE_PX), 255, np.uint8)
    for row in range(0, TILE_PX, 5):
        xs, ys = transform(
            "EPSG:3857", GRID.crs, west + steps, np.full(TILE_PX, north - steps[row])
        )
        for column, (x, y) in enumerate(zip(xs, ys, strict=True)):
            at = [int(np.floor(value)) for value in GRID.to_pixel(x, y)]
            if 0 <= at[0] < GRID.shape_yx[0] and 0 <= at[1] < GRID.shape_yx[1]:
                expected[row, column] = whole[at[0], at[1]]
    np.testing.assert_array_equal(found[0, ::5], expected[::5])
    assert (found != 255).any() or place == (5, 5)


def test_buffers_reach_into_the_tile(
    make_detector: Callable[..., object], cube: np.ndarray
) -> None:
    options = MaskOptions(model="mini", stride=64, buffer="cloud=70m", min_area="900m2")
    found = _masker(make_detector, options)
    whole = found.mask(cube, origin_yx=GRID.origin_yx, pixel_m=GRID.pixel_m)[0]
    tile = _tile_at(15, 350, 300)
    rows, columns = tile.places(GRID)
    tiled = mask_tile(cube, found, GRID, tile)
    assert tiled is not None
    np.testing.assert_array_equal(tiled[0], whole[rows, columns])
    found.options = MaskOptions(model="mini", stride=64)
    bare = found.mask(cube, origin_yx=GRID.origin_yx)[0]
    assert (bare != whole).any()


def test_only_the_windows_of_the_tile_are_computed(masker: Masker, cube: np.ndarray) -> None:
    masker.mask(cube, origin_yx=GRID.origin_yx)
    whole = masker.detector.calls
    mask_tile(cube, masker, GRID, _tile_at(17, 350, 300))
    assert masker.detector.calls - whole < whole / 3


def test_elsewhere_there_is_none_and_small_zooms_are_refused(
    masker: Masker, cube: np.ndarray
) -> None:
    assert mask_tile(cube, masker, GRID, Tile(z=14, x=3, y=3)) is None
    wide = Grid(shape_yx=(4000, 4000), transform=GRID.transform, crs=GRID.crs)
    with pytest.raises(InputError, match=f"more than {MAX_SOURCE_PX}; zoom in"):
        mask_tile(cube, masker, wide, _tile_at(8, 100, 100))
    with pytest.raises(InputError, match="no georeference"):
        mask_tile(cube, masker, Grid(shape_yx=(700, 620)), Tile(z=1, x=0, y=0))
    with pytest.raises(OptionError, match="there is no tile 2/4/0"):
        Tile(z=2, x=4, y=0)


def test_pictures_hold_the_class_values() -> None:
    values = np.random.default_rng(1).choice([0, 1, 2, 3, 255], (TILE_PX, TILE_PX)).astype("u1")
    image = Image.open(io.BytesIO(encode_classes(values, FOUR_CLASS)))
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), values)
    alpha = np.asarray(image.convert("RGBA"))[..., 3]
    np.testing.assert_array_equal(alpha == 0, values == 255)
    assert (np.asarray(Image.open(io.BytesIO(empty_tile()))) == 255).all()
