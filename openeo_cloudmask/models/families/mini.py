"""mini: the package's own small network for any sensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.inference import Window
from openeo_cloudmask.models.entry import Family, Licence, LoadRequest, ModelEntry, ModelKind
from openeo_cloudmask.sensors import ANY_SENSOR, CommonBands

if TYPE_CHECKING:
    from torch import nn

    from openeo_cloudmask.inference import Detector
    from openeo_cloudmask.models.networks.exported import ExportedForm

_BANDS = CommonBands(
    takes=("blue", "green", "red", "nir"),
    optional=(("cirrus", "swir16", "swir22"), ("swir16", "swir22"), ("cirrus",), ("swir16",), ()),
    levels=("L1C", "L2A", "L1"),
    seconds=("nir",),
)


def _build(config: Mapping[str, Any]) -> nn.Module:
    from openeo_cloudmask.models.networks.mini import build

    return build(config)


def _read_network(request: LoadRequest) -> tuple[Any, tuple[int, ...]]:
    """The network with its weights, and where its planes are among the bands."""
    from openeo_cloudmask.models.state_dict import load_state_dict_strict

    chosen = request.model_input
    planes = _BANDS.choose(chosen.sensor, chosen.band_names, model="mini")
    network = request.entry.kind.build({"planes": tuple(planes)})
    load_state_dict_strict(network, request.weights_file)
    return network, tuple(planes.values())


def _load(request: LoadRequest) -> Detector:
    from openeo_cloudmask.models.networks.mini import PickBands
    from openeo_cloudmask.models.networks.prepare import resolve_device
    from openeo_cloudmask.models.torch_detector import prepare_detector

    if request.precision == "auto" and resolve_device(request.device).type == "cpu":
        request = replace(request, precision="fp32")  # faster there, even with bf16 in hardware
    network, places = _read_network(request)
    return prepare_detector(request, network, lambda prepared: PickBands(prepared, places))


def _export(request: LoadRequest) -> ExportedForm:
    from openeo_cloudmask.models.networks.exported import ExportedForm
    from openeo_cloudmask.models.networks.mini import PickBands
    from openeo_cloudmask.models.networks.mini_exported import MiniConvolutions, MiniParts

    network, places = _read_network(request)
    if request.model_input.sensor.id != ANY_SENSOR:
        return ExportedForm(PickBands(network, places), softmax=True)
    form = MiniConvolutions if request.precision == "int8" else MiniParts
    return ExportedForm(form(network), softmax=True, input_names=("windows", "present"))


KIND = ModelKind(
    id="mini",
    architecture="U-Net",
    load=_load,
    network=_build,
    export=_export,
    artifact="safetensors.torch.save_file",
    own_weights=True,
    any_bands=_BANDS,
    int8_form=True,
    asset_title="Weights, which come with the package openeo-cloudmask",
)

MINI = ModelEntry(
    id="mini",
    title="mini, a small network for any sensor",
    family="openeo-cloudmask",
    kind=KIND,
    summary="A small U-Net for any sensor with blue, green, red and near infrared; it uses cirrus "
    "and both short-wave infrared bands where they are there. Its weights (under 2 MB) come with "
    "the package. Trained on simulated scenes, on 24 small real ones with labels, and on what "
    "ukis-csmask says where those are silent.",
    inputs=_BANDS.inputs,
    alternatives=_BANDS.alternatives,
    sensor_independent=True,
    min_bands=4,
    window=Window(size_px=512, multiple_px=32),
    config={"classes": 4},
    licence=Licence(spdx="Apache-2.0", url="https://www.apache.org/licenses/LICENSE-2.0"),
    citation="openeo-cloudmask, network mini, trained on scenes of its own simulator and on 24 "
    "small real scenes with labels by people.",
    source_url="https://openeo-cloudmask.github.io/mini/",
    trained_on=(
        "openeo-cloudmask simulated scenes",
        "16 crops of USGS L8 Biome (public domain)",
        "3 Sentinel-2 chips of On Cloud N (Radiant MLHub, CC-BY-4.0)",
        "3 Sentinel-2 scenes of layton with shadow painted by hand (MIT)",
        "the 2 test scenes of ukis-csmask, Sentinel-2 and Landsat 5 (Apache-2.0)",
        "8 Sentinel-2 chips without labels (modified Copernicus data)",
        "masks of ukis-csmask (Apache-2.0) on these scenes, where labels leave classes open",
    ),
)

FAMILY = Family(order=30, models=(MINI,))
