"""Write scores down: as a page with pictures, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.alcd.archive import Failure
from openeo_cloudmask.evaluation.cases import iterate_numbers
from openeo_cloudmask.evaluation.evaluate import Pooled, SceneResult, ScoreSettings, pool_results
from openeo_cloudmask.version import __version__


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """A picture of a scene."""

    caption: str
    alt: str
    pixels: NDArray[np.uint8]
    """(y, x, 3) uint8."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreReport:
    """Scores of one mask or model over scenes."""

    title: str
    settings: ScoreSettings
    scenes: tuple[SceneResult, ...]
    pooled: tuple[Pooled, ...]
    left_out: tuple[Failure, ...] = ()
    pictures: dict[str, tuple[Picture, ...]]
    """By scene; may be empty."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the pictures as JSON values."""
        return {
            "title": self.title,
            "version": __version__,
            "settings": self.settings.to_dict(),
            "pooled": [item.to_dict() for item in self.pooled],
            "scenes": [item.to_dict() for item in self.scenes],
            "left_out": [{"name": item.name, "reason": item.reason} for item in self.left_out],
        }


def make_report(
    title: str,
    settings: ScoreSettings,
    scenes: Sequence[SceneResult],
    *,
    left_out: Sequence[Failure] = (),
    pictures: dict[str, tuple[Picture, ...]] | None = None,
) -> ScoreReport:
    """Return the report of these scenes, with their results pooled."""
    return ScoreReport(
        title=title,
        settings=settings,
        scenes=tuple(scenes),
        pooled=pool_results(scenes),
        left_out=tuple(left_out),
        pictures=pictures or {},
    )


def to_csv(report: ScoreReport) -> str:
    """Return a row for each number: scene (``pooled`` for all), case, class, name, value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["scene", "mask", "case", "class", "number", "value", "interval_low", "interval_high"]
    )
    for scene in report.scenes:
        for result in scene.results:
            for name, key, value in iterate_numbers(result.confusion):
                writer.writerow(
                    [scene.name, scene.mask, result.case.name, name, key, _text(value), "", ""]
                )
    masks = {scene.mask for scene in report.scenes}
    mask = masks.pop() if len(masks) == 1 else ""
    for pooled in report.pooled:
        for name, key, value in iterate_numbers(pooled.confusion):
            full = f"{name}.{key}" if name else key
            low, high = pooled.intervals.get(full, (math.nan, math.nan))
            row = ["pooled", mask, pooled.case.name, name, key]
            writer.writerow([*row, _text(value), _text(low), _text(high)])
    return out.getvalue()


def to_json(content: object) -> str:
    """Return a JSON text for people and programs; numbers that are not defined are null."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _text(value: float) -> str:
    return repr(value) if math.isfinite(value) else ""
