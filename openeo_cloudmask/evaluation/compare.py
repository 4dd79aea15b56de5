"""Several models over several scenes: each pair once, kept on disk, so that a run can go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.alcd.archive import Failure
from openeo_cloudmask.classes import CLOUD_NONCLOUD, NODATA, map_labels
from openeo_cloudmask.errors import CloudMaskError, ReferenceDataError
from openeo_cloudmask.evaluation.compare_scenes import ComparedModel, Effort, SceneSource
from openeo_cloudmask.evaluation.evaluate import (
    Pooled,
    SceneResult,
    ScoreSettings,
    evaluate_mask,
    parse_scene_result,
    pool_results,
)
from openeo_cloudmask.evaluation.grids import GridMask, read_mask
from openeo_cloudmask.evaluation.report import to_json
from openeo_cloudmask.evaluation.scores import Confusion, count_confusion
from openeo_cloudmask.publish import publish_text
from openeo_cloudmask.version import __version__

Progress = Callable[[str, str, bool], None]
"""Called with model, scene, and whether the pair was there already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRequest:
    """What to compare."""

    models: tuple[ComparedModel, ...]
    scenes: tuple[SceneSource, ...]
    folder: Path
    """Masks and results are kept here; a run with the same folder goes on where one stopped."""
    settings: ScoreSettings = field(default_factory=ScoreSettings)
    leave_out_models: bool = False
    """True: models that do not run on the first scene are left out and listed."""
    keep_going: bool = False
    """True: pairs that fail are left out and listed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairRecord:
    """What one model gave on one scene."""

    result: SceneResult
    effort: Effort


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standing:
    """One model over all its scenes."""

    model: ComparedModel
    scenes: int
    pooled: tuple[Pooled, ...]
    megapixels_per_cpu_second: float
    """Median over the scenes; a fair speed on a machine that does other things too."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Agreement:
    """How alike the masks of two models are, cloud/non-cloud, over all scenes both have."""

    one: str
    other: str
    confusion: Confusion

    @property
    def share(self) -> float:
        """Share of pixels with the same class."""
        return self.confusion.scores().overall_accuracy

    @property
    def kappa(self) -> float:
        """Cohen's kappa."""
        return self.confusion.scores().kappa


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """How much the models disagree on one scene."""

    source: SceneSource
    share: float
    """Share of the pixels that all models saw on which they do not all agree, cloud/non-cloud."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Everything a comparison gave."""

    request: CompareRequest
    records: dict[tuple[str, str], PairRecord]
    """By label of the model and name of the scene."""
    standings: tuple[Standing, ...]
    """The best first."""
    agreements: tuple[Agreement, ...]
    disputes: tuple[Dispute, ...]
    """The worst first."""
    left_out: tuple[Failure, ...]


def run_comparison(request: CompareRequest, *, progress: Progress | None = None) -> Comparison:
    """Return the comparison, after making what is not there yet.

    Each pair's mask and result are written to ``request.folder`` in one step as soon as they are
    made; stopping at any time loses at most the pair at work.

    Raises:
        ReferenceDataError: nothing could be compared.
        CloudMaskError: a model or pair fails and may not be left out.
    """
    if not request.scenes or not request.models:
        raise ReferenceDataError("a comparison needs a model and a scene or more")
    failures: list[Failure] = []
    models = _usable_models(request, failures)
    records: dict[tuple[str, str], PairRecord] = {}
    for source in request.scenes:
        for model in models:
            try:
                record, kept = _pair(request, model, source)
            except CloudMaskError as err:
                if not request.keep_going:
                    raise
                failures.append(Failure(name=f"{model.label} on {source.name}", reason=str(err)))
                continue
            records[model.label, source.name] = record
            if progress is not None:
                progress(model.label, source.name, kept)
    if not records:
        reasons = "; ".join(f"{item.name}: {item.reason}" for item in failures)
        raise ReferenceDataError(f"nothing could be compared: {reasons}")
    return Comparison(
        request=request,
        records=records,
        standings=_rank(models, records),
        agreements=_agreements(request, records),
        disputes=_disputes(request, records),
        left_out=tuple(failures),
    )


def mask_path(folder: Path, model: str, scene: str) -> Path:
    """Return where the mask of a pair is kept."""
    return folder / "masks" / scene / f"{model}.tif"


def _usable_models(request: CompareRequest, failures: list[Failure]) -> tuple[ComparedModel, ...]:
    """Return the models that run on the first scene; tried there before hours are spent."""
    usable = []
    for model in request.models:
        try:
            _pair(request, model, request.scenes[0])
        except CloudMaskError as err:
            if not request.leave_out_models:
                raise
            failures.append(Failure(name=model.label, reason=str(err)))
        else:
            usable.append(model)
    return tuple(usable)


