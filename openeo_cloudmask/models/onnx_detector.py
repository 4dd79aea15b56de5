"""Detectors over exported ONNX files, for where torch is too heavy."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import ClassScheme
from openeo_cloudmask.errors import (
    BandError,
    InputError,
    MissingExtraError,
    OptionError,
    SensorError,
    WeightsError,
)
from openeo_cloudmask.inference import Window
from openeo_cloudmask.models.devices import means_cpu
from openeo_cloudmask.models.onnx_card import OnnxCard, parse_card
from openeo_cloudmask.models.onnx_metadata import read_metadata
from openeo_cloudmask.models.onnx_session import open_session
from openeo_cloudmask.models.openvino_session import OpenVinoSession
from openeo_cloudmask.models.pool import MAX_WORKERS, call_each, plain_pool, share_threads
from openeo_cloudmask.models.processor import count_threads, read_processor, warn_of_wrong_int8
from openeo_cloudmask.models.statistics import band_percentiles
from openeo_cloudmask.models.weights import (
    OWN_FOLDER,
    WEIGHTS_VARIABLE,
    cache_folder,
    sha256_of,
)
from openeo_cloudmask.sensors import ANY_SENSOR, find_common

if TYPE_CHECKING:
    from openeo_cloudmask.models.entry import LoadRequest, ModelEntry

ONNX_SUFFIX = ".onnx"
INT8_SUFFIX = f".int8{ONNX_SUFFIX}"
EXPORTED_RUNTIMES = ("onnx", "openvino")
"""What runs exported files: onnxruntime, or OpenVINO, which is faster on CPUs."""
LEAST_EQUAL = 0.995
"""``auto`` takes an int8 file only where at least this share of the guard's classes is equal."""

_log = logging.getLogger(__name__)


class _Started(NamedTuple):
    """A file that a runtime has opened."""

    session: Any
    input_names: tuple[str, ...]
    workers: int
    """How many windows it computes at a time."""


