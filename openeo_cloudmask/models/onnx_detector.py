"""Detectors over exported ONNX files, for where torch is too heavy."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from openeo_cloudmask.models.onnx_card import OnnxCard, parse_card
from openeo_cloudmask.models.onnx_session import open_session
from openeo_cloudmask.models.weights import OWN_FOLDER, WEIGHTS_VARIABLE, cache_folder
from openeo_cloudmask.sensors import ANY_SENSOR, find_common

if TYPE_CHECKING:
    from openeo_cloudmask.models.entry import LoadRequest, ModelEntry

ONNX_SUFFIX = ".onnx"


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
        present = np.array([[place is not None for place in self.planes]], np.float32)
        chosen = np.zeros((1, len(self.planes), height, width), np.float32)
        for index in range(count):  # one by one: the answer cannot depend on the batch
            for plane, place in zip(chosen[0], self.planes, strict=True):
                if place is not None:
                    plane[:] = windows[index, place]
            inputs = {
                "windows": chosen,
                "valid": np.ascontiguousarray(valid[index : index + 1]),
                "present": present,
            }
            feed = {name: inputs[name] for name in self.input_names}
            out[index] = self.session.run(None, feed)[0][0]
        return out


def read_card(path: str | Path) -> OnnxCard:
    """Return the card in an exported file.

    Raises:
        WeightsError: The file cannot be read or carries no card.
        MissingExtraError: onnxruntime is not installed.
    """
    return open_exported(path)[1]


def open_exported(path: str | Path, device: str = "cpu") -> tuple[Any, OnnxCard]:
    """Return the session and the card of an exported file; errors are those of ``read_card``."""
    path = Path(path)
    session = _open_session(path, device)
    return session, parse_card(session.get_modelmeta().custom_metadata_map, path)


def packaged_onnx(entry: ModelEntry) -> Path:
    """Where the ONNX file of a model lies that comes with the package."""
    return OWN_FOLDER / f"{entry.id}{ONNX_SUFFIX}"


def is_exported(weights: str | Path | None, runtime: str = "auto") -> bool:
    """Whether these options ask for an exported file: by the runtime, or by the file's name."""
    return runtime == "onnx" or str(weights or "").lower().endswith(ONNX_SUFFIX)


def find_onnx(entry: ModelEntry, override: str | Path | None = None) -> Path:
    """Return the exported file of a model.

    In this order: the file or folder given, the one in ``OPENEO_CLOUDMASK_WEIGHTS``, the cache, the
    package itself; in a folder the file is called after the model.

    Raises:
        WeightsError: There is none.
    """
    named = override or os.environ.get(WEIGHTS_VARIABLE)
    place = Path(named).expanduser() if named else cache_folder() / "onnx"
    path = place / f"{entry.id}{ONNX_SUFFIX}" if place.is_dir() else place
    if path.suffix.lower() == ONNX_SUFFIX and path.is_file():
        return path
    if override is None and packaged_onnx(entry).is_file():
        return packaged_onnx(entry)
    raise WeightsError(
        f"no ONNX file of model {entry.id!r} at {path}; write one with "
        f"`cloudmask export {entry.id} {entry.id}{ONNX_SUFFIX}` and pass it as the option 'weights'"
    )


def load_onnx(request: LoadRequest) -> OnnxDetector:
    """Return the detector of an exported file.

    Raises:
        WeightsError: The file cannot be read, carries no card, or is of another model.
        SensorError: It was exported for another sensor.
        BandError: The data lacks bands it was exported for.
        OptionError: Another precision than fp32 was asked for.
        MissingExtraError: onnxruntime is not installed.
    """
    if request.weights is None:
        raise OptionError(f"model {request.entry.id!r} is no network; leave the option runtime out")
    if request.precision == "bf16":
        raise OptionError("the runtime 'onnx' computes in fp32; precision 'bf16' needs torch")
    path = request.weights
    session, card = open_exported(path, request.device)
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
    return OnnxDetector(
        session=session,
        input_names=tuple(item.name for item in session.get_inputs()),
        planes=tuple(places.get(name) for name in card.bands),
        band_names=names,
        scheme=card.class_scheme,
        window=card.window,
        card=card,
    )


def _open_session(path: Path, device: str) -> Any:  # noqa: ANN401 - the package has no types
    try:
        return open_session(path, device)
    except ModuleNotFoundError as err:
        raise MissingExtraError.for_extra("onnx", "Running an ONNX file") from err
    except OptionError:
        raise
    except Exception as err:  # onnxruntime's errors share no base class but this one
        raise WeightsError(f"{path} cannot be read as ONNX: {str(err).splitlines()[0]}") from err
