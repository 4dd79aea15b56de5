"""Models: what is known of them, where their weights are, and detectors made of them."""

from openeo_cloudmask.models.entry import (
    Family,
    Licence,
    LoadRequest,
    ModelEntry,
    ModelInput,
    ModelKind,
    WeightsSource,
)
from openeo_cloudmask.models.inputs import select_input
from openeo_cloudmask.models.load import licence_notice, load_detector, start_early
from openeo_cloudmask.models.registry import (
    ALIASES,
    KINDS,
    MODELS,
    build_network,
    get_model,
    other_models,
)

__all__ = [
    "ALIASES",
    "KINDS",
    "MODELS",
    "Family",
    "Licence",
    "LoadRequest",
    "ModelEntry",
    "ModelInput",
    "ModelKind",
    "WeightsSource",
    "build_network",
    "get_model",
    "licence_notice",
    "load_detector",
    "other_models",
    "select_input",
    "start_early",
]