def _pair(
    request: CompareRequest, model: ComparedModel, source: SceneSource
) -> tuple[PairRecord, bool]:
    """Return the record of a pair, and whether it was there already."""
    kept = request.folder / "results" / source.name / f"{model.label}.json"
    path = mask_path(request.folder, model.label, source.name)
    fingerprint = {
        "version": __version__,
        "model": model.fingerprint(),
        "scene": source.fingerprint(),
        "settings": request.settings.to_dict(),
    }
    if path.is_file() and (record := _read_record(kept, fingerprint)) is not None:
        return record, True
    path.parent.mkdir(parents=True, exist_ok=True)
    effort = source.write_mask(model, path)
    evaluation = evaluate_mask(_named_mask(path, model), source.reference(), request.settings)
    content = {
        "fingerprint": fingerprint,
        "effort": asdict(effort),
        "result": evaluation.result.to_dict(),
    }
    publish_text(kept, to_json(content))
    return PairRecord(result=evaluation.result, effort=effort), False


def _named_mask(path: Path, model: ComparedModel) -> GridMask:
    mask = read_mask(path, scheme=model.scheme)
    return GridMask(labels=mask.labels, scheme=mask.scheme, grid=mask.grid, name=model.label)


def _read_record(path: Path, fingerprint: dict[str, Any]) -> PairRecord | None:
    """Return the record in ``path``, or None where it is of other models, scenes or settings."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("fingerprint") != fingerprint:
        return None
    return PairRecord(
        result=parse_scene_result(content["result"]),
        effort=Effort(**content["effort"]),
    )


def _rank(
    models: Sequence[ComparedModel], records: dict[tuple[str, str], PairRecord]
) -> tuple[Standing, ...]:
    standings = []
    for model in models:
        own = [record for (label, _), record in records.items() if label == model.label]
        if own:
            # The median scene: the first one includes warming up.
            speed = float(np.median([_speed(item.effort) for item in own]))
            standings.append(
                Standing(
                    model=model,
                    scenes=len(own),
                    pooled=pool_results([item.result for item in own]),
                    megapixels_per_cpu_second=speed,
                )
            )
    return tuple(sorted(standings, key=_rank_key))


def _speed(effort: Effort) -> float:
    return effort.pixels / 1e6 / effort.cpu_seconds if effort.cpu_seconds > 0 else np.nan


def _rank_key(standing: Standing) -> tuple[float, ...]:
    """Sort by balanced accuracy of valid/invalid, then of cloud; without a view, last."""
    by_view = {item.case.view: item for item in reversed(standing.pooled)}  # the plain case wins
    values = []
    for view in ("valid-invalid", "cloud-noncloud"):
        found = [item for key, item in by_view.items() if key.value == view]
        score = found[0].confusion.scores().balanced_accuracy if found else -1.0
        values.append(-score if np.isfinite(score) else 1.0)
    return tuple(values)


def cloud_labels(path: Path, model: ComparedModel) -> NDArray[np.uint8]:
    """Return the mask at ``path`` as (y, x) uint8: 0 no cloud, 1 cloud, 255 no-data."""
    mask = read_mask(path, scheme=model.scheme)
    return map_labels(mask.labels, mask.scheme, CLOUD_NONCLOUD)


def _agreements(
    request: CompareRequest, records: dict[tuple[str, str], PairRecord]
) -> tuple[Agreement, ...]:
    sums: dict[tuple[str, str], Confusion] = {}
    for source in request.scenes:
        there = [model for model in request.models if (model.label, source.name) in records]
        labels = {
            model.label: cloud_labels(mask_path(request.folder, model.label, source.name), model)
            for model in there
        }
        for one, other in combinations(labels, 2):
            if labels[one].shape != labels[other].shape:
                continue  # a model that masks on its own, coarser grid
            matrix = count_confusion(labels[one], labels[other], CLOUD_NONCLOUD)
            known = sums.get((one, other))
            sums[one, other] = matrix if known is None else known + matrix
    return tuple(
        Agreement(one=one, other=other, confusion=matrix) for (one, other), matrix in sums.items()
    )


def _disputes(
    request: CompareRequest, records: dict[tuple[str, str], PairRecord]
) -> tuple[Dispute, ...]:
    disputes = []
    for source in request.scenes:
        votes, seen, count = count_votes(request, source, records)
        if count > 1 and seen.any():
            apart = (votes > 0) & (votes < count)
            share = float(apart[seen].mean())
            disputes.append(Dispute(source=source, share=share))
    return tuple(sorted(disputes, key=lambda item: -item.share))


def count_votes(
    request: CompareRequest, source: SceneSource, records: dict[tuple[str, str], PairRecord]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], int]:
    """Return how many models see cloud in each pixel, which pixels all saw, and their number."""
    masks = [
        cloud_labels(mask_path(request.folder, model.label, source.name), model)
        for model in request.models
        if (model.label, source.name) in records
    ]
    masks = [mask for mask in masks if mask.shape == masks[0].shape]
    if not masks:
        return np.zeros((0, 0), np.uint8), np.zeros((0, 0), bool), 0
    stack = np.stack(masks)
    seen: NDArray[np.bool_] = (stack != NODATA).all(axis=0)
    votes = (stack == 1).sum(axis=0).astype(np.uint8)
    return votes, seen, len(masks)
