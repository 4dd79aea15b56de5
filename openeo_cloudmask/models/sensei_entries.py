"""The four published SEnSeIv2 models, and what their published settings say."""

from __future__ import annotations

from typing import Any

from openeo_cloudmask.inference import Window
from openeo_cloudmask.models.entry import Licence, ModelEntry, WeightsSource
from openeo_cloudmask.models.networks.segformer_names import SEGFORMER_SIZES
from openeo_cloudmask.sensors import SENSORS

HUB_REPOSITORY = "aliFrancis/SEnSeIv2"
#: Commit of the repository is not known to us in full, so the branch is named.
HUB_REVISION = "main"
WEIGHTS_NAME = "weights.pt"
CONFIG_NAME = "config.yaml"
SENSEI_FOLDER = "sensei-configs"
#: Part of a published checkpoint that only serves training.
TRAINING_ONLY = "recovery_module."

MIN_BANDS = 3

_DESCRIPTORS = {"style": "SEnSeIv2", "N_embeddings": 32, "final_size": 74}
_STATISTICS = {"type": "GLOBAL_STATS", "percentiles": [0.01, 0.1, 0.5, 0.9, 0.99]}

#: The published settings of the encoder, by file name, for use where the file is not at hand.
SENSEI_CONFIGS: dict[str, dict[str, Any]] = {
    "senseiv2-medium.yaml": {
        "descriptors": _DESCRIPTORS,
        "blocks": [
            _STATISTICS,
            {"type": "FCL", "layer_sizes": [128, 128, 128], "skips": "add"},
            {
                "type": "ATTENTION",
                "num_transformerencoders": 2,
                "intermediate_size": 256,
                "num_heads": 4,
                "dims_per_head": 32,
                "skips": True,
                "dropout": 0.2,
            },
            {
                "type": "BAND_EMBEDDING",
                "embedding_dims": 32,
                "head_layer_sizes": [128],
                "skips_heads": False,
                "normalize": True,
            },
        ],
    },
    "senseiv2-small.yaml": {
        "descriptors": _DESCRIPTORS,
        "blocks": [
            _STATISTICS,
            {"type": "FCL", "layer_sizes": [128, 32], "skips": "add"},
            {
                "type": "BAND_EMBEDDING",
                "embedding_dims": 32,
                "head_layer_sizes": [64],
                "skips_heads": False,
                "normalize": True,
            },
        ],
    },
}

_MEDIUM = SENSEI_CONFIGS["senseiv2-medium.yaml"]
_B2 = SEGFORMER_SIZES["nvidia/mit-b2"]
_GPL_3 = Licence(spdx="GPL-3.0-only", url="https://www.gnu.org/licenses/gpl-3.0.html")
_FRANCIS_2024 = (
    "Francis, A. (2024): Sensor Independent Cloud and Shadow Masking With Partial Labels and "
    "Multimodal Inputs. IEEE Transactions on Geoscience and Remote Sensing 62."
)
#: The sensor's full sets of bands; a sensor-independent model takes any three bands and more.
_ANY_SENSOR = {sensor.id: sensor.band_names for sensor in SENSORS.values()}


def _entry(
    name: str,
    title: str,
    summary: str,
    *,
    kind: str,
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
        min_bands=MIN_BANDS if independent else 1,
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


SENSEI_MODELS = (
    _entry(
        "SEnSeIv2-SegFormerB2-alldata-ambiguous",
        "SEnSeIv2, SegFormer-B2, all sensors, seven classes",
        "Any three or more bands of any described sensor, Sentinel-2 and Landsat among them. Land, "
        "water, snow, thin and thick cloud, shadow, no data. The default of the published code; "
        "which scenes it was trained on is not published in full. Its land, water and snow are, by "
        "its author's word, to be used with caution.",
        kind="sensei-segformer",
        config={"sensei": _MEDIUM, "segformer": _B2, "classes": 7},
        trained_on=("Sentinel-2 and Landsat data sets (the list is not published)",),
    ),
    _entry(
        "SEnSeIv2-SegFormerB2-S2-ambiguous",
        "SEnSeIv2, SegFormer-B2, trained on Sentinel-2, seven classes",
        "As the model for all sensors, but trained on Sentinel-2 alone.",
        kind="sensei-segformer",
        config={"sensei": _MEDIUM, "segformer": _B2, "classes": 7},
        trained_on=("CloudSEN12",),
    ),
    _entry(
        "SEnSeIv2-DeepLabv3-S2-unambiguous",
        "SEnSeIv2, DeepLabV3+ (ResNet-50), trained on Sentinel-2, four classes",
        "SEnSeIv2 in front of a convolutional network; four classes, trained on Sentinel-2 alone.",
        kind="sensei-deeplab",
        config={"sensei": _MEDIUM, "deeplab": {"encoder": "resnet50"}, "classes": 4},
        trained_on=("CloudSEN12",),
    ),
    _entry(
        "SegFormerB2-S2-unambiguous",
        "SegFormer-B2 on the 13 bands of Sentinel-2, four classes",
        "Without SEnSeI: the 13 bands of Sentinel-2 Level-1C in their order and nothing else.",
        kind="segformer",
        config={"segformer": _B2, "channels": 13, "classes": 4},
        trained_on=("CloudSEN12",),
    ),
)

SENSEI_ALIASES = {"senseiv2": "SEnSeIv2-SegFormerB2-alldata-ambiguous"}
