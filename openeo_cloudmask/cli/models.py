"""``cloudmask models``: which models there are, and what is known of one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openeo_cloudmask.cli import shared_options as shared

if TYPE_CHECKING:
    from openeo_cloudmask.models import ModelEntry


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="List the models, or show one.", invoke_without_command=True)
    group.callback()(show_models)
    group.command("show")(show_model)
    app.add_typer(group, name="models")


def show_models(
    context: typer.Context,
    as_json: shared.Json = False,
) -> None:
    """List the models: name, sensors, bands, classes, licence."""
    if context.invoked_subcommand is not None:
        return
    from openeo_cloudmask.front import list_models
    from openeo_cloudmask.models import ALIASES

    known = list_models()
    if as_json:
        typer.echo(json.dumps([describe_model(entry) for entry in known], indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for heading in ("Model", "Sensor: bands", "Classes", "Licence"):
        table.add_column(heading, overflow="fold")
    for entry in known:
        names = [entry.id, *(name for name, target in ALIASES.items() if target == entry.id)]
        table.add_row(
            "\n".join(names),
            f"any: {entry.min_bands} or more"
            if entry.sensor_independent
            else "\n".join(f"{sensor}: {len(bands)}" for sensor, bands in entry.inputs.items()),
            entry.scheme_name,
            entry.licence.spdx,
        )
    Console().print(table)


def show_model(
    name: Annotated[str, typer.Argument(help="Name of a model, or an alias.")],
    as_json: shared.Json = False,
) -> None:
    """Show what is known of one model."""
    from openeo_cloudmask.models import get_model

    about = describe_model(get_model(name))
    if as_json:
        typer.echo(json.dumps(about, indent=2))
        return
    for key, value in about.items():
        if value in (None, {}, []):
            continue
        if isinstance(value, dict):
            typer.echo(f"{key}:")
            for inner, content in value.items():
                typer.echo(f"  {inner}: {_text(content)}")
        else:
            typer.echo(f"{key}: {_text(value)}")


def describe_model(entry: ModelEntry) -> dict[str, Any]:
    """Return what is known of a model, ready for JSON."""
    from openeo_cloudmask.models import ALIASES
    from openeo_cloudmask.models.onnx_detector import needed_extra

    weights = entry.weights
    return {
        "name": entry.id,
        "aliases": [name for name, target in ALIASES.items() if target == entry.id],
        "title": entry.title,
        "family": entry.family,
        "kind": entry.kind.id,
        "summary": entry.summary,
        "inputs": {sensor: list(bands) for sensor, bands in entry.inputs.items()},
        "sensor_independent": entry.sensor_independent,
        "min_bands": entry.min_bands,
        "classes": {str(item.value): item.title for item in entry.scheme.classes},
        "window_px": 1 if entry.window.pixelwise else entry.window.size_px,
        "licence": f"{entry.licence.spdx} ({entry.licence.url})",
        "commercial_use": not entry.licence.non_commercial,
        "weights": None if weights is None else weights.url,
        "sha256": None if weights is None else weights.sha256,
        "extra": needed_extra(entry),
        "citation": entry.citation,
        "doi": entry.doi,
        "source": entry.source_url,
        "trained_on": list(entry.trained_on),
        "scores": dict(entry.scores),
    }


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
