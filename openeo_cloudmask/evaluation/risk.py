"""How far percentages can be trusted, and the threshold that keeps missed cloud below a share.

The threshold is that of conformal risk control (Angelopoulos et al., 2024, ICLR): of n scenes with
labels, the largest one whose mean share of missed cloud R satisfies n/(n+1) R + 1/(n+1) <= the
share allowed. For a further scene like these, the expected share of missed cloud is then at most
that; it is a promise on the mean over scenes, not on each scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.errors import OptionError, ReferenceDataError
from openeo_cloudmask.models.calibration import METHODS, Calibration

BINS = 10
LEVELS = 1000
"""Steps of a probability in which calibrations are fitted."""
THRESHOLDS = np.arange(1, 1001) / 1000
"""Thresholds that are tried, probability of cloud; the smallest calls nearly everything cloud."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoredScene:
    """The labelled pixels of a scene."""

    name: str
    probability: NDArray[np.float64]
    """(n,) of cloud, 0-1."""
    cloud: NDArray[np.bool_]
    """(n,) whether it is cloud."""

    def missed(self, threshold: float) -> float:
        """Return the share of cloud below the threshold; NaN without any cloud."""
        if not self.cloud.any():
            return float("nan")
        return float((self.probability[self.cloud] < threshold).mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """How well probabilities of cloud say how often there is cloud."""

    brier: float
    """Mean squared difference."""
    ece: float
    """Expected calibration error: mean over bins of their pixels' |said - found|."""
    bins: tuple[tuple[float, float, int], ...]
    """(mean probability, share of cloud, pixels) of each bin that has pixels."""


def measure_reliability(
    probability: NDArray[np.float64], cloud: NDArray[np.bool_], *, bins: int = BINS
) -> Reliability:
    """Return how reliable probabilities are, over bins of equal width.

    Raises:
        ReferenceDataError: there are no pixels, or values that are no probabilities.
    """
    if not probability.size or not ((probability >= 0) & (probability <= 1)).all():
        raise ReferenceDataError(
            f"{probability.size} probabilities from {probability.min(initial=np.inf)} to "
            f"{probability.max(initial=-np.inf)}; expected one or more, each 0 to 1"
        )
    place = np.minimum((probability * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    said = np.bincount(place, weights=probability, minlength=bins)
    found = np.bincount(place, weights=cloud.astype(float), minlength=bins)
    filled = counts > 0
    return Reliability(
        brier=float(np.mean((probability - cloud) ** 2)),
        ece=float(np.abs(said - found).sum() / probability.size),
        bins=tuple(
            (float(s / n), float(f / n), int(n))
            for s, f, n in zip(said[filled], found[filled], counts[filled], strict=True)
        ),
    )


def choose_threshold(scenes: Sequence[ScoredScene], max_missed: float) -> float:
    """Return the largest threshold that keeps the expected share of missed cloud.

    Args:
        scenes: scenes with labels that were not used to make the model; those without cloud do not
            count.
        max_missed: share of cloud that may be missed, above 0 and below 1.

    Raises:
        OptionError: the share is out of range.
        ReferenceDataError: there are too few scenes with cloud for it, or no threshold keeps it.
    """
    if not 0 < max_missed < 1:
        raise OptionError(f"max-missed is {max_missed:g}; expected above 0 and below 1, e.g. 0.05")
    cloudy = [scene for scene in scenes if scene.cloud.any()]
    needed = int(np.ceil(1 / max_missed - 1 - 1e-9))
    if len(cloudy) < needed:
        raise ReferenceDataError(
            f"{len(cloudy)} scenes with cloud cannot promise that {max_missed:.2%} is missed at "
            f"most; expected {needed} scenes or more (1 / share - 1)"
        )
    risks = np.mean([_missed_by_threshold(scene) for scene in cloudy], axis=0)
    count = len(cloudy)
    kept = count / (count + 1) * risks + 1 / (count + 1) <= max_missed + 1e-12
    if not kept.any():
        raise ReferenceDataError(
            f"no threshold keeps missed cloud at {max_missed:.2%} with {count} scenes: at "
            f"{THRESHOLDS[0]:g} the mean share missed is {risks[0]:.2%}"
        )
    return float(THRESHOLDS[kept][-1])


def _missed_by_threshold(scene: ScoredScene) -> NDArray[np.float64]:
    ordered = np.sort(scene.probability[scene.cloud])
    return np.searchsorted(ordered, THRESHOLDS, side="left") / ordered.size


def check_by_leaving_out(
    scenes: Sequence[ScoredScene], max_missed: float
) -> dict[str, tuple[float, float]]:
    """Return for each scene with cloud the threshold of the others, and what it misses there.

    Raises:
        ReferenceDataError: as ``choose_threshold``, for the others.
    """
    cloudy = [scene for scene in scenes if scene.cloud.any()]
    found = {}
    for place, scene in enumerate(cloudy):
        threshold = choose_threshold([*cloudy[:place], *cloudy[place + 1 :]], max_missed)
        found[scene.name] = (threshold, scene.missed(threshold))
    return found


def tally(scene: ScoredScene) -> NDArray[np.int64]:
    """Return (2, ``LEVELS`` + 1): pixels, and cloud among them, by rounded probability."""
    place = np.rint(scene.probability * LEVELS).astype(np.int64)
    return np.stack(
        [
            np.bincount(place, minlength=LEVELS + 1),
            np.bincount(place[scene.cloud], minlength=LEVELS + 1),
        ]
    )


def fit_calibration(
    tallies: Sequence[NDArray[np.int64]], method: str, *, data: str = ""
) -> Calibration:
    """Return the calibration that fits the pixels of scenes, with scenes as ``tally`` gives them.

    ``temperature`` is the T of the least log loss of sigmoid(logit(p) / T); ``isotonic`` the rising
    map of the least squared error (pool adjacent violators).

    Raises:
        OptionError: the method is unknown.
    """
    if method not in METHODS:
        raise OptionError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
    pixels, cloud = np.sum(tallies, axis=0)
    filled = pixels > 0
    said = np.flatnonzero(filled) / LEVELS
    pixels, cloud = pixels[filled].astype(float), cloud[filled].astype(float)
    if method == "temperature":
        temperature = _fit_temperature(said, pixels, cloud)
        return Calibration(
            method=method, said=(), found=(temperature,), scenes=len(tallies), data=data
        )
    found = _fit_isotonic(cloud / pixels, pixels)
    # Of a flat piece its two ends say everything.
    inner = np.zeros(found.size, bool)
    inner[1:-1] = (found[1:-1] == found[:-2]) & (found[1:-1] == found[2:])
    return Calibration(
        method=method,
        said=tuple(said[~inner].tolist()),
        found=tuple(found[~inner].tolist()),
        scenes=len(tallies),
        data=data,
    )


def _fit_isotonic(shares: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rising values nearest to ``shares``, by weighted squares."""
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for share, weight in zip(shares.tolist(), weights.tolist(), strict=True):
        mean, total, length = share, weight, 1
        while blocks and blocks[-1][0] >= mean:
            other, more, count = blocks.pop()
            mean = (mean * total + other * more) / (total + more)
            total, length = total + more, length + count
        blocks.append((mean, total, length))
    return np.concatenate([np.full(length, mean) for mean, _, length in blocks])


def _fit_temperature(
    said: NDArray[np.float64], pixels: NDArray[np.float64], cloud: NDArray[np.float64]
) -> float:
    """Return T between 0.05 and 20."""
    from scipy.optimize import minimize_scalar

    clipped = np.clip(said, 1e-6, 1 - 1e-6)
    logits = np.log(clipped / (1 - clipped))

    def loss(log_t: float) -> float:
        scaled = logits / np.exp(log_t)
        return float(
            (cloud * np.logaddexp(0, -scaled) + (pixels - cloud) * np.logaddexp(0, scaled)).sum()
            / pixels.sum()
        )

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(np.exp(found.x))


def calibrate_left_out(scenes: Sequence[ScoredScene], method: str) -> Reliability:
    """Return the reliability of scenes calibrated by all the others, pooled.

    Raises:
        ReferenceDataError: there is one scene only.
    """
    if len(scenes) < 2:
        raise ReferenceDataError("one scene cannot be calibrated by others; expected two or more")
    tallies = [tally(scene) for scene in scenes]
    values = []
    for place, scene in enumerate(scenes):
        others = fit_calibration([*tallies[:place], *tallies[place + 1 :]], method)
        values.append(others.map(scene.probability))
    return measure_reliability(
        np.concatenate(values), np.concatenate([scene.cloud for scene in scenes])
    )
