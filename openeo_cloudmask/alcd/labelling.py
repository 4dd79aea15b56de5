"""Making a reference as ALCD does: marks, a forest, the next place, until its figures stand still.

Method: Baetens, Desjardins and Hagolle (2019), doi:10.3390/rs11040433. A person marks pixels, a
random forest learns them and classifies the scene, the person corrects where it is wrong or unsure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.alcd.features import Features
from openeo_cloudmask.alcd.forest import (
    Samples,
    cross_validate,
    gather_samples,
    predict_shares,
    train_forest,
)
from openeo_cloudmask.alcd.marks import Mark
from openeo_cloudmask.alcd.places import Place, Votes, find_places
from openeo_cloudmask.alcd.types import SAMPLE_LAYERS, AlcdParameters, AlcdScene, KFold
from openeo_cloudmask.alcd.types import Samples as SampleLayer
from openeo_cloudmask.alcd.writer import draw_contours
from openeo_cloudmask.errors import ReferenceDataError

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier

DRAFT_PIXELS = 360_000
"""Pixels that a forest classifies between two marks."""
PART_PX = 200_000
"""Pixels classified at a time, so that the votes of a large scene are not held all at once."""
AROUND_PX = 1.0
"""Sigma of the Gauss that the votes of a pixel's neighbours count with."""
ROUND_MARKS = 10
"""Marks between two times that the 10-fold figures are computed."""
STILL_ROUNDS = 3
STILL_SHARE = 0.01
"""The figures stand still when none moved by more over that many rounds."""
_WATCHED = ("accuracy", "f1_score")

