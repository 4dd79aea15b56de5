"""``cloudmask audit``: what models do that needs no reference to be judged."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openeo_cloudmask.cli import shared_options as shared
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.options import DEFAULT_STRIDE_PX

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from openeo_cloudmask.evaluation.audit import Audit
    from openeo_cloudmask.evaluation.compare_scenes import ComparedModel


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("audit")(audit)


def audit(
    models: Annotated[
        list[str], typer.Argument(help="Names, or name=weights; `all` takes what runs here.")
    ],
    scene: Annotated[
        list[Path] | None,
        typer.Option(help="A product or raster, its middle; may be repeated. None: simulated."),
    ] = None,
    simulated: Annotated[int, typer.Option(help="Number of simulated scenes.")] = 2,
    size: Annotated[int, typer.Option(help="Side of a scene, pixels.")] = 384,
    output: Annotated[
        Path | None, typer.Option(help="Write the table here (.md, and .json beside it).")
    ] = None,
    stride: shared.Stride = DEFAULT_STRIDE_PX,
) -> None:
    """Count the pixels that flip under changes which leave clouds where they are."""
    from openeo_cloudmask.errors import CloudMaskError
    from openeo_cloudmask.evaluation.audit_report import audit_content, audit_table, render_audit
    from openeo_cloudmask.evaluation.compare_report import first_sentence
    from openeo_cloudmask.evaluation.compare_scenes import all_models, parse_model
    from openeo_cloudmask.evaluation.report import to_json
    from openeo_cloudmask.publish import publish_text

    if simulated < 1 and not scene:
        raise OptionError(f"--simulated is {simulated}; expected 1 or more")
    settings: dict[str, Any] = {"stride": stride, "device": "cpu", "precision": "fp32"}
    everything = models == ["all"]
    chosen = (
        all_models(reading=False, **settings)
        if everything
        else tuple(parse_model(name, **settings) for name in models)
    )
    audits: dict[str, Audit] = {}
    left_out: dict[str, str] = {}
    for model in chosen:
        try:
            audits[model.label] = _audit(model, scene or [], simulated, size)
        except CloudMaskError as err:
            if not everything:
                raise
            left_out[model.label] = first_sentence(str(err))
            continue
        typer.echo(f"audited {model.label}", err=True)
    where = (
        f"{len(scene)} scene(s) given"
        if scene
        else f"{simulated} simulated scene(s) of {size} x {size} pixels per model"
    )
    content = audit_content(
        audits, left_out, command=_command(models, simulated, size), scenes=where
    )
    if output is not None:
        for path, text in (
            (output, render_audit(content)),
            (output.with_suffix(".json"), to_json(content)),
        ):
            typer.echo(f"wrote {publish_text(path, text)}", err=True)
    typer.echo("\n".join(audit_table(content)))


def _audit(model: ComparedModel, scenes: list[Path], simulated: int, size: int) -> Audit:
    from openeo_cloudmask.evaluation.audit import audit_detector
    from openeo_cloudmask.models import get_model

    entry = get_model(model.id)
    if entry.layers:
        raise OptionError(f"{entry.id} reads a mask that is there and computes none")
    if scenes:
        cubes = [_read(model, path, size) for path in scenes]
        return audit_detector(model.load(*cubes[0][:2]), [cube for *_, cube in cubes])
    from openeo_cloudmask.simulator.scene import simulate_scene

    sensor = next(iter(entry.inputs))
    made = [simulate_scene(seed, sensor=sensor, size=size) for seed in range(1, simulated + 1)]
    detector = model.load(sensor, made[0].band_names)
    planes = [made[0].band_names.index(name) for name in detector.band_names]
    return audit_detector(detector, [item.cube[planes] for item in made], stride=model.stride)


def _read(
    model: ComparedModel, path: Path, size: int
) -> tuple[str, tuple[str, ...], NDArray[np.float32]]:
    """Return sensor, bands and the middle of a scene, in the bands that the model takes."""
    from openeo_cloudmask.models import get_model, select_input
    from openeo_cloudmask.products import open_product

    with open_product(path) as scene:
        chosen = select_input(get_model(model.id), sensor=scene.sensor, bands=scene.band_labels)
        height, width = scene.grid.shape_yx
        top, left = max(0, (height - size) // 2), max(0, (width - size) // 2)
        cube = scene.cube(chosen.band_names, sensor=chosen.sensor)
        pixels = cube[:, top : top + size, left : left + size]
    return chosen.sensor.id, chosen.band_names, pixels


def _command(models: list[str], simulated: int, size: int) -> str:
    return shlex.join(
        ["cloudmask", "audit", *models, "--simulated", str(simulated), "--size", str(size)]
    )
