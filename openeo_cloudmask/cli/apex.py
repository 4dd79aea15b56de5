"""``cloudmask apex``: what the APEx algorithm catalogue wants of a service."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Annotated

import typer

from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.options import DEFAULT_MODEL


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("apex")(_apex)


def _apex(
    folder: Annotated[
        Path, typer.Argument(help="Checkout of ESA-APEx/apex_algorithms, or an empty folder.")
    ],
    repository: Annotated[
        str, typer.Option(help="OWNER/NAME on GitHub, where udf/cloud_mask.json is published.")
    ],
    provider: Annotated[str, typer.Option(help="Folder below algorithm_catalog.")],
    commit: Annotated[
        str | None, typer.Option(help="Commit of that repository; without it this checkout's.")
    ] = None,
    model: Annotated[str, typer.Option(help="Model of the benchmark.")] = DEFAULT_MODEL,
    archive: Annotated[
        str | None, typer.Option(help="Address of the archive that `cloudmask bundle` wrote.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Folder with the downloaded results of the benchmark's job.")
    ] = None,
    reference_url: Annotated[
        str | None, typer.Option(help="Address below which these files are published.")
    ] = None,
    admin: Annotated[
        str | None, typer.Option(help="For a new provider: who may see benchmarks, or @domain.")
    ] = None,
    logo: Annotated[str | None, typer.Option(help="For a new provider: address of a logo.")] = None,
) -> None:
    """Write record, process and benchmark for the APEx algorithm catalogue."""
    from openeo_cloudmask.openeo.apex import ApexService, Provider, plan_apex
    from openeo_cloudmask.publish import publish_text

    if (results is None) != (reference_url is None):
        raise OptionError("--results and --reference-url go together; one of them was given")
    new = None
    if not (folder / "algorithm_catalog" / provider / "record.json").is_file():
        if admin is None or logo is None:
            raise OptionError(
                f"the provider {provider!r} has no record in {folder}; give --admin and --logo"
            )
        new = Provider(id=provider, admin=admin, logo=logo)
    service = ApexService(
        repository=repository,
        commit=commit or _checked_out(),
        model=model,
        archive=archive,
        reference=None if results is None or reference_url is None else (results, reference_url),
    )
    for path, text in plan_apex(service, provider, new).items():
        publish_text(folder / path, text)
        typer.echo(folder / path)
    if results is None:
        typer.echo(
            "The benchmark has no reference data yet: run its graph once, download the results, "
            "and run this again with --results and --reference-url."
        )


def _checked_out() -> str:
    """Return the commit of this checkout, whose process is the one that is written.

    Raises:
        OptionError: the package does not run from a checkout, or the process in it was changed.
    """
    from openeo_cloudmask import assets

    file = assets.path("udf/cloud_mask.json").resolve()
    commands = (("rev-parse", "HEAD"), ("status", "--porcelain", "--", str(file)))
    found = [
        subprocess.run(  # noqa: S603 - arguments of our own
            ["git", "-C", str(file.parent), *command],  # noqa: S607 - the user's git
            capture_output=True,
            text=True,
            check=False,
        )
        for command in commands
    ]
    if any(each.returncode for each in found):
        raise OptionError("this is no checkout of git; name the commit with --commit")
    if found[1].stdout.strip():
        raise OptionError(f"{file} differs from the commit; commit it first, or name --commit")
    return found[0].stdout.strip()
