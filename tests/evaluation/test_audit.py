"""The audit finds each planted fault, and nothing in a sound detector."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.evaluation.audit import CHECKS, audit_detector
from openeo_cloudmask.inference import Window

SIZE = 64
Windows = NDArray[np.float32]


def scene(seed: int = 3, side: int = 200) -> Windows:
    """Soft clouds over a dark ground: few pixels lie near the threshold of 0.4."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(side, side)), 12)
    cloud = np.clip((noise / noise.std() - 0.5) * 8, 0, 1)
    return np.stack([0.08 + 0.7 * cloud, 0.1 + 0.7 * cloud, 0.12 + 0.7 * cloud]).astype(np.float32)


class Sound:
    """Cloud where the median of three bands is bright: without one of them it says the same."""

    band_names = ("B02", "B03", "B04")
    scheme = FOUR_CLASS
    window = Window(size_px=SIZE, multiple_px=1)

    def light(self, windows: Windows) -> Windows:
        return np.median(windows, axis=1)

    def predict_windows(self, windows: Windows, valid: NDArray[np.bool_]) -> Windows:
        cloud = (self.light(windows) > 0.4).astype(np.float32)
        out = np.zeros((len(windows), 4, *valid.shape[1:]), np.float32)
        out[:, 1], out[:, 0] = cloud, 1 - cloud
        return out


class ByPosition(Sound):
    """Cloud depends on where in the window a pixel is."""

    def light(self, windows: Windows) -> Windows:
        checks = np.indices(windows.shape[2:]).sum(axis=0) % 2
        return np.median(windows, axis=1) * checks


class ByBatch(Sound):
    """The brightest window of a batch dims the others."""

    def light(self, windows: Windows) -> Windows:
        return np.median(windows, axis=1) - 0.5 * windows.mean() * (len(windows) > 1)


class ByMemory(Sound):
    """The second window is another one than the first: what came before is not forgotten."""

    def __init__(self) -> None:
        self.calls = count()

    def light(self, windows: Windows) -> Windows:
        return np.median(windows, axis=1) + 0.3 * (next(self.calls) % 7 == 0)


class ByChance(Sound):
    """Answers that are drawn."""

    def __init__(self) -> None:
        self.chance = np.random.default_rng(1)

    def light(self, windows: Windows) -> Windows:
        return np.median(windows, axis=1) + self.chance.normal(0, 0.3, windows.shape[2:])


class ByZeros(Sound):
    """The zeros of no-data in the window count, too."""

    def light(self, windows: Windows) -> Windows:
        zeros = (windows == 0).mean(axis=(1, 2, 3), keepdims=True)[:, 0]
        return np.median(windows, axis=1) + 2 * zeros


class ByKnifeEdge(Sound):
    """A threshold that the ground lies on."""

    def light(self, windows: Windows) -> Windows:
        return np.median(windows, axis=1) + (0.4 - 0.1001)


class ByGrain(Sound):
    """The smallest difference to the neighbour is cloud."""

    def light(self, windows: Windows) -> Windows:
        rough = np.abs(np.diff(windows[:, 1], axis=1, append=windows[:, 1, -1:]))
        return np.where(rough > 0.004, 1, 0) * (windows[:, 1] < 0.11) + np.median(windows, axis=1)


class ByOneBand(Sound):
    """Only one band is looked at."""

    def light(self, windows: Windows) -> Windows:
        return windows[:, 2]


class BySlope(Sound):
    """Slopes per pixel, which are twice as steep for pixels twice as large."""

    def light(self, windows: Windows) -> Windows:
        slope = np.gradient(windows[:, 1], axis=2)
        return np.where(np.abs(slope) > 0.04, 1, 0)


class ByDirection(Sound):
    """Where it gets brighter from left to right."""

    def light(self, windows: Windows) -> Windows:
        return np.where(np.gradient(windows[:, 1], axis=2) > 0.005, 1, 0)


class ByHalves(Sound):
    """Probabilities of which half is missing."""

    def predict_windows(self, windows: Windows, valid: NDArray[np.bool_]) -> Windows:
        return super().predict_windows(windows, valid) / 2


PLANTED = {
    ByPosition: "shift",
    ByBatch: "batch",
    ByMemory: "cut",
    ByChance: "repeat",
    ByZeros: "neighbour",
    ByKnifeEdge: "brighter",
    ByGrain: "noise",
    ByOneBand: "band",
    BySlope: "coarser",
    ByDirection: "mirror",
    ByHalves: "sums",
}


@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: fault.__name__)
def test_each_planted_fault_is_found(fault: type[Sound]) -> None:
    found = audit_detector(fault(), [scene()], stride=64).found()
    assert PLANTED[fault] in found


def test_a_sound_detector_passes_and_counts_are_those_of_pixels() -> None:
    result = audit_detector(Sound(), [scene(3), scene(4)], stride=64)
    assert result.found() == ()
    assert {key: result.flips[key] for key in ("repeat", "batch", "cut", "leak", "sums")} == {
        "repeat": 0, "batch": 0, "cut": 0, "leak": 0, "sums": 0,
    }  # fmt: skip
    assert result.pixels["repeat"] == 2 * 200 * 200
    assert result.pixels["shift"] == 2 * 2 * 199 * 200
    assert result.pixels["leak"] == pytest.approx(2 * np.pi * 50**2, rel=0.01)
    bright = scene(3)
    flips = ((np.median(bright, axis=0) > 0.4) != (np.median(bright * 1.03, axis=0) > 0.4)).sum()
    assert audit_detector(Sound(), [bright], stride=64).flips["brighter"] == flips
    assert {check.id for check in CHECKS} == result.flips.keys()


def test_what_cannot_be_audited_is_said() -> None:
    with pytest.raises(OptionError, match="no scene to audit on"):
        audit_detector(Sound(), [])
    with pytest.raises(OptionError, match=r"shape \(3, 20, 20\)"):
        audit_detector(Sound(), [scene(side=20)])
