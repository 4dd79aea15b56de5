"""``cloudmask leaderboard``: every model on every reference available."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openeo_cloudmask.cli import shared_options as shared
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.options import DEFAULT_STRIDE_PX

if TYPE_CHECKING:
    from openeo_cloudmask.evaluation.leaderboard import Board
    from openeo_cloudmask.evaluation.study_scenes import StudyScene


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("leaderboard")(leaderboard)


def leaderboard(
    references: Annotated[
        list[Path] | None,
        typer.Argument(help="Labelled scenes, or references of any format; several sets."),
    ] = None,
    models: shared.Models = "all",
    products: Annotated[
        Path | None,
        typer.Option(help="Products of references without images (`references fetch` gets them)."),
    ] = None,
    simulated: Annotated[int, typer.Option(help="Also so many simulated scenes.")] = 0,
    size: shared.SceneSize = 512,
    sensor: Annotated[str, typer.Option(help="Sensor of simulated scenes.")] = "sentinel-2-l1c",
    split: shared.Split = None,
    output: Annotated[
        Path, typer.Option(help="Folder for matrices and reports; the same one goes on.")
    ] = Path("leaderboard"),
    markdown: Annotated[
        Path | None, typer.Option(help="Write the Markdown here too (.md, and .json beside it).")
    ] = None,
    title: Annotated[str, typer.Option(help="Headline.")] = "Leaderboard",
    workers: Annotated[int, typer.Option(help="Processes; 0 works in this one.")] = 0,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a dask scheduler, instead of processes here.")
    ] = None,
    stride: shared.Stride = DEFAULT_STRIDE_PX,
    device: shared.Device = "cpu",
    precision: shared.Precision = "fp32",
) -> None:
    """Mask every reference with every model and provider's mask; rank where intervals part.

    All confusion matrices (scene, model, stratum) are kept in one Parquet file. A run that was
    stopped goes on; other figures from the same file take seconds.
    """
    from openeo_cloudmask.evaluation.compare_scenes import all_models, parse_model
    from openeo_cloudmask.evaluation.leaderboard import make_boards
    from openeo_cloudmask.evaluation.leaderboard_report import write_leaderboard
    from openeo_cloudmask.evaluation.study import run_study
    from openeo_cloudmask.publish import publish_text

    if simulated < 0 or workers < 0:
        raise OptionError(f"--simulated {simulated}, --workers {workers}; expected 0 or more")
    settings: dict[str, Any] = {"stride": stride, "device": device, "precision": precision}
    names = [name.strip() for name in models.split(",") if name.strip()]
    chosen = (
        all_models(**settings)
        if names == ["all"]
        else tuple(parse_model(name, **settings) for name in names)
    )
    scenes = _scenes(references or [], products, split, simulated, size, sensor)
    rows = run_study(output, scenes, chosen, workers=workers, scheduler=scheduler, progress=_tell)
    boards = make_boards(rows)
    paths = write_leaderboard(output, boards, chosen, title=title, command=_command())
    if markdown is not None:
        paths += tuple(
            publish_text(
                markdown.with_suffix(ending),
                (output / f"leaderboard{ending}").read_text(encoding="utf-8"),
            )
            for ending in (".md", ".json")
        )
    for path in paths:
        typer.echo(f"wrote {path}", err=True)
    for board in boards:
        _print(board)


def _scenes(
    references: list[Path],
    products: Path | None,
    split: str | None,
    simulated: int,
    size: int,
    sensor: str,
) -> list[StudyScene]:
    from openeo_cloudmask.evaluation.study_scenes import find_study_scenes, simulated_scenes

    if not references and not simulated:
        raise OptionError("nothing to compare with; expected references, or --simulated NUMBER")
    scenes = []
    for path in references:
        found = find_study_scenes(path, products=products, split=split)
        typer.echo(f"{found[0].references}: {len(found)} scene(s)", err=True)
        scenes += found
    return scenes + (simulated_scenes(simulated, sensor=sensor, size_px=size) if simulated else [])


def _tell(done: int, todo: int) -> None:
    typer.echo(f"{done} of {todo} scenes", err=True)


def _command() -> str:
    """Return the command, without the folders that lead to its files on this machine alone."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return shlex.join(["cloudmask", *words])


def _print(board: Board) -> None:
    from rich.console import Console
    from rich.table import Table

    from openeo_cloudmask.evaluation.leaderboard_report import board_rows

    heads, rows = board_rows(board)
    table = Table(title=f"{board.references}: {board.scenes} scene(s)")
    for place, heading in enumerate(heads):
        table.add_column(heading, justify="left" if place == 1 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
