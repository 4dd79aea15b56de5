"""Figures from the rows of a study: who finds what, how sure that is, and where ranks part.

For each set of references the models stand by their balanced accuracy of cloud/non-cloud. A rank
counts the models whose interval lies wholly above one's own: models whose intervals overlap share
it. A model that has no mask of some scenes was not tried on the same, and has no rank.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from openeo_cloudmask.classes import SCHEMES, OutputStyle
from openeo_cloudmask.evaluation.bootstrap import bootstrap_intervals
from openeo_cloudmask.evaluation.protocol import COVERS, SUN_ELEVATIONS_DEG, class_of
from openeo_cloudmask.evaluation.scores import Confusion, json_number, measure
from openeo_cloudmask.evaluation.study import ALL, BY_CLASS, BY_DISTANCE, LEFT_OUT
from openeo_cloudmask.evaluation.study_store import Row

_CLOUD, _VALID = OutputStyle.CLOUD_NONCLOUD, OutputStyle.VALID_INVALID
RANKED = (_CLOUD, "balanced_accuracy")
"""The number that models stand by."""
COLUMNS = (
    ("Cloud, balanced", _CLOUD, "balanced_accuracy"),
    ("Producer's", _CLOUD, "cloud.recall"),
    ("User's", _CLOUD, "cloud.precision"),
    ("F1", _CLOUD, "cloud.f1"),
    ("Kappa", _CLOUD, "kappa"),
    ("Valid/invalid, balanced", _VALID, "balanced_accuracy"),
    ("Shadow, balanced", OutputStyle.FOUR_CLASS, "cloud-shadow.balanced_accuracy"),
    ("Four classes, balanced", OutputStyle.FOUR_CLASS, "balanced_accuracy"),
)
"""Heading, classes, and name of the number in ``scores.measure``."""
STRATA = (
    ("cover of the scene, %", "cover", tuple(100 * edge for edge in COVERS), 100.0),
    ("sun elevation, degrees", "sun_elevation_deg", SUN_ELEVATIONS_DEG, 1.0),
)
"""Strata of whole scenes: name, column of the rows, edges, and what the column is multiplied by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number with its 95 % interval over scenes; NaN where it is not defined or not known."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def to_list(self) -> list[Any]:
        """Return value, low and high as JSON values."""
        return [json_number(item) for item in (self.value, self.low, self.high)]


