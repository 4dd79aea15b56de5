"""Clicks that a reference takes, guided and at random: ``python benchmarks/labelling.py``.

Someone who knows the truth of simulated scenes makes dots until the map of the forest reaches a
balanced accuracy, in three ways:

- places: at the place that the page Label shows next, as often as it shows one;
- corrected: as a user of the page does, who sees the map over the image. In what the page shows
  around the place, the middle of the largest patch that is wrong; the place itself where none is;
- random: at random places; the map is looked at after 12 dots and each time a tenth more are there.

A dot is as wide as the class around it allows, three pixels at most. Pixels whose neighbours are of
another class (``--rim 1``) are left out of the accuracy: the truth changes there from pixel to
pixel, and nobody can mark them. ``--rim 0`` counts all. ``--json FILE`` keeps what each way took on
each scene as a line of JSON, and takes from it what is done.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from scipy.ndimage import distance_transform_edt, label

from openeo_cloudmask.alcd.features import Features, read_features
from openeo_cloudmask.alcd.labelling import learn
from openeo_cloudmask.alcd.marks import Mark
from openeo_cloudmask.alcd.places import Place, first_places
from openeo_cloudmask.classes import ALCD, SCHEMES, mapping
from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.sensors import get_sensor
from openeo_cloudmask.simulator.scene import simulate_scene

PIXEL_M = 20.0
DOT_PX = 3.0
VIEWS = ("cloud-noncloud", "valid-invalid", "4-class")
WAYS = ("places", "corrected", "random")
AROUND_PX = 40
"""Pixels that the page shows on each side of a place."""
FIRST_LOOK, STEP = 12, 1.1
"""Random dots when the map is first looked at, and how many times as many each next time."""

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


def guided(
    oracle: Oracle, options: argparse.Namespace, *, correct: bool = False
) -> tuple[list[Mark], Classes, float]:
    """Return the marks that were made where the labeller said, the map, and seconds per answer."""
    marks: list[Mark] = []
    labels, seconds = np.zeros_like(oracle.truth), [0.0]
    places = list(first_places(oracle.features))
    while places and len(marks) < options.most:
        at = _where(oracle, labels, places[0]) if correct and labels.any() else None
        marks.append(oracle.mark(*(at or (places[0].row, places[0].column))))
        begun = time.process_time()
        try:
            answer = learn(oracle.features, marks)
        except ReferenceDataError:  # one class so far: the page goes to the next of the first
            del places[0]
            continue
        seconds.append(time.process_time() - begun)
        labels, places = answer.labels, list(answer.places)
        if oracle.score(labels, options.view, options.rim) >= options.goal:
            break
    return marks, labels, float(np.median(seconds))


def _where(oracle: Oracle, labels: Classes, place: Place) -> tuple[int, int] | None:
    """Return the middle of the largest wrong patch around a place, None where all is right.

    Classes are as marked; pixels at the rim of a class are no fault.
    """
    rows, columns = (
        slice(max(at - AROUND_PX, 0), at + AROUND_PX + 1) for at in (place.row, place.column)
    )
    part = (rows, columns)
    wrong = (labels[part] != oracle.truth[part]) & oracle.features.seen[part]
    patches, count = label(wrong & (oracle.inside[part] > 1.5))
    if not count:
        return None
    largest = 1 + int(np.bincount(patches.ravel())[1:].argmax())
    deep = distance_transform_edt(np.pad(patches == largest, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(deep.argmax()), deep.shape)
    return int(row) + rows.start, int(column) + columns.start


def at_random(oracle: Oracle, count: int, rng: np.random.Generator) -> list[Mark]:
    """Return dots on random pixels."""
    count = min(count, len(oracle.features.positions))
    drawn = rng.choice(oracle.features.positions, count, replace=False)
    return [oracle.mark(*divmod(int(at), oracle.truth.shape[1])) for at in drawn]


def classify(oracle: Oracle, marks: Sequence[Mark]) -> Classes | None:
    """Return the map of a forest that learned some marks; None for marks of one class."""
    try:
        return learn(oracle.features, marks).labels
    except ReferenceDataError:
        return None


def looks(most: int) -> list[int]:
    """Return after how many random dots the map is looked at."""
    found = [FIRST_LOOK]
    while found[-1] < most:
        found.append(min(max(found[-1] + 1, round(STEP * found[-1])), most))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a scene took in one of ``WAYS``."""

    seed: int
    way: str
    clicks: int
    score: float
    seconds: float = 0.0
    """Of one processor, until an answer was there."""


