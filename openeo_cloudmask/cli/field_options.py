"""The options of a mask as options of a command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import Parameter, signature
from typing import Annotated, Any, get_type_hints

import typer

from openeo_cloudmask.options import MaskOptions, option_fields

_FLAGS = {"categorise": "--categorise/--probabilities"}


def with_mask_options(
    function: Callable[..., None], *, leave_out: Sequence[str] = ()
) -> Callable[..., None]:
    """Return ``function`` with an option of the command for each option of a mask.

    Args:
        function: a command that takes them as ``**options``.
        leave_out: options that the command has itself, or does not have.
    """
    hints = get_type_hints(MaskOptions)
    plain = signature(function, eval_str=True)
    parameters = [
        item for item in plain.parameters.values() if item.kind is not Parameter.VAR_KEYWORD
    ]
    for item in option_fields():
        if item.name in leave_out or item.name in plain.parameters:  # made before
            continue
        flags = [_FLAGS[item.name]] if item.name in _FLAGS else []
        kind: Any = Annotated[hints[item.name], typer.Option(*flags, help=item.metadata["help"])]
        parameters.append(
            Parameter(item.name, Parameter.KEYWORD_ONLY, default=item.default, annotation=kind)
        )
        function.__annotations__[item.name] = kind
    function.__signature__ = plain.replace(parameters=parameters)  # type: ignore[attr-defined]
    return function
