"""Steadiness of series after a mask, against a loop over pixels."""

from __future__ import annotations

import numpy as np
import pytest

from openeo_cloudmask.errors import InputError
from openeo_cloudmask.evaluation.time_series import measure_steadiness

DAYS = np.array([0, 5, 10, 17, 20, 31, 45, 50], float)


def test_noise_is_that_of_a_loop_over_pixels() -> None:
    chance = np.random.default_rng(1)
    stack = chance.random((8, 6, 7))
    stack[chance.random(stack.shape) < 0.1] = np.nan
    clear = chance.random(stack.shape) < 0.7
    found = measure_steadiness(stack, DAYS, clear)
    for y in range(6):
        for x in range(7):
            kept = [t for t in range(8) if clear[t, y, x] and np.isfinite(stack[t, y, x])]
            off = []
            for a, b, c in zip(kept, kept[1:], kept[2:], strict=False):
                line = np.interp(DAYS[b], [DAYS[a], DAYS[c]], [stack[a, y, x], stack[c, y, x]])
                off.append(stack[b, y, x] - line)
            expected = np.sqrt(np.mean(np.square(off))) if off else np.nan
            assert found.noise[y, x] == pytest.approx(expected, abs=1e-12, nan_ok=True)
            assert found.kept[y, x] == len(kept) / np.isfinite(stack[:, y, x]).sum()


def test_a_mask_that_misses_clouds_leaves_noise_and_a_greedy_one_little() -> None:
    chance = np.random.default_rng(2)
    ground = 0.1 + 0.001 * DAYS[:, None, None] + chance.normal(0, 0.002, (8, 20, 20))
    cloud = chance.random(ground.shape) < 0.3
    stack = np.where(cloud, 0.6, ground)
    good = measure_steadiness(stack, DAYS, ~cloud)
    blind = measure_steadiness(stack, DAYS, np.ones_like(cloud))
    greedy = measure_steadiness(stack, DAYS, ~cloud & (chance.random(cloud.shape) < 0.5))
    assert good.median_noise < 0.004
    assert blind.median_noise > 0.1
    assert blind.mean_kept == 1
    assert greedy.mean_kept < 0.6 * good.mean_kept
    nothing = measure_steadiness(stack, DAYS, np.zeros_like(cloud))
    assert np.isnan(nothing.median_noise)


def test_what_is_no_stack_is_refused() -> None:
    stack = np.zeros((8, 3, 3))
    with pytest.raises(InputError, match="expected three or more that rise"):
        measure_steadiness(stack, DAYS[::-1], stack == 0)
    with pytest.raises(InputError, match=r"the masks \(8, 3, 2\)"):
        measure_steadiness(stack, DAYS, np.zeros((8, 3, 2), bool))
