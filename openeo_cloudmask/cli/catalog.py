"""``cloudmask catalog``: build the STAC catalog of models, check one, record scores in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_Folder = Annotated[Path, typer.Argument(help="Folder of the catalog.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Build, check and score the STAC catalog of models.")
    group.command("build")(build)
    group.command("validate")(validate)
    group.command("examples")(examples)
    group.command("scores")(record)
    app.add_typer(group, name="catalog")


def build(
    folder: _Folder = Path("catalog"),
    url: Annotated[
        str | None, typer.Option(help="Address it is published at: adds links to themselves.")
    ] = None,
) -> None:
    """Write the catalog of all models in the registry; the same registry gives the same files."""
    from openeo_cloudmask.stac.catalog import plan_catalog, write_catalog

    written = write_catalog(folder, plan_catalog(url=url))
    typer.echo(f"{len(written)} files in {folder}")


def validate(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder of the catalog; ./catalog, or else the one shipped."),
    ] = None,
    schemas: Annotated[
        Path | None,
        typer.Option(help="Folder with JSON schemas of STAC extensions, for use offline."),
    ] = None,
    fetch: Annotated[
        bool, typer.Option(help="Download schemas that are not in that folder.")
    ] = True,
) -> None:
    """Check every object against STAC, its extensions and what this package can run."""
    from openeo_cloudmask import assets
    from openeo_cloudmask.stac.catalog import find_schemas, validate_catalog

    if folder is None:
        folder = Path("catalog") if Path("catalog").is_dir() else assets.path("catalog")
    count = validate_catalog(folder, schemas=schemas or find_schemas(), fetch=fetch)
    typer.echo(f"{count} objects in {folder} are valid")


def examples(folder: Annotated[Path, typer.Argument()] = Path("stac_extension/examples")) -> None:
    """Write the examples of the STAC extension."""
    from openeo_cloudmask.publish import publish_text
    from openeo_cloudmask.stac.examples import plan_examples

    planned = plan_examples()
    for name, text in planned.items():
        publish_text(folder / name, text)
    typer.echo(f"{len(planned)} examples in {folder}")


def record(
    evaluation: Annotated[
        Path, typer.Argument(help="The evaluation.json that `cloudmask evaluate` wrote.")
    ],
    cross_validated: Annotated[
        str | None,
        typer.Option(help="Model whose cross-validation the given masks are: recorded for it."),
    ] = None,
) -> None:
    """Record the figures of an evaluation as scores of the catalog's models.

    Rebuild the catalog afterwards (``cloudmask catalog build``).
    """
    from openeo_cloudmask.stac.measure import record_scores

    for name, row in record_scores(evaluation, cross_validated=cross_validated):
        numbers = ", ".join(f"{key} {value:.3f}" for key, value in row["metrics"].items())
        typer.echo(f"{name} on {row['data']}, {row['style']}: {numbers}")
