"""What CEOS's comparison of cloud masks (CMIX) asks for beyond one figure: strata, objects, words.

Strata come from the reference: its own classes (surface, kind of cloud), the distance to the
border of its clouds, and the cover of the scene. Objects are clouds as wholes: missed ones and
invented ones, by size. All figures come from confusion matrices, by ``scores.measure``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import NODATA, SCHEMES, ClassScheme, OutputStyle
from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.evaluation.bootstrap import bootstrap_intervals
from openeo_cloudmask.evaluation.cases import Pair, has_view
from openeo_cloudmask.evaluation.scores import Confusion, count_confusion, json_number, measure

DISTANCES_PX = (1.0, 2.0, 5.0, 10.0)
"""Upper edges of the rings around the border of cloud, in pixels of the reference."""
COVERS = (0.1, 0.5, 0.9)
"""Edges of the classes of scenes by the share of them that is cloud."""
SUN_ELEVATIONS_DEG = (20.0, 30.0, 45.0, 60.0)
"""Edges of the classes of scenes by the height of the sun above the horizon."""
SIZES_PX = (10, 100, 1000)
"""Edges of the classes of clouds by their size, in pixels of the reference."""
FOUND_SHARE = 0.5
"""A cloud is found where the mask has this share of it or more; one of the mask is real where the
reference has."""
NUMBERS = ("recall", "precision", "specificity", "balanced_accuracy", "f1", "f2", "iou")
"""Of the positive class; recall is the producer's accuracy, precision the user's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectCounts:
    """Clouds of one class of sizes."""

    size: str
    reference: int
    missed: int
    mask: int
    invented: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SceneDetail:
    """One scene by strata."""

    name: str
    scheme: str
    """Of the reference."""
    view: OutputStyle
    whole: Confusion
    by_class: dict[str, NDArray[np.int64]]
    """Class of the reference's own scheme -> pixels the mask puts in each class of the view."""
    by_distance: dict[str, Confusion]
    objects: tuple[ObjectCounts, ...]
    sun_elevation_deg: float | None = None
    """None where nobody told it."""

    @property
    def cover(self) -> float:
        """Share of the scene that is positive in the reference, 0-1."""
        return self.whole.scores().cover_reference


def detail_scene(name: str, pair: Pair, *, sun_elevation_deg: float | None = None) -> SceneDetail:
    """Return a scene by strata, in cloud/non-cloud where both have it, else in valid or invalid.

    Raises:
        ReferenceDataError: mask and reference have no view of two classes in common.
    """
    views = (OutputStyle.CLOUD_NONCLOUD, OutputStyle.VALID_INVALID)
    schemes = (pair.reference_scheme, pair.mask_scheme)
    there = [view for view in views if all(has_view(scheme, view) for scheme in schemes)]
    if not there:
        raise ReferenceDataError(
            f"{name}: {schemes[0].name!r} and {schemes[1].name!r} have no view of two classes in "
            "common, which the protocol needs"
        )
    reference, mask = pair.labels(there[0])
    scheme = SCHEMES[there[0].value]
    seen = (reference != NODATA) & (mask != NODATA)
    return SceneDetail(
        name=name,
        scheme=pair.reference_scheme.name,
        view=there[0],
        whole=count_confusion(reference, mask, scheme),
        by_class=_count_by_class(pair, mask, seen),
        by_distance=_count_by_distance(reference, mask, scheme),
        objects=count_objects((reference == 1) & seen, (mask == 1) & seen),
        sun_elevation_deg=sun_elevation_deg,
    )


def _count_by_class(
    pair: Pair, mask: NDArray[np.uint8], seen: NDArray[np.bool_]
) -> dict[str, NDArray[np.int64]]:
    own = pair.reference_scheme
    return {
        item.name: np.bincount(mask[seen & (pair.reference == item.value)], minlength=2)[:2]
        for item in own.classes
        if (seen & (pair.reference == item.value)).any()
    }


def _count_by_distance(
    reference: NDArray[np.uint8], mask: NDArray[np.uint8], scheme: ClassScheme
) -> dict[str, Confusion]:
    """Return the matrix of each ring; distances are to the nearest pixel of the other class."""
    distance = border_distance(reference)
    rings: dict[str, Confusion] = {}
    low = 0.0
    for high in (*DISTANCES_PX, np.inf):
        inside = (distance > low) & (distance <= high)
        name = f"{low:g} to {high:g} px" if np.isfinite(high) else f"over {low:g} px"
        rings[name] = count_confusion(np.where(inside, reference, np.uint8(NODATA)), mask, scheme)
        low = high
    return rings


