"""``cloudmask compare``: several models over several scenes."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openeo_cloudmask.cli import shared_options as shared
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.options import DEFAULT_STRIDE_PX

if TYPE_CHECKING:
    from openeo_cloudmask.evaluation.compare import Comparison
    from openeo_cloudmask.evaluation.compare_scenes import SceneSource


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare")(compare)


def compare(
    scenes: Annotated[
        list[Path] | None,
        typer.Argument(help="Products or rasters; none with --simulated."),
    ] = None,
    models: shared.Models = "all",
    reference: Annotated[
        Path | None,
        typer.Option(help="ALCD archive, scene folder, raster, or folder of rasters."),
    ] = None,
    simulated: Annotated[int, typer.Option(help="Compare on so many simulated scenes.")] = 0,
    first_seed: Annotated[int, typer.Option(help="Seed of the first simulated scene.")] = 1,
    size: shared.SceneSize = 512,
    sensor: Annotated[
        str | None, typer.Option(help="Sensor of simulated scenes or of rasters.")
    ] = None,
    reference_classes: Annotated[
        str | None, typer.Option(help="Classes of references that are rasters.")
    ] = None,
    output: Annotated[
        Path, typer.Option(help="Folder for masks, results and reports; the same one goes on.")
    ] = Path("compare"),
    title: Annotated[str | None, typer.Option(help="Headline of the reports.")] = None,
    dilate: shared.Dilate = None,
    ignore_rim: shared.Rim = None,
    stride: shared.Stride = DEFAULT_STRIDE_PX,
    device: shared.Device = "auto",
    precision: shared.Precision = "auto",
    keep_going: shared.KeepGoing = False,
) -> None:
    """Mask every scene with every model, score the masks, and rank the models."""
    from openeo_cloudmask.evaluation.cases import parse_distance, plan_cases
    from openeo_cloudmask.evaluation.compare import CompareRequest, run_comparison
    from openeo_cloudmask.evaluation.compare_report import write_comparison
    from openeo_cloudmask.evaluation.compare_scenes import all_models, parse_model
    from openeo_cloudmask.evaluation.evaluate import ScoreSettings

    settings = {"stride": stride, "device": device, "precision": precision}
    names = [name.strip() for name in models.split(",") if name.strip()]
    chosen = (
        all_models(reading=not simulated, **settings)
        if names == ["all"]
        else tuple(parse_model(name, **settings) for name in names)
    )
    cases = plan_cases(
        dilate=parse_distance(dilate) if dilate else None,
        ignore_rim=parse_distance(ignore_rim) if ignore_rim else None,
    )
    request = CompareRequest(
        models=chosen,
        scenes=_sources(
            scenes or [], reference, reference_classes, sensor, simulated, first_seed, size
        ),
        folder=output,
        settings=ScoreSettings(cases=cases),
        leave_out_models=names == ["all"] or keep_going,
        keep_going=keep_going,
    )
    comparison = run_comparison(request, progress=_tell)
    headline = title or f"Cloud masks compared on {len(request.scenes)} scenes"
    paths = write_comparison(output, comparison, title=headline, command=_command())
    for path in paths:
        typer.echo(f"wrote {path}", err=True)
    _print_board(comparison)


def _sources(
    scenes: list[Path],
    reference: Path | None,
    reference_classes: str | None,
    sensor: str | None,
    simulated: int,
    first_seed: int,
    size: int,
) -> tuple[SceneSource, ...]:
    from openeo_cloudmask.evaluation.compare_scenes import (
        ProductSource,
        SimulatedSource,
        scheme_of,
    )

    if bool(scenes) == bool(simulated):
        raise OptionError(
            "expected either scenes with --reference, or --simulated with a number of scenes"
        )
    if simulated < 0:
        raise OptionError(f"--simulated is {simulated}; expected 1 or more")
    if simulated:
        return tuple(
            SimulatedSource(seed=seed, sensor=sensor or "sentinel-2-l1c", size_px=size)
            for seed in range(first_seed, first_seed + simulated)
        )
    if reference is None:
        raise OptionError("scenes need --reference: what they are compared with")
    scheme = scheme_of(reference_classes) if reference_classes else None
    return tuple(
        ProductSource(path=path, reference_path=reference, reference_scheme=scheme, sensor=sensor)
        for path in scenes
    )


def _tell(model: str, scene: str, kept: bool) -> None:
    typer.echo(f"{'kept' if kept else 'done'}: {model} on {scene}", err=True)


def _command() -> str:
    """Return the command as it was typed, by its name alone."""
    return shlex.join(["cloudmask", *sys.argv[1:]])


def _print_board(comparison: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table

    from openeo_cloudmask.evaluation.compare_report import board_rows, first_sentence

    heads, rows = board_rows(comparison)
    table = Table(title=f"{len(comparison.request.scenes)} scene(s), balanced accuracies")
    for position, heading in enumerate(heads):
        table.add_column(heading, justify="left" if position == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    for failure in comparison.left_out:
        console.print(f"left out {failure.name}: {first_sentence(failure.reason)}", highlight=False)
