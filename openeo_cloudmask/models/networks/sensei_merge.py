"""The last block of the SEnSeI encoder: bands and descriptor vectors become one image."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from openeo_cloudmask.models.networks.segmenter import in_graph
from openeo_cloudmask.models.networks.sensei_blocks import FullyConnected

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Pixels whose sines are worked on together on a CPU. Times 32 dimensions this is just below the
#: 32768 elements from which torch would share one operation among threads.
_BLOCK_PX = 1000
_BAND_OFFSET = 0.5  # BAND_MULTIPLICATION lifts reflectances by this before it multiplies


def norm_scale_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return the scale and shift, (channel,) each, that ``norm`` applies in evaluation mode."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:  # this package builds no such norm
        raise TypeError("the batch norm keeps no running statistics")
    scale = norm.weight / torch.sqrt(variance + norm.eps)
    return scale, norm.bias - mean * scale


class BandEmbedding(nn.Module):
    """Sum over the bands of ``gain * sin(frequency * (band + phase))``, then a batch norm."""

    def __init__(self, config: Mapping[str, Any], size: int) -> None:
        super().__init__()
        self.output_size = int(config["embedding_dims"])
        head = {
            "layer_sizes": [*config["head_layer_sizes"], self.output_size],
            "skips": config.get("skips_heads", False),
        }
        self.frequency_head = FullyConnected(head, size)
        self.phase_offset_head = FullyConnected(head, size)
        self.gain_head = FullyConnected(head, size)
        self.norm = nn.BatchNorm2d(self.output_size) if config.get("normalize") else None

    def coefficients(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return frequency, phase in radians and gain, (n, band, dim), and the offset, (dim,).

        The batch norm is part of gain and offset, so that no pass over the image is left for it.
        """
        frequency = self.frequency_head(vectors)
        phase = frequency * self.phase_offset_head(vectors)
        gain = self.gain_head(vectors)
        offset = torch.zeros(self.output_size, dtype=gain.dtype, device=gain.device)
        if self.norm is not None:
            scale, offset = norm_scale_shift(self.norm)
            gain = gain * scale
        return frequency, phase, gain, offset

    def forward(self, bands: Tensor, vectors: Tensor) -> Tensor:
        """Return the embedding, (n, dim, y, x) float32 in channels-last memory."""
        frequency, phase, gain, offset = self.coefficients(vectors)
        count, _, height, width = bands.shape
        pixels = bands.flatten(2).unsqueeze(3)
        if bands.device.type != "cpu" or torch.is_grad_enabled() or in_graph():
            merged = offset + sum(
                gain[:, b, None]
                * torch.sin(pixels[:, b] * frequency[:, b, None] + phase[:, b, None])
                for b in range(bands.shape[1])
            )
        else:
            merged = offset.expand(count, height * width, -1).contiguous()
            for window in range(count):
                waves = (frequency[window], phase[window], gain[window])
                _add_sines(pixels[window], waves, merged[window])
        return merged.reshape(count, height, width, -1).permute(0, 3, 1, 2)


def _add_sines(pixels: Tensor, waves: tuple[Tensor, Tensor, Tensor], merged: Tensor) -> None:
    """Add the bands' sines to ``merged``, (pixel, dim), in place; ``pixels`` is (band, pixel, 1).

    Blocks are small enough to stay in the cache and to be worked on by one thread each: with
    thousands of short operations, threads that wait for each other take longer than the sines.
    """

    def add(start: int) -> None:
        with torch.inference_mode():
            part = merged[start : start + _BLOCK_PX]
            for band, frequency, phase, gain in zip(pixels, *waves, strict=True):
                angle = torch.addcmul(phase, band[start : start + _BLOCK_PX], frequency)
                part.addcmul_(angle.sin_(), gain)

    with ThreadPoolExecutor(max_workers=max(1, torch.get_num_threads())) as pool:
        list(pool.map(add, range(0, len(merged), _BLOCK_PX)))


class BandMultiplication(nn.Module):
    """Sum over the bands of ``vector * (band + 0.5)``, then a batch norm: a linear map."""

    def __init__(self, config: Mapping[str, Any], size: int) -> None:
        super().__init__()
        self.output_size = size
        self.norm = nn.BatchNorm2d(size) if config.get("normalize") else None

    def matrix(self, vectors: Tensor) -> Tensor:
        """Return the map as (n, dim, band + 1); its last column goes with a plane of ones."""
        columns = vectors.transpose(1, 2)
        matrix = torch.cat((columns, _BAND_OFFSET * columns.sum(dim=2, keepdim=True)), dim=2)
        if self.norm is not None:
            scale, shift = norm_scale_shift(self.norm)
            matrix = matrix * scale[:, None]
            matrix = torch.cat((matrix[..., :-1], matrix[..., -1:] + shift[:, None]), dim=2)
        return matrix

    def forward(self, bands: Tensor, vectors: Tensor) -> Tensor:
        """Return the embedding, (n, dim, y, x)."""
        return torch.einsum("ndb,nbyx->ndyx", self.matrix(vectors), with_ones(bands))


def with_ones(bands: Tensor) -> Tensor:
    """Return ``bands`` with a plane of ones behind them, (n, band + 1, y, x)."""
    return torch.cat((bands, torch.ones_like(bands[:, :1])), dim=1)
