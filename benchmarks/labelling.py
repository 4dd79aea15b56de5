"""Clicks that a reference takes, guided and at random: ``python benchmarks/labelling.py``.

Someone who knows the truth of simulated scenes makes a dot where the labeller says, until the map
of the forest reaches a balanced accuracy; then, on the same scene, dots at random places, up to
twenty times as many. A dot is as wide as the class around it allows, three pixels at most. Printed
are the clicks both took, scene by scene and in all, and the balanced accuracy they end with.

Pixels whose neighbours are of another class (``--rim 1``) are left out of the accuracy: the truth
changes there from pixel to pixel, and nobody can mark them. ``--rim 0`` counts all.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from scipy.ndimage import distance_transform_edt

from openeo_cloudmask.alcd.features import Features, read_features
from openeo_cloudmask.alcd.forest import gather_samples, train_forest
from openeo_cloudmask.alcd.labelling import learn
from openeo_cloudmask.alcd.marks import Mark
from openeo_cloudmask.alcd.places import first_places
from openeo_cloudmask.classes import ALCD, SCHEMES, mapping
from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.sensors import get_sensor
from openeo_cloudmask.simulator.scene import simulate_scene

PIXEL_M = 20.0
DOT_PX = 3.0
VIEWS = ("cloud-noncloud", "valid-invalid", "4-class")
PLACES_TAKEN = 4
"""Places of an answer that are marked before the forest learns again."""
STEPS = (1, 1.5, 2, 3, 4, 5, 7, 10, 14, 20)
"""When the random dots are looked at, in clicks of the guided ones."""

Classes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Oracle:
    """A scene, and someone who knows it."""

    features: Features
    truth: Classes
    """(y, x) codes of ALCD."""
    inside: NDArray[np.float64]
    """(y, x), pixels to the nearest one of another class."""

    def mark(self, row: int, column: int) -> Mark:
        """Return the dot on a pixel."""
        radius = max(min(DOT_PX, self.inside[row, column] - 0.51), 0.0)
        point = self.features.grid.to_xy(row + 0.5, column + 0.5)
        return Mark(code=int(self.truth[row, column]), points=(point,), radius_m=radius * PIXEL_M)

    def score(self, labels: Classes, view: str, rim: int) -> float:
        """Return the balanced accuracy of a map."""
        table = np.array([255 if new is None else new for new in mapping(ALCD, SCHEMES[view])])
        counted = self.features.seen & (self.inside > rim + 0.5)
        real, got = table[self.truth[counted]], table[labels[counted]]
        return float(np.mean([(got[real == code] == code).mean() for code in np.unique(real)]))


def meet(seed: int, size: int) -> Oracle:
    """Return a simulated scene and its oracle."""
    scene = simulate_scene(seed, size=size)
    grid = Grid(
        shape_yx=scene.truth.shape,  # type: ignore[arg-type]
        transform=scene.transform,
        crs=CRS.from_user_input(scene.crs),
    )
    features = read_features(
        scene.cube, grid, scene.band_names, get_sensor(scene.sensor), pixel_m=PIXEL_M
    )
    factor = round(PIXEL_M / scene.transform.a)
    height, width = features.seen.shape
    blocks = scene.truth_alcd[: height * factor, : width * factor].reshape(
        height, factor, width, factor
    )
    truth = np.stack([(blocks == code).sum(axis=(1, 3)) for code in range(8)]).argmax(axis=0)
    inside = np.zeros(truth.shape)
    for code in np.unique(truth):
        own = np.pad(truth == code, 1, constant_values=True)
        inside[truth == code] = distance_transform_edt(own)[1:-1, 1:-1][truth == code]
    return Oracle(features=features, truth=truth.astype(np.uint8), inside=inside)


def guided(oracle: Oracle, options: argparse.Namespace) -> tuple[list[Mark], Classes, float]:
    """Return the marks that were made where the labeller said, the map, and seconds per answer."""
    marks = [oracle.mark(place.row, place.column) for place in first_places(oracle.features)]
    labels, seconds = np.zeros_like(oracle.truth), [0.0]
    while len(marks) <= options.most:
        begun = time.perf_counter()
        try:
            answer = learn(oracle.features, marks)
        except ReferenceDataError:  # one class so far
            rng = np.random.default_rng(len(marks))
            marks += at_random(oracle, PLACES_TAKEN, rng)
            continue
        seconds.append(time.perf_counter() - begun)
        labels = answer.labels
        if oracle.score(labels, options.view, options.rim) >= options.goal:
            break
        marks += [oracle.mark(place.row, place.column) for place in answer.places[:PLACES_TAKEN]]
    return marks, labels, float(np.median(seconds))


def at_random(oracle: Oracle, count: int, rng: np.random.Generator) -> list[Mark]:
    """Return dots on random pixels."""
    drawn = rng.choice(oracle.features.positions, count, replace=False)
    return [oracle.mark(*divmod(int(at), oracle.truth.shape[1])) for at in drawn]


def classify(oracle: Oracle, marks: Sequence[Mark]) -> Classes | None:
    """Return the map of a forest that learned some marks, without looking for places."""
    samples = gather_samples(marks, oracle.features)
    if len(samples.classes) < 2:
        return None
    forest = train_forest(oracle.features, samples)
    labels = np.zeros(oracle.truth.shape, np.uint8)
    labels[oracle.features.seen] = forest.predict(oracle.features.values)
    return labels


def compare(seed: int, options: argparse.Namespace) -> tuple[int, int, bool, bool] | None:
    """Print one scene; return clicks guided and at random, and whether each reached the goal.

    None where the scene has one class alone.
    """
    oracle = meet(seed, options.size)
    if len(np.unique(oracle.truth[oracle.features.seen])) < 2:
        print(f"scene {seed}: one class alone, left out")
        return None
    marks, labels, seconds = guided(oracle, options)
    end = {view: oracle.score(labels, view, options.rim) for view in VIEWS}
    reached = end[options.view] >= options.goal
    dots = at_random(oracle, round(len(marks) * STEPS[-1]), np.random.default_rng(seed))
    clicks, hit, score = 0, False, 0.0
    for step in STEPS:
        clicks = round(step * len(marks))
        found = classify(oracle, dots[:clicks])
        score = 0.0 if found is None else oracle.score(found, options.view, options.rim)
        hit = score >= options.goal
        if hit:
            break
    rest = ", ".join(f"{view} {end[view]:.3f}" for view in VIEWS)
    print(
        f"scene {seed}: guided {len(marks)} clicks ({'' if reached else 'not reached; '}{rest}; "
        f"{seconds:.2f} s per answer); random {clicks} clicks {score:.3f}"
        f"{'' if hit else ', not reached'}",
        flush=True,
    )
    return len(marks), clicks, reached, hit


def main() -> None:
    """Read the options, go through the scenes, print the sums."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(1, 13)))
    parser.add_argument("--size", type=int, default=512, help="pixels of 10 m along a side")
    parser.add_argument("--view", choices=VIEWS, default=VIEWS[0])
    parser.add_argument("--goal", type=float, default=0.98)
    parser.add_argument("--rim", type=int, default=1, help="pixels beside other classes left out")
    parser.add_argument("--most", type=int, default=200, help="clicks at most")
    options = parser.parse_args()
    rows = [row for seed in options.seeds if (row := compare(seed, options)) is not None]
    done = [row for row in rows if row[2]]
    if not done:
        print(f"the goal was reached on none of {len(rows)} scenes")
        return
    ours, others = sum(row[0] for row in done), sum(row[1] for row in done)
    missed = sum(not row[3] for row in done)
    print(
        f"{options.view}, balanced accuracy {options.goal}: reached on {len(done)} of {len(rows)} "
        f"scenes with {ours} guided clicks; at random: {'more than ' if missed else ''}{others} "
        f"clicks on the same, {others / ours:.1f} times as many, goal not reached on {missed}"
    )


if __name__ == "__main__":
    main()
