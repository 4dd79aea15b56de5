"""``cloudmask udf``: the UDF and the user-defined process, as texts."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("udf")(_udf)


def _udf(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the user-defined process instead.")
    ] = False,
) -> None:
    """Print the UDF's source, or the user-defined process that holds it."""
    import json

    from openeo_cloudmask.openeo.client import udf_text
    from openeo_cloudmask.openeo.udp import build_udp

    if as_json:
        typer.echo(json.dumps(build_udp(), indent=2))
    else:
        typer.echo(udf_text(), nl=False)
