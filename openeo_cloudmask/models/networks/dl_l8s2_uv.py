"""The network of DL-L8S2-UV (Lopez-Puigdollers et al., 2021): a U-Net of separable convolutions.

Our own module; the state dict bears the names of the layers in the published Keras files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from openeo_cloudmask.errors import OptionError, WeightsError
from openeo_cloudmask.models.keras_weights import read_keras

BLOCKS = {"input": 32, "pool1": 64, "pool2": 128, "up1": 64, "up2": 32}
"""Blocks of two separable convolutions -> channels."""
_EPSILON = 1e-3


class Block(nn.Module):
    """Two times: depthwise 3 x 3, pointwise, batch norm, ReLU."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.depth_1 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.point_1 = nn.Conv2d(channels, out, 1)
        self.norm_1 = nn.BatchNorm2d(out, eps=_EPSILON)
        self.depth_2 = nn.Conv2d(out, out, 3, padding=1, groups=out, bias=False)
        self.point_2 = nn.Conv2d(out, out, 1)
        self.norm_2 = nn.BatchNorm2d(out, eps=_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, out, y, x)."""
        x = torch.relu(self.norm_1(self.point_1(self.depth_1(x))))
        return torch.relu(self.norm_2(self.point_2(self.depth_2(x))))


class DlL8s2Uv(nn.Module):
    """Blue, green, red, near infrared, with or without both short-wave infrared bands."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.normalization = nn.Conv2d(bands, bands, 1)
        self.input = Block(bands, BLOCKS["input"])
        self.pool1 = Block(BLOCKS["input"], BLOCKS["pool1"])
        self.pool2 = Block(BLOCKS["pool1"], BLOCKS["pool2"])
        self.upconv1 = nn.ConvTranspose2d(BLOCKS["pool2"], BLOCKS["pool1"], 2, stride=2)
        self.up1 = Block(2 * BLOCKS["pool1"], BLOCKS["up1"])
        self.upconv2 = nn.ConvTranspose2d(BLOCKS["up1"], BLOCKS["input"], 2, stride=2)
        self.up2 = Block(2 * BLOCKS["input"], BLOCKS["up2"])
        self.linear_model = nn.Conv2d(BLOCKS["up2"], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores whose softmax is the four classes; what is not cloud is clear.

        Args:
            x: (n, band, y, x) float32, top-of-atmosphere reflectance 0-1; y and x multiples of 4.

        Returns:
            (n, 4, y, x): clear, thick cloud, and two classes that are never found.
        """
        fine = self.input(self.normalization(x))
        middle = self.pool1(nn.functional.max_pool2d(fine, 2))
        coarse = self.pool2(nn.functional.max_pool2d(middle, 2))
        middle = self.up1(torch.cat([self.upconv1(coarse), middle], dim=1))
        fine = self.up2(torch.cat([self.upconv2(middle), fine], dim=1))
        score = self.linear_model(fine)
        # softmax of (0, score) is (1 - sigmoid, sigmoid): the published output.
        never = torch.full_like(score, -torch.inf)
        return torch.cat([torch.zeros_like(score), score, never, never], dim=1)


def build(config: Mapping[str, Any]) -> nn.Module:
    """Return the network for ``{"bands": 4}`` or ``{"bands": 6}``, in eval mode.

    Raises:
        OptionError: other settings.
    """
    if set(config) != {"bands"} or config["bands"] not in {4, 6}:
        raise OptionError(
            f"settings {dict(config)} of DL-L8S2-UV; expected {{'bands': 4}} or {{'bands': 6}}"
        )
    return DlL8s2Uv(config["bands"]).eval()


def read_published(path: Path) -> dict[str, Tensor]:
    """Return the state dict that a published HDF5 file holds.

    Raises:
        WeightsError: it is no such file.
        MissingExtraError: h5py is not installed.
    """
    arrays = sorted(read_keras(path).items())
    state = dict(_translate(path, name, array) for name, array in arrays)
    # torch counts the batches that a norm was trained with; Keras does not.
    norms = [key.removesuffix("running_mean") for key in state if key.endswith(".running_mean")]
    return state | {f"{norm}num_batches_tracked": torch.tensor(0) for norm in norms}


_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_SEPARABLE = {
    # Array of a separable convolution -> (part here, its tensor, order of the array's axes).
    "depthwise_kernel": ("depth", "weight", (2, 3, 0, 1)),
    "pointwise_kernel": ("point", "weight", (3, 2, 0, 1)),
    "bias": ("point", "bias", (0,)),
}
_PLAIN = {"kernel": ("weight", (3, 2, 0, 1)), "bias": ("bias", (0,))}


def _translate(path: Path, name: str, array: NDArray[np.float32]) -> tuple[str, Tensor]:
    """Return the name here and the tensor of a published array, e.g. ``pool1_conv_2/bias``."""
    layer, _, what = name.partition("/")
    block, _, rest = layer.partition("_")
    values = torch.from_numpy(np.ascontiguousarray(array))
    if rest.startswith("bn_") and what in _NORM:
        return f"{block}.norm_{rest[-1]}.{_NORM[what]}", values
    if rest.startswith("conv_") and what in _SEPARABLE:
        part, key, order = _SEPARABLE[what]
        target = f"{block}.{part}_{rest[-1]}.{key}"
    elif what in _PLAIN:
        key, order = _PLAIN[what]
        # Keras numbers the layers of a session: "normalization", "normalization_1", ...
        target = f"{'normalization' if block == 'normalization' else layer}.{key}"
    else:
        order, target = (), ""
    if len(order) != values.ndim:
        raise WeightsError(
            f"{path} holds {name} of shape {tuple(values.shape)}, which is not in DL-L8S2-UV; "
            "choose the model that the file belongs to"
        )
    return target, values.permute(order)