def border_distance(labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how far each pixel's centre is from the nearest one of the other class, in pixels.

    Args:
        labels: (y, x) uint8 of 0 and 1, 255 no-data, which is of no class.

    Returns:
        (y, x) float64; infinite where there is no other class, NaN where no-data.
    """
    from scipy import ndimage

    out = np.full(labels.shape, np.inf)
    for value in (0, 1):
        here, other = labels == value, labels == 1 - value
        if other.any():
            out[here] = ndimage.distance_transform_edt(~other)[here]
    out[labels == NODATA] = np.nan
    return out


def count_objects(
    reference: NDArray[np.bool_], mask: NDArray[np.bool_]
) -> tuple[ObjectCounts, ...]:
    """Return how many clouds are missed and invented, by size.

    A cloud is a set of positive pixels that touch by side or corner. One of the reference is missed
    where the mask has less than ``FOUND_SHARE`` of it; one of the mask is invented where less than
    that share of it is positive in the reference.
    """
    real, missed = _count_lone(reference, mask)
    given, invented = _count_lone(mask, reference)
    names = class_names(SIZES_PX)
    return tuple(
        ObjectCounts(size=f"{name} px", reference=r, missed=m, mask=g, invented=i)
        for name, r, m, g, i in zip(names, real, missed, given, invented, strict=True)
    )


def _count_lone(
    objects: NDArray[np.bool_], other: NDArray[np.bool_]
) -> tuple[list[int], list[int]]:
    """Return by class of sizes how many objects there are, and how many the other lacks."""
    from scipy import ndimage

    numbers, count = ndimage.label(objects, structure=np.ones((3, 3)))
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
    shared = np.bincount(numbers[other], minlength=count + 1)[1:]
    place = np.digitize(sizes, SIZES_PX)
    lone = shared < FOUND_SHARE * sizes
    classes = len(SIZES_PX) + 1
    return (
        np.bincount(place, minlength=classes).tolist(),
        np.bincount(place[lone], minlength=classes).tolist(),
    )


def class_names(edges: Sequence[float]) -> list[str]:
    """Return the names of the classes between edges: below the first, ..., the last or more."""
    inner = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    return [f"below {edges[0]:g}", *inner, f"{edges[-1]:g} or more"]


def protocol_content(details: Sequence[SceneDetail]) -> list[dict[str, Any]]:
    """Return the tables of each view as JSON values: strata with intervals over scenes, objects."""
    return [
        _content_of([item for item in details if item.view is view])
        for view in dict.fromkeys(item.view for item in details)
    ]


def _content_of(details: list[SceneDetail]) -> dict[str, Any]:
    strata = [_stratum("all", "all", [item.whole for item in details])]
    for ring in dict.fromkeys(name for item in details for name in item.by_distance):
        confusions = [item.by_distance[ring] for item in details]
        strata.append(_stratum("distance to the border of cloud", ring, confusions))
    covers = [(item.whole, 100 * item.cover) for item in details]
    suns = [(item.whole, item.sun_elevation_deg) for item in details]
    edges = [100 * edge for edge in COVERS]
    strata += _by_scene("cover of the scene", covers, edges, " %")
    strata += _by_scene("sun elevation", suns, SUN_ELEVATIONS_DEG, "\N{DEGREE SIGN}")
    return {
        "view": details[0].view.value,
        "scenes": len(details),
        "strata": [item for item in strata if item["pixels"]],
        "classes": _class_rows(details),
        "objects": _object_rows(details),
        "object_share": FOUND_SHARE,
    }


def _by_scene(
    kind: str,
    items: Iterable[tuple[Confusion, float | None]],
    edges: Sequence[float],
    unit: str,
) -> list[dict[str, Any]]:
    """Return strata of scenes by a number of each; scenes without it are in none."""
    groups: dict[str, list[Confusion]] = {name: [] for name in class_names(edges)}
    for confusion, value in items:
        if (name := class_of(value, edges)) is not None:
            groups[name].append(confusion)
    return [_stratum(kind, f"{name}{unit}", found) for name, found in groups.items() if found]


def class_of(value: float | None, edges: Sequence[float]) -> str | None:
    """Return the name of the class between edges that a number is in; None for none or NaN."""
    if value is None or not np.isfinite(value):
        return None
    return class_names(edges)[int(np.digitize(value, edges))]


def _stratum(kind: str, name: str, confusions: list[Confusion]) -> dict[str, Any]:
    scheme = confusions[0].scheme
    counts = np.sum([item.counts for item in confusions], axis=0)
    values = measure(counts, scheme)
    # Scenes that have none of a stratum say nothing of it.
    intervals = bootstrap_intervals([item for item in confusions if item.counts.any()])
    keys = {key: f"{scheme.classes[1].name}.{key}" for key in NUMBERS}
    keys |= {"overall_accuracy": "overall_accuracy", "kappa": "kappa"}
    return {
        "kind": kind,
        "stratum": name,
        "scenes": sum(bool(item.counts.any()) for item in confusions),
        "pixels": float(counts.sum()),
        "numbers": {
            short: {
                "value": json_number(float(values[key])),
                "interval": [json_number(edge) for edge in intervals.get(key, ())],
            }
            for short, key in keys.items()
        },
    }


def _class_rows(details: Iterable[SceneDetail]) -> list[dict[str, Any]]:
    totals: dict[str, NDArray[np.int64]] = {}
    for item in details:
        for name, counts in item.by_class.items():
            totals[name] = totals.get(name, np.zeros(2, np.int64)) + counts
    return [
        {"class": name, "pixels": int(both.sum()), "positive_share": float(both[1] / both.sum())}
        for name, both in totals.items()
    ]


def _object_rows(details: Sequence[SceneDetail]) -> list[dict[str, Any]]:
    rows = []
    for place, first in enumerate(details[0].objects):
        same = [item.objects[place] for item in details]
        keys = ("reference", "missed", "mask", "invented")
        rows.append(
            {"size": first.size, **{key: sum(getattr(item, key) for item in same) for key in keys}}
        )
    return rows