@dataclass(slots=True, kw_only=True)
class Standing:
    """One model on one set of references."""

    model: str
    scenes: int
    """Of which there is a mask; one without any class of a labelled scene does not count."""
    numbers: list[Number]
    """In the order of ``COLUMNS``."""
    unclassed_share: float
    """Share of the pixels with a reference that the mask gives no class."""
    megapixels_per_cpu_second: float
    """Median over scenes."""
    rank: int | None = None
    strata: dict[tuple[str, str], tuple[float, int]] = field(default_factory=dict)
    """(kind, stratum) -> (balanced accuracy of cloud, scenes); of a class of the reference, the
    share of its pixels that is right."""

    @property
    def ranked(self) -> Number:
        """The number it stands by."""
        return self.numbers[[(view, key) for _, view, key in COLUMNS].index(RANKED)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """All models on one set of references."""

    references: str
    scenes: int
    digest: str
    """SHA-256 over names and labels of its scenes."""
    standings: tuple[Standing, ...]
    left_out: dict[str, dict[str, int]]
    """Model -> why it has no mask -> of how many scenes."""


def make_boards(rows: Iterable[Row]) -> list[Board]:
    """Return a board for each set of references, in the order of the rows."""
    sets: dict[str, list[Row]] = {}
    for row in rows:
        sets.setdefault(row["references"], []).append(row)
    return [_board(name, found) for name, found in sets.items()]


def _board(name: str, rows: list[Row]) -> Board:
    scenes = {row["scene"] for row in rows}
    digests = {row["scene"]: row["digest"] for row in rows if row["digest"]}
    by_model: dict[str, list[Row]] = {}
    left_out: dict[str, dict[str, int]] = {}
    for row in rows:
        if row["kind"] == LEFT_OUT:
            reasons = left_out.setdefault(row["model"], {})
            reasons[row["stratum"]] = reasons.get(row["stratum"], 0) + 1
        else:
            by_model.setdefault(row["model"], []).append(row)
    standings = [_standing(model, found) for model, found in by_model.items()]
    standings = [item for item in standings if math.isfinite(item.ranked.value)]
    _rank([item for item in standings if item.scenes == len(scenes)])
    standings.sort(key=lambda item: (item.rank is None, -item.ranked.value))
    content = "\n".join(f"{scene} {digests[scene]}" for scene in sorted(digests))
    return Board(
        references=name,
        scenes=len(scenes),
        digest=hashlib.sha256(content.encode()).hexdigest(),
        standings=tuple(standings),
        left_out=left_out,
    )


def _rank(standings: Sequence[Standing]) -> None:
    """Give ranks to those that have an interval."""
    known = [item for item in standings if math.isfinite(item.ranked.low)]
    for item in known:
        above = sum(other.ranked.low > item.ranked.high for other in known)
        item.rank = 1 + above


def _standing(model: str, rows: list[Row]) -> Standing:
    whole: dict[OutputStyle, list[Row]] = {}
    for row in rows:
        if row["kind"] == ALL:
            whole.setdefault(OutputStyle(row["view"]), []).append(row)
    pooled = {view: _pool(view, found) for view, found in whole.items()}
    numbers = [pooled.get(view, {}).get(key, Number(value=math.nan)) for _, view, key in COLUMNS]
    # The view that all scenes have; some have no others.
    first = whole.get(RANKED[0]) or next(iter(whole.values()))
    compared = sum(sum(row["counts"]) for row in first)
    missing = sum(row["unclassed"] for row in first)
    blank = {row["scene"] for row in first if row["unclassed"] and not sum(row["counts"])}
    speeds = [row["pixels"] / 1e6 / row["cpu_seconds"] for row in first if row["cpu_seconds"] > 0]
    return Standing(
        model=model,
        scenes=len({row["scene"] for row in rows} - blank),
        numbers=numbers,
        unclassed_share=missing / max(1, compared + missing),
        megapixels_per_cpu_second=float(np.median(speeds)) if speeds else math.nan,
        strata=_strata(rows),
    )


def _pool(view: OutputStyle, rows: list[Row]) -> dict[str, Number]:
    scheme = SCHEMES[view.value]
    confusions = [Confusion(scheme=scheme, counts=_matrix(row)) for row in rows]
    # A scene of which nothing is compared says nothing.
    confusions = [item for item in confusions if item.counts.any()]
    total = np.sum([item.counts for item in confusions], axis=0) if confusions else _matrix(rows[0])
    intervals = bootstrap_intervals(confusions)
    return {
        name: Number(
            value=float(value),
            low=intervals[name][0] if name in intervals else math.nan,
            high=intervals[name][1] if name in intervals else math.nan,
        )
        for name, value in measure(total, scheme).items()
    }


def _matrix(row: Mapping[str, Any]) -> Any:  # noqa: ANN401 - an array
    counts = np.asarray(row["counts"], np.float64)
    side = math.isqrt(counts.size)
    return counts.reshape(side, side)


def _strata(rows: Iterable[Row]) -> dict[tuple[str, str], tuple[float, int]]:
    groups: dict[tuple[str, str], list[Any]] = {}
    for row in rows:
        if row["kind"] == BY_DISTANCE:
            key = ("distance to the border of cloud", row["stratum"])
            groups.setdefault(key, []).append(_matrix(row))
        elif row["kind"] == BY_CLASS:
            groups.setdefault(("class of the reference", row["stratum"]), []).append(_matrix(row))
        elif row["kind"] == ALL and row["view"] == RANKED[0].value:
            for name, column, edges, factor in STRATA:
                value = None if row[column] is None else factor * row[column]
                if (stratum := class_of(value, edges)) is not None:
                    groups.setdefault((name, stratum), []).append(_matrix(row))
    out = {}
    for key, matrices in groups.items():
        total = np.sum(matrices, axis=0)
        value = float(measure(total, SCHEMES[RANKED[0].value])["balanced_accuracy"])
        out[key] = (value, sum(bool(item.any()) for item in matrices))
    return out
