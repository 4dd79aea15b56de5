"""Score mask files against references: which mask belongs to which scene, and what is left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from openeo_cloudmask.alcd.archive import AlcdArchive, Failure, SceneEntry
from openeo_cloudmask.alcd.files import TAR_SUFFIXES
from openeo_cloudmask.alcd.scenes import find_scene_info
from openeo_cloudmask.classes import ClassScheme
from openeo_cloudmask.errors import CloudMaskError, OptionError, ReferenceDataError
from openeo_cloudmask.evaluation.error_map import write_error_map
from openeo_cloudmask.evaluation.evaluate import (
    Evaluation,
    Reference,
    SceneResult,
    ScoreSettings,
    evaluate_mask,
    read_reference_raster,
    reference_of_scene,
)
from openeo_cloudmask.evaluation.grids import read_mask
from openeo_cloudmask.evaluation.points import Points, score_points
from openeo_cloudmask.evaluation.protocol import SceneDetail, detail_scene
from openeo_cloudmask.evaluation.protocol_report import write_protocol
from openeo_cloudmask.evaluation.reference_format import (
    ReferenceFormat,
    ReferenceScene,
    find_scenes,
)
from openeo_cloudmask.evaluation.report import Picture, ScoreReport, make_report
from openeo_cloudmask.fetch.names import SentinelName, is_same_scene, parse_scene_name

RASTER_SUFFIXES = (".tif", ".tiff", ".jp2")
Load = Callable[[], Reference | Points]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest:
    """What to score."""

    mask: Path
    """A mask, or a folder of masks named after their scenes."""
    reference: Path
    """An ALCD archive (folder or .tgz), the folder of a scene, a raster, a folder of rasters, or
    references in one of the formats of ``evaluation/formats``."""
    settings: ScoreSettings = field(default_factory=ScoreSettings)
    mask_scheme: ClassScheme | None = None
    """None: what the masks' tags say, or else the four classes."""
    reference_scheme: ClassScheme | None = None
    """As ``mask_scheme``, for references that are rasters."""
    reference_format: str | None = None
    """Format of the references; None finds it from the files."""
    split: str | None = None
    """Part of the references; None takes the test part where there is one, ``all`` takes all."""
    scene: str | None = None
    """Only this scene of the archive, by its old or new name."""
    keep_going: bool = False
    """True: what fails is left out and listed. False: the first failure is raised."""
    protocol: Path | None = None
    """Folder for the tables by strata and objects, the text on methods and BibTeX."""
    error_maps: Path | None = None
    """Folder for an error map of each scene, or None for none."""


def score_files(
    request: ScoreRequest, *, on_scene: Callable[[SceneResult], None] | None = None
) -> ScoreReport:
    """Return the scores of all scenes that the request names.

    Raises:
        ReferenceDataError: nothing could be scored; or a scene failed and may not be left out.
    """
    from openeo_cloudmask.evaluation.report_html import scene_pictures

    results: list[SceneResult] = []
    details: list[SceneDetail] = []
    pictures: dict[str, tuple[Picture, ...]] = {}
    failures: list[Failure] = []
    with ExitStack() as stack:
        for name, load in _references(request, stack):
            try:
                result, evaluation = _evaluate(request, name, load)
            except CloudMaskError as err:
                if not request.keep_going:
                    raise
                failures.append(Failure(name=name, reason=str(err)))
                continue
            results.append(result)
            if evaluation is not None:
                pictures[result.name] = scene_pictures(evaluation)
                if request.protocol is not None:
                    sun = evaluation.sun_elevation_deg
                    details.append(
                        detail_scene(result.name, evaluation.pair, sun_elevation_deg=sun)
                    )
            if on_scene is not None:
                on_scene(result)
    if not results:
        reasons = "; ".join(item.reason for item in failures)
        raise ReferenceDataError(f"no scene of {request.reference} could be scored: {reasons}")
    if request.protocol is not None:
        _write_protocol(request, details)
    return make_report(
        f"Scores of {request.mask.name}",
        request.settings,
        results,
        left_out=failures,
        pictures=pictures,
    )


def _write_protocol(request: ScoreRequest, details: list[SceneDetail]) -> None:
    if request.protocol is None or not details:
        raise ReferenceDataError(
            f"{request.reference} is points; strata and objects need masks. Leave the protocol out"
        )
    found = find_scenes(request.reference, name=request.reference_format, split=request.split)
    form = None if found is None else found[0]
    write_protocol(request.protocol, details, request.settings, form)


