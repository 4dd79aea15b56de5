"""The command ``cloudmask``. Each module of this package registers its commands on one app."""

from __future__ import annotations

import errno
import importlib
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import typer
from typer.core import TyperGroup

from openeo_cloudmask.cli.stdout import told_stdout
from openeo_cloudmask.errors import CloudMaskError, OptionError
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


_FAULTS = {
    errno.EEXIST: "a file lies where a folder is expected",
    errno.ENOTDIR: "a file lies where a folder is expected",
    errno.EISDIR: "a folder lies where a file is expected",
    errno.EACCES: "this user may not read or write there",
    errno.EPERM: "this user may not read or write there",
    errno.EROFS: "its file system can only be read",
    errno.ENOSPC: "its disk is full",
    errno.EDQUOT: "this user's share of its disk is full",
    errno.ENAMETOOLONG: "the name is too long; expected a shorter one",
}
"""Faults of paths that a user names and can mend; others are ours."""


class _Commands(TyperGroup):
    """Refuses what would be taken for an input: a value behind a switch, and an empty word."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:  # noqa: ANN401
        """Return the name of a command, the command, and what stands behind it."""
        name, command, rest = super().resolve_command(ctx, args)
        ways = dict(_switches(command))
        words = [args[0], *(rest[: rest.index("--")] if "--" in rest else rest)]
        for given, value in pairwise(words):
            if not value and not given.startswith("-"):
                raise OptionError(
                    f"an empty word stands behind {given!r}, as a variable gives that is not set; "
                    "expected a name, a path or an address"
                )
            if given in ways and value.lower() in ("true", "false", "yes", "no"):
                raise OptionError(
                    f"{given} takes no value, but {value!r} stands behind it; expected "
                    f"{' or '.join(ways[given])} alone"
                )
        return name, command, rest


def _switches(command: Any) -> Iterator[tuple[str, list[str]]]:  # noqa: ANN401
    """Yield each switch of a command and those below it, with all that it can be written as."""
    for item in command.params:
        if getattr(item, "is_flag", False):
            ways = [*item.opts, *item.secondary_opts]
            yield from ((way, ways) for way in ways)
    for below in getattr(command, "commands", {}).values():
        yield from _switches(below)


def build_app() -> typer.Typer:
    """Return the app with all commands."""
    app = typer.Typer(
        name="cloudmask",
        cls=_Commands,
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
        with told_stdout():
            build_app()()
    except CloudMaskError as err:
        typer.secho(f"Error: {err}", fg="red", err=True)
        sys.exit(2)
    except OSError as err:
        if err.errno not in _FAULTS:
            raise
        name = str(err.filename or "a file")[:200]
        typer.secho(f"Error: {name}: {_FAULTS[err.errno]}", fg="red", err=True)
        sys.exit(2)
    except MemoryError as err:
        text = f"Error: the memory of this machine does not suffice ({err or 'it is full'})"
        typer.secho(text, fg="red", err=True)
        sys.exit(2)
