"""Strips of a scene that share the windows on their seams."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.datacube import mask_datacube
from openeo_cloudmask.inference import Layout, Seam, Window
from openeo_cloudmask.inference.windows import plan_axis
from openeo_cloudmask.lazy import StripPart, count_strips, mask_lazily, plan_strips
from openeo_cloudmask.masking import Masker
from openeo_cloudmask.models import ModelInput
from openeo_cloudmask.models.onnx_detector import OnnxDetector
from openeo_cloudmask.options import MaskOptions

pytest.importorskip("dask")
BANDS = ["B02", "B03", "B04", "B08"]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Windows per call of `mini`, made quick: an answer depends on the window's first pixel too."""
    counts: list[int] = []

    def predict(
        self: OnnxDetector, windows: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        counts.append(len(windows))
        corner = 1 + windows[:, :1, 0, 0, None]
        planes = np.stack([windows[:, band] + corner for band in range(4)], axis=1)
        return (planes / planes.sum(axis=1, keepdims=True)).astype(np.float32)

    monkeypatch.setattr(OnnxDetector, "predict_windows", predict)
    return counts


def _cube(height: int, first_row: int = 0) -> xr.DataArray:
    pixels = np.random.default_rng(0).random((4, height, 70), dtype=np.float32)
    pixels[:, 300:420, 20:40] = np.nan
    rows = -10.0 * (np.arange(height) + first_row + 0.5)
    return xr.DataArray(
        pixels, dims=("bands", "y", "x"), coords={"bands": BANDS, "y": rows, "x": np.arange(70.0)}
    )


@pytest.mark.parametrize(
    ("stride", "first_row", "strips"), [(384, 0, 2), (384, 100, 9), (256, 100, 2), (256, 0, 9)]
)
def test_strips_compute_each_window_once_and_give_the_mask_of_the_whole(
    computed: list[int], stride: int, first_row: int, strips: int
) -> None:
    cube = _cube(1300, first_row)
    options = MaskOptions(sensor="sentinel-2-l1c", stride=stride)
    whole = mask_datacube(cube, options)
    wanted = sum(computed)
    computed.clear()
    lazy = mask_lazily(cube, options, strips=strips)
    assert len(lazy.chunks[1]) >= min(strips, 3)
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), whole)
    assert sum(computed) == wanted


@pytest.mark.parametrize(("stride", "more"), [(384, {}), (256, {}), (384, {"buffer": "cloud=3px"})])
def test_percentages_come_with_the_mask_from_one_run(
    computed: list[int], stride: int, more: dict[str, str]
) -> None:
    cube = _cube(1300, 100)
    options = MaskOptions(sensor="sentinel-2-l1c", stride=stride, **more)
    plain = replace(options, categorise=False, buffer=None)
    expected = np.concatenate([mask_datacube(cube, options), mask_datacube(cube, plain)])
    computed.clear()
    lazy = mask_lazily(cube, options, strips=3, percentages=True)
    assert list(lazy["bands"].to_numpy()) == ["mask", *FOUR_CLASS.names]
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), expected)


def test_dask_knows_what_a_strip_weighs() -> None:
    from dask.sizeof import sizeof

    seam = Seam(rows=(0, 128))
    seam.add(0, 0, np.zeros((4, 512, 512), np.float32))
    part = StripPart(mask=np.zeros((1, 10, 20), np.uint8), above=None, below=seam)
    assert sizeof(seam) >= 4 * 128 * 512 * 4
    assert sizeof(part) >= sizeof(seam) + 200


