"""mini: the package's own small network for any sensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.errors import BandError
from openeo_cloudmask.inference import Window
from openeo_cloudmask.models.entry import Family, Licence, LoadRequest, ModelEntry, ModelKind
from openeo_cloudmask.sensors import Band, BandKind, Sensor

if TYPE_CHECKING:
    from torch import nn

    from openeo_cloudmask.inference import Detector
    from openeo_cloudmask.models.networks.exported import ExportedForm

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


def _build(config: Mapping[str, Any]) -> nn.Module:
    from openeo_cloudmask.models.networks.mini import build

    return build(config)


def _read_network(request: LoadRequest) -> tuple[nn.Module, tuple[int, ...]]:
    """The network with its weights, and where its planes are among the bands."""
    from openeo_cloudmask.models.state_dict import load_state_dict_strict

    planes = choose_planes(request.model_input.sensor, request.model_input.band_names)
    network = request.entry.kind.build({"planes": tuple(planes)})
    load_state_dict_strict(network, request.weights_file)
    return network, tuple(planes.values())


def _load(request: LoadRequest) -> Detector:
    from openeo_cloudmask.models.networks.mini import PickBands
    from openeo_cloudmask.models.torch_detector import prepare_detector

    network, places = _read_network(request)
    return prepare_detector(request, network, lambda prepared: PickBands(prepared, places))


def _export(request: LoadRequest) -> ExportedForm:
    from openeo_cloudmask.models.networks.exported import ExportedForm
    from openeo_cloudmask.models.networks.mini import PickBands

    return ExportedForm(PickBands(*_read_network(request)), softmax=True)


KIND = ModelKind(
    id="mini",
    architecture="U-Net",
    load=_load,
    network=_build,
    export=_export,
    artifact="safetensors.torch.save_file",
    own_weights=True,
    asset_title="Weights, which come with the package openeo-cloudmask",
)

MINI = ModelEntry(
    id="mini",
    title="mini, a small network for any sensor",
    family="openeo-cloudmask",
    kind=KIND,
    summary="A small U-Net for any sensor with blue, green, red and near infrared; it uses cirrus "
    "and both short-wave infrared bands where they are there. Its weights (under 2 MB) come with "
    "the package. Trained on simulated scenes only: it has never seen a real image, and larger "
    "networks trained on real labels may do better.",
    inputs={
        "sentinel-2-l1c": ("B02", "B03", "B04", "B08", "B10", "B11", "B12"),
        "sentinel-2-l2a": ("B02", "B03", "B04", "B08", "B11", "B12"),
        "landsat-8-9-l1": ("B2", "B3", "B4", "B5", "B9", "B6", "B7"),
        "landsat-7-l1": ("B1", "B2", "B3", "B4", "B5", "B7"),
        "landsat-4-5-l1": ("B1", "B2", "B3", "B4", "B5", "B7"),
    },
    alternatives={
        "sentinel-2-l1c": (
            ("B02", "B03", "B04", "B08", "B11", "B12"),
            ("B02", "B03", "B04", "B08", "B10"),
            ("B02", "B03", "B04", "B08", "B11"),
            ("B02", "B03", "B04", "B08"),
        ),
        "sentinel-2-l2a": (("B02", "B03", "B04", "B08", "B11"), ("B02", "B03", "B04", "B08")),
        "landsat-8-9-l1": (
            ("B2", "B3", "B4", "B5", "B6", "B7"),
            ("B2", "B3", "B4", "B5", "B9"),
            ("B2", "B3", "B4", "B5", "B6"),
            ("B2", "B3", "B4", "B5"),
        ),
        "landsat-7-l1": (("B1", "B2", "B3", "B4", "B5"), ("B1", "B2", "B3", "B4")),
        "landsat-4-5-l1": (("B1", "B2", "B3", "B4", "B5"), ("B1", "B2", "B3", "B4")),
    },
    sensor_independent=True,
    min_bands=4,
    window=Window(size_px=512, multiple_px=32),
    config={"classes": 4},
    licence=Licence(spdx="Apache-2.0", url="https://www.apache.org/licenses/LICENSE-2.0"),
    citation="openeo-cloudmask, network mini, trained on scenes of its own simulator.",
    source_url="urn:openeo-cloudmask:mini",
    trained_on=("openeo-cloudmask simulated scenes",),
)

FAMILY = Family(order=30, models=(MINI,))