_early: dict[tuple[Path, str, str], _Started] = {}
"""What was started before a detector asked for it, by file, device and runtime."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxDetector:
    """An exported network as a ``Detector``."""

    session: Any
    input_names: tuple[str, ...]
    planes: tuple[int | None, ...]
    """Which of ``band_names`` the network takes, in its order; None for one that is missing."""
    band_names: tuple[str, ...]
    scheme: ClassScheme
    window: Window
    card: OnnxCard
    workers: int = 1
    """Windows that are computed side by side."""

    @property
    def precision(self) -> str:
        """Number format of the file."""
        return self.card.precision

    def predict_windows(
        self, windows: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return class probabilities; see ``Detector``. Windows have the size in the card."""
        count, bands, height, width = windows.shape
        side = self.window.size_px
        if bands != len(self.band_names) or (height, width) != (side, side):
            raise InputError(
                f"the windows have {bands} bands of {height} x {width} pixels; expected "
                f"{len(self.band_names)} bands of {side} x {side}"
            )
        out = np.empty((count, len(self.scheme.classes), height, width), np.float32)

        def run(index: int) -> None:  # one by one: the answer cannot depend on the batch
            window = slice(index, index + 1)
            out[index] = self._run(windows[window], valid[window])

        call_each(plain_pool(self.workers), run, count)
        return out

    def _run(self, window: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
        """(1, band, y, x) and (1, y, x) -> (class, y, x)."""
        chosen = window
        if self.planes != tuple(range(len(self.band_names))):
            chosen = np.zeros((1, len(self.planes), *window.shape[2:]), np.float32)
            for plane, place in zip(chosen[0], self.planes, strict=True):
                if place is not None:
                    plane[:] = window[0, place]
        inputs: dict[str, NDArray[Any]] = {
            "windows": np.ascontiguousarray(chosen),
            "valid": np.ascontiguousarray(valid),  # of files that were exported before
            "present": np.array([[place is not None for place in self.planes]], np.float32),
        }
        if self.card.percentiles:
            stats = band_percentiles(inputs["windows"], valid, self.card.percentiles)
            inputs["percentiles"] = stats
        feed = {name: inputs[name] for name in self.input_names}
        answer: NDArray[np.float32] = self.session.run(None, feed)[0][0]
        calibration = self.card.calibration
        return answer if calibration is None else calibration.apply(answer, self.scheme)


def read_card(path: str | Path) -> OnnxCard:
    """Return the card in an exported file.

    Raises:
        WeightsError: The file cannot be read or carries no card.
    """
    path = Path(path)
    try:
        metadata = read_metadata(path)
    except (OSError, ValueError) as err:
        raise WeightsError(f"{path} cannot be read as ONNX: {err}") from err
    return parse_card(metadata, path)


def open_exported(path: str | Path) -> tuple[Any, OnnxCard]:
    """Return a session of onnxruntime, and the card of an exported file.

    Raises:
        WeightsError: The file cannot be read or carries no card.
        MissingExtraError: onnxruntime is not installed.
    """
    path = Path(path)
    card = read_card(path)
    return _open_session(path, "cpu", 1), card


def packaged_onnx(entry: ModelEntry, suffix: str = ONNX_SUFFIX) -> Path:
    """Where the ONNX file of a model lies that comes with the package."""
    return OWN_FOLDER / f"{entry.id}{suffix}"


def needed_extra(entry: ModelEntry) -> str | None:
    """Return the extra without which a model does not run; None where the bare install runs it."""
    return None if packaged_onnx(entry).is_file() else entry.extra


def is_exported(weights: str | Path | None, runtime: str = "auto") -> bool:
    """Whether these options ask for an exported file: by the runtime, or by the file's name."""
    return runtime in EXPORTED_RUNTIMES or str(weights or "").lower().endswith(ONNX_SUFFIX)


def find_onnx(
    entry: ModelEntry, override: str | Path | None = None, precision: str = "fp32"
) -> Path:
    """Return the exported file of a model.

    In this order: the file or folder given, the one in ``OPENEO_CLOUDMASK_WEIGHTS``, the cache, the
    package itself; in a folder the file is called after the model, with ``.int8`` before the suffix
    where it is of that precision. ``auto`` takes the int8 file where the processor is fast with it
    and the file's card says that it changes next to no class; ``load_detector`` asks for that with
    OpenVINO alone.

    Raises:
        WeightsError: No such file is found.
    """
    if precision == "auto" and read_processor().fast_int8:
        path = _find(entry, override, INT8_SUFFIX)
        if path is not None and path.name.endswith(INT8_SUFFIX) and _passes(entry, override, path):
            return path
    suffix = INT8_SUFFIX if precision == "int8" else ONNX_SUFFIX
    path = _find(entry, override, suffix)
    if path is None:
        more = " --precision int8" if precision == "int8" else ""
        name = f"{entry.id}{suffix}"
        raise WeightsError(
            f"no ONNX file of model {entry.id!r} at {_named_place(override) / name}; write one "
            f"with `cloudmask export {entry.id} {name}{more}` and pass it as the option 'weights'"
        )
    return path


def _named_place(override: str | Path | None) -> Path:
    named = override or os.environ.get(WEIGHTS_VARIABLE)
    return Path(named).expanduser() if named else cache_folder() / "onnx"


def _find(entry: ModelEntry, override: str | Path | None, suffix: str) -> Path | None:
    place = _named_place(override)
    path = place / f"{entry.id}{suffix}" if place.is_dir() else place
    if path.suffix.lower() == ONNX_SUFFIX and path.is_file():
        return path
    packaged = packaged_onnx(entry, suffix)
    return packaged if override is None and packaged.is_file() else None


def _passes(entry: ModelEntry, override: str | Path | None, path: Path) -> bool:
    """Whether the guard lets an int8 file stand for the fp32 one it was made from."""
    card = read_card(path)
    exact = _find(entry, override, ONNX_SUFFIX)
    if exact is not None and card.made_from != sha256_of(exact):
        return False  # of older weights
    return card.equal_classes is not None and card.equal_classes >= LEAST_EQUAL


def load_onnx(request: LoadRequest) -> OnnxDetector:
    """Return the detector of an exported file.

    Raises:
        WeightsError: The file cannot be read, carries no card, or is of another model.
        SensorError: It was exported for another sensor.
        BandError: The data lacks bands it was exported for.
        OptionError: Another precision than the file's was asked for.
        MissingExtraError: The runtime is not installed.
    """
    if request.weights is None:
        raise OptionError(f"model {request.entry.id!r} is no network; leave the option runtime out")
    if request.runtime == "openvino" and not means_cpu(request.device):
        raise OptionError(
            f"the device was {request.device!r}, but the runtime 'openvino' computes on the "
            "CPU; use device 'cpu', or the runtime 'onnx' or 'torch'"
        )
    path = request.weights
    card = read_card(path)
    if request.precision not in ("auto", card.precision):
        raise OptionError(
            f"precision is {request.precision!r}, but {path} computes in {card.precision}; bf16 "
            "needs the runtime torch, int8 a file that `cloudmask export --precision int8` wrote"
        )
    if card.model != request.entry.id:
        raise WeightsError(
            f"{path} holds model {card.model!r}, but {request.entry.id!r} was asked for"
        )
    sensor, names = request.model_input.sensor, request.model_input.band_names
    places = {name: index for index, name in enumerate(names)}
    if card.sensor == ANY_SENSOR:
        places = find_common(sensor, names)
    elif card.sensor != sensor.id:
        raise SensorError(
            f"{path} was exported for the sensor {card.sensor!r}, the data is of {sensor.id!r}; "
            f"export it anew with --sensor {sensor.id}"
        )
    if missing := [name for name in card.bands if name not in {*places, *card.optional}]:
        raise BandError(
            f"{path} takes {', '.join(card.bands)}; the data lacks {', '.join(missing)}. Load "
            "them, or export the model anew for the bands there are"
        )
    if card.precision == "int8":
        warn_of_wrong_int8()
    where = path, request.device, request.runtime
    found = _early.pop(where, None) or _start(*where)
    return OnnxDetector(
        session=found.session,
        input_names=found.input_names,
        workers=found.workers,
        planes=tuple(places.get(name) for name in card.bands),
        band_names=names,
        scheme=card.class_scheme,
        window=replace(card.window, batch=MAX_WORKERS, overlaps=True),
        card=card,
    )


def start_early(path: Path, device: str, runtime: str) -> None:
    """Start what the next detector of this file, device and runtime will run on."""
    if (path, device, runtime) not in _early:
        _early[path, device, runtime] = _start(path, device, runtime)


def _start(path: Path, device: str, runtime: str) -> _Started:
    """Open a file; ``auto`` by OpenVINO on CPUs where it was measured to be the fastest."""
    if takes_openvino(runtime, device):
        try:
            found = _compile(path)
        except WeightsError as err:
            if runtime == "openvino":
                raise
            _log.info("%s", err)
        else:
            return _Started(found, found.input_names, found.workers)
    workers, threads = share_threads(count_threads())
    session = _open_session(path, device, threads)
    on_cpu = session.get_providers()[0] == "CPUExecutionProvider"
    names = tuple(item.name for item in session.get_inputs())
    return _Started(session, names, workers if on_cpu else 1)


def takes_openvino(runtime: str, device: str) -> bool:
    """Whether OpenVINO is asked for, or ``auto`` takes it: the fastest, or all there is."""
    if runtime != "auto" or not means_cpu(device) or find_spec("openvino") is None:
        return runtime == "openvino"
    return read_processor().avx512 or find_spec("onnxruntime") is None


def _compile(path: Path) -> OpenVinoSession:
    try:
        return OpenVinoSession(path)
    except ModuleNotFoundError as err:
        raise MissingExtraError.for_extra("openvino", "The runtime 'openvino'") from err
    except RuntimeError as err:
        raise WeightsError(
            f"OpenVINO cannot compile {path}: {str(err).splitlines()[0]}; use the runtime 'onnx'"
        ) from err


def _open_session(path: Path, device: str, threads: int) -> Any:  # noqa: ANN401 - no types
    try:
        return open_session(path, device, threads=threads)
    except ModuleNotFoundError as err:
        raise MissingExtraError.for_extra("onnx", "Running an ONNX file") from err
    except OptionError:
        raise
    except Exception as err:  # onnxruntime's errors share no base class but this one
        raise WeightsError(f"{path} cannot be read as ONNX: {str(err).splitlines()[0]}") from err
