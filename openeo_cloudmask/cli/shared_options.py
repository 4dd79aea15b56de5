"""Options that several commands have, each once."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from openeo_cloudmask.options import option_fields

_HELP = {item.name: item.metadata["help"] for item in option_fields()}


def _of_mask(name: str) -> Any:  # noqa: ANN401 - typer's own type
    """Return an option of a mask, described as everywhere."""
    return typer.Option(help=_HELP[name])


Stride = Annotated[int, _of_mask("stride")]
Device = Annotated[str, _of_mask("device")]
Precision = Annotated[str, _of_mask("precision")]
Models = Annotated[
    str, typer.Option(help="Comma-separated: name, or name=weights; `all` takes what runs here.")
]
Split = Annotated[
    str | None,
    typer.Option(help="Part of the references: test (where there is one), train, all."),
]
SceneSize = Annotated[int, typer.Option(help="Side of a simulated scene, pixels.")]
Dilate = Annotated[str | None, typer.Option(help="Also with the mask's cloud grown: 2px or 120m.")]
Rim = Annotated[str | None, typer.Option(help="Also without pixels this near to a class edge.")]
KeepGoing = Annotated[bool, typer.Option("--keep-going", help="Leave out and list what fails.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Overwrite = Annotated[bool, typer.Option(help="Replace an existing output.")]
Host = Annotated[str, typer.Option(help="Address to listen at.")]
