"""Networks in the form in which they are exported: windows in, probabilities out."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ExportedForm(nn.Module):
    """A network that takes the tensors in ``input_names`` and gives probabilities.

    ``softmax`` says whether the network itself gives logits.
    """

    def __init__(
        self, network: nn.Module, *, softmax: bool, input_names: tuple[str, ...] = ("windows",)
    ) -> None:
        super().__init__()
        self.network = network
        self.input_names = input_names
        self.softmax = softmax
        self.eval().requires_grad_(False)

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