def test_strips_that_stand_alone_need_no_other(
    computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openeo_cloudmask.lazy.STRIP_WINDOWS", 2)
    cube = _cube(1900)
    options = MaskOptions(sensor="sentinel-2-l1c")
    whole = mask_datacube(cube, options)
    computed.clear()
    lazy = mask_lazily(cube, options)
    assert lazy.chunks[1] == (768, 768, 364)
    middle = lazy[:, 768:1536].compute(scheduler="synchronous")
    np.testing.assert_array_equal(middle, whole[:, 768:1536])
    assert sum(computed) == 3 * 1  # rows of windows, one of them for the seam; and columns


@pytest.mark.parametrize(
    ("more", "workers", "expected"),
    [({}, 2, 2), ({}, 8, 8), ({}, 50, 11), ({"stride": 256}, 50, 8), ({"stride": 128}, 50, 8),
     ({"buffer": "cloud=3px"}, 50, 2)],
)  # fmt: skip
def test_a_scene_gets_a_strip_per_worker_while_that_pays(
    more: dict[str, Any], workers: int, expected: int
) -> None:
    masker = Masker.open(MaskOptions(sensor="sentinel-2-l1c", **more), BANDS)
    assert count_strips(4096, masker, workers, None) == expected


@pytest.mark.parametrize("origin", [0, -540_000, 77])
@pytest.mark.parametrize("seam", [0, 128, 256])
def test_strips_cover_all_rows_and_have_as_many_rows_of_windows_each(
    origin: int, seam: int
) -> None:
    for height, count in itertools.product([300, 900, 3000, 10_980], [1, 2, 3, 7, 29]):
        starts = plan_axis(
            height, size_px=512, stride_px=512 - seam, origin_px=origin, layout=Layout.ANCHORED
        ).starts
        strips = plan_strips(height, starts, count=count, seam_px=seam)
        assert strips[0][0] == 0
        assert strips[-1][1] == height
        assert all(one[1] == other[0] for one, other in itertools.pairwise(strips))
        assert min([stop - first for first, stop in strips[1:]], default=seam + 1) > seam
        if count * 3 <= len(starts):
            rows = [sum(first <= start < stop for start in starts) for first, stop in strips]
            rows[0] += sum(start < 0 for start in starts)
            assert len(strips) == count
            assert max(rows) - min(rows) <= 1


class _Small:
    """A quick detector with small windows: an answer depends on all that a window sees."""

    band_names, scheme = tuple(BANDS), FOUR_CLASS

    def __init__(self, window: Window) -> None:
        self.window = window

    def predict_windows(
        self, windows: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        share = valid.mean(axis=(1, 2))[:, None, None]
        around = windows[:, 0].mean(axis=(1, 2), keepdims=True) + share
        planes = np.stack([windows[:, band] + (1 + band) * around for band in range(4)], axis=1)
        return (planes / planes.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("seed", range(40))
def test_any_cut_of_any_scene_gives_the_mask_of_the_whole(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(seed)
    size, rim = int(rng.choice([16, 32, 40])), int(rng.choice([0, 0, 3]))
    stride = int(rng.integers(size // rng.choice([2, 2, 4]), size - 2 * rim + 1))
    window = Window(
        size_px=size, multiple_px=8, rim_px=rim, mirrored=bool(rng.integers(2)),
        batch=int(rng.integers(1, 4)),
    )  # fmt: skip

    class SmallMasker(Masker):
        def __init__(self, options: MaskOptions, inputs: ModelInput, **_: object) -> None:
            super().__init__(options, inputs, detector=_Small(window))

    for module in ("lazy", "datacube"):
        monkeypatch.setattr(f"openeo_cloudmask.{module}.Masker", SmallMasker)
    monkeypatch.setattr("openeo_cloudmask.options.STRIDES_PX", (stride,))
    height, width = (int(rng.integers(1, most)) for most in (160, 60))
    pixels = rng.random((4, height, width), np.float32)
    top = int(rng.integers(height))
    pixels[:, top : top + int(rng.integers(50))] = np.nan
    pixels[:, rng.random((height, width)) < rng.choice([0, 0.9])] = np.nan
    rows = -10.0 * (np.arange(height) + int(rng.integers(-300, 300)) + 0.5)
    cube = xr.DataArray(
        pixels, dims=("bands", "y", "x"), coords={"bands": BANDS, "y": rows, "x": np.arange(width)}
    )
    options = MaskOptions(
        sensor="sentinel-2-l1c", stride=stride, buffer=rng.choice([None, None, None, "3px"])
    )
    lazy = mask_lazily(cube, options, strips=rng.choice([None, 2, 3, 50]))
    whole = mask_datacube(cube, options).to_numpy()
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), whole)
    first = int(rng.integers(height))
    part = lazy[:, first : first + 9].compute(scheduler="synchronous")
    np.testing.assert_array_equal(part, whole[:, first : first + 9])
