"""Where to look next: the places whose class would teach a forest most."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.alcd.features import Features
from openeo_cloudmask.alcd.forest import Samples
from openeo_cloudmask.classes import ALCD, FOUR_CLASS, NODATA, mapping

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Rows = NDArray[np.intp]

CANDIDATES = 6000
"""Pixels, drawn at random, among which places are chosen."""
KIND_SAMPLE = 1500
FIRST_KINDS, ALL_KINDS = 12, 30
"""Kinds of pixels that the first places are typical of, and those that are all to be marked."""
PLACES = 8
KINDS_FIRST, KINDS_EVERY = 8, 3
"""So many marks are made on kinds of pixels that no mark is like; of later ones, one in so many."""
APART_PX = 4
"""Places nearer to a mark than this tell a forest little more than the mark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A pixel to look at."""

    row: int
    column: int
    doubt: float
    """How unsure its class is: 0 the trees agree, 1 two classes have as many votes; more where
    models contradict."""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Votes:
    """What a forest thinks of a scene."""

    codes: tuple[int, ...]
    """Of ``ALCD``, one for each class."""
    shares: Floats
    """(pixel, class) float32, 0-1, of each row of ``Features.values``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kinds:
    """Kinds of pixels, found without any class; the commonest first."""

    middles: Doubles
    """(kind, feature) float64, in units of ``spread`` from ``mean``."""
    typical: Rows
    """(kind,) row of ``Features.values`` of the pixel nearest to the middle of each."""
    share: Doubles
    """(kind,) of the scene, 0-1."""
    mean: Doubles
    spread: Doubles

    def of(self, values: Floats) -> Rows:
        """Return (row,), the kind of each row of features."""
        scaled = (values - self.mean) / self.spread
        distances = np.square(self.middles).sum(axis=1)[np.newaxis, :] - 2 * scaled @ self.middles.T
        found: Rows = distances.argmin(axis=1)
        return found


def find_kinds(features: Features, count: int) -> Kinds:
    """Return the kinds of pixels of a scene (k-means); the same for the same scene."""
    from scipy.cluster.vq import kmeans2

    rng = np.random.default_rng(0)
    rows = _draw(len(features.values), KIND_SAMPLE, rng)
    values = features.values[rows].astype(np.float64)
    mean, spread = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-6)
    scaled = (values - mean) / spread
    with warnings.catch_warnings():
        # A kind may lose all its pixels; it is left out below.
        warnings.simplefilter("ignore", UserWarning)
        middles, kinds = kmeans2(scaled, min(count, len(rows)), minit="++", rng=rng)
    counts = np.bincount(kinds, minlength=len(middles))
    order = [kind for kind in np.argsort(-counts, kind="stable") if counts[kind]]
    distances = np.square(scaled[:, np.newaxis] - middles[order]).sum(axis=2)
    return Kinds(
        middles=middles[order],
        typical=rows[distances.argmin(axis=0)],
        share=counts[order] / len(rows),
        mean=mean,
        spread=spread,
    )


def first_places(features: Features) -> tuple[Place, ...]:
    """Return a place for each of ``FIRST_KINDS`` kinds of pixels, its most typical one."""
    kinds = find_kinds(features, FIRST_KINDS)
    return tuple(_typical(features, kinds, kind) for kind in range(len(kinds.share)))


def _typical(features: Features, kinds: Kinds, kind: int) -> Place:
    row, column = _pixel(features, int(kinds.typical[kind]))
    why = f"typical of about {kinds.share[kind]:.0%} of the scene, which no mark is like"
    return Place(row=row, column=column, doubt=1.0, why=why)


