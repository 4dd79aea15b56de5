"""Kinds of models that more than one family uses, and what kinds are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openeo_cloudmask.models.entry import LoadRequest, ModelKind

if TYPE_CHECKING:
    from openeo_cloudmask.inference import Detector
    from openeo_cloudmask.models.networks.exported import ExportedForm


def load_network(request: LoadRequest) -> Detector:
    """The detector of a network that takes the model's bands in their order and gives logits."""
    from openeo_cloudmask.models.torch_detector import load_network_detector

    return load_network_detector(request)


def export_network(request: LoadRequest) -> ExportedForm:
    """Such a network with its weights, as it is exported."""
    from openeo_cloudmask.models.networks.exported import ExportedForm
    from openeo_cloudmask.models.state_dict import load_network_strict

    return ExportedForm(load_network_strict(request), softmax=True)


def _load_script(request: LoadRequest) -> Detector:
    from openeo_cloudmask.models.torch_detector import load_script_detector

    return load_script_detector(request)


def _export_script(request: LoadRequest) -> ExportedForm:
    from openeo_cloudmask.models.networks.exported import ExportedForm
    from openeo_cloudmask.models.torch_detector import load_script_detector

    detector = load_script_detector(request)
    return ExportedForm(detector.network, softmax=not detector.gives_probabilities)


def _load_onnx(request: LoadRequest) -> Detector:
    from openeo_cloudmask.models.onnx_detector import load_onnx

    return load_onnx(request)


TORCHSCRIPT = ModelKind(
    id="torchscript",
    architecture="Convolutional network (TorchScript)",
    load=_load_script,
    export=_export_script,
    artifact="torch.jit.save",
)
"""A network that was published as a TorchScript program."""

ONNX = ModelKind(
    id="onnx",
    architecture="Network exported as ONNX",
    load=_load_onnx,
    framework="ONNX",
    extra="onnx",
)
"""A file that ``cloudmask export`` wrote."""

SHARED_KINDS = (TORCHSCRIPT, ONNX)
