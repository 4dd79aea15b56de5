"""From a model's name to a detector that is ready to run."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import RLock, Thread

from openeo_cloudmask.errors import MissingExtraError, OptionError
from openeo_cloudmask.inference import Detector
from openeo_cloudmask.models import onnx_detector
from openeo_cloudmask.models.devices import means_cpu
from openeo_cloudmask.models.entry import LoadRequest, ModelEntry, ModelKind
from openeo_cloudmask.models.inputs import select_input
from openeo_cloudmask.models.kinds import ONNX
from openeo_cloudmask.models.onnx_detector import (
    EXPORTED_RUNTIMES,
    find_onnx,
    is_exported,
    packaged_onnx,
    takes_openvino,
)
from openeo_cloudmask.models.registry import get_model
from openeo_cloudmask.models.weights import find_weights, packaged_weights
from openeo_cloudmask.options import PRECISIONS, MaskOptions
from openeo_cloudmask.sensors import Sensor

RUNTIMES = ("auto", "torch", *EXPORTED_RUNTIMES)
"""What may run a network. ``auto`` runs a model whose ONNX file comes with the package by
onnxruntime where torch is not installed or there is no GPU: it starts in a tenth of torch's time
and is faster on a CPU. All others it runs by torch. Exported files it runs by OpenVINO where that
is installed and was measured to be the fastest: on CPUs with AVX-512."""

_loading = RLock()
_log = logging.getLogger(__name__)


def load_detector(
    model: str | ModelEntry,
    *,
    sensor: str | Sensor | None = None,
    bands: Sequence[str] | None = None,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "auto",
) -> Detector:
    """The detector of a model, loaded once per process.

    Args:
        model: A model of the registry, or an alias; or an entry, which need not be in it.
        sensor: Sensor id, a file that describes one, or a sensor; None finds it from ``bands``,
            or takes the model's first.
        bands: Labels of the bands the data has; decides between variants of a model.
        weights: A weights file, or a folder with files under their published names; or an ONNX
            file that ``cloudmask export`` wrote.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:<number>``.
        precision: ``auto`` (what the processor is fast with, where it changes next to no class),
            ``fp32``, ``bf16`` or ``int8``.
        runtime: ``torch``; ``onnx`` or ``openvino`` for a file that ``cloudmask export`` wrote or
            that comes with the package; or ``auto``, see ``RUNTIMES``.

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
    if runtime == "torch" and (precision == "int8" or is_exported(weights)):
        raise OptionError(
            "runtime is 'torch', which runs neither int8 nor ONNX files; leave the option runtime "
            "out, or use precision 'auto' without such a file"
        )
    model_input = select_input(entry, sensor=sensor, bands=bands)
    runs_onnx = _runs_onnx(entry, weights, device, precision, runtime)
    path = None
    if entry.takes_weights:
        if runs_onnx:
            path = _find_exported(entry, weights, device, precision, runtime)
        else:
            path = find_weights(entry, weights).absolute()
    elif runtime in EXPORTED_RUNTIMES:
        raise OptionError(f"model {entry.id!r} is no network; leave the option runtime out")
    elif weights is not None:
        raise OptionError(
            f"model {entry.id!r} has no weights of its own to replace; "
            "leave the option 'weights' out"
        )
    state = None if path is None else (path.stat().st_size, path.stat().st_mtime_ns)
    _log_licence_once(entry)
    with _loading:  # a cache alone would let threads that ask at once load a file each
        return _load(
            ONNX if runs_onnx else entry.kind,
            LoadRequest(
                entry=entry,
                model_input=model_input,
                weights=path,
                weights_state=state,
                device=device,
                precision=precision,
                runtime=runtime,
            ),
        )


def start_early(options: MaskOptions, runtime: str = "auto") -> None:
    """Begin to start what runs the network, in a thread, before its data are looked at.

    Only of a model whose ONNX file comes with the package: that one file takes all sensors. What
    fails there fails again, and is raised, when ``load_detector`` is asked for the same.

    Raises:
        UnknownModelError: No model of that name.
    """
    entry = get_model(options.model)
    how = options.device, options.precision, runtime
    if options.weights is None and packaged_onnx(entry).is_file() and _runs_onnx(entry, None, *how):
        # Imported here: two threads that import are each half as fast.
        with suppress(ImportError):
            import_module("openvino" if takes_openvino(runtime, options.device) else "onnxruntime")
        Thread(target=_try_to_start, args=(entry, *how), name="start").start()


def _try_to_start(entry: ModelEntry, device: str, precision: str, runtime: str) -> None:
    with suppress(Exception), _loading:
        path = _find_exported(entry, None, device, precision, runtime)
        onnx_detector.start_early(path, device, runtime)


def _runs_onnx(
    entry: ModelEntry, weights: str | Path | None, device: str, precision: str, runtime: str
) -> bool:
    return (
        is_exported(weights, runtime)
        or (precision == "int8" and entry.takes_weights)
        or (runtime == "auto" and weights is None and _needs_no_torch(entry, device, precision))
    )


def _find_exported(
    entry: ModelEntry, weights: str | Path | None, device: str, precision: str, runtime: str
) -> Path:
    # Only OpenVINO wins enough by int8, and whoever installs its extra chose speed: a plain
    # install gives the same classes on all processors.
    exact = precision == "auto" and not takes_openvino(runtime, device)
    return find_onnx(entry, weights, "fp32" if exact else precision).absolute()


def _needs_no_torch(entry: ModelEntry, device: str, precision: str) -> bool:
    """Whether the package holds the model's ONNX file, and it serves as well as the torch form.

    That is on CPUs, and where torch or the file it takes is missing: archives of ``cloudmask
    bundle`` hold the ONNX file alone, and may come to where torch is.
    """
    if not packaged_onnx(entry).is_file():
        return False
    no_torch = find_spec("torch") is None or not packaged_weights(entry).is_file()
    return no_torch or (means_cpu(device) and precision != "bf16")


def licence_notice(entry: ModelEntry) -> str:
    """One line on the terms of a model, to be shown once where it is used."""
    terms = "not for commercial use" if entry.licence.non_commercial else "see the licence"
    return f"{entry.id}: {entry.licence.spdx} ({terms}), {entry.licence.url}"


@cache
def _log_licence_once(entry: ModelEntry) -> None:
    _log.info("%s", licence_notice(entry))


@lru_cache(maxsize=8)
def _load(kind: ModelKind, request: LoadRequest) -> Detector:
    try:
        return kind.load(request)
    except ModuleNotFoundError as err:
        if err.name != "torch":
            raise
        raise MissingExtraError.for_extra("torch", f"The model {request.entry.id!r}") from err


if hasattr(os, "register_at_fork"):
    # Nobody forks while another thread loads: what it holds would be held for good.
    os.register_at_fork(
        before=_loading.acquire, after_in_parent=_loading.release, after_in_child=_loading.release
    )
