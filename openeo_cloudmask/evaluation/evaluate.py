"""From a mask and a reference to the results of a scene, and from scenes to pooled results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.alcd.types import AlcdScene
from openeo_cloudmask.classes import ALCD, SCHEMES, ClassScheme, OutputStyle
from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.evaluation.bootstrap import bootstrap_intervals
from openeo_cloudmask.evaluation.cases import (
    Case,
    CaseResult,
    Distance,
    Excluded,
    Pair,
    parse_distance,
    plan_cases,
    score_pair,
)
from openeo_cloudmask.evaluation.error_map import map_errors
from openeo_cloudmask.evaluation.grids import (
    GridMask,
    Regrid,
    read_mask,
    regrid_mask,
)
from openeo_cloudmask.evaluation.scores import Confusion, json_number
from openeo_cloudmask.grid import Grid

ERROR_VIEWS = (OutputStyle.VALID_INVALID, OutputStyle.CLOUD_NONCLOUD)
"""The two-class view of the error map: the first that mask and reference both have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSettings:
    """How masks are compared."""

    cases: tuple[Case, ...] = field(default_factory=plan_cases)
    method: Regrid = Regrid.FRACTIONS
    threshold: float = 0.5

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return {
            "cases": [case.name for case in self.cases],
            "regrid": self.method.value,
            "threshold": self.threshold,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """A reference on its grid."""

    name: str
    labels: NDArray[np.uint8]
    """(y, x) uint8, values of ``scheme``; 255 is no-data (and ALCD's 0)."""
    scheme: ClassScheme
    grid: Grid
    confidence: NDArray[np.uint8] | None = None
    """(y, x) uint8, 0-255."""
    sun_elevation_deg: float | None = None
    """Of the scene, where the reference says it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SceneResult:
    """What comparing a mask with the reference of one scene gave."""

    name: str
    """Name of the scene."""
    mask: str
    """Name of the mask or model."""
    method: str
    """How the mask came to the reference's grid."""
    results: tuple[CaseResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "scene": self.name,
            "mask": self.mask,
            "regrid": self.method,
            "results": [result.to_dict() for result in self.results],
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """A result with the labels it came from."""

    result: SceneResult
    reference: Reference
    pair: Pair
    error_view: OutputStyle
    errors: NDArray[np.uint8]
    """(y, x) uint8, values of ``error_map.ERROR_CLASSES`` in ``error_view``, 255 no-data."""
    sun_elevation_deg: float | None = None
    """Of the scene, where the mask or the reference says it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pooled:
    """One case over all scenes."""

    case: Case
    scenes: int
    confusion: Confusion
    excluded: Excluded
    intervals: dict[str, tuple[float, float]]
    """95 % intervals over scenes, by the names of ``scores.measure``; empty for one scene."""
    mean_absolute_cover_error: float
    """Mean over scenes of the size of the cover error."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        result = CaseResult(case=self.case, confusion=self.confusion, excluded=self.excluded)
        return {
            **result.to_dict(),
            "scenes": self.scenes,
            "mean_absolute_cover_error": json_number(self.mean_absolute_cover_error),
            "intervals": {
                name: [json_number(edge) for edge in edges]
                for name, edges in self.intervals.items()
            },
        }


def reference_of_scene(scene: AlcdScene) -> Reference:
    """Return the reference of an ALCD scene."""
    return Reference(
        name=scene.name,
        labels=scene.labels,
        scheme=ALCD,
        grid=scene.grid,
        confidence=scene.confidence,
    )


def read_reference_raster(path: Path, *, scheme: ClassScheme | None = None) -> Reference:
    """Return the reference in a raster of class values.

    Args:
        path: the raster.
        scheme: its classes; None takes what the file's tags say, or else the four classes.

    Raises:
        ReferenceDataError: it cannot be read, or holds other values.
    """
    try:
        labels = read_mask(path, scheme=scheme)
    except ReferenceDataError as err:
        text = str(err).replace("the mask", "the reference").replace("--mask-", "--reference-")
        raise ReferenceDataError(text) from err
    return Reference(name=path.stem, labels=labels.labels, scheme=labels.scheme, grid=labels.grid)


def evaluate_mask(mask: GridMask, reference: Reference, settings: ScoreSettings) -> Evaluation:
    """Return the results of all cases.

    Raises:
        ReferenceDataError: the grids do not overlap, or classes have nothing in common.
        OptionError: a setting does not fit the reference.
    """
    moved = regrid_mask(mask, reference.grid, method=settings.method, threshold=settings.threshold)
    pair = Pair(
        reference=reference.labels,
        reference_scheme=reference.scheme,
        mask=moved.labels,
        mask_scheme=mask.scheme,
        confidence=reference.confidence,
        resolution_m=reference.grid.resolution_m,
        views=moved.views,
    )
    results = score_pair(pair, settings.cases)
    there = {result.case.view for result in results}
    view = next((item for item in ERROR_VIEWS if item in there), None)
    if view is None:  # only four classes were asked for, which have both
        view = OutputStyle.VALID_INVALID
    return Evaluation(
        result=SceneResult(
            name=reference.name, mask=mask.name, method=moved.method, results=results
        ),
        reference=reference,
        pair=pair,
        error_view=view,
        errors=map_errors(*pair.labels(view)),
        sun_elevation_deg=mask.sun_elevation_deg
        if mask.sun_elevation_deg is not None
        else reference.sun_elevation_deg,
    )


def pool_results(scenes: Sequence[SceneResult], *, seed: int = 0) -> tuple[Pooled, ...]:
    """Return each case over all scenes that have it, in the order of the first scene."""
    by_case: dict[Case, list[CaseResult]] = {}
    for scene in scenes:
        for result in scene.results:
            by_case.setdefault(result.case, []).append(result)
    return tuple(_pool(case, results, seed) for case, results in by_case.items())


def _pool(case: Case, results: list[CaseResult], seed: int) -> Pooled:
    confusion, excluded = results[0].confusion, results[0].excluded
    for result in results[1:]:
        confusion, excluded = confusion + result.confusion, excluded + result.excluded
    errors = np.asarray([result.confusion.scores().cover_error for result in results])
    known = errors[np.isfinite(errors)]
    return Pooled(
        case=case,
        scenes=len(results),
        confusion=confusion,
        excluded=excluded,
        intervals=bootstrap_intervals([result.confusion for result in results], seed=seed),
        mean_absolute_cover_error=float(np.abs(known).mean()) if known.size else float("nan"),
    )


def parse_scene_result(content: dict[str, Any]) -> SceneResult:
    """Return the result that ``SceneResult.to_dict`` wrote.

    Raises:
        ReferenceDataError: it is not such a result.
    """
    try:
        return SceneResult(
            name=content["scene"],
            mask=content["mask"],
            method=content["regrid"],
            results=tuple(_parse_case(item) for item in content["results"]),
        )
    except (KeyError, TypeError, ValueError) as err:
        raise ReferenceDataError(f"this is no result of a comparison: {err!r}") from err


def _parse_case(item: dict[str, Any]) -> CaseResult:
    view = OutputStyle(item["view"])
    case = Case(
        view=view,
        dilate=_parse_length(item["dilate"]),
        ignore_rim=_parse_length(item["ignore_rim"]),
        weighted=item["weighted"],
    )
    counts = np.asarray(item["confusion"], np.float64)
    return CaseResult(
        case=case,
        confusion=Confusion(scheme=SCHEMES[view.value], counts=counts),
        excluded=Excluded(**item["pixels"]),
    )


def _parse_length(text: str) -> Distance:
    return parse_distance(text.replace(" ", ""))
