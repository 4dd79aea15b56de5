"""Strata and objects of the protocol, against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import recall_score

from openeo_cloudmask.classes import ALCD, CLOUD_NONCLOUD, FOUR_CLASS, NODATA, UKIS_FIVE, map_labels
from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.evaluation.cases import Pair
from openeo_cloudmask.evaluation.protocol import (
    border_distance,
    count_objects,
    detail_scene,
    protocol_content,
)

SIDE = (40, 50)


def blobs(seed: int, share: float) -> NDArray[np.bool_]:
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(seed).normal(size=SIDE), 2)
    found: NDArray[np.bool_] = noise > np.quantile(noise, 1 - share)
    return found


def test_distance_is_that_to_the_nearest_pixel_of_the_other_class() -> None:
    labels = blobs(1, 0.3).astype(np.uint8)
    labels[5:9, 5:20] = NODATA
    found = border_distance(labels)
    ys, xs = np.indices(SIDE)
    for y, x in [(0, 0), (20, 25), (39, 49), (10, 3)]:
        other = labels == 1 - labels[y, x]
        nearest = np.hypot(ys[other] - y, xs[other] - x).min()
        assert found[y, x] == pytest.approx(nearest)
    assert np.isnan(found[labels == NODATA]).all()
    assert np.isinf(border_distance(np.zeros((3, 3), np.uint8))).all()


def flood(objects: NDArray[np.bool_]) -> list[set[tuple[int, int]]]:
    """Sets of pixels that touch by side or corner, found by walking."""
    left = set(map(tuple, np.argwhere(objects).tolist()))
    found = []
    while left:
        one, waiting = set(), [left.pop()]
        while waiting:
            y, x = here = waiting.pop()
            one.add(here)
            around = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= around
            waiting += around
        found.append(one)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_objects_are_those_a_walk_finds(seed: int) -> None:
    reference, mask = blobs(seed, 0.2), blobs(seed, 0.15) ^ blobs(seed + 9, 0.05)
    counts = count_objects(reference, mask)
    limits = [0, 10, 100, 1000, math.inf]
    for place, item in enumerate(counts):
        for objects, other, total, lone in (
            (flood(reference), mask, item.reference, item.missed),
            (flood(mask), reference, item.mask, item.invented),
        ):
            own = [one for one in objects if limits[place] <= len(one) < limits[place + 1]]
            alone = [one for one in own if sum(bool(other[p]) for p in one) < len(one) / 2]
            assert (total, lone) == (len(own), len(alone))
    assert sum(item.missed for item in counts) > 0
    assert sum(item.invented for item in counts) > 0


def alcd_pair(seed: int) -> Pair:
    chance = np.random.default_rng(seed)
    cloud = blobs(seed, 0.1 + 0.3 * (seed % 3))
    surface = chance.choice(np.array([5, 6, 7], np.uint8), SIDE)
    reference = np.where(cloud, chance.choice(np.array([2, 3], np.uint8), SIDE), surface)
    reference[0] = 0
    mask = map_labels(reference.astype(np.uint8), ALCD, FOUR_CLASS)
    mask = np.where(chance.random(SIDE) < 0.1, np.uint8(1), mask).astype(np.uint8)
    mask[mask == NODATA] = 0
    return Pair(
        reference=reference.astype(np.uint8), reference_scheme=ALCD, mask=mask,
        mask_scheme=FOUR_CLASS,
    )  # fmt: skip


def test_strata_are_parts_of_the_whole_and_equal_their_oracle() -> None:
    pairs = {f"s{seed}": alcd_pair(seed) for seed in range(6)}
    (content,) = protocol_content([detail_scene(name, pair) for name, pair in pairs.items()])
    strata = {(item["kind"], item["stratum"]): item for item in content["strata"]}
    assert content["view"] == "cloud-noncloud"
    truth = [map_labels(p.reference, ALCD, CLOUD_NONCLOUD) for p in pairs.values()]
    given = [map_labels(p.mask, FOUR_CLASS, CLOUD_NONCLOUD) for p in pairs.values()]
    far = [(border_distance(t) > 2) & (border_distance(t) <= 5) for t in truth]
    ring = strata["distance to the border of cloud", "2 to 5 px"]
    one, other = (
        np.concatenate([labels[inside] for labels, inside in zip(both, far, strict=True)])
        for both in (truth, given)
    )
    assert ring["pixels"] == one.size
    recall = ring["numbers"]["specificity"]["value"]
    assert recall == pytest.approx(recall_score(one == 0, other == 0), abs=1e-12)
    low, high = strata["all", "all"]["numbers"]["specificity"]["interval"]
    assert low <= strata["all", "all"]["numbers"]["specificity"]["value"] <= high
    shares = {item["class"]: item for item in content["classes"]}
    assert shares["low-cloud"]["positive_share"] == 1
    water = np.concatenate([p.reference == 6 for p in pairs.values()])
    cloudy = np.concatenate(given)[water]
    assert shares["water"]["pixels"] == water.sum()
    assert shares["water"]["positive_share"] == pytest.approx(cloudy.mean(), abs=1e-12)
    covers = [(t[t != NODATA] == 1).mean() for t in truth]
    names = ["below 10 %", "10 to 50 %", "50 to 90 %", "90 or more %"]
    for place, name in enumerate(names):
        own = sum(np.digitize(cover, (0.1, 0.5, 0.9)) == place for cover in covers)
        assert strata.get(("cover of the scene", name), {"scenes": 0})["scenes"] == own


def test_strata_by_the_sun_are_of_scenes_that_tell_it() -> None:
    heights = (15.0, 29.9, 30.0, 71.0, None)
    (content,) = protocol_content(
        [
            detail_scene(f"s{seed}", alcd_pair(seed), sun_elevation_deg=height)
            for seed, height in enumerate(heights)
        ]
    )
    found = {i["stratum"]: i["scenes"] for i in content["strata"] if i["kind"] == "sun elevation"}
    assert found == {"below 20°": 1, "20 to 30°": 1, "30 to 45°": 1, "60 or more°": 1}


def test_no_view_in_common_is_said() -> None:
    pair = alcd_pair(1)
    odd = Pair(
        reference=pair.mask, reference_scheme=FOUR_CLASS, mask=pair.mask, mask_scheme=FOUR_CLASS
    )
    assert detail_scene("a", odd).whole.scores().overall_accuracy == 1
    lonely = Pair(
        reference=pair.mask % 2, reference_scheme=CLOUD_NONCLOUD, mask=pair.mask % 2,
        mask_scheme=SHAPES,
    )  # fmt: skip
    with pytest.raises(ReferenceDataError, match="no view of two classes in common"):
        detail_scene("a", lonely)


SHAPES = type(UKIS_FIVE)(name="shapes", title="Shapes", classes=UKIS_FIVE.classes)
