"""A random forest that learns classes from marks, and how well it finds marks held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.alcd.features import Features
from openeo_cloudmask.alcd.marks import Mark
from openeo_cloudmask.alcd.types import KFold
from openeo_cloudmask.alcd.writer import FOLDS, binary_metrics
from openeo_cloudmask.errors import MissingExtraError, ReferenceDataError

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier

Floats = NDArray[np.float32]

TREES = 60
LEAF = 3
"""Pixels of a leaf at least: single ones are noise."""
MAX_SAMPLES = 4000
"""Pixels a forest learns from at most, so that it is there within about a second."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Pixels with a class, and which mark gave it."""

    places: NDArray[np.intp]
    """(sample,) rows of ``Features.values``."""
    codes: NDArray[np.uint8]
    """(sample,) of ``ALCD``."""
    marks: NDArray[np.intp]
    """(sample,) number of the mark."""

    @property
    def classes(self) -> tuple[int, ...]:
        """Codes that occur, sorted."""
        return tuple(int(code) for code in np.unique(self.codes))

    def take(self, chosen: NDArray[Any]) -> Samples:
        """Return some of the samples."""
        return Samples(
            places=self.places[chosen], codes=self.codes[chosen], marks=self.marks[chosen]
        )


def gather_samples(marks: Sequence[Mark], features: Features, *, seed: int = 0) -> Samples:
    """Return the pixels of all marks; where marks overlap, the last one counts.

    Of large marks some pixels are drawn, so that there are ``MAX_SAMPLES`` at most.
    """
    owner = np.full(features.seen.size, -1, np.intp)
    for number, mark in enumerate(marks):
        owner[mark.pixels(features.grid)] = number
    owner = owner[features.seen.ravel()]
    places = np.flatnonzero(owner >= 0)
    codes = np.asarray([mark.code for mark in marks], np.uint8)
    samples = Samples(places=places, codes=codes[owner[places]], marks=owner[places])
    rng = np.random.default_rng(seed)
    most = max(MAX_SAMPLES // max(len(marks), 1), 1)
    kept = [
        rng.permutation(np.flatnonzero(samples.marks == number))[:most]
        for number in np.unique(samples.marks)
    ]
    return samples.take(np.sort(np.concatenate(kept)) if kept else np.empty(0, np.intp))


def train_forest(features: Features, samples: Samples, *, seed: int = 0) -> RandomForestClassifier:
    """Return a forest that learned the samples, every class with the same weight.

    Raises:
        ReferenceDataError: there are samples of fewer than two classes.
        MissingExtraError: scikit-learn is not installed.
    """
    if len(samples.classes) < 2:
        raise ReferenceDataError(
            f"marks of {len(samples.classes)} classes; a forest needs at least two"
        )
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError as err:
        raise MissingExtraError.for_extra("viewer", "making a reference") from err
    # One thread: scikit-learn's own reset the warning filters of the process under each other.
    forest = RandomForestClassifier(
        TREES, class_weight="balanced", max_features="sqrt", min_samples_leaf=LEAF, n_jobs=1,
        random_state=seed,
    )  # fmt: skip
    forest.fit(features.values[samples.places], samples.codes)
    return forest


def predict_shares(forest: RandomForestClassifier, values: Floats) -> Floats:
    """Return (pixel, class) float32, the share of the trees' votes for each of its classes."""
    shares: Floats = forest.predict_proba(values).astype(np.float32)
    return shares


def fold_samples(samples: Samples, *, seed: int = 0) -> NDArray[np.intp]:
    """Return (sample,) the fold of each; a mark is in one fold, each class spread over all."""
    rng = np.random.default_rng(seed)
    numbers = np.unique(samples.marks)
    fold_of = np.zeros(int(numbers.max(initial=0)) + 1, np.intp)
    count = min(FOLDS, numbers.size)
    at = 0
    for code in samples.classes:
        own = rng.permutation(np.unique(samples.marks[samples.codes == code]))
        fold_of[own] = (at + np.arange(own.size)) % count
        at += own.size
    folds: NDArray[np.intp] = fold_of[samples.marks]
    return folds


def cross_validate(features: Features, samples: Samples, *, seed: int = 0) -> KFold | None:
    """Return how well forests find the marks they did not see, fold by fold, as ALCD does.

    Valid (land, water, snow) against invalid (clouds, shadow). None while a fold would leave
    samples of fewer than two classes.
    """
    folds = fold_samples(samples, seed=seed)
    found = []
    for fold in np.unique(folds):
        held = folds == fold
        rest = samples.take(~held)
        if len(rest.classes) < 2:
            return None
        forest = train_forest(features, rest, seed=seed)
        got = forest.predict(features.values[samples.places[held]]).astype(np.uint8)
        found.append(binary_metrics(samples.codes[held], got))
    return KFold(folds=np.asarray(found, np.float64)) if found else None
