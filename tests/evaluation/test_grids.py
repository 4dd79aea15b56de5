"""Masks on another grid: blocks, other CRS, no overlap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import Resampling, reproject, transform_bounds

from openeo_cloudmask.classes import CLOUD_NONCLOUD, FOUR_CLASS, SENSEI_SEVEN, OutputStyle
from openeo_cloudmask.errors import OptionError, ReferenceDataError
from openeo_cloudmask.evaluation.grids import (
    GridMask,
    Regrid,
    block_factor,
    class_shares,
    parse_regrid,
    read_mask,
    regrid_mask,
)
from openeo_cloudmask.products import Grid, write_cog

UTM = CRS.from_epsg(32632)


def _grid(size: int, pixel_m: float, east: float = 399_960, north: float = 5_100_000) -> Grid:
    return Grid(
        shape_yx=(size, size), transform=Affine(pixel_m, 0, east, 0, -pixel_m, north), crs=UTM
    )


def _mask(labels: NDArray[np.uint8], grid: Grid) -> GridMask:
    return GridMask(labels=labels, scheme=FOUR_CLASS, grid=grid)


def _blocky(seed: int, size: int = 60) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    coarse = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (size // 4, size // 4))
    return np.repeat(np.repeat(coarse, 4, axis=0), 4, axis=1)


def test_a_mask_on_the_same_grid_is_left_as_it_is() -> None:
    labels = _blocky(0)
    moved = regrid_mask(_mask(labels, _grid(60, 60)), _grid(60, 60))
    assert moved.labels is labels
    bare = Grid(shape_yx=(60, 60))
    assert regrid_mask(_mask(labels, bare), bare).labels is labels


def test_shares_of_blocks_are_counted_exactly() -> None:
    labels = np.zeros((6, 6), np.uint8)
    labels[:3, :2], labels[:3, 2] = 1, 2
    labels[3:, :3] = 255
    shares, seen = class_shares(_mask(labels, _grid(6, 10)), _grid(2, 30))
    assert shares[:, 0, 0] == pytest.approx([0, 2 / 3, 1 / 3, 0])
    assert shares[:, 0, 1] == pytest.approx([1, 0, 0, 0])
    assert seen.tolist() == [[True, True], [False, True]]


@pytest.mark.parametrize(("east", "north"), [(0, 0), (600, -600), (-600, 600)])
def test_blocks_equal_gdal_average(east: float, north: float) -> None:
    labels = _blocky(1, 120)
    source, target = _grid(120, 10), _grid(20, 60, 399_960 + east, 5_100_000 + north)
    assert block_factor(source, target) is not None
    shares, _ = class_shares(_mask(labels, source), target)
    for index in range(4):
        expected = np.zeros((20, 20), np.float32)
        plane = (labels == index).astype(np.float32)
        reproject(
            plane,
            expected,
            src_transform=source.transform,
            src_crs=UTM,
            dst_transform=target.transform,
            dst_crs=UTM,
            resampling=Resampling.average,
        )
        seen = np.zeros((20, 20), np.float32)
        reproject(
            (labels != 255).astype(np.float32),
            seen,
            src_transform=source.transform,
            src_crs=UTM,
            dst_transform=target.transform,
            dst_crs=UTM,
            resampling=Resampling.average,
        )
        expected = np.divide(expected, seen, out=np.zeros_like(expected), where=seen > 0)
        # GDAL lets the outermost pixels bleed into cells beyond the source's edge.
        top, left = max(0, round(north / 60)), max(0, round(-east / 60))
        assert np.allclose(shares[index][top:, left:], expected[top:, left:], atol=1e-5)
        assert not shares[index][:top].any()
        assert not shares[index][:, :left].any()


def test_fractions_sum_cloud_classes_before_deciding() -> None:
    # 4/9 clear, 3/9 thick, 2/9 thin: the most frequent class is clear, but most of it is cloud.
    labels = np.array([[0, 0, 0], [0, 1, 1], [1, 2, 2]], np.uint8)
    source, target = _mask(labels, _grid(3, 20)), _grid(1, 60)
    fractions = regrid_mask(source, target, method=Regrid.FRACTIONS)
    assert fractions.labels.item() == 0
    assert fractions.views[OutputStyle.CLOUD_NONCLOUD].item() == 1
    assert fractions.views[OutputStyle.FOUR_CLASS].item() == 1
    assert regrid_mask(source, target, method=Regrid.MAJORITY).views == {}
    strict = regrid_mask(source, target, threshold=0.6)
    assert strict.views[OutputStyle.CLOUD_NONCLOUD].item() == 0
    exact = regrid_mask(source, target, threshold=5 / 9)
    assert exact.views[OutputStyle.CLOUD_NONCLOUD].item() == 1


def test_views_are_those_the_mask_has() -> None:
    labels = np.ones((3, 3), np.uint8)
    binary = GridMask(labels=labels, scheme=CLOUD_NONCLOUD, grid=_grid(3, 20))
    assert set(regrid_mask(binary, _grid(1, 60)).views) == {OutputStyle.CLOUD_NONCLOUD}
    seven = GridMask(labels=labels * 6, scheme=SENSEI_SEVEN, grid=_grid(3, 20))
    moved = regrid_mask(seven, _grid(1, 60))
    assert moved.views[OutputStyle.FOUR_CLASS].item() == 255  # the class "no data" is not clear
    assert moved.views[OutputStyle.CLOUD_NONCLOUD].item() == 0


def test_another_crs_gives_what_gdal_gives() -> None:
    source = _grid(120, 60)
    labels = np.zeros((120, 120), np.uint8)
    labels[30:90, 30:90] = 1
    west, south, east, north = transform_bounds(
        UTM, CRS.from_epsg(4326), 399_960, 5_092_800, 407_160, 5_100_000
    )
    step = (east - west) / 40
    target = Grid(
        shape_yx=(40, 40),
        transform=Affine(step, 0, west, 0, -(north - south) / 40, north),
        crs=CRS.from_epsg(4326),
    )
    moved = regrid_mask(_mask(labels, source), target)
    assert moved.labels[20, 20] == 1
    assert moved.labels[3, 20] == 0
    share = (moved.labels == 1).mean() / (moved.labels != 255).mean()
    assert share == pytest.approx(0.25, abs=0.02)
    # North of the middle of the source, a cell's centre tells its class away from edges.
    assert set(np.unique(moved.labels)) <= {0, 1, 255}


def test_what_the_mask_does_not_cover_is_no_data() -> None:
    labels = np.ones((60, 60), np.uint8)
    target = _grid(10, 60, 399_960 + 300, 5_100_000)
    moved = regrid_mask(_mask(labels, _grid(60, 10)), target)
    assert (moved.labels[:, :5] == 1).all()
    assert (moved.labels[:, 5:] == 255).all()
    shifted = _grid(10, 60, 399_960 + 303, 5_100_000)  # does not nest
    moved = regrid_mask(_mask(labels, _grid(60, 10)), shifted)
    assert (moved.labels[:, :5] == 1).all()  # 57 of 60 m of the last column were seen
    assert (moved.labels[:, 5:] == 255).all()


def test_no_overlap_is_told_with_both_extents() -> None:
    mask = _mask(np.zeros((10, 10), np.uint8), _grid(10, 60, 800_000))
    with pytest.raises(ReferenceDataError, match=r"do not overlap.*800000\.0.*399960\.0"):
        regrid_mask(mask, _grid(10, 60))
    far = Grid(
        shape_yx=(10, 10), transform=Affine(0.01, 0, -60, 0, -0.01, 10), crs=CRS.from_epsg(4326)
    )
    with pytest.raises(ReferenceDataError, match="do not overlap"):
        regrid_mask(_mask(np.zeros((10, 10), np.uint8), far), _grid(10, 60))


def test_extents_in_degrees_are_told_to_some_metres() -> None:
    crs = CRS.from_epsg(4326)
    one, two = (
        Grid(shape_yx=(10, 10), transform=Affine(1e-4, 0, left, 0, -1e-4, 45), crs=crs)
        for left in (10.0, 10.0123)
    )
    with pytest.raises(ReferenceDataError, match=r"10\.0, 44\.999.*10\.0123, 44\.999"):
        regrid_mask(_mask(np.zeros((10, 10), np.uint8), one), two)


def test_a_missing_georeference_is_told() -> None:
    mask = _mask(np.zeros((10, 10), np.uint8), Grid(shape_yx=(10, 10)))
    with pytest.raises(ReferenceDataError, match="mask: no coordinate reference system"):
        regrid_mask(mask, _grid(5, 60))
    with pytest.raises(OptionError, match=r"threshold 0; expected above 0"):
        regrid_mask(mask, _grid(5, 60), threshold=0)
    with pytest.raises(OptionError, match="expected one of fractions, majority"):
        parse_regrid("mode")


def test_resolution_is_in_metres() -> None:
    assert _grid(4, 60).resolution_m == pytest.approx(60)
    assert Grid(shape_yx=(4, 4)).resolution_m is None
    degrees = Grid(
        shape_yx=(4, 4), transform=Affine(0.001, 0, 5, 0, -0.001, 50), crs=CRS.from_epsg(4326)
    )
    assert degrees.resolution_m == pytest.approx(111.32)


def test_masks_are_read_with_the_classes_in_their_tags(tmp_path: Path) -> None:
    labels = _blocky(2)
    labels[labels == 3] = 1
    labels[labels == 2] = 0
    path = write_cog(
        tmp_path / "mask.tif", [(0, labels[np.newaxis])], grid=_grid(60, 20), scheme=CLOUD_NONCLOUD
    )
    mask = read_mask(path)
    assert mask.scheme is CLOUD_NONCLOUD
    assert mask.grid == _grid(60, 20)
    assert np.array_equal(mask.labels, labels)


def test_percentages_are_read_as_the_likeliest_class(tmp_path: Path) -> None:
    percent = np.zeros((4, 8, 8), np.uint8)
    percent[2] = 60
    percent[0] = 40
    percent[:, 0, 0] = 255
    path = write_cog(
        tmp_path / "p.tif", [(0, percent)], grid=_grid(8, 20), scheme=FOUR_CLASS, categorise=False
    )
    labels = read_mask(path).labels
    assert labels[0, 0] == 255
    assert (labels.ravel()[1:] == 2).all()


def test_unreadable_masks_are_told(tmp_path: Path) -> None:
    def write(name: str, values: NDArray[np.generic]) -> Path:
        path = tmp_path / name
        count, height, width = values.shape
        with rasterio.open(
            path, "w", driver="GTiff", count=count, height=height, width=width, dtype=values.dtype
        ) as data:
            data.write(values)
        return path

    with pytest.raises(ReferenceDataError, match="cannot be read"):
        read_mask(tmp_path / "nothing.tif")
    with pytest.raises(ReferenceDataError, match=r"holds \[7\], which are no classes"):
        read_mask(write("seven.tif", np.full((1, 2, 2), 7, np.uint8)))
    with pytest.raises(ReferenceDataError, match="holds float32; expected uint8"):
        read_mask(write("float.tif", np.zeros((1, 2, 2), np.float32)))
    with pytest.raises(ReferenceDataError, match="has 3 bands"):
        read_mask(write("three.tif", np.zeros((3, 2, 2), np.uint8)))
