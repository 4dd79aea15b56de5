"""``cloudmask bundle``: the archive that brings this package to a back end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("bundle")(_bundle)


def _bundle(
    out: Annotated[Path, typer.Argument(help="The zip file to write.", metavar="OUT.zip")],
    model: Annotated[str | None, typer.Option(help="Put this model's weights in.")] = None,
    runtime: Annotated[
        str | None,
        typer.Option(help="onnx, torch, ukis, s2cloudless, omnicloudmask or none; or the model's."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Weights file or folder in place of the published one.")
    ] = None,
    python_version: Annotated[
        str | None, typer.Option(help="Python of the back end (Linux, x86-64), e.g. 3.11.")
    ] = None,
    pip_arg: Annotated[
        list[str] | None, typer.Option(help="Further argument of pip install; may be repeated.")
    ] = None,
) -> None:
    """Write the archive that a back end unpacks for the UDF."""
    import json

    from openeo_cloudmask.openeo.bundle import write_bundle
    from openeo_cloudmask.openeo.jobs import job_options
    from openeo_cloudmask.options import DEFAULT_MODEL

    bundle = write_bundle(
        out,
        model=model,
        runtime=runtime,
        weights=weights,
        python_version=python_version,
        pip_args=pip_arg or (),
    )
    typer.echo(
        f"{bundle.path}: {bundle.size_bytes / 1e6:.1f} MB, {bundle.unpacked_bytes / 1e6:.1f} MB "
        f"unpacked, sha256 {bundle.sha256}"
    )
    address = f"https://example.org/{bundle.path.name}"
    options = job_options(address, model=model or DEFAULT_MODEL, runtime=bundle.runtime)
    if bundle.weights is not None:
        typer.echo(f"Pass the weights as the option weights={bundle.weights!r}")
    typer.echo(f"Upload it and pass its address: job_options={json.dumps(options)}")