def measure(oracle: Oracle, seed: int, way: str, options: argparse.Namespace) -> Row:
    """Return what a scene took."""
    if way != "random":
        marks, labels, seconds = guided(oracle, options, correct=way == "corrected")
        score = oracle.score(labels, options.view, options.rim)
        return Row(seed=seed, way=way, clicks=len(marks), score=score, seconds=seconds)
    dots = at_random(oracle, options.most_random, np.random.default_rng(seed))
    clicks, score = 0, 0.0
    for clicks in looks(options.most_random):
        found = classify(oracle, dots[:clicks])
        score = 0.0 if found is None else oracle.score(found, options.view, options.rim)
        if score >= options.goal:
            break
    return Row(seed=seed, way=way, clicks=clicks, score=score)


def run_all(options: argparse.Namespace) -> dict[tuple[int, str], Row]:
    """Return seed and way -> what it took, of scenes with several classes."""
    rows: dict[tuple[int, str], Row] = {}
    if options.json and options.json.exists():
        for line in options.json.read_text().splitlines():
            row = Row(**json.loads(line))
            rows[row.seed, row.way] = row
    for seed in options.seeds:
        left = [way for way in WAYS if (seed, way) not in rows]
        if left:
            oracle = meet(seed, options.size)
            if len(np.unique(oracle.truth[oracle.features.seen])) < 2:
                print(f"scene {seed}: one class alone, left out")
                continue
        for way in left:
            rows[seed, way] = row = measure(oracle, seed, way, options)
            if options.json:
                with options.json.open("a") as out:
                    out.write(json.dumps(asdict(row)) + "\n")
        told = [
            f"{way} {row.clicks} clicks {row.score:.3f}"
            f"{'' if row.score >= options.goal else ' (not reached)'}"
            f"{f', {row.seconds:.2f} s per answer' if row.seconds else ''}"
            for way in WAYS
            for row in [rows[seed, way]]
        ]
        print(f"scene {seed}: {'; '.join(told)}", flush=True)
    return {key: row for key, row in rows.items() if key[0] in options.seeds}


def sum_up(rows: Mapping[tuple[int, str], Row], way: str, options: argparse.Namespace) -> str:
    """Return the sentence that compares a way with dots at random on the scenes it did."""
    own = [row for row in rows.values() if row.way == way]
    done = [row for row in own if row.score >= options.goal]
    if not done:
        return f"{way}: the goal was reached on none of {len(own)} scenes"
    others = [rows[row.seed, "random"] for row in done]
    missed = sum(row.score < options.goal for row in others)
    ours, theirs = (sum(row.clicks for row in some) for some in (done, others))
    return (
        f"{options.view}, balanced accuracy {options.goal}, {way}: reached on {len(done)} of "
        f"{len(own)} scenes with {ours} clicks; at random: {'more than ' if missed else ''}"
        f"{theirs} on the same, {theirs / ours:.1f} times as many, not reached on {missed}"
    )


def main() -> None:
    """Read the options, go through the scenes, print the sums."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(1, 13)))
    parser.add_argument("--size", type=int, default=512, help="pixels of 10 m along a side")
    parser.add_argument("--view", choices=VIEWS, default=VIEWS[0])
    parser.add_argument("--goal", type=float, default=0.98)
    parser.add_argument("--rim", type=int, default=1, help="pixels beside other classes left out")
    parser.add_argument("--most", type=int, default=200, help="guided clicks at most")
    parser.add_argument("--most-random", type=int, default=2000, help="clicks at random at most")
    parser.add_argument("--json", type=Path, help="file of what is done; for one setting")
    options = parser.parse_args()
    rows = run_all(options)
    for way in WAYS[:-1]:
        print(sum_up(rows, way, options))


if __name__ == "__main__":
    main()
