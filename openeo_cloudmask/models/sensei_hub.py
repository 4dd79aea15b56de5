"""Settings of published SEnSeIv2 models: their ``config.yaml`` and what it refers to.

The published layout, on the Hugging Face hub and in a local folder alike::

    full-models/NAME/config.yaml
    full-models/NAME/weights.pt
    sensei-configs/BASENAME

The settings of the published models are also in the registry, so that a network is known before
anything is downloaded; a ``config.yaml`` beside the weights has the last word.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.errors import WeightsError
from openeo_cloudmask.models.networks.segformer_names import SEGFORMER_SIZES
from openeo_cloudmask.models.weights import hub_answers

if TYPE_CHECKING:
    from openeo_cloudmask.models.entry import ModelEntry

HUB_REPOSITORY = "aliFrancis/SEnSeIv2"
#: Commit of the repository is not known to us in full, so the branch is named.
HUB_REVISION = "main"
WEIGHTS_NAME = "weights.pt"
CONFIG_NAME = "config.yaml"
SENSEI_FOLDER = "sensei-configs"
#: Part of a published checkpoint that only serves training.
TRAINING_ONLY = "recovery_module."

_DESCRIPTORS = {"style": "SEnSeIv2", "N_embeddings": 32, "final_size": 74}
_STATISTICS = {"type": "GLOBAL_STATS", "percentiles": [0.01, 0.1, 0.5, 0.9, 0.99]}

#: The published settings of the encoder, by file name, for use where the file is not available.
SENSEI_CONFIGS: dict[str, dict[str, Any]] = {
    "senseiv2-medium.yaml": {
        "descriptors": _DESCRIPTORS,
        "blocks": [
            _STATISTICS,
            {"type": "FCL", "layer_sizes": [128, 128, 128], "skips": True},
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
            {"type": "FCL", "layer_sizes": [128, 32], "skips": True},
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

_log = logging.getLogger(__name__)


def read_settings(entry: ModelEntry, weights: Path) -> tuple[str, dict[str, Any]]:
    """Return the kind and the settings of ``build_network`` that belong to ``weights``.

    Args:
        entry: A model of the SEnSeIv2 family; gives the settings where no file does.
        weights: Its weights file; ``config.yaml`` is searched beside it and, where the file
            lies in the cache of the Hugging Face hub, on the hub.

    Raises:
        WeightsError: A ``config.yaml`` is there, but cannot be used, or has other classes than
            the model.
    """
    path = weights.parent / CONFIG_NAME
    if not path.is_file():
        path = _fetch(f"full-models/{weights.parent.name}/{CONFIG_NAME}", weights) or path
    if not path.is_file():
        return entry.kind.id, dict(entry.config)
    kind, settings = parse_config(read_yaml(path), path)
    if settings["classes"] != len(entry.scheme.classes):
        raise WeightsError(
            f"{path} describes a network of {settings['classes']} classes, but model {entry.id!r} "
            f"has {len(entry.scheme.classes)}; choose the model that the folder belongs to"
        )
    return kind, settings


def parse_config(content: Mapping[str, Any], path: Path) -> tuple[str, dict[str, Any]]:
    """Return the kind and the settings of ``build_network`` for a published ``config.yaml``.

    Args:
        content: What the file holds.
        path: Where it lies; the SEnSeI settings it names are searched around it.

    Raises:
        WeightsError: A setting is missing or has a value that no known network has.
    """
    settings: dict[str, Any] = {"classes": _number(content, "CLASSES", path)}
    if name := content.get("SEnSeIv2"):
        settings["sensei"] = _sensei_settings(str(name), path)
    else:
        settings["channels"] = _number(content, "NUM_CHANNELS", path)
    model = content.get("MODEL_TYPE")
    if model == "Segformer":
        settings["segformer"] = _segformer_settings(content.get("SEGFORMER_CONFIG"), path)
        return ("sensei-segformer" if name else "segformer"), settings
    if model == "DeepLabv3+" and name:
        settings["deeplab"] = {"encoder": content.get("DEEPLAB_CONFIG")}
        return "sensei-deeplab", settings
    raise WeightsError(
        f"{path} has MODEL_TYPE {model!r}; expected 'Segformer', or 'DeepLabv3+' with SEnSeIv2"
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        WeightsError: The file cannot be read or holds no mapping.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise WeightsError(f"the model's settings {path} cannot be read: {err}") from err
    if not isinstance(content, dict):
        raise WeightsError(
            f"the model's settings {path} hold a {type(content).__name__}; "
            "expected names with values"
        )
    return content


def _sensei_settings(name: str, path: Path) -> Mapping[str, Any]:
    """Return the SEnSeI settings; of the published path only the last part can be relied on."""
    base = Path(name).name
    places = [
        *(folder / SENSEI_FOLDER / base for folder in (path.parent, *path.parent.parents[:2])),
        path.parent / base,
    ]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        found = _fetch(f"{SENSEI_FOLDER}/{base}", path)
    if found is not None:
        return read_yaml(found)
    if base in SENSEI_CONFIGS:
        return SENSEI_CONFIGS[base]
    raise WeightsError(
        f"{path} names the SEnSeI settings {base!r}, which are neither at {places[0]} nor among "
        f"the published ones ({', '.join(SENSEI_CONFIGS)}); put the file there"
    )


def _segformer_settings(value: object, path: Path) -> Mapping[str, Any]:
    """Return the sizes of a published SegFormer, or those given one by one."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, str) and value in SEGFORMER_SIZES:
        return SEGFORMER_SIZES[value]
    raise WeightsError(
        f"{path} has SEGFORMER_CONFIG {value!r}; expected one of {', '.join(SEGFORMER_SIZES)}, "
        "or depths, hidden_sizes, num_attention_heads and decoder_hidden_size"
    )


def _number(content: Mapping[str, Any], key: str, path: Path) -> int:
    value = content.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise WeightsError(f"{path} has {key} {value!r}; expected a whole number above zero")
    return value


def _fetch(file: str, near: Path) -> Path | None:
    """Return a settings file from the hub, where ``near`` lies in the hub's cache; else None."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    if not near.absolute().is_relative_to(Path(constants.HF_HUB_CACHE).absolute()):
        return None
    try:
        return Path(
            hf_hub_download(
                HUB_REPOSITORY,
                file,
                revision=HUB_REVISION,
                local_files_only=not hub_answers(),
            )
        )
    except (EntryNotFoundError, HfHubHTTPError, OSError, ValueError) as err:
        # The registry knows the published settings, and weights load strictly.
        _log.info("%s is not available (%s); using the settings of the registry", file, err)
        return None
