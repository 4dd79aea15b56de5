"""``cloudmask demo``: the whole way from a scene to a scored mask, offline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from openeo_cloudmask.cli.demo_run import Execute
    from openeo_cloudmask.evaluation.scores import Scores


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("demo")(_demo)


def _demo(
    folder: Annotated[Path, typer.Argument(help="Folder for the results.", metavar="DIR")] = Path(
        "demo-output"
    ),
    model: Annotated[
        str | None, typer.Option(help="Model; default: one that needs no download.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the simulated scene.")] = None,
    size: Annotated[int | None, typer.Option(help="Pixels along each side.")] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Mask it as a batch job of a server started for it.")
    ] = False,
) -> None:
    """Simulate a scene, mask it through an openEO process graph, and score the mask."""
    from rich.console import Console
    from rich.progress import Progress

    from openeo_cloudmask.cli.demo_run import DEFAULT_SEED, DEFAULT_SIZE_PX, run_demo

    with Progress(transient=True) as bar:
        bar.add_task("Masking", total=None)
        result = run_demo(
            folder,
            model=model,
            seed=DEFAULT_SEED if seed is None else seed,
            size_px=size or DEFAULT_SIZE_PX,
            execute=_on_server(bar.console.print) if serve else None,
        )
    console = Console()
    console.print(_table(result.scores, f"{result.model} against the simulated truth"))
    for name, value in result.balanced_accuracies.items():
        typer.echo(f"balanced accuracy, {name}: {value:.3f}")
    for label, path in (
        ("process graph", result.graph),
        ("mask (COG)", result.mask),
        ("quicklook", result.quicklook),
    ):
        typer.echo(f"{label}: {path}")


def _on_server(echo: Callable[[str], None]) -> Execute:
    """Return what runs a graph on a server of its own and says what happens."""
    from functools import partial

    from openeo_cloudmask.cli.demo_server import run_on_server

    return partial(run_on_server, echo=echo)


def _table(scores: Scores, title: str) -> Table:
    """Return precision, recall and IoU of each class."""
    from rich.table import Table

    table = Table(title=title)
    for column in ("class", "pixels", "precision", "recall", "IoU"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for item in scores.classes:
        numbers = (f"{value:.3f}" for value in (item.precision, item.recall, item.iou))
        table.add_row(item.title, f"{item.support:.0f}", *numbers)
    return table
