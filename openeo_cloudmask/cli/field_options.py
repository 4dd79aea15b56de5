"""Fields of a data class as options of a command, so that name, default and help stand once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from inspect import Parameter, signature
from typing import Annotated, Any, get_type_hints

import typer

from openeo_cloudmask.options import MaskOptions

_FLAGS = {"categorise": "--categorise/--probabilities"}


def with_mask_options(
    function: Callable[..., None], *, leave_out: Sequence[str] = ()
) -> Callable[..., None]:
    """Return ``function`` with an option of the command for each option of a mask.

    Args:
        function: a command that takes them as ``**options``.
        leave_out: options that the command has itself, or does not have.
    """
    return with_fields(function, MaskOptions, leave_out=leave_out)


def with_fields(
    function: Callable[..., None], kind: type[Any], *, leave_out: Sequence[str] = ()
) -> Callable[..., None]:
    """Return ``function`` with an option of the command for each field of ``kind`` that has a help.

    Args:
        function: a command that takes them as ``**options``.
        kind: a data class; the metadata of its fields hold ``help``.
        leave_out: fields that the command has itself, or does not have.
    """
    hints = get_type_hints(kind)
    plain = signature(function, eval_str=True)
    parameters = [
        item for item in plain.parameters.values() if item.kind is not Parameter.VAR_KEYWORD
    ]
    for item in fields(kind):
        if item.name in leave_out or item.name in plain.parameters or "help" not in item.metadata:
            continue
        option = _option(item, hints[item.name])
        parameters.append(option)
        function.__annotations__[item.name] = option.annotation
    function.__signature__ = plain.replace(parameters=parameters)  # type: ignore[attr-defined]
    return function


def _option(item: Field[Any], hint: object) -> Parameter:
    flags = [_FLAGS[item.name]] if item.name in _FLAGS else []
    kind: Any = Annotated[hint, typer.Option(*flags, help=item.metadata["help"])]  # type: ignore[valid-type]
    return Parameter(item.name, Parameter.KEYWORD_ONLY, default=item.default, annotation=kind)
