"""The four published SEnSeIv2 models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openeo_cloudmask.inference import Window
from openeo_cloudmask.models.entry import (
    Family,
    Licence,
    LoadRequest,
    ModelEntry,
    ModelKind,
    WeightsSource,
)
from openeo_cloudmask.models.kinds import network_builder
from openeo_cloudmask.models.networks.segformer_names import SEGFORMER_SIZES
from openeo_cloudmask.models.sensei_hub import (
    CONFIG_NAME,
    HUB_REPOSITORY,
    HUB_REVISION,
    SENSEI_CONFIGS,
    TRAINING_ONLY,
    WEIGHTS_NAME,
    read_settings,
)
from openeo_cloudmask.sensors import SENSORS

if TYPE_CHECKING:
    from openeo_cloudmask.inference import Detector
    from openeo_cloudmask.models.networks.exported import ExportedForm

_MIN_BANDS = 3
_MEDIUM = SENSEI_CONFIGS["senseiv2-medium.yaml"]
_B2 = SEGFORMER_SIZES["nvidia/mit-b2"]
_GPL_3 = Licence(spdx="GPL-3.0-only", url="https://www.gnu.org/licenses/gpl-3.0.html")
_FRANCIS_2024 = (
    "Francis, A. (2024): Sensor Independent Cloud and Shadow Masking With Partial Labels and "
    "Multimodal Inputs. IEEE Transactions on Geoscience and Remote Sensing 62."
)
#: The sensor's full sets of bands; a sensor-independent model takes any three bands and more.
_ANY_SENSOR = {sensor.id: sensor.band_names for sensor in SENSORS.values()}


def _read_network(request: LoadRequest) -> tuple[Any, list[dict[str, Any]]]:
    """The network with its weights, and the descriptors of the bands."""
    from openeo_cloudmask.models.networks.descriptors import band_descriptor
    from openeo_cloudmask.models.state_dict import load_state_dict_strict

    kind, settings = read_settings(request.entry, request.weights_file)
    network = _KINDS[kind].build(settings)
    load_state_dict_strict(network, request.weights_file, training_only=TRAINING_ONLY)
    sensor, names = request.model_input.sensor, request.model_input.band_names
    return network, [band_descriptor(sensor.band(name)) for name in names]


def _load(request: LoadRequest) -> Detector:
    from openeo_cloudmask.models.sensei_detector import make_detector

    return make_detector(
        *_read_network(request),
        band_names=request.model_input.band_names,
        scheme=request.entry.scheme,
        window=request.entry.window,
        device=request.device,
        precision=request.precision,
    )


def _export(request: LoadRequest) -> ExportedForm:
    from openeo_cloudmask.models.networks.exported import ExportedForm
    from openeo_cloudmask.models.networks.sensei import BoundSensei, SenseiNetwork

    network, descriptors = _read_network(request)
    form = network.inference_form("fp32")  # gives probabilities
    if not isinstance(network, SenseiNetwork):
        return ExportedForm(form, softmax=False)
    bound = BoundSensei(form, network.descriptor_vectors(descriptors))
    names = ("windows", "percentiles")
    return ExportedForm(bound, softmax=False, input_names=names, percentiles=bound.quantiles)


def _kind(name: str, architecture: str, module: str) -> ModelKind:
    return ModelKind(
        id=name,
        architecture=architecture,
        load=_load,
        network=network_builder(module),
        export=_export,
        settings_file=CONFIG_NAME,
    )


SEGFORMER = _kind("sensei-segformer", "SEnSeI v2 with SegFormer", "sensei")
DEEPLAB = _kind("sensei-deeplab", "SEnSeI v2 with DeepLabv3+", "deeplab")
PLAIN_SEGFORMER = _kind("segformer", "SegFormer", "segformer")
_KINDS = {kind.id: kind for kind in (SEGFORMER, DEEPLAB, PLAIN_SEGFORMER)}


def _entry(
    name: str,
    title: str,
    summary: str,
    *,
    kind: ModelKind,
    config: dict[str, Any],
    trained_on: tuple[str, ...],
) -> ModelEntry:
    independent = "sensei" in config
    own = {"sentinel-2-l1c": SENSORS["sentinel-2-l1c"].band_names}
    return ModelEntry(
        id=name,
        title=title,
        family="SEnSeIv2",
        kind=kind,
        summary=summary,
        inputs=_ANY_SENSOR if independent else own,
        sensor_independent=independent,
        min_bands=_MIN_BANDS if independent else 1,
        scheme_name="sensei-7-class" if config["classes"] == 7 else "4-class",
        window=Window(size_px=512, multiple_px=32),
        config=config,
        weights=WeightsSource(
            repo=HUB_REPOSITORY,
            file=f"full-models/{name}/{WEIGHTS_NAME}",
            revision=HUB_REVISION,
        ),
        licence=_GPL_3,
        citation=_FRANCIS_2024,
        doi="10.1109/TGRS.2024.3391625",
        source_url="https://github.com/aliFrancis/SEnSeIv2",
        trained_on=trained_on,
    )


_MODELS = (
    _entry(
        "SEnSeIv2-SegFormerB2-alldata-ambiguous",
        "SEnSeIv2, SegFormer-B2, all sensors, seven classes",
        "Any three or more bands of any described sensor, Sentinel-2 and Landsat among them. Land, "
        "water, snow, thin and thick cloud, shadow, no data. The default of the published code; "
        "which scenes it was trained on is not published in full. Its land, water and snow are, by "
        "its author's word, to be used with caution.",
        kind=SEGFORMER,
        config={"sensei": _MEDIUM, "segformer": _B2, "classes": 7},
        trained_on=("Sentinel-2 and Landsat data sets (the list is not published)",),
    ),
    _entry(
        "SEnSeIv2-SegFormerB2-S2-ambiguous",
        "SEnSeIv2, SegFormer-B2, trained on Sentinel-2, seven classes",
        "As the model for all sensors, but trained on Sentinel-2 alone.",
        kind=SEGFORMER,
        config={"sensei": _MEDIUM, "segformer": _B2, "classes": 7},
        trained_on=("CloudSEN12",),
    ),
    _entry(
        "SEnSeIv2-DeepLabv3-S2-unambiguous",
        "SEnSeIv2, DeepLabV3+ (ResNet-50), trained on Sentinel-2, four classes",
        "SEnSeIv2 in front of a convolutional network; four classes, trained on Sentinel-2 alone.",
        kind=DEEPLAB,
        config={"sensei": _MEDIUM, "deeplab": {"encoder": "resnet50"}, "classes": 4},
        trained_on=("CloudSEN12",),
    ),
    _entry(
        "SegFormerB2-S2-unambiguous",
        "SegFormer-B2 on the 13 bands of Sentinel-2, four classes",
        "Without SEnSeI: the 13 bands of Sentinel-2 Level-1C in their order and nothing else.",
        kind=PLAIN_SEGFORMER,
        config={"segformer": _B2, "channels": 13, "classes": 4},
        trained_on=("CloudSEN12",),
    ),
)

FAMILY = Family(
    order=10, models=_MODELS, aliases={"senseiv2": "SEnSeIv2-SegFormerB2-alldata-ambiguous"}
)
