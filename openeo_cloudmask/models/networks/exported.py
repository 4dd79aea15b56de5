"""Networks in the form in which they are exported: windows in, probabilities out."""

from __future__ import annotations

from torch import Tensor, nn


def softmax(logits: Tensor) -> Tensor:
    """Probabilities of logits (n, class, y, x), plane by plane.

    onnxruntime transposes the tensor twice for the operator Softmax over classes; for a small
    network that is a quarter of its time.
    """
    raised = (logits - logits.amax(dim=1, keepdim=True)).exp()
    return raised / raised.sum(dim=1, keepdim=True)


class ExportedForm(nn.Module):
    """A network that takes the tensors in ``input_names`` and gives probabilities.

    ``softmax`` says whether the network itself gives logits, ``percentiles`` which ones of its
    bands it takes, fractions 0-1.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        softmax: bool,
        input_names: tuple[str, ...] = ("windows",),
        percentiles: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        self.network = network
        self.input_names = input_names
        self.percentiles = percentiles
        self.softmax = softmax
        self.eval().requires_grad_(False)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return probabilities, (n, class, y, x)."""
        out: Tensor = self.network(*inputs)
        return softmax(out) if self.softmax else out


class ScriptForm(nn.Module):
    """A TorchScript network that gives logits, as one that gives probabilities."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, windows: Tensor) -> Tensor:
        """Return probabilities, (n, class, y, x)."""
        return softmax(self.network(windows))
