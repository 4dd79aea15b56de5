"""``cloudmask train``: make the networks of this package anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openeo_cloudmask.cli.field_options import with_fields
from openeo_cloudmask.training.options import Scenes, TrainOptions

if TYPE_CHECKING:
    from openeo_cloudmask.training.mini import Report


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="Train mini on simulated and real scenes, or the patch CNN on references.",
        no_args_is_help=True,
    )
    group.command("mini")(with_fields(mini, TrainOptions))
    group.command("kristollari-cnn")(kristollari_cnn)
    app.add_typer(group, name="train")


def mini(
    folder: Annotated[Path, typer.Argument(help="Checkpoint, log and weights; goes on if used.")],
    scenes: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of real labelled scenes (.npz) to learn from too; repeatable."),
    ] = None,
    unlabelled: Annotated[
        Path | None, typer.Option(help="Folder of real scenes (.npz) that the teacher masks.")
    ] = None,
    folds: Annotated[
        int,
        typer.Option(help="Train once for each fold, leaving its scenes out, and mask those."),
    ] = 0,
    start: Annotated[Path | None, typer.Option(help="Weights to begin with.")] = None,
    store: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps simulated scenes and what the teacher says."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where to train: cpu, cuda, cuda:1, mps.")] = "cpu",
    workers: Annotated[int, typer.Option(help="Processes that draw simulated scenes.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads of the network; 0 takes all.")] = 0,
    **options: Any,  # noqa: ANN401 - the fields of TrainOptions
) -> None:
    """Train ``mini``; a run that was stopped goes on to the weights it would have had."""
    torch = _import_torch()
    from openeo_cloudmask.errors import OptionError
    from openeo_cloudmask.evaluation.labelled import list_scenes
    from openeo_cloudmask.training.folds import cross_validate
    from openeo_cloudmask.training.mini import train_mini

    if threads:
        torch.set_num_threads(threads)
    chosen = TrainOptions(**options)
    if folds and not scenes:
        raise OptionError(f"folds is {folds}, but there are no scenes; expected --scenes FOLDER")
    given = Scenes(
        store=store or folder / "simulated",
        labelled=tuple(path for each in scenes or () for path in list_scenes(each)),
        unlabelled=() if unlabelled is None else list_scenes(unlabelled),
    )
    with _reporting(chosen.steps) as reporter:
        same: dict[str, Any] = {"start": start, "device": device, "workers": workers}
        if folds:
            masks = cross_validate(
                folder, chosen, scenes=given, folds=folds, report=reporter, **same
            )
            done = f"masks {masks}; score them with cloudmask evaluate --masks {masks}"
        else:
            path = train_mini(folder, chosen, given, report=reporter(), **same)
            done = f"weights {path}; use them with --model mini --weights {path}"
    typer.echo(done)


@contextmanager
def _reporting(steps: int) -> Iterator[Callable[..., Report]]:
    """Yield what makes the report of a training, or of one of its folds: a bar, and scores."""
    from rich.progress import Progress

    with Progress() as bar:

        def reporter(fold: int | None = None) -> Report:
            name = "mini" if fold is None else f"mini, fold {fold}"
            task = bar.add_task(name, total=steps)

            def report(step: int, loss: float | None, scores: dict[str, float] | None) -> None:
                told = "" if loss is None else f", loss {loss:.3f}"
                bar.update(task, completed=step, description=f"{name}{told}")
                if scores is not None:
                    shown = ", ".join(f"{key} {value:.3f}" for key, value in scores.items())
                    bar.console.print(f"{name}, step {step}: {shown}")

            return report

        yield reporter


def kristollari_cnn(
    folder: Annotated[Path, typer.Argument(help="Checkpoint, curves, weights; goes on if used.")],
    products: Annotated[
        Path | None, typer.Option(help="Folder with the Level-1C products of the references.")
    ] = None,
    references: Annotated[
        Path | None, typer.Option(help="The ALCD archive: folder or .tgz.")
    ] = None,
    simulate: Annotated[int, typer.Option(help="Train on this many simulated scenes instead.")] = 0,
    epochs: Annotated[int, typer.Option(help="Epochs in all.")] = 30,
    steps: Annotated[int, typer.Option(help="Rows of pixels per epoch.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the split, the rows and the first weights.")] = 1,
    validation_share: Annotated[float, typer.Option(help="Share of scenes held back.")] = 0.25,
) -> None:
    """Train the patch CNN on references at 60 m, then write masks, metrics and confusion."""
    _import_torch()
    from openeo_cloudmask.errors import OptionError
    from openeo_cloudmask.training.patch_cnn import (
        Epoch,
        PatchTrainOptions,
        read_history,
        train_patch_cnn,
    )
    from openeo_cloudmask.training.patch_report import draw_curves, write_evaluation
    from openeo_cloudmask.training.patch_scenes import (
        find_scenes,
        simulate_patch_scenes,
        split_scenes,
    )

    if simulate:
        scenes = simulate_patch_scenes(simulate, seed=seed)
    elif products is not None and references is not None:
        scenes = list(find_scenes(products, references))
    else:
        raise OptionError("give --products and --references, or --simulate with a number of scenes")
    training, validation = split_scenes(scenes, validation_share, seed)
    typer.echo(f"{len(training)} scenes to learn, {len(validation)} to score")

    def report(row: Epoch) -> None:
        typer.echo(
            f"epoch {row.epoch}: loss {row.loss:.4f}, validation loss {row.validation_loss:.4f}, "
            f"accuracy {row.validation_accuracy:.4f}, F1 {row.validation_f1:.4f}"
        )

    options = PatchTrainOptions(
        seed=seed, epochs=epochs, steps=steps, validation_share=validation_share
    )
    weights = train_patch_cnn(folder, training, validation, options, report=report)
    curves = draw_curves(read_history(folder), folder / "curves.png")
    written = write_evaluation(weights, validation, folder / "validation")
    typer.echo(f"weights {weights}\ncurves  {curves}\nmasks   {written}")


def _import_torch() -> ModuleType:
    """Return torch, before anything is simulated or read."""
    from openeo_cloudmask.errors import MissingExtraError

    try:
        import torch
    except ModuleNotFoundError as err:
        raise MissingExtraError.for_extra("torch", "training") from err
    return torch