Classes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """What a forest makes of a scene after some marks."""

    samples: Samples
    labels: Classes
    """(y, x) uint8, codes of ``ALCD``; 0 is no-data."""
    confidence: Classes
    """(y, x) uint8, 0-255, share of the votes around a pixel for the class; 0 is no-data too."""
    places: tuple[Place, ...]
    """Where to look next, the first first."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Round:
    """The figures after some marks."""

    marks: int
    statistics: KFold


def learn(
    features: Features,
    marks: Sequence[Mark],
    *,
    models: Mapping[str, Classes] | None = None,
    seed: int = 0,
    draft: bool = True,
) -> Answer:
    """Return what a forest makes of the scene, having learned the marks.

    Args:
        features: of the scene.
        marks: of at least two classes.
        models: name -> (y, x) uint8, mask in the four classes (255 no-data) on the grid of the
            features; where they disagree is worth a look.
        seed: of the forest and the choice of places.
        draft: of a large scene classify every so manieth pixel, and let it stand for those beside
            it, so that the answer comes within a few seconds.

    Raises:
        ReferenceDataError: there are marks of fewer than two classes.
        MissingExtraError: scikit-learn is not installed.
    """
    samples = gather_samples(marks, features, seed=seed)
    forest = train_forest(features, samples, seed=seed)
    shares = _share_out(features, forest, draft_step(features) if draft else 1)
    votes = Votes(codes=tuple(int(code) for code in forest.classes_), shares=shares)
    # Another seed after each mark: other candidates are looked at.
    rng = np.random.default_rng((seed, len(marks)))
    places = find_places(features, samples, votes, rng, turn=len(marks), models=models or {})
    labels = np.zeros(features.seen.shape, np.uint8)
    confidence = np.zeros(features.seen.shape, np.uint8)
    labels[features.seen] = forest.classes_[shares.argmax(axis=1)]
    confidence[features.seen] = np.rint(255 * shares.max(axis=1))
    return Answer(samples=samples, labels=labels, confidence=confidence, places=places)


def draft_step(features: Features) -> int:
    """Return of how many pixels along a side one is classified in a draft; 1 is all."""
    return math.ceil(math.sqrt(len(features.values) / DRAFT_PIXELS))


def _share_out(features: Features, forest: RandomForestClassifier, step: int) -> Floats:
    """Return (pixel, class) float32, the trees' votes around each pixel, 0-1.

    One pixel in a square of ``step`` is classified and stands for those beside it.
    """
    height, width = features.seen.shape
    rows, columns = np.divmod(features.positions, width)
    first = square = np.arange(len(rows))
    if step > 1:
        # A square is answered for by the first of its pixels that has data.
        squares = rows // step * (width // step + 1) + columns // step
        _, first, square = np.unique(squares, return_index=True, return_inverse=True)
    shares = np.empty((len(first), len(forest.classes_)), np.float32)
    for start in range(0, len(first), PART_PX):
        part = slice(start, start + PART_PX)
        shares[part] = predict_shares(forest, features.values[first[part]])
    shares = shares[square]
    plane, weight = np.zeros((2, height, width), np.float32)
    weight[features.seen] = 1
    around = _blur(weight)[features.seen]
    for share in shares.T:
        plane[features.seen] = share
        share[:] = _blur(plane)[features.seen] / around
    return shares


def _blur(plane: Floats) -> Floats:
    from scipy.ndimage import gaussian_filter

    blurred: Floats = gaussian_filter(plane, AROUND_PX, mode="constant", truncate=2.5)
    return blurred


def is_settled(rounds: Sequence[Round]) -> bool:
    """Return whether the 10-fold figures stood still over the last ``STILL_ROUNDS`` rounds."""
    return len(rounds) > STILL_ROUNDS and movement(rounds) <= STILL_SHARE


def movement(rounds: Sequence[Round]) -> float:
    """Return by how much the figures moved at most over the last ``STILL_ROUNDS`` rounds, 0-1."""
    last = [item.statistics.means for item in rounds[-STILL_ROUNDS - 1 :]]
    if len(last) < 2:
        return 1.0
    return max(max(item[key] for item in last) - min(item[key] for item in last)
               for key in _WATCHED)  # fmt: skip


def validate(features: Features, answer: Answer, marks: int, *, seed: int = 0) -> Round | None:
    """Return the 10-fold figures of an answer, or None while there are too few marks for them."""
    statistics = cross_validate(features, answer.samples, seed=seed)
    return None if statistics is None else Round(marks=marks, statistics=statistics)


def make_scene(
    features: Features,
    answer: Answer,
    statistics: KFold | None,
    *,
    name: str,
    parameters: AlcdParameters,
) -> AlcdScene:
    """Return the reference as a scene of ALCD, for ``write_alcd_scene``.

    Args:
        features: of the scene.
        answer: what the forest makes of it.
        statistics: the 10-fold figures.
        name: of the product.
        parameters: what it was made from.

    Raises:
        ReferenceDataError: there are no figures yet.
    """
    if statistics is None:
        raise ReferenceDataError(
            "the 10-fold figures cannot be computed yet; mark each class at least twice, so that "
            "every fold leaves two classes to learn"
        )
    return AlcdScene(
        name=name,
        group="",
        labels=answer.labels,
        confidence=answer.confidence,
        grid=features.grid,
        parameters=parameters,
        statistics=statistics,
        samples=_sample_layers(features, answer.samples),
        contours=draw_contours(answer.labels),
    )


def _sample_layers(features: Features, samples: Samples) -> tuple[SampleLayer, ...]:
    """Return the pixels that were learned as points at their centres, a layer for each class."""
    grid = features.grid
    wkt = "" if grid.crs is None else grid.crs.to_wkt()
    positions = features.positions[samples.places]
    layers = []
    for layer, code in SAMPLE_LAYERS.items():
        rows, columns = np.divmod(positions[samples.codes == code], grid.shape_yx[1])
        points = tuple(
            {"type": "Point", "coordinates": grid.to_xy(row + 0.5, column + 0.5)}
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        )
        layers.append(SampleLayer(layer=layer, code=code, crs_wkt=wkt, geometries=points))
    return tuple(layers)
