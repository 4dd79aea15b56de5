"""``cloudmask udf``: the UDF and the user-defined process, as texts."""

from __future__ import annotations

from typing import Annotated

import typer

from openeo_cloudmask.errors import OptionError


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("udf")(_udf)


def _udf(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the user-defined process instead.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="With --json: a process of this model alone.")
    ] = None,
    options: Annotated[
        bool, typer.Option("--options", help="Print the table of its options instead.")
    ] = False,
) -> None:
    """Print the UDF's source, or the user-defined process that holds it."""
    import json

    from openeo_cloudmask.openeo.client import udf_text
    from openeo_cloudmask.openeo.udp import build_udp
    from openeo_cloudmask.options import options_table

    if model is not None and not as_json:
        raise OptionError("--model goes with --json; the UDF takes the model from its context")
    if options:
        typer.echo(options_table())
    elif as_json:
        typer.echo(json.dumps(build_udp(model=model), indent=2))
    else:
        typer.echo(udf_text(), nl=False)