def find_mask(folder: Path, scene: str) -> Path:
    """Return the mask of a scene in a folder of masks.

    Its file name holds the scene's or product's name, old or new, or its tile and date.

    Raises:
        ReferenceDataError: no file or more than one file is found.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in RASTER_SUFFIXES]
    names = _names_of(scene)
    found = [path for path in files if any(name in path.name for name in names)]
    found = found or [path for path in files if is_same_scene(names[0], path.name)]
    if not found and (place := tile_and_date(names[0])) is not None:
        found = [path for path in files if all(part in path.name for part in place)]
    exact = [path for path in found if path.stem in names]
    if len(exact) == 1:
        return exact[0]
    if len(found) != 1:
        what = (
            f"{len(found)} masks ({', '.join(path.name for path in found)})" if found else "no mask"
        )
        raise ReferenceDataError(
            f"scene {scene}: {what} in {folder}; expected one file with the scene's name in its own"
        )
    return found[0]


def tile_and_date(scene: str) -> tuple[str, str] | None:
    """Return tile (of Landsat: path and row) and date (``YYYYMMDD``) that a scene's name tells.

    Besides names of products: ``T28PDC2016351`` (year and day of it), and names of products before
    December 2016 with a tile behind them. Other names tell nothing: None.
    """
    if match := re.fullmatch(r"S2A_OPER_PRD_\w+_V(\d{8})T\w+_T(\d\d[A-Z]{3})", scene):
        return match[2], match[1]
    try:
        if match := re.fullmatch(r"T(\d\d[A-Z]{3})(\d{7})", scene):
            day = datetime.strptime(match[2], "%Y%j").replace(tzinfo=UTC)
            return match[1], f"{day:%Y%m%d}"
        named = parse_scene_name(scene)
    except (ValueError, OptionError):
        return None
    if named.name != scene:  # one of several parts of a product
        return None
    if isinstance(named, SentinelName):
        return named.tile, f"{named.sensed:%Y%m%d}"
    return named.path + named.row, f"{named.day:%Y%m%d}"


def _names_of(scene: str) -> tuple[str, ...]:
    """Return the names that a scene goes by, today's first."""
    info = find_scene_info(scene)
    return (scene,) if info is None else (info.product_name, info.archive_name)


def _belongs(mask: Path, scene: str) -> bool:
    """Return whether a mask's file name says that it shows a scene."""
    names = _names_of(scene)
    place = tile_and_date(names[0])
    return (
        any(name in mask.name for name in names)
        or is_same_scene(names[0], mask.name)
        or (place is not None and all(part in mask.name for part in place))
    )


def _evaluate(
    request: ScoreRequest, name: str, load: Load
) -> tuple[SceneResult, Evaluation | None]:
    """Return the result of a scene, and what pictures are made of; None for points."""
    path = find_mask(request.mask, name) if request.mask.is_dir() else request.mask
    reference = load()
    mask = read_mask(path, scheme=request.mask_scheme)
    if isinstance(reference, Points):
        return score_points(mask, reference, request.settings), None
    try:
        evaluation = evaluate_mask(mask, reference, request.settings)
    except ReferenceDataError as err:
        raise ReferenceDataError(f"scene {name}: {err}") from err
    if request.error_maps is not None:
        request.error_maps.mkdir(parents=True, exist_ok=True)
        target = request.error_maps / f"{name}_errors.tif"
        write_error_map(target, evaluation.errors, reference.grid)
    return evaluation.result, evaluation


def _references(request: ScoreRequest, stack: ExitStack) -> Iterator[tuple[str, Load]]:
    """Yield the name of each scene, and what reads it."""
    path = request.reference
    if not request.mask.exists():
        raise ReferenceDataError(f"there is no mask {request.mask}")
    found = find_scenes(path, name=request.reference_format, split=request.split)
    if found is not None:
        yield from _scenes_of(request, *found)
        return
    if is_raster(path):
        yield path.stem, _raster_loader(path, request.reference_scheme)
        return
    rasters = rasters_in(path)
    if rasters:
        for raster in rasters:
            yield raster.stem, _raster_loader(raster, request.reference_scheme)
        return
    archive = stack.enter_context(AlcdArchive(path))
    entries = archive.distinct()
    if request.scene is not None:
        entries = (archive.find(request.scene),)
    elif request.mask.is_file() and len(entries) > 1:
        entries = tuple(entry for entry in entries if _belongs(request.mask, entry.name))
        if len(entries) != 1:
            raise ReferenceDataError(
                f"{request.mask.name} names {len(entries) or 'no'} scenes of {path}; say which "
                "one it shows with --scene"
            )
    for entry in entries:
        yield entry.name, _scene_loader(archive, entry)


def _scenes_of(
    request: ScoreRequest, form: ReferenceFormat, scenes: list[ReferenceScene]
) -> Iterator[tuple[str, Load]]:
    chosen = [scene for scene in scenes if request.scene in (None, scene.name)]
    if request.mask.is_file() and len(chosen) > 1:
        chosen = [scene for scene in chosen if _belongs(request.mask, scene.name)]
    if not chosen or (request.mask.is_file() and len(chosen) != 1):
        raise ReferenceDataError(
            f"{request.mask.name} names {len(chosen) or 'no'} scenes of {request.reference} "
            f"({form.title}); say which one it shows with --scene"
        )
    for scene in chosen:
        yield scene.name, scene.reference


def _scene_loader(archive: AlcdArchive, entry: SceneEntry) -> Load:
    return lambda: reference_of_scene(archive.read(entry))


def _raster_loader(path: Path, scheme: ClassScheme | None) -> Load:
    return lambda: read_reference_raster(path, scheme=scheme)


def is_raster(path: Path) -> bool:
    """Return whether ``path`` is a file that is no archive."""
    return path.is_file() and not path.name.endswith(TAR_SUFFIXES)


def rasters_in(path: Path) -> list[Path]:
    """Return rasters that lie directly in a folder; those of an ALCD scene lie deeper."""
    if not path.is_dir():
        return []
    return [item for item in sorted(path.iterdir()) if item.suffix.lower() in RASTER_SUFFIXES]
