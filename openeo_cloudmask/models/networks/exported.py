"""Networks in the form in which they are exported: windows in, probabilities out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from openeo_cloudmask.models.networks.mini import PickBands
from openeo_cloudmask.models.networks.patch_cnn import PatchCnn
from openeo_cloudmask.models.networks.segmenter import FixedChannels
from openeo_cloudmask.models.networks.sensei import SenseiNetwork

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class BoundSensei(nn.Module):
    """SEnSeI for certain bands; gives probabilities."""

    vectors: Tensor

    def __init__(self, network: SenseiNetwork, vectors: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("vectors", vectors)

    def forward(self, windows: Tensor, valid: Tensor) -> Tensor:
        """Return probabilities, (n, class, y, x)."""
        out: Tensor = self.network(windows, self.vectors, valid)
        return out


class ExportedForm(nn.Module):
    """A network that takes the tensors in ``input_names`` and gives probabilities."""

    def __init__(self, network: nn.Module, input_names: tuple[str, ...], *, softmax: bool) -> None:
        super().__init__()
        self.network = network
        self.input_names = input_names
        self.softmax = softmax

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return probabilities, (n, class, y, x)."""
        out: Tensor = self.network(*inputs)
        return torch.softmax(out, dim=1) if self.softmax else out


class ScriptForm(nn.Module):
    """A TorchScript network that gives logits, as one that gives probabilities."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, windows: Tensor) -> Tensor:
        """Return probabilities, (n, class, y, x)."""
        return torch.softmax(self.network(windows), dim=1)


def bind_bands(
    network: nn.Module, descriptors: Sequence[Mapping[str, Any]], places: tuple[int, ...] | None
) -> nn.Module:
    """Return ``network`` for certain bands.

    Args:
        network: A network of this package, with its weights.
        descriptors: One per band; used where the network is told of its bands.
        places: Where the planes of the network are among the bands; None: they are the bands.
    """
    if isinstance(network, SenseiNetwork):
        vectors = network.descriptor_vectors(descriptors)
        return BoundSensei(network.inference_form("fp32"), vectors)
    if isinstance(network, FixedChannels | PatchCnn):
        return network.inference_form("fp32")
    return network if places is None else PickBands(network, places)


def exported_form(network: nn.Module, *, softmax: bool | None = None) -> ExportedForm:
    """Return ``network`` in the form in which it is exported.

    Args:
        network: As ``bind_bands`` gives it, or one that takes windows alone.
        softmax: Whether it gives logits; None finds it from the network's type.
    """
    bound = isinstance(network, BoundSensei)
    if softmax is None:
        softmax = not isinstance(network, (BoundSensei, FixedChannels))
    names = ("windows", "valid") if bound else ("windows",)
    return ExportedForm(network, names, softmax=softmax).eval().requires_grad_(False)
