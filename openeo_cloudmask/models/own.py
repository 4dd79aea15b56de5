"""Detectors of the networks that this package trains itself."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from openeo_cloudmask.errors import BandError, WeightsError
from openeo_cloudmask.sensors import Band, BandKind, Sensor

if TYPE_CHECKING:
    from openeo_cloudmask.inference import Detector
    from openeo_cloudmask.models.entry import ModelEntry
    from openeo_cloudmask.models.load import LoadRequest

_COMMON_NAMES = {
    "blue": "blue",
    "green": "green",
    "red": "red",
    "nir": "nir",
    "nir08": "nir",
    "cirrus": "cirrus",
    "swir16": "swir16",
    "swir22": "swir22",
}
# Where a band's centre may lie, nanometres, if its sensor gives it no common name.
_CENTRES_NM = {
    "blue": (450, 520),
    "green": (520, 600),
    "red": (620, 690),
    "nir": (770, 900),
    "cirrus": (1360, 1390),
    "swir16": (1550, 1700),
    "swir22": (2050, 2350),
}


OWN_KINDS = ("mini", "kristollari-cnn")
"""Network kinds whose weights come with the package or from the user's own training."""


def own_weights(entry: ModelEntry, override: str | Path | None) -> Path:
    """The weights file of ``entry``: the one named, or the one that the package brings.

    Raises:
        WeightsError: there is none.
    """
    if override is not None:
        path = Path(override).expanduser()
        path = path / f"{entry.id}.safetensors" if path.is_dir() else path
        if not path.is_file():
            raise WeightsError(
                f"the option 'weights' is {override}, and {path} is not there; expected a file "
                f"that `cloudmask train {entry.id}` wrote"
            )
        return path.resolve()
    with as_file(files("openeo_cloudmask.models") / "data" / f"{entry.id}.safetensors") as path:
        if not path.is_file():
            raise WeightsError(
                f"no weights come with model {entry.id!r}; train them with `cloudmask train "
                f"{entry.id}` and pass the file as the option 'weights'"
            )
        return path


def plane_of(band: Band) -> str | None:
    """The plane of ``mini`` that a band fills, by its common name or its wavelength, or None."""
    if band.kind is not BandKind.OPTICAL:
        return None
    if band.common_name is not None:
        return _COMMON_NAMES.get(band.common_name)
    centre = band.centre_nm or 0.0
    ranges = _CENTRES_NM.items()
    return next((name for name, (low, high) in ranges if low <= centre <= high), None)


def choose_planes(sensor: Sensor, band_names: tuple[str, ...]) -> dict[str, int]:
    """Return plane -> place in ``band_names``; the first band of a plane is taken.

    Raises:
        BandError: blue, green, red or near infrared is missing.
    """
    from openeo_cloudmask.models.networks.mini import NEEDED_PLANES

    planes: dict[str, int] = {}
    for place, name in enumerate(band_names):
        plane = plane_of(sensor.band(name))
        if plane is not None:
            planes.setdefault(plane, place)
    if missing := [name for name in NEEDED_PLANES if name not in planes]:
        raise BandError(
            f"mini needs blue, green, red and near infrared; the bands {', '.join(band_names)} of "
            f"{sensor.id} have no {', '.join(missing)}. Load them, or give the bands of a custom "
            "sensor common names"
        )
    return planes


def load_mini(request: LoadRequest) -> Detector:
    """The detector of ``mini`` for the bands at hand; others of the sensor are not looked at.

    Raises:
        BandError: a needed band is missing.
        WeightsError: the weights are missing, damaged or of another network.
    """
    from openeo_cloudmask.models.networks import build_network
    from openeo_cloudmask.models.networks.mini import PickBands
    from openeo_cloudmask.models.networks.prepare import prepare, resolve_device
    from openeo_cloudmask.models.state_dict import load_state_dict_strict
    from openeo_cloudmask.models.torch_detector import TorchDetector, device_window

    entry, chosen = request.entry, request.model_input
    planes = choose_planes(chosen.sensor, chosen.band_names)
    target = resolve_device(request.device)
    network = build_network(entry.kind, {"planes": tuple(planes)})
    load_state_dict_strict(network, request.weights or own_weights(entry, None))
    prepared = prepare(network, target, request.precision)
    return TorchDetector(
        network=PickBands(prepared, tuple(planes.values())),
        device=target,
        band_names=chosen.band_names,
        scheme=entry.scheme,
        window=device_window(entry.window, target),
    )


def load_patch_cnn(request: LoadRequest) -> Detector:
    """The detector of the patch CNN, with weights of the user's own training.

    Raises:
        WeightsError: the weights are missing, damaged or of another network.
    """
    from openeo_cloudmask.models.torch_detector import load_network_detector

    return load_network_detector(
        request.entry,
        request.model_input.band_names,
        request.weights or own_weights(request.entry, None),
        request.device,
        request.precision,
    )
