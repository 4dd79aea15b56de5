"""How sure pooled numbers are: intervals from drawing scenes again and again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.evaluation.scores import Confusion, measure

RESAMPLES = 1000
LEVEL = 0.95


def bootstrap_intervals(
    confusions: Sequence[Confusion],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Return the interval of each number of the pooled matrix.

    Scenes, not pixels, are drawn with replacement: pixels of one scene are alike, and intervals
    over pixels would be far too narrow. The interval is that of the percentiles.

    Args:
        confusions: one matrix for each scene, of one scheme.
        resamples: how often as many scenes are drawn.
        level: share of the resamples inside the interval.
        seed: of the draws.

    Returns:
        (low, high) by the names of ``scores.measure``; empty with fewer than two scenes, from which
        nothing can be said.

    Raises:
        OptionError: ``level`` or ``resamples`` is out of range, or the schemes differ.
    """
    if not 0 < level < 1 or resamples < 1:
        raise OptionError(
            f"level {level} and {resamples} resamples; expected a level between 0 and 1 and 1 "
            "resample or more"
        )
    if len({confusion.scheme.name for confusion in confusions}) > 1:
        raise OptionError("matrices of different classes cannot be pooled")
    if len(confusions) < 2:
        return {}
    stack = np.stack([confusion.counts for confusion in confusions])
    count = len(confusions)
    rng = np.random.default_rng(seed)
    # How often each scene is drawn, times its matrix: no resample is ever built pixel by pixel.
    times = rng.multinomial(count, np.full(count, 1.0 / count), size=resamples).astype(np.float64)
    pooled = np.tensordot(times, stack, axes=1)
    edges = ((1 - level) / 2, (1 + level) / 2)
    return {
        name: _interval(values, edges)
        for name, values in measure(pooled, confusions[0].scheme).items()
    }


def _interval(values: NDArray[np.float64], edges: tuple[float, float]) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not known.size:
        return np.nan, np.nan
    low, high = np.quantile(known, edges)
    return float(low), float(high)
