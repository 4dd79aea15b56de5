"""Masks of several scenes in one run: one progress, one summary, and a run that can go on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from openeo_cloudmask.cli.progress import Advance, scenes_progress
from openeo_cloudmask.errors import CloudMaskError, OptionError, OutputError, ProductError

if TYPE_CHECKING:
    from openeo_cloudmask.products import MaskReport
    from openeo_cloudmask.products.addresses import Source

_SUFFIXES = (
    *(".safe", ".zip", ".tar", ".gz", ".tgz", ".tif", ".tiff", ".jp2", ".zarr"),
    *(".nc", ".nc4", ".cdf", ".netcdf"),
)
Work = Callable[["Source", Path, Advance], "MaskReport | None"]
"""Masks (scene, output) and tells its progress; None where the mask was there before."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of a run."""

    made: list[tuple[Source, MaskReport]] = field(default_factory=list)
    there: list[Source] = field(default_factory=list)
    failed: list[tuple[Source, str]] = field(default_factory=list)
    seconds: float = 0.0


def plan_outputs(sources: Sequence[Source], output: Path) -> list[tuple[Source, Path]]:
    """Return each scene with the file of its mask: ``output``, or a file in that folder.

    Raises:
        OptionError: there is no scene, there are several and ``output`` is a file, or two have one
            name.
        OutputError: the folder cannot be made.
    """
    if not sources:
        given = f"only {output} is" if output.name else "no path is"
        raise OptionError(
            f"{given} given; expected INPUT and OUTPUT, e.g. cloudmask run "
            f"{output if output.name else 'scene.tif'} {output.stem or 'scene'}_mask.tif"
        )
    if len(sources) == 1 and output.suffix and not output.is_dir():
        return [(sources[0], output)]
    if output.suffix.lower() in (".tif", ".tiff") or output.is_file():
        raise OptionError(
            f"{len(sources)} scenes are given, but OUTPUT is the file {output}; expected a folder"
        )
    names = [_bare_name(source) for source in sources]
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise OptionError(
            f"several scenes would be written to {output / twice[0]}_mask.tif; expected scenes of "
            "different names, or a run for each"
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"cannot make the folder {output}: {err}") from err
    pairs = zip(sources, names, strict=True)
    return [(source, output / f"{name}_mask.tif") for source, name in pairs]


def _bare_name(source: Source) -> str:
    """Return its name without what kind of file it is; other dots (HLS.S30.T32TQM...) stay."""
    name = source.name
    while (suffix := Path(name).suffix.lower()) in _SUFFIXES:
        name = name[: -len(suffix)]
    return name


def mask_scenes(pairs: Sequence[tuple[Source, Path]], work: Work, *, skip_errors: bool) -> Outcome:
    """Return what came of masking each of ``pairs`` (scene, output) in turn.

    Raises:
        CloudMaskError: a scene failed and ``skip_errors`` is false.
    """
    gone = [source for source, _ in pairs if isinstance(source, Path) and not source.exists()]
    if gone and len(pairs) > 1 and not skip_errors:  # said before hours are spent on the others
        raise ProductError(
            f"of {len(pairs)} scenes {', '.join(map(str, gone[:5]))} "
            f"{'is' if len(gone) == 1 else 'are'} not there; expected a file or folder for each"
        )
    begin, outcome = time.monotonic(), Outcome()
    with scenes_progress(len(pairs)) as shown:
        for index, (source, target) in enumerate(pairs):
            try:
                report = work(source, target, shown.scene(index, source.name))
            except CloudMaskError as err:
                if not skip_errors:
                    raise
                outcome.failed.append((source, str(err)))
                shown.say(f"{source.name} failed: {err}")
                continue
            if report is None:
                outcome.there.append(source)
            else:
                outcome.made.append((source, report))
    outcome.seconds = time.monotonic() - begin
    return outcome


def summarise_scenes(outcome: Outcome, folder: Path) -> None:
    """Print a line per scene and one for all.

    Raises:
        typer.Exit: status 1 where a scene failed.
    """
    for source, report in outcome.made:
        shares = ", ".join(
            f"{item.title.lower()} {report.shares[item.name]:.1%}" for item in report.scheme.classes
        )
        typer.echo(f"{source.name}: {shares}, no data {report.nodata_share:.1%}")
        for warning in report.warnings:
            typer.secho(f"Warning: {source.name}: {warning}.", fg="yellow", err=True)
    for source, reason in outcome.failed:
        typer.secho(f"{source.name} failed: {reason}", fg="red", err=True)
    parts = [f"{len(outcome.made)} masked"]
    if outcome.there:
        parts.append(f"{len(outcome.there)} were there before")
    if outcome.failed:
        parts.append(f"{len(outcome.failed)} failed")
    typer.echo(f"{', '.join(parts)}; masks in {folder}, {outcome.seconds:.1f} s")
    if outcome.failed:
        raise typer.Exit(1)