def find_places(
    features: Features,
    samples: Samples,
    votes: Votes,
    rng: np.random.Generator,
    *,
    turn: int,
    models: Mapping[str, NDArray[np.uint8]],
) -> tuple[Place, ...]:
    """Return places where the forest is least sure, or the models contradict it; the next first.

    Each class the forest finds has its turn, so that a rare one is not forgotten over the doubts
    of a common one. At first, and every so often, the commonest kind of pixels that no mark is
    like comes before them: a forest is often sure of what it never saw.

    Args:
        features: of the scene.
        samples: what the forest learned.
        votes: what it thinks.
        rng: draws the candidates.
        turn: number of marks there are.
        models: name -> (y, x) uint8, masks in the four classes on the features' grid.
    """
    rows = _draw(len(features.values), CANDIDATES, rng)
    rows = rows[_apart(features, samples, rows)]
    shares = votes.shares[rows]
    found = shares.argmax(axis=1)
    best = np.sort(shares, axis=1)
    masks = {name: mask[features.seen][rows] for name, mask in models.items()}
    doubt = 1 - (best[:, -1] - best[:, -2]) + _against(masks, np.asarray(votes.codes)[found])
    places = []
    kinds = find_kinds(features, ALL_KINDS)
    marked = np.unique(kinds.of(features.values[samples.places]))
    strange = [kind for kind in range(len(kinds.share)) if kind not in marked]
    if turn < KINDS_FIRST or turn % KINDS_EVERY == 0:
        places += [_typical(features, kinds, kind) for kind in strange[:1]]
    for at in _in_turn(found, doubt, turn)[: PLACES - len(places)]:
        row, column = _pixel(features, int(rows[at]))
        told = {name: int(mask[at]) for name, mask in masks.items()}
        why = _explain(shares[at], votes.codes, told)
        places.append(Place(row=row, column=column, doubt=float(doubt[at]), why=why))
    return tuple(places)


def _in_turn(found: Rows, doubt: Floats, turn: int) -> list[int]:
    """Return ``PLACES`` candidates, the most doubtful of each class in turn."""
    classes = np.unique(found)
    chosen: list[int] = []
    free = np.ones(len(found), bool)
    for count in range(turn, turn + PLACES * len(classes)):
        own = free & (found == classes[count % len(classes)])
        if own.any() and len(chosen) < PLACES:
            chosen.append(int(np.where(own, doubt, -1).argmax()))
            free[chosen[-1]] = False
    return chosen


def _draw(count: int, wanted: int, rng: np.random.Generator) -> Rows:
    drawn: Rows = rng.choice(count, min(wanted, count), replace=False)
    return drawn


def _pixel(features: Features, row: int) -> tuple[int, int]:
    """Return row and column of the pixel that a row of ``Features.values`` is of."""
    position = int(features.positions[row])
    row_at, column = divmod(position, features.grid.shape_yx[1])
    return row_at, column


def _apart(features: Features, samples: Samples, rows: Rows) -> NDArray[np.bool_]:
    """Return (row,), whether a pixel lies apart from all marks; all do where none does."""
    from scipy.ndimage import binary_dilation

    near = np.zeros(features.seen.shape, bool)
    near.ravel()[features.positions[samples.places]] = True
    near = binary_dilation(near, np.ones((2 * APART_PX + 1,) * 2, bool))
    apart: NDArray[np.bool_] = ~near.ravel()[features.positions[rows]]
    return apart if apart.any() else ~apart


def _against(masks: Mapping[str, NDArray[np.uint8]], codes: NDArray[np.int_]) -> Floats:
    """Return (row,), the share of the models that contradict the forest; no-data says nothing."""
    table = np.full(len(ALCD.classes), NODATA, np.uint8)
    table[list(ALCD.values)] = mapping(ALCD, FOUR_CLASS)
    own = table[codes]
    wrong = np.zeros(codes.shape, np.float32)
    for mask in masks.values():
        wrong += (mask != own) & (mask != NODATA)
    share: Floats = wrong / np.float32(max(len(masks), 1))
    return share


def _explain(votes: Floats, codes: tuple[int, ...], masks: Mapping[str, int]) -> str:
    order = np.argsort(-votes, kind="stable")[:2]
    said = [f"{ALCD.classes[codes[at]].title.lower()} {votes[at]:.0%}" for at in order]
    titles = {item.value: item.title.lower() for item in FOUR_CLASS.classes}
    told = [f"{name}: {titles[value]}" for name, value in masks.items() if value in titles]
    return "; ".join([f"the forest: {', '.join(said)}", *told])
