"""Artefacts of composites: those of a loop over pixels, and of masks that miss or take too much."""

from __future__ import annotations

import numpy as np
import pytest

from openeo_cloudmask.errors import InputError
from openeo_cloudmask.evaluation.composites import make_composite
from openeo_cloudmask.simulator.scene import simulate_scene


def test_a_composite_is_that_of_a_loop_over_pixels() -> None:
    rng = np.random.default_rng(1)
    stack = rng.random((5, 7, 6))
    stack[rng.random(stack.shape) < 0.2] = np.nan
    clear = rng.random(stack.shape) < 0.5
    clear[:, 2, 2] = False
    days = np.array([0.0, 4.0, 10.0, 11.0, 30.0])
    found = make_composite(stack, days, clear, day=9.0)
    seams, inner, away, holes, seen = [], [], [], 0, 0
    values = np.full((7, 6), np.nan)
    source = np.full((7, 6), -1)
    for y in range(7):
        for x in range(6):
            seen += bool(np.isfinite(stack[:, y, x]).any())
            left = [t for t in range(5) if clear[t, y, x] and np.isfinite(stack[t, y, x])]
            if not left:
                holes += bool(np.isfinite(stack[:, y, x]).any())
                continue
            best = min(left, key=lambda t: abs(days[t] - 9.0))
            values[y, x], source[y, x] = stack[best, y, x], best
            away.append(abs(days[best] - 9.0))
    for y in range(7):
        for x in range(6):
            for v, u in ((y + 1, x), (y, x + 1)):
                if v < 7 and u < 6 and source[y, x] >= 0 and source[v, u] >= 0:
                    pair = seams if source[y, x] != source[v, u] else inner
                    pair.append(abs(values[y, x] - values[v, u]))
    np.testing.assert_array_equal(found.source, source)
    np.testing.assert_array_equal(found.values, values)
    assert found.holes == pytest.approx(holes / seen, abs=1e-12)
    assert found.seam_jump == pytest.approx(np.mean(seams), abs=1e-12)
    assert found.inner_jump == pytest.approx(np.mean(inner), abs=1e-12)
    assert found.days_away == pytest.approx(np.mean(away), abs=1e-12)


def test_missed_clouds_make_seams_and_greedy_masks_holes() -> None:
    ground = simulate_scene(5, size=64, decks=(), bands=("B02",)).cube[0]
    rng = np.random.default_rng(2)
    days = np.arange(0.0, 40.0, 5.0)
    stack = np.stack([ground + rng.normal(0, 0.002, ground.shape) for _ in days])
    cloud = np.zeros(stack.shape, bool)
    for t in range(len(days)):
        y, x = rng.integers(0, 40, 2)
        cloud[t, y : y + 24, x : x + 24] = True
    stack[cloud] = 0.6
    right = make_composite(stack, days, ~cloud, day=20.0)
    missed = make_composite(stack, days, ~cloud | (rng.random(stack.shape) < 0.3), day=20.0)
    greedy = make_composite(stack, days, rng.random(stack.shape) < 0.05, day=20.0)
    assert abs(right.seam_excess) < 0.01
    assert missed.seam_excess > 10 * abs(right.seam_excess)
    assert right.holes == 0
    assert greedy.holes > 0.3
    assert greedy.days_away > right.days_away


def test_what_is_no_stack_is_refused() -> None:
    stack = np.zeros((3, 4, 4))
    with pytest.raises(InputError, match=r"expected \(t, y, x\), the same, and \(t,\)"):
        make_composite(stack, np.zeros(2), np.ones((3, 4, 4), bool), day=0)
    with pytest.raises(InputError, match="expected numbers"):
        make_composite(stack, np.array([0, 1, np.nan]), np.ones((3, 4, 4), bool), day=0)
    empty = make_composite(stack, np.arange(3.0), np.zeros((3, 4, 4), bool), day=0)
    assert empty.holes == 1
    assert np.isnan(empty.seam_excess)
