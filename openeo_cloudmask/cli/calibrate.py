"""``cloudmask calibrate``: how far percentages can be trusted, and a threshold by risk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openeo_cloudmask.errors import OptionError, ReferenceDataError

if TYPE_CHECKING:
    from openeo_cloudmask.evaluation.risk import ScoredScene


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("calibrate")(calibrate)


def calibrate(
    model: Annotated[str, typer.Argument(help="Name, or name=weights.")],
    folder: Annotated[
        Path, typer.Argument(help="Labelled scenes (.npz), or references with images.")
    ],
    max_missed: Annotated[
        str | None, typer.Option(help="Share of cloud that may be missed, such as 5%.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write everything here (.json).")] = None,
) -> None:
    """Measure how reliable the model's probabilities of cloud are; choose a threshold by risk."""
    import numpy as np

    from openeo_cloudmask.evaluation import risk
    from openeo_cloudmask.evaluation.report import to_json
    from openeo_cloudmask.publish import publish_text
    from openeo_cloudmask.version import __version__

    scenes = _score(model, folder)
    probability = np.concatenate([scene.probability for scene in scenes])
    cloud = np.concatenate([scene.cloud for scene in scenes])
    temperature = risk.fit_temperature(probability, cloud)
    content: dict[str, Any] = {"version": __version__, "model": model, "scenes": len(scenes)}
    for key, values in (
        ("as it is", probability),
        ("with temperature", risk.apply_temperature(probability, temperature)),
    ):
        found = risk.measure_reliability(values, cloud)
        content[key] = {"brier": found.brier, "ece": found.ece, "bins": found.bins}
        typer.echo(f"{key}: Brier score {found.brier:.4f}, calibration error {found.ece:.4f}")
    content["temperature"] = temperature
    typer.echo(f"temperature: {temperature:.3f} (fitted on the same pixels)")
    if max_missed is not None:
        share = _parse_share(max_missed)
        threshold = risk.choose_threshold(scenes, share)
        content["max_missed"], content["threshold"] = share, threshold
        typer.echo(f"threshold: {threshold:g}; use it with --threshold cloud={threshold:g}")
        try:
            apart = risk.check_by_leaving_out(scenes, share)
        except ReferenceDataError as err:
            typer.echo(f"not checked on scenes left out: {err}")
        else:
            mean = float(np.mean([missed for _, missed in apart.values()]))
            content["left_out"] = {name: list(pair) for name, pair in apart.items()}
            content["left_out_mean_missed"] = mean
            typer.echo(f"missed on scenes left out of the choice, mean: {mean:.2%}")
    if output is not None:
        typer.echo(f"wrote {publish_text(output, to_json(content))}", err=True)


def _score(name: str, folder: Path) -> list[ScoredScene]:
    import numpy as np

    from openeo_cloudmask.classes import NODATA
    from openeo_cloudmask.evaluation.compare_scenes import parse_model
    from openeo_cloudmask.evaluation.labelled_masks import ModelMasks, labelled_scenes
    from openeo_cloudmask.evaluation.risk import ScoredScene

    source = ModelMasks(model=parse_model(name, device="cpu", precision="fp32"))
    found = []
    for scene in labelled_scenes(folder):
        cloud = source.cloud_probability(scene)
        known = (scene.label != NODATA) & np.isfinite(cloud)
        if known.any():
            found.append(
                ScoredScene(
                    name=scene.name,
                    probability=cloud[known].astype(np.float64),
                    cloud=np.isin(scene.label[known], (1, 2)),
                )
            )
    return found


def _parse_share(text: str) -> float:
    try:
        return float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise OptionError(f"--max-missed is {text!r}; expected a share such as 5%") from None
