"""``cloudmask evaluate``: models, or masks, against labelled scenes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openeo_cloudmask.cli import shared_options as shared
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.options import DEFAULT_STRIDE_PX

if TYPE_CHECKING:
    from openeo_cloudmask.evaluation.labelled_masks import MaskSource


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate")(evaluate)


def evaluate(
    folder: Annotated[
        Path,
        typer.Argument(help="Labelled scenes (.npz), or references that bring their images."),
    ],
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model", help="Name, or name=weights; may be repeated. `all` takes what runs here."
        ),
    ] = None,
    masks: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of masks, <scene>.npy in the four classes; may be repeated."),
    ] = None,
    output: Annotated[
        Path, typer.Option(help="Folder for figures, masks and contact sheets.")
    ] = Path("evaluation"),
    split: shared.Split = None,
    title: Annotated[str | None, typer.Option(help="Headline of the tables.")] = None,
    stride: shared.Stride = DEFAULT_STRIDE_PX,
    device: shared.Device = "cpu",
    precision: shared.Precision = "fp32",
) -> None:
    """Mask labelled scenes, score the masks, and draw image, mask and label side by side."""
    from openeo_cloudmask.evaluation.labelled_masks import GivenMasks, rate_masks
    from openeo_cloudmask.evaluation.labelled_report import (
        group_table,
        left_out_lines,
        to_content,
        write_evaluation,
    )
    from openeo_cloudmask.evaluation.labelled_sheets import SheetWriter

    everything = models == ["all"]
    sources = (
        *_models(models or [], stride=stride, device=device, precision=precision),
        *(GivenMasks(folder=path) for path in masks or []),
    )
    if not sources:
        raise OptionError("nothing to evaluate; expected --model NAME or --masks FOLDER")
    writer = SheetWriter(output)
    rated = rate_masks(folder, sources, lenient=everything, split=split, on_mask=writer.write)
    paths = writer.finish()
    content = to_content(
        [item for item in rated if item.scenes] if everything else rated,
        title=title or f"Masks against the labels of {folder.resolve().name}",
        command=_command(models or [], masks or [], stride, precision),
    )
    for path in (*paths, *write_evaluation(output, content)):
        typer.echo(f"wrote {path}", err=True)
    typer.echo("\n".join([*group_table(content, "all"), *left_out_lines(content)]))


def _models(names: list[str], **settings: Any) -> tuple[MaskSource, ...]:  # noqa: ANN401
    from openeo_cloudmask.evaluation.compare_scenes import all_models, parse_model
    from openeo_cloudmask.evaluation.labelled_masks import ModelMasks

    if "all" in names and len(names) > 1:
        raise OptionError(f"--model all takes every model; leave out {', '.join(names)}")
    chosen = (
        all_models(**settings)
        if names == ["all"]
        else tuple(parse_model(name, **settings) for name in names)
    )
    return tuple(ModelMasks(model=model) for model in chosen)


def _command(models: list[str], masks: list[Path], stride: int, precision: str) -> str:
    """Return the command that gives these figures again, without this machine's folders."""
    words = ["cloudmask", "evaluate", "FOLDER"]
    for name in models:
        words += ["--model", name.partition("=")[0] + ("=WEIGHTS" if "=" in name else "")]
    for path in masks:
        words += ["--masks", path.resolve().name]
    if stride != DEFAULT_STRIDE_PX:
        words += ["--stride", str(stride)]
    if precision != "fp32":
        words += ["--precision", precision]
    return shlex.join(words)
