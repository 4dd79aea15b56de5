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


def test_intervals_cover_as_they_should_where_scenes_are_alike_inside() -> None:
    """Of 200 studies of 40 scenes, about 95 % have the true figures inside; by pixels next to none.

    Each scene has accuracies of its own, as clouds of one scene are alike.
    """
    rng = np.random.default_rng(9)
    recall, specificity = 0.8, 0.9  # means of the beta distributions below
    inside = {"cloud.recall": 0, "non-cloud.recall": 0, "balanced_accuracy": 0, "by pixels": 0}
    truth = {
        "cloud.recall": recall,
        "non-cloud.recall": specificity,
        "balanced_accuracy": (recall + specificity) / 2,
    }
    studies = 200
    for seed in range(studies):
        matrices = []
        for hit, kept in zip(rng.beta(8, 2, 40), rng.beta(9, 1, 40), strict=True):
            cloud = np.round(2000 * np.array([1 - hit, hit]))
            clear = np.round(3000 * np.array([kept, 1 - kept]))
            counts = np.stack([clear, cloud])
            matrices.append(Confusion(scheme=CLOUD_NONCLOUD, counts=counts))
        intervals = bootstrap_intervals(matrices, resamples=400, seed=seed)
        for name, value in truth.items():
            low, high = intervals[name]
            inside[name] += low <= value <= high
        found = np.sum([item.counts[1] for item in matrices], axis=0)
        share = found[1] / found.sum()
        width = 1.96 * np.sqrt(share * (1 - share) / found.sum())
        inside["by pixels"] += abs(share - recall) <= width
    for name in truth:
        assert 0.89 <= inside[name] / studies <= 0.985, (name, inside[name])
    assert inside["by pixels"] / studies < 0.3


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
