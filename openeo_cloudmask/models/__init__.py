"""Models: what is known of them, where their weights are, and detectors made of them."""

from openeo_cloudmask.models.entry import Licence, ModelEntry, WeightsSource
from openeo_cloudmask.models.inputs import ModelInput, select_input
from openeo_cloudmask.models.load import licence_notice, load_detector
from openeo_cloudmask.models.networks import build_network
from openeo_cloudmask.models.registry import ALIASES, MODELS, get_model

__all__ = [
    "ALIASES",
    "MODELS",
    "Licence",
    "ModelEntry",
    "ModelInput",
    "WeightsSource",
    "build_network",
    "get_model",
    "licence_notice",
    "load_detector",
    "select_input",
]
