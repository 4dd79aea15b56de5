"""Percentiles of each band of a window, over its valid pixels only.

Two ways to the same numbers: on the CPU a sort by NumPy, one band per thread; elsewhere a sort by
torch. Both interpolate linearly between neighbouring ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from openeo_cloudmask.models import statistics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def band_percentiles(bands: Tensor, valid: Tensor | None, quantiles: Sequence[float]) -> Tensor:
    """Return the percentiles of each band of each window.

    Args:
        bands: (n, band, y, x) float32.
        valid: (n, y, x) bool, True where the pixel counts; None counts all.
        quantiles: Fractions in 0-1.

    Returns:
        (n, band, quantile) float32 on the device of ``bands``; zeros for a window without a
        valid pixel.
    """
    if bands.device.type != "cpu":
        return percentiles_of_tensors(bands, valid, quantiles)
    mask = None if valid is None else valid.detach().numpy()
    threads = max(1, torch.get_num_threads())
    stats = statistics.band_percentiles(bands.detach().numpy(), mask, quantiles, threads=threads)
    return torch.from_numpy(stats)


def percentiles_of_tensors(
    bands: Tensor, valid: Tensor | None, quantiles: Sequence[float]
) -> Tensor:
    """Return the same as ``band_percentiles`` by operators of torch alone."""
    pixels = bands.flatten(2)
    if valid is None:
        valid = torch.ones_like(pixels[:, 0], dtype=torch.bool)
    usable = valid.reshape(pixels.shape[0], 1, -1)
    ordered = torch.where(usable, pixels, torch.inf).sort(dim=2).values
    counts = usable.sum(dim=2).to(torch.float32)
    fractions = torch.tensor(list(quantiles), dtype=torch.float32, device=bands.device)
    last = (counts - 1).clamp(min=0)
    ranks = fractions * last
    below = ranks.floor()
    weight = ranks - below
    above = torch.minimum(below + 1, last)
    shape = (-1, bands.shape[1], -1)
    low = ordered.gather(2, below.long().unsqueeze(1).expand(shape))
    high = ordered.gather(2, above.long().unsqueeze(1).expand(shape))
    stats = low + (high - low) * weight.unsqueeze(1)
    return torch.where(counts.unsqueeze(1) > 0, stats, 0.0)
