"""``cloudmask calibrate``: how far percentages can be trusted, and a threshold by risk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openeo_cloudmask.errors import OptionError, ReferenceDataError

if TYPE_CHECKING:
    from openeo_cloudmask.evaluation.risk import ScoredScene
    from openeo_cloudmask.models.calibration import Calibration


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
    method: Annotated[
        str,
        typer.Option(help="How percentages are brought to what is found: temperature, isotonic."),
    ] = "temperature",
    store: Annotated[
        Path | None,
        typer.Option(
            help="Write the exported file anew, with the calibration in its card (.onnx)."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write everything here (.json).")] = None,
) -> None:
    """Measure how reliable the model's probabilities of cloud are; calibrate; threshold by risk."""
    import numpy as np

    from openeo_cloudmask.evaluation import risk
    from openeo_cloudmask.evaluation.report import to_json
    from openeo_cloudmask.models.calibration import METHODS
    from openeo_cloudmask.publish import publish_text
    from openeo_cloudmask.version import __version__

    if method not in METHODS:
        raise OptionError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
    exported = _exported(model, store) if store is not None else None
    scenes = _score(model, folder)
    content: dict[str, Any] = {"version": __version__, "model": model, "scenes": len(scenes)}
    probability = np.concatenate([scene.probability for scene in scenes])
    cloud = np.concatenate([scene.cloud for scene in scenes])
    title = folder.resolve().name
    fitted = risk.fit_calibration([risk.tally(s) for s in scenes], method, data=title)
    found = {"as it is": risk.measure_reliability(probability, cloud)}
    if len(scenes) > 1:
        found[f"{method}, each scene by the others"] = risk.calibrate_left_out(scenes, method)
    found[f"{method}, same pixels"] = risk.measure_reliability(fitted.map(probability), cloud)
    for key, item in found.items():
        content[key] = {"brier": item.brier, "ece": item.ece, "bins": item.bins}
        typer.echo(f"{key}: Brier score {item.brier:.4f}, calibration error {item.ece:.4f}")
    content["calibration"] = {"method": method, "said": fitted.said, "found": fitted.found}
    if method == "temperature":
        typer.echo(f"temperature: {fitted.found[0]:.3f}")
    if max_missed is not None:
        _choose(scenes, _parse_share(max_missed), content)
    if exported is not None and store is not None:
        typer.echo(f"wrote {write_calibrated(exported, store, fitted)}", err=True)
        if max_missed is not None:
            typer.echo(f"the threshold is for {model}, not for {store}, whose percentages differ")
    if output is not None:
        typer.echo(f"wrote {publish_text(output, to_json(content))}", err=True)


def _choose(scenes: list[ScoredScene], share: float, content: dict[str, Any]) -> None:
    """Choose the threshold, and say what it misses on scenes left out of the choice."""
    import numpy as np

    from openeo_cloudmask.evaluation import risk

    threshold = risk.choose_threshold(scenes, share)
    content["max_missed"], content["threshold"] = share, threshold
    typer.echo(f"threshold: {threshold:g}; use it with --threshold cloud={threshold:g}")
    try:
        apart = risk.check_by_leaving_out(scenes, share)
    except ReferenceDataError as err:
        typer.echo(f"not checked on scenes left out: {err}")
        return
    mean = float(np.mean([missed for _, missed in apart.values()]))
    content["left_out"] = {name: list(pair) for name, pair in apart.items()}
    content["left_out_mean_missed"] = mean
    typer.echo(f"missed on scenes left out of the choice, mean: {mean:.2%}")


def _exported(model: str, store: Path) -> Path:
    """Return the exported file that is to be calibrated.

    Raises:
        OptionError: the model is not given with one, or the same file is to be written.
    """
    from openeo_cloudmask.models.onnx_detector import is_exported, read_card

    path = Path(model.partition("=")[2])
    if not is_exported(path.name):
        raise OptionError(
            f"--store needs an exported file, but the model is {model!r}; write one with "
            "`cloudmask export` and give it as NAME=FILE.onnx"
        )
    if store.resolve() == path.resolve() or not is_exported(store.name):
        raise OptionError(f"--store is {store}; expected another file, with the ending .onnx")
    if read_card(path).calibration is not None:
        raise OptionError(f"{path} is calibrated already; give the file it was made from")
    return path


def write_calibrated(source: Path, target: Path, calibration: Calibration) -> Path:
    """Write an exported file anew with a calibration in its card, and return ``target``.

    Raises:
        MissingExtraError: onnx is not installed.
        OutputError: the file cannot be written.
    """
    from dataclasses import replace

    from openeo_cloudmask.errors import MissingExtraError
    from openeo_cloudmask.models.onnx_card import CARD_KEY
    from openeo_cloudmask.models.onnx_detector import read_card
    from openeo_cloudmask.publish import publish_file

    try:
        import onnx
    except ModuleNotFoundError as err:
        raise MissingExtraError.for_extra("onnx", "Writing a card") from err
    model = onnx.load(str(source))
    card = replace(read_card(source), calibration=calibration)
    onnx.helper.set_model_props(model, {CARD_KEY: card.to_json()})
    with publish_file(target) as part:
        onnx.save(model, str(part))
    return target


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
