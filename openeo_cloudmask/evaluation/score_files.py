"""Score mask files against references: which mask belongs to which scene, and what is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from openeo_cloudmask.alcd.archive import Failure
from openeo_cloudmask.alcd.scenes import find_scene_info
from openeo_cloudmask.classes import ClassScheme
from openeo_cloudmask.errors import CloudMaskError, ReferenceDataError
from openeo_cloudmask.evaluation.error_map import write_error_map
from openeo_cloudmask.evaluation.evaluate import (
    Evaluation,
    SceneResult,
    ScoreSettings,
    evaluate_mask,
)
from openeo_cloudmask.evaluation.grids import read_mask
from openeo_cloudmask.evaluation.references.formats import References, open_references
from openeo_cloudmask.evaluation.references.raster import find_mask
from openeo_cloudmask.evaluation.report import Picture, ScoreReport, make_report


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest:
    """What to score."""

    mask: Path
    """A mask, or a folder of masks named after their scenes."""
    reference: Path
    """An ALCD archive (folder or .tgz), the folder of a scene, a raster, or a folder of rasters."""
    settings: ScoreSettings = field(default_factory=ScoreSettings)
    mask_scheme: ClassScheme | None = None
    """None: what the masks' tags say, or else the four classes."""
    reference_scheme: ClassScheme | None = None
    """As ``mask_scheme``, for references that are rasters."""
    scene: str | None = None
    """Only this scene of the archive, by its old or new name."""
    keep_going: bool = False
    """True: what fails is left out and listed. False: the first failure is raised."""
    error_maps: Path | None = None
    """Folder for an error map of each scene, or None for none."""


def score_files(
    request: ScoreRequest, *, on_scene: Callable[[Evaluation], None] | None = None
) -> ScoreReport:
    """Return the scores of all scenes that the request names.

    Raises:
        ReferenceDataError: nothing could be scored; or a scene failed and may not be left out.
    """
    from openeo_cloudmask.evaluation.report_html import scene_pictures

    results: list[SceneResult] = []
    pictures: dict[str, tuple[Picture, ...]] = {}
    failures: list[Failure] = []
    if not request.mask.exists():
        raise ReferenceDataError(f"there is no mask {request.mask}")
    with open_references(request.reference, request.reference_scheme) as references:
        for name in _names(request, references):
            try:
                evaluation = _evaluate(request, name, references)
            except CloudMaskError as err:
                if not request.keep_going:
                    raise
                failures.append(Failure(name=name, reason=str(err)))
                continue
            results.append(evaluation.result)
            pictures[evaluation.result.name] = scene_pictures(evaluation)
            if on_scene is not None:
                on_scene(evaluation)
    if not results:
        reasons = "; ".join(item.reason for item in failures)
        raise ReferenceDataError(f"no scene of {request.reference} could be scored: {reasons}")
    return make_report(
        f"Scores of {request.mask.name}",
        request.settings,
        results,
        left_out=failures,
        pictures=pictures,
    )


def _evaluate(request: ScoreRequest, name: str, references: References) -> Evaluation:
    reference = references.read(name)
    path = find_mask(request.mask, name) if request.mask.is_dir() else request.mask
    mask = read_mask(path, scheme=request.mask_scheme)
    try:
        evaluation = evaluate_mask(mask, reference, request.settings)
    except ReferenceDataError as err:
        raise ReferenceDataError(f"scene {name}: {err}") from err
    if request.error_maps is not None:
        request.error_maps.mkdir(parents=True, exist_ok=True)
        target = request.error_maps / f"{name}_errors.tif"
        write_error_map(target, evaluation.errors, reference.grid)
    return evaluation


def _names(request: ScoreRequest, references: References) -> tuple[str, ...]:
    """Return the names of the references to compare with."""
    names = references.names
    if request.scene is not None:
        return (references.find(request.scene),)
    if request.mask.is_file() and len(names) > 1:
        names = tuple(name for name in names if _belongs(request.mask, name))
        if len(names) != 1:
            raise ReferenceDataError(
                f"{request.mask.name} names {len(names) or 'no'} scenes of {request.reference}; "
                "say which one it shows with --scene"
            )
    return names


def _belongs(mask: Path, scene: str) -> bool:
    info = find_scene_info(scene)
    if info is None:
        return scene in mask.name
    names = (info.product_name, info.archive_name)
    return any(name in mask.name for name in names) or (
        info.tile in mask.name and info.date in mask.name
    )
