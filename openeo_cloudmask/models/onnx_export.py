"""Writing a network of the registry as one ONNX file that carries its card."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.errors import MissingExtraError, OptionError, OutputError, WeightsError
from openeo_cloudmask.models.entry import LoadRequest
from openeo_cloudmask.models.inputs import select_input
from openeo_cloudmask.models.networks.descriptors import band_descriptor
from openeo_cloudmask.models.onnx_card import CARD_KEY, SCALING, OnnxCard
from openeo_cloudmask.models.onnx_detector import ONNX_SUFFIX
from openeo_cloudmask.models.registry import KINDS, get_model
from openeo_cloudmask.models.statistics import band_percentiles
from openeo_cloudmask.models.weights import find_weights
from openeo_cloudmask.publish import publish_file
from openeo_cloudmask.sensors import ANY_SENSOR, Sensor

if TYPE_CHECKING:
    from torch import Tensor

    from openeo_cloudmask.inference import Window
    from openeo_cloudmask.models.entry import ModelEntry, ModelInput
    from openeo_cloudmask.models.networks.exported import ExportedForm

_OPSET = 18
#: Probabilities may differ by this between the runtimes; a check of the file, not its accuracy.
_TOLERANCE = 1e-3
_CHECK_SEED = 20


def export_onnx(
    model: str | ModelEntry,
    path: str | Path,
    *,
    sensor: str | Sensor | None = None,
    bands: Sequence[str] | None = None,
    weights: str | Path | None = None,
    window_px: int | None = None,
    for_int8: bool = False,
) -> OnnxCard:
    """Write a model's network for one sensor as an ONNX file in fp32, and check it.

    The file takes ``windows`` (n, band, y, x) float32 and, where the network makes use of them,
    ``percentiles`` (n, band, percentile) float32 of the bands, or in ``present`` (n, band) float32
    which bands there are; it gives ``probabilities`` (n, class, y, x) float32. The number of
    windows is free, their size is not.

    Args:
        model: A model of the registry.
        path: The file to write, ``.onnx``; its folder has to be there.
        sensor: The sensor whose bands it is to take; None takes the model's first; ``any`` writes
            one file for all sensors, of a model that takes its bands by common name.
        bands: Those of its bands that the data will have; None takes all.
        weights: A weights file, or a folder with files under their published names.
        window_px: Side of the window; None takes the model's own.
        for_int8: Write the form that int8 is made of, where it is another.

    Returns:
        The card in the file.

    Raises:
        OptionError: The model is no network of this package, or the window does not fit it.
        WeightsError: Its weights are missing, or the file gives other answers than the network.
        MissingExtraError: torch, onnx, onnxscript or onnxruntime is not installed.
        OutputError: The file cannot be written, or its name is not that of an ONNX file.
    """
    path = Path(path)
    check_onnx_output(path)
    entry = get_model(model) if isinstance(model, str) else model
    if entry.kind.export is None:
        kinds = [kind.id for kind in KINDS.values() if kind.export is not None]
        raise OptionError(
            f"model {entry.id!r} is of the kind {entry.kind.id!r}, which is not exported; kinds "
            f"that are: {', '.join(kinds)}"
        )
    window = replace(entry.window, size_px=entry.window.size_px if window_px is None else window_px)
    with _extra_needed():
        import onnx  # noqa: F401 - fail before the work
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
        import torch
    if sensor == ANY_SENSOR:
        sensor = _any_sensor(entry)
    model_input = select_input(entry, sensor=sensor, bands=bands)
    card = _make_card(entry, model_input, window)
    request = LoadRequest(
        entry=entry,
        model_input=model_input,
        weights=find_weights(entry, weights).absolute(),
        precision="int8" if for_int8 else "fp32",
    )
    with torch.no_grad():
        form = entry.kind.export(request)
    card = replace(card, percentiles=form.percentiles)
    _write(form, card, path)
    return card


def check_onnx_output(path: Path) -> None:
    """See before the work that ``path`` can be written and will be known for what it is."""
    if path.suffix.lower() != ONNX_SUFFIX:
        raise OutputError(f"the output is {path.name!r}; expected a name that ends in .onnx")
    if not path.parent.is_dir():
        raise OutputError(f"the output folder {path.parent} is not there; create it first")
    if path.is_dir():
        raise OutputError(f"the output {path} is a folder; expected the name of a file")


def _any_sensor(entry: ModelEntry) -> Sensor:
    if entry.kind.any_bands is None:
        raise OptionError(
            f"model {entry.id!r} is exported for one sensor at a time; pass the sensor's name"
        )
    return entry.kind.any_bands.any_sensor


def _make_card(entry: ModelEntry, model_input: ModelInput, window: Window) -> OnnxCard:
    sensor = model_input.sensor
    common = entry.kind.any_bands if sensor.id == ANY_SENSOR else None
    return OnnxCard(
        model=entry.id,
        title=entry.title,
        sensor=sensor.id,
        bands=model_input.band_names,
        descriptors=tuple(band_descriptor(sensor.band(name)) for name in model_input.band_names),
        scheme=entry.scheme.name,
        classes=entry.scheme.names,
        window_px=window.size_px,
        multiple_px=window.multiple_px,
        pixelwise=window.pixelwise,
        rim_px=window.rim_px,
        mirrored=window.mirrored,
        optional=() if common is None else common.optional[0],
        scaling=SCALING,
        licence=entry.licence.spdx,
        licence_url=entry.licence.url,
        citation=entry.citation,
        doi=entry.doi,
        source_url=entry.source_url,
    )


def _write(form: ExportedForm, card: OnnxCard, path: Path) -> None:
    try:
        with publish_file(path) as part:
            _write_file(form, card, part)
    except OSError as err:
        raise OutputError(f"cannot write {path}: {err.strerror or err}") from err


def _write_file(form: ExportedForm, card: OnnxCard, path: Path) -> None:
    """Write the file and see that it gives the network's answers."""
    import onnx
    import torch

    generator = torch.Generator().manual_seed(_CHECK_SEED)
    # Two windows: a graph traced with one would take the number for a constant.
    windows = torch.rand((2, len(card.bands), card.window_px, card.window_px), generator=generator)
    valid = torch.ones((2, card.window_px, card.window_px), dtype=torch.bool)
    valid[1, : card.window_px // 4] = False
    inputs = {"windows": windows * valid.unsqueeze(1), "present": torch.ones((2, len(card.bands)))}
    stats = band_percentiles(inputs["windows"].numpy(), valid.numpy(), card.percentiles)
    inputs["percentiles"] = torch.from_numpy(stats)
    inputs = {name: inputs[name] for name in form.input_names}
    with torch.inference_mode():
        wanted = form(*inputs.values())
    if isinstance(form.network, torch.jit.ScriptModule):
        _trace_script(form, inputs, path)
    else:
        _trace(form, inputs).save(path)
    model = onnx.load(path)
    for part in (*model.graph.node, *model.graph.value_info, model.graph):
        part.ClearField("metadata_props")  # where in which source each was traced
    model.producer_name = "openeo-cloudmask"
    model.doc_string = f"{card.title}. Licence of the weights: {card.licence}."
    onnx.helper.set_model_props(model, {CARD_KEY: card.to_json()})
    onnx.save(model, path)
    _check(path, inputs, wanted)


def _trace(form: ExportedForm, inputs: dict[str, Tensor]) -> Any:  # noqa: ANN401 - torch's own
    import torch

    count = torch.export.Dim("n", min=1)
    with warnings.catch_warnings(), _quiet("torch.onnx", "onnxscript", "onnx_ir"):
        # Users can do nothing about the exporter's own warnings.
        warnings.simplefilter("ignore")
        return torch.onnx.export(
            form,
            tuple(inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=["probabilities"],
            dynamic_shapes={"inputs": tuple({0: count} for _ in inputs)},
            opset_version=_OPSET,
            verbose=False,
        )


def _trace_script(form: ExportedForm, inputs: dict[str, Tensor], path: Path) -> None:
    """Write a published TorchScript; only torch's older exporter takes what is a graph already."""
    import torch

    from openeo_cloudmask.models.networks.exported import ScriptForm

    with warnings.catch_warnings(), _quiet("torch.onnx"):
        warnings.simplefilter("ignore")
        script = form.network
        if form.softmax:
            script = torch.jit.script(ScriptForm(script))
        torch.onnx.export(
            script,
            tuple(inputs.values()),
            path,
            dynamo=False,
            input_names=list(inputs),
            output_names=["probabilities"],
            dynamic_axes={name: {0: "n"} for name in (*inputs, "probabilities")},
            opset_version=_OPSET,
        )


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _check(path: Path, inputs: dict[str, Tensor], wanted: Tensor) -> None:
    """Run the file on the windows it was traced with."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    worst = float(abs(given - wanted.numpy()).max())
    if not worst <= _TOLERANCE:
        raise WeightsError(
            f"the exported network gives other answers than the one it was made of: they differ by "
            f"up to {worst:.3g}, expected at most {_TOLERANCE}. Nothing was written"
        )


@contextlib.contextmanager
def _extra_needed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as err:
        extra = "torch" if err.name == "torch" else "onnx"
        raise MissingExtraError.for_extra(extra, "Exporting a model as ONNX") from err
