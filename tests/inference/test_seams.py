"""Where windows meet, the mask changes no more than elsewhere."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from numpy.typing import NDArray

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.inference import Layout, Window, predict
from openeo_cloudmask.inference.windows import plan_axis
from openeo_cloudmask.models.load import load_detector
from openeo_cloudmask.simulator.scene import simulate_scene


class Moody:
    """Calls cloud what is bright, and brighter than the rest of its window."""

    band_names = ("B04",)
    scheme = FOUR_CLASS
    window = Window(size_px=128, multiple_px=1)

    def predict_windows(
        self, windows: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        score = 20 * (windows[:, 0] - windows.mean(axis=(1, 2, 3))[:, None, None])
        cloud = 1 / (1 + np.exp(-score))
        none = np.zeros_like(cloud)
        return np.stack([1 - cloud, cloud, none, none], axis=1)


def changes(labels: NDArray[np.intp], window: Window, stride: int) -> tuple[float, float]:
    """Return the share of pixels that change class across window edges, and across other lines."""
    length = len(labels)
    starts = plan_axis(
        length, size_px=window.size_px, stride_px=stride, layout=Layout.ANCHORED
    ).starts
    edges = {edge for start in starts for edge in (start, start + window.size_px)}
    at_edge = np.isin(np.arange(1, length), list(edges))
    across = np.stack(
        [
            (labels[1:] != labels[:-1]).mean(axis=1),
            (labels[:, 1:] != labels[:, :-1]).mean(axis=0),
        ]
    )
    return float(across[:, at_edge].mean()), float(across[:, ~at_edge].mean())


def test_windows_that_disagree_leave_no_line() -> None:
    rng = np.random.default_rng(0)
    slopes = np.add.outer(np.sin(np.arange(700) / 60), np.cos(np.arange(700) / 45))
    cube = (0.4 + 0.1 * slopes + 0.02 * rng.random((700, 700)))[np.newaxis].astype(np.float32)
    labels = predict(cube, Moody(), stride=96).argmax(axis=0)
    at_edges, elsewhere = changes(labels, Moody.window, 96)
    assert elsewhere > 0.01  # there is something to compare with
    assert at_edges < 1.25 * elsewhere
    published = predict(cube, Moody(), stride=96, layout=Layout.CENTRED)
    assert not np.array_equal(labels, published.argmax(axis=0))


@pytest.mark.slow
def test_the_default_model_leaves_no_line() -> None:
    detector = load_detector("mini", sensor="sentinel-2-l1c")
    bands = list(detector.band_names)
    scenes = [simulate_scene(seed, size=900, bands=bands) for seed in (3, 10)]
    labels = [predict(scene.cube, detector, stride=384).argmax(axis=0) for scene in scenes]
    pairs = [changes(each, detector.window, 384) for each in labels]
    at_edges, elsewhere = np.mean(pairs, axis=0)
    assert at_edges < 1.5 * elsewhere, pairs


@pytest.mark.parametrize("stride", [64, 96, 128])
def test_any_cut_has_the_same_bits(stride: int) -> None:
    cube = np.random.default_rng(1).random((1, 500, 430), dtype=np.float32)
    cube[:, 100:140, 50:90] = np.nan
    whole = predict(cube, Moody(), stride=stride, origin_yx=(13, 40))
    for top, left in chain([(0, 0)], [(130, 0), (200, 150)]):
        chunk = cube[:, max(top - 127, 0) : top + 150 + 127, max(left - 127, 0) : left + 120 + 127]
        y0, x0 = max(top - 127, 0), max(left - 127, 0)
        part = predict(chunk, Moody(), stride=stride, origin_yx=(13 + y0, 40 + x0))
        np.testing.assert_array_equal(
            part[:, top - y0 : top - y0 + 150, left - x0 : left - x0 + 120],
            whole[:, top : top + 150, left : left + 120],
        )
