"""Intervals over scenes."""

from __future__ import annotations

import numpy as np
import pytest

from openeo_cloudmask.classes import CLOUD_NONCLOUD, FOUR_CLASS
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.evaluation.bootstrap import bootstrap_intervals
from openeo_cloudmask.evaluation.scores import Confusion


def _matrices(count: int, seed: int = 0) -> list[Confusion]:
    rng = np.random.default_rng(seed)
    return [
        Confusion(scheme=CLOUD_NONCLOUD, counts=rng.integers(1, 1000, (2, 2)).astype(np.float64))
        for _ in range(count)
    ]


def test_intervals_equal_those_of_drawing_scenes_one_by_one() -> None:
    matrices = _matrices(6)
    intervals = bootstrap_intervals(matrices, resamples=4000, seed=3)
    rng = np.random.default_rng(11)
    draws = []
    for _ in range(4000):
        chosen = rng.integers(0, 6, 6)
        total = matrices[chosen[0]]
        for index in chosen[1:]:
            total += matrices[index]
        draws.append(total.scores().balanced_accuracy)
    low, high = np.quantile(draws, (0.025, 0.975))
    assert intervals["balanced_accuracy"] == pytest.approx((low, high), abs=0.02)


def test_the_pooled_number_lies_inside_and_the_seed_pins_it() -> None:
    matrices = _matrices(12, seed=2)
    total = matrices[0]
    for matrix in matrices[1:]:
        total += matrix
    intervals = bootstrap_intervals(matrices)
    for name in ("overall_accuracy", "kappa", "balanced_accuracy"):
        low, high = intervals[name]
        assert low < getattr(total.scores(), name) < high
    assert bootstrap_intervals(matrices) == intervals
    assert bootstrap_intervals(matrices, seed=1) != intervals


def test_equal_scenes_have_no_width_and_one_scene_no_interval() -> None:
    one = _matrices(1)
    assert bootstrap_intervals(one) == {}
    low, high = bootstrap_intervals(one * 5)["kappa"]
    assert low == pytest.approx(high)


def test_wrong_requests_are_told() -> None:
    with pytest.raises(OptionError, match="expected a level between 0 and 1"):
        bootstrap_intervals(_matrices(3), level=1.0)
    other = Confusion(scheme=FOUR_CLASS, counts=np.ones((4, 4)))
    with pytest.raises(OptionError, match="cannot be pooled"):
        bootstrap_intervals([*_matrices(2), other])
