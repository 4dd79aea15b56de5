"""Kinds of models that more than one family uses, and what kinds are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.models.entry import LoadRequest, ModelKind

if TYPE_CHECKING:
    from torch import nn

    from openeo_cloudmask.inference import Detector
    from openeo_cloudmask.models.networks.exported import ExportedForm


@dataclass(frozen=True, slots=True)
class _Network:
    """The steps that kinds of networks have in common; torch is loaded when one is taken."""

    module: str
    read: Callable[[LoadRequest], nn.Module] | None = None

    def build(self, config: Mapping[str, Any]) -> nn.Module:
        network: nn.Module = import_module(f"openeo_cloudmask.models.networks.{self.module}").build(
            dict(config)
        )
        return network

    def with_weights(self, request: LoadRequest) -> nn.Module:
        from openeo_cloudmask.models.state_dict import load_network_strict

        return (self.read or load_network_strict)(request)

    def load(self, request: LoadRequest) -> Detector:
        from openeo_cloudmask.models.networks.prepare import resolve_device
        from openeo_cloudmask.models.torch_detector import prepare_detector

        resolve_device(request.device)  # before the work
        return prepare_detector(request, self.with_weights(request))

    def export(self, request: LoadRequest) -> ExportedForm:
        from openeo_cloudmask.models.networks.exported import ExportedForm

        return ExportedForm(self.with_weights(request), softmax=True)


def network_builder(module: str) -> Callable[[Mapping[str, Any]], nn.Module]:
    """Return the function ``build`` of a module of ``models.networks``, imported when called."""
    return _Network(module).build


def network_kind(
    name: str,
    architecture: str,
    module: str,
    *,
    read: Callable[[LoadRequest], nn.Module] | None = None,
    **about: Any,  # noqa: ANN401 - fields of a dataclass
) -> ModelKind:
    """Return the kind of a network that takes the model's bands in their order and gives logits.

    Args:
        name: its name in catalogs.
        architecture: what the literature calls it.
        module: the module of ``models.networks`` whose ``build`` makes the network.
        read: returns the network with its weights, where the weights file does not hold the
            tensors of the network by their names.
        about: further fields of ``ModelKind``; they replace those that are set here.
    """
    steps = _Network(module, read)
    usual: dict[str, Any] = {"load": steps.load, "network": steps.build, "export": steps.export}
    return ModelKind(id=name, architecture=architecture, **(usual | about))


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
