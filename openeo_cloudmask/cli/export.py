"""``cloudmask export``: a model as one ONNX file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from openeo_cloudmask.cli import shared_options as shared


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export")(export)


def export(
    model: Annotated[str, typer.Argument(help="See `cloudmask models`.")],
    output: Annotated[Path, typer.Argument(help="The file to write (.onnx).")],
    sensor: Annotated[
        str | None,
        typer.Option(help="Sensor of the data: an id, a YAML/JSON file of wavelengths, or any."),
    ] = None,
    bands: Annotated[
        str | None, typer.Option(help="Bands the data will have, if not all: B02,B03,...")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Weights file or folder, instead of a download.")
    ] = None,
    window_px: Annotated[
        int | None, typer.Option(help="Side of the window in pixels, instead of the model's own.")
    ] = None,
    item: Annotated[
        bool, typer.Option("--item", help="Write a STAC item beside it that says how to run it.")
    ] = False,
    precision: Annotated[
        str,
        typer.Option(
            help="fp32, or int8: calibrated on simulated scenes, with those blocks in fp32 that "
            "would change too many classes."
        ),
    ] = "fp32",
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Folder of labelled scenes to calibrate `mini` with too."),
    ] = None,
    overwrite: shared.Overwrite = False,
) -> None:
    """Write MODEL as OUTPUT, for onnxruntime: weights, bands, classes and licence in one file.

    The file takes the place of weights: `cloudmask run ... --weights FILE.onnx`, or `weights` in a
    process graph.
    """
    from openeo_cloudmask.errors import OptionError, OutputError
    from openeo_cloudmask.models import get_model, licence_notice
    from openeo_cloudmask.models.onnx_export import export_onnx
    from openeo_cloudmask.training.int8 import export_int8

    if precision not in ("fp32", "int8"):
        raise OptionError(f"precision is {precision!r}; exported files are in fp32 or int8")
    if calibrate is not None and precision != "int8":
        raise OptionError("--calibrate is for --precision int8; leave it out")
    if output.exists() and not overwrite:
        raise OutputError(f"{output} is there already; pass --overwrite to replace it")
    typer.echo(f"Model {licence_notice(get_model(model))}", err=True)
    names = None if bands is None else [name.strip() for name in bands.split(",") if name.strip()]
    options: dict[str, Any] = {
        "sensor": sensor, "bands": names, "weights": weights, "window_px": window_px,
    }  # fmt: skip
    if precision == "int8":
        card, blocks = export_int8(model, output, scenes=calibrate, **options)
        for block in blocks:
            typer.echo(
                f"  {block.name:<28}{'int8' if block.int8 else 'fp32':<6}{block.products:8.0f} "
                f"million products, alone in int8 changes {block.changed:.3%}"
            )
        typer.echo(f"  classes of the guard's scenes that stay: {card.equal_classes:.3%}")
    else:
        card = export_onnx(model, output, **options)
    typer.echo(
        f"{output}: {card.model} for {card.sensor} ({', '.join(card.bands)}), windows of "
        f"{card.window_px} px, {output.stat().st_size / 1e6:.1f} MB"
    )
    if item:
        typer.echo(f"{_write_item(output, sensor)}: its STAC item")


def _write_item(output: Path, sensor: str | None) -> Path:
    from openeo_cloudmask.publish import publish_text
    from openeo_cloudmask.sensors import ANY_SENSOR, resolve_sensor
    from openeo_cloudmask.stac.exported_item import describe_exported

    custom = resolve_sensor(sensor) if sensor not in (None, ANY_SENSOR) else None
    found = describe_exported(output, sensor=custom)
    content = found.to_dict(include_self_link=False, transform_hrefs=False)
    return publish_text(output.with_suffix(".json"), f"{json.dumps(content, indent=2)}\n")
