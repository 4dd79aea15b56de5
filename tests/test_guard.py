"""Bright windows that are called clear throughout are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from openeo_cloudmask.classes import FOUR_CLASS, SCHEMES, ClassScheme
from openeo_cloudmask.datacube import mask_datacube
from openeo_cloudmask.guard import (
    DOUBT,
    OFFSET_MISSING,
    SCALE_LARGE,
    SCALE_SMALL,
    BrightGuard,
    OffsetGuard,
    ScaleGuard,
)
from openeo_cloudmask.inference import Window, predict_strips
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.sensors import get_sensor
from openeo_cloudmask.simulator.scene import simulate_scene

BANDS = ("B08", "B04", "B03", "B02")


class Blind:
    """Says one class wherever a pixel's near infrared is below 2, and another above."""

    band_names = BANDS
    window = Window(size_px=64, multiple_px=1)

    def __init__(self, scheme: ClassScheme = FOUR_CLASS, low: int = 0, high: int = 1) -> None:
        self.scheme, self._low, self._high = scheme, low, high

    def predict_windows(
        self, windows: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        out = np.zeros((len(windows), len(self.scheme.classes), *valid.shape[1:]), np.float32)
        above = windows[:, 0] > 2
        out[:, self._low], out[:, self._high] = ~above, above
        return out


def has_doubt(cube: NDArray[np.float32], detector: Blind, **where: tuple[int, int]) -> bool:
    guard = BrightGuard(get_sensor("sentinel-2-l1c"), BANDS, detector.scheme)
    for _ in predict_strips(cube, detector, stride=48, watch=guard.look, **where):
        pass
    return guard.doubt


def scene(visible: float, cloud_share: float = 0.0) -> NDArray[np.float32]:
    cube = np.full((4, 200, 200), visible, np.float32)
    cube[0] = 0.3
    cube[0, np.random.default_rng(0).random((200, 200)) < cloud_share] = 2.5
    return cube


@pytest.mark.parametrize(
    ("cube", "detector", "expected"),
    [
        (scene(0.6), Blind(), True),
        (scene(0.39), Blind(), False),  # not bright
        (scene(0.6), Blind(low=2), False),  # thin cloud
        (scene(0.6), Blind(low=3), True),  # shadow throughout is as doubtful
        (scene(0.6, 0.05), Blind(), False),  # 5 % cloud
        (scene(0.6, 0.002), Blind(), True),  # 0.2 % cloud
        (scene(0.6), Blind(SCHEMES["sensei-7-class"], 2, 4), False),  # snow
        (scene(0.6), Blind(SCHEMES["sensei-7-class"], 0, 4), True),  # land
        (np.full((4, 200, 200), np.nan, np.float32), Blind(), False),
    ],
)
def test_bright_and_clear_throughout(
    cube: NDArray[np.float32], detector: Blind, *, expected: bool
) -> None:
    assert has_doubt(cube, detector) is expected


def test_only_seen_pixels_count() -> None:
    cube = scene(0.6)
    cube[:, :, 30:] = np.nan
    assert has_doubt(cube, Blind())
    cube[:, :, 3:] = np.nan  # too little to tell
    assert not has_doubt(cube, Blind())
    cube = scene(0.3)
    cube[:, :, 30:] = np.nan
    assert not has_doubt(cube, Blind())


def test_parts_together_doubt_what_the_whole_doubts() -> None:
    cube = scene(0.1)
    cube[1:, 120:, 120:] = 0.9
    assert has_doubt(cube, Blind())
    parts = [(top, min(top + 60, 200)) for top in range(0, 200, 60)]
    doubts = [has_doubt(cube, Blind(), part=part) for part in parts]
    assert any(doubts)
    assert not all(doubts)


def test_no_visible_band_no_doubt() -> None:
    guard = BrightGuard(get_sensor("sentinel-2-l1c"), ("B11", "B12"), FOUR_CLASS)
    answer = np.zeros((4, 8, 8), np.float32)
    guard.look(np.ones((2, 8, 8), np.float32), np.ones((8, 8), bool), answer, 1.0)
    assert not guard.doubt


def test_a_mask_on_disk_says_its_doubt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import rasterio

    from openeo_cloudmask.products import ReadOptions, mask_product

    for name, value, doubtful in (("white", 6000, True), ("dark", 500, False)):
        path = tmp_path / f"{name}.tif"
        profile = {"driver": "GTiff", "width": 70, "height": 70, "count": 4, "dtype": "int16"}
        place = rasterio.transform.from_origin(500000, 5000000, 10, 10)
        with rasterio.open(path, "w", crs="EPSG:32631", transform=place, **profile) as file:
            file.write(np.full((4, 70, 70), value, np.int16))
        read = ReadOptions(bands=BANDS, scale=1e-4, offset=0.0)
        options = MaskOptions(sensor="sentinel-2-l1c", stride=64)
        report = mask_product(
            path, tmp_path / f"{name}-mask.tif", options, read=read, detector=Blind()
        )
        assert report.warnings == ((DOUBT,) if doubtful else ())
        with rasterio.open(report.path) as mask:
            assert mask.tags().get("WARNING") == (DOUBT if doubtful else None)
            assert (mask.read(1) == 0).all()
    assert caplog.text.count("neither cloud nor snow") == 1


def test_a_datacube_says_its_doubt(caplog: pytest.LogCaptureFixture) -> None:
    for value, doubtful in ((0.6, True), (0.05, False)):
        cube = xr.DataArray(
            np.full((4, 150, 150), value, np.float32),
            dims=("bands", "y", "x"),
            coords={"bands": list(BANDS)},
        )
        options = MaskOptions(sensor="sentinel-2-l1c", model="dtacs4bands")
        mask = mask_datacube(cube, options, load=lambda *_, **__: Blind())
        assert mask.attrs.get("warning") == (DOUBT if doubtful else None)
    assert caplog.text.count("neither cloud nor snow") == 1


@pytest.mark.parametrize("seed", range(1, 13))
@pytest.mark.parametrize("bands", [("B03", "B04", "B08"), ("B02", "B04", "B10", "B11")])
def test_a_missing_offset_shows_at_the_dark_end(seed: int, bands: tuple[str, ...]) -> None:
    scene = simulate_scene(seed, size=96, bands=bands)
    valid = np.isfinite(scene.cube).all(axis=0)

    def doubts(sensor: str, names: tuple[str, ...], offset: float) -> tuple[str, ...]:
        guard = OffsetGuard(get_sensor(sensor), names)
        for _ in range(2):
            guard.look(scene.cube + np.float32(offset), valid)
        return guard.warnings()

    assert doubts("sentinel-2-l1c", bands, 0.0) == ()
    if "B10" in bands or seed in (
        3,
        4,
        7,
        10,
        11,
    ):  # the dark end of bright deserts, snow and overcast skies shows there alone
        assert doubts("sentinel-2-l1c", bands, 0.1) == (OFFSET_MISSING,)
    assert doubts("landsat-8-9-l1", ("B3", "B4", "B5", "B6")[: len(bands)], 0.1) == ()


@pytest.mark.parametrize(
    ("scale", "offset", "expected"),
    [
        (1.0, 0.0, ()),
        (1e-4, 0.0, (SCALE_SMALL,)),  # applied twice
        (2.75e-5, -0.2, (SCALE_SMALL,)),
        (0.275, -0.2, (SCALE_SMALL,)),  # Sentinel-2's counts by Landsat's numbers
        (10.0, 0.0, (SCALE_LARGE,)),
        (1e-4 / 2.75e-5, 0.2 / 2.75e-5 * 1e-4, (SCALE_LARGE,)),  # Landsat's by Sentinel-2's
    ],
)
@pytest.mark.parametrize("seed", [3, 5, 7, 11])  # desert, snow, overcast, water
def test_a_scale_of_another_product_shows(
    seed: int, scale: float, offset: float, expected: tuple[str, ...]
) -> None:
    scene = simulate_scene(seed, size=96, bands=("B02", "B04", "B08"))
    valid = np.isfinite(scene.cube).all(axis=0)
    guard = ScaleGuard(get_sensor("sentinel-2-l2a"), ("B02", "B04", "B08"))
    for _ in range(2):
        guard.look(scene.cube * np.float32(scale) + np.float32(offset), valid)
    assert guard.warnings() == expected


def test_quality_layers_have_no_scale() -> None:
    guard = ScaleGuard(get_sensor("sentinel-2-l2a"), ("SCL",))
    guard.look(np.full((1, 200, 200), 4, np.float32), np.ones((200, 200), bool))
    assert guard.warnings() == ()
