"""The command ``cloudmask``. Each module of this package registers its commands on one app."""

from __future__ import annotations

import importlib
import sys

import typer

from openeo_cloudmask.errors import CloudMaskError
from openeo_cloudmask.version import __version__

COMMAND_MODULES = (
    "run",
    "models",
    "export",
    "demo",
    "udf",
    "bundle",
    "apex",
    "catalog",
    "references",
    "compare",
    "evaluate",
    "leaderboard",
    "audit",
    "calibrate",
    "serve",
    "simulate",
    "train",
    "viewer",
)
"""Modules of this package; each has ``register(app)``."""


def build_app() -> typer.Typer:
    """Return the app with all commands."""
    app = typer.Typer(
        name="cloudmask",
        help="Cloud and cloud-shadow masks for Sentinel-2, Landsat and other optical images.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback(invoke_without_command=True)(_root)
    for name in COMMAND_MODULES:
        importlib.import_module(f"openeo_cloudmask.cli.{name}").register(app)
    return app


def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    """Cloud and cloud-shadow masks for Sentinel-2, Landsat and other optical images."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; errors raised on purpose become one sentence and exit status 2."""
    try:
        build_app()()
    except CloudMaskError as err:
        typer.secho(f"Error: {err}", fg="red", err=True)
        sys.exit(2)
