"""From a model's name to a detector that is ready to run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path

from openeo_cloudmask.errors import MissingExtraError, OptionError
from openeo_cloudmask.inference import Detector
from openeo_cloudmask.models.entry import ModelEntry
from openeo_cloudmask.models.inputs import ModelInput, select_input
from openeo_cloudmask.models.onnx_detector import find_onnx, is_exported
from openeo_cloudmask.models.own import OWN_KINDS, own_weights
from openeo_cloudmask.models.registry import get_model
from openeo_cloudmask.models.weights import find_weights
from openeo_cloudmask.options import PRECISIONS
from openeo_cloudmask.sensors import Sensor

RUNTIMES = ("torch", "onnx")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """All that decides which detector is loaded; equal requests share one."""

    entry: ModelEntry
    model_input: ModelInput
    weights: Path | None
    """The file, found and verified; None where the model has none of its own."""
    weights_state: tuple[int, int] | None
    """Its size and time, so that a changed file is loaded anew."""
    device: str
    precision: str
    runtime: str = "torch"


def load_detector(
    model: str | ModelEntry,
    *,
    sensor: str | Sensor | None = None,
    bands: Sequence[str] | None = None,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "torch",
) -> Detector:
    """The detector of a model, loaded once a process.

    Args:
        model: A model of the registry, or an alias; or an entry, which need not be in it.
        sensor: Sensor id, a file that describes one, or a sensor; None finds it from ``bands``,
            or takes the model's first.
        bands: Labels of the bands the data has; decides between variants of a model.
        weights: A weights file, or a folder with files under their published names; an ONNX file
            that ``cloudmask export`` wrote is run with onnxruntime.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:<number>``.
        precision: ``auto`` (bf16 where the hardware has it), ``fp32`` or ``bf16``.
        runtime: ``torch``, or ``onnx`` for a file that ``cloudmask export`` wrote.

    Raises:
        UnknownModelError: No model of that name.
        SensorError: The model was not made for that sensor.
        BandError: The data lacks bands the model needs.
        WeightsError: The weights are missing, damaged or of another model.
        MissingExtraError: An optional dependency is missing.
        OptionError: A device, precision or runtime that is not there.
    """
    entry = get_model(model) if isinstance(model, str) else model
    if runtime not in RUNTIMES:
        raise OptionError(f"runtime is {runtime!r}; expected one of {', '.join(RUNTIMES)}")
    if precision not in PRECISIONS:
        raise OptionError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    model_input = select_input(entry, sensor=sensor, bands=bands)
    path = None
    if is_exported(weights, runtime):
        runtime = "onnx"
    if runtime == "onnx" and (entry.weights is not None or entry.kind in OWN_KINDS):
        path = find_onnx(entry, weights).absolute()
    elif entry.weights is not None:
        path = find_weights(entry, weights).absolute()
    elif entry.kind in OWN_KINDS:
        path = own_weights(entry, weights)
    elif weights is not None:
        raise OptionError(
            f"model {entry.id!r} has no weights of its own to replace; "
            "leave the option 'weights' out"
        )
    state = None if path is None else (path.stat().st_size, path.stat().st_mtime_ns)
    _log_licence_once(entry)
    return _load(
        LoadRequest(
            entry=entry,
            model_input=model_input,
            weights=path,
            weights_state=state,
            device=device,
            precision=precision,
            runtime=runtime,
        )
    )


def licence_notice(entry: ModelEntry) -> str:
    """One line on the terms of a model, to be shown once where it is used."""
    terms = "not for commercial use" if entry.licence.non_commercial else "see the licence"
    return f"{entry.id}: {entry.licence.spdx} ({terms}), {entry.licence.url}"


@cache
def _log_licence_once(entry: ModelEntry) -> None:
    _log.info("%s", licence_notice(entry))


# Where a kind of model is loaded: (module, function); the function takes a LoadRequest.
LOADERS: dict[str, tuple[str, str]] = {
    "unet-mobilenet-v2": ("openeo_cloudmask.models.load", "_load_network"),
    "sensei-segformer": ("openeo_cloudmask.models.sensei_detector", "load_sensei"),
    "sensei-deeplab": ("openeo_cloudmask.models.sensei_detector", "load_sensei"),
    "segformer": ("openeo_cloudmask.models.sensei_detector", "load_sensei"),
    "onnx": ("openeo_cloudmask.models.onnx_detector", "load_onnx"),
    "torchscript": ("openeo_cloudmask.models.load", "_load_script"),
    "mini": ("openeo_cloudmask.models.own", "load_mini"),
    "kristollari-cnn": ("openeo_cloudmask.models.own", "load_patch_cnn"),
    "rule": ("openeo_cloudmask.models.load", "_load_rule"),
    "adapter": ("openeo_cloudmask.models.load", "_load_adapter"),
}


@lru_cache(maxsize=8)
def _load(request: LoadRequest) -> Detector:
    kind = "onnx" if request.runtime == "onnx" else request.entry.kind
    module, function = LOADERS[kind]
    try:
        detector: Detector = getattr(import_module(module), function)(request)
    except ModuleNotFoundError as err:
        if err.name != "torch":
            raise
        raise MissingExtraError.for_extra("torch", f"The model {request.entry.id!r}") from err
    return detector


def _load_network(request: LoadRequest) -> Detector:
    from openeo_cloudmask.models.torch_detector import load_network_detector

    return load_network_detector(
        request.entry,
        request.model_input.band_names,
        _weights_of(request),
        request.device,
        request.precision,
    )


def _load_script(request: LoadRequest) -> Detector:
    from openeo_cloudmask.models.torch_detector import load_script_detector

    return load_script_detector(
        request.entry,
        request.model_input.band_names,
        _weights_of(request),
        request.device,
        request.precision,
    )


def _load_rule(request: LoadRequest) -> Detector:
    from openeo_cloudmask.models.rules import HollsteinDetector

    return HollsteinDetector(band_names=request.model_input.band_names, window=request.entry.window)


def _load_adapter(request: LoadRequest) -> Detector:
    if request.entry.id == "s2cloudless":
        from openeo_cloudmask.models.adapters.s2cloudless import load_s2cloudless

        return load_s2cloudless(request.entry, request.model_input.band_names)
    from openeo_cloudmask.models.adapters.ukis import load_ukis

    return load_ukis(
        request.entry, request.model_input.sensor, request.model_input.band_names, request.device
    )


def _weights_of(request: LoadRequest) -> Path:
    if request.weights is None:
        raise OptionError(f"model {request.entry.id!r} has no weights source in its entry")
    return request.weights
