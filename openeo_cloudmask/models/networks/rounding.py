"""Weights of a convolution in bfloat16, rounded so that its output changes least.

Rounded one by one, thousands of weights each lose up to 1/512 of themselves. Here the weights are
rounded in turn, and those still to come make up for what was lost, as far as their inputs are
alike: optimal brain compression (Frantar and Alistarh 2022, arXiv:2208.11580) in the order of
columns (GPTQ, Frantar et al. 2022, arXiv:2210.17323). What is alike is measured once on a synthetic
scene: channels by their second moments, neighbouring pixels by their autocorrelation; the inputs'
second moments are taken as the product of the two, so that small matrices do.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# What is added to a matrix's diagonal, as a part of its mean: scenes are not the synthetic one.
_CHANNEL_DAMPING = 0.3
_PIXEL_DAMPING = 1e-3

_BLOCK = 64
_REACH = 2  # pixels between the outermost taps of a 3 x 3 kernel
_ROWS = 64  # enough for the autocorrelation


class Moments(NamedTuple):
    """Second moments of a convolution's input."""

    channels: Tensor
    """(channel, channel) float64."""
    pixels: Tensor
    """(5, 5) float64: the autocorrelation from 2 pixels above to 2 below, left to right."""


def measure_moments(x: Tensor) -> Moments:
    """The moments of ``x`` (1, channel, y, x)."""
    flat = x[0].flatten(1).double()
    channels = flat @ flat.T / flat.shape[1]
    x, span = x[:, :, :_ROWS], range(-_REACH, _REACH + 1)
    products = [[(x * x.roll((dy, dx), (2, 3))).mean() for dx in span] for dy in span]
    pixels = torch.tensor(products, dtype=torch.float64)
    return Moments(channels, pixels / pixels[_REACH, _REACH].clamp(min=1e-30))


def round_to_bf16(weight: Tensor, moments: Moments) -> Tensor:
    """``weight`` (row, channel, y, x), kernels of up to 3 x 3 taps, in bfloat16.

    Rows are what outputs are made of; each is rounded for itself.
    """
    if not all(bool(part.isfinite().all()) for part in moments):
        return weight.bfloat16()  # the network overflows: nothing is known of its tensors
    order = moments.channels.diagonal().argsort(descending=True)
    across = _inverse_factor(moments.channels[order][:, order], _CHANNEL_DAMPING)
    grid = torch.cartesian_prod(*(torch.arange(size) for size in weight.shape[2:]))
    away = grid[:, None] - grid + _REACH
    along = _inverse_factor(moments.pixels[away[..., 0], away[..., 1]], _PIXEL_DAMPING)
    left = weight.double().flatten(2)[:, order].permute(2, 0, 1).contiguous()  # (tap, row, channel)
    rounded = torch.empty_like(left)
    for tap, wanted in enumerate(left):
        lost = _round_columns(wanted, across, rounded[tap]) @ across
        left[tap + 1 :] -= (along[tap, tap + 1 :] / along[tap, tap])[:, None, None] * lost
    out = torch.empty_like(left)
    out[..., order] = rounded
    return out.permute(1, 2, 0).reshape(weight.shape).bfloat16()


def _inverse_factor(moments: Tensor, damping: float) -> Tensor:
    """The upper Cholesky factor of the inverse of ``moments`` with ``damping``."""
    damped = moments.clone()
    damped.diagonal().add_(damping * moments.diagonal().mean().clamp(min=1e-30))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    factor: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return factor


def _round_columns(wanted: Tensor, factor: Tensor, rounded: Tensor) -> Tensor:
    """Round ``wanted`` (row, channel) into ``rounded``; return each column's scaled error."""
    errors = torch.empty_like(wanted)
    for start in range(0, wanted.shape[1], _BLOCK):
        block = wanted[:, start : start + _BLOCK].T.contiguous()
        inner = factor[start : start + _BLOCK, start : start + _BLOCK]
        for index, column in enumerate(block):
            kept = column.bfloat16().double()
            rounded[:, start + index] = kept
            error = (column - kept) / inner[index, index]
            errors[:, start + index] = error
            block[index + 1 :].addr_(inner[index, index + 1 :], error, alpha=-1)
        done = slice(start, start + _BLOCK)
        wanted[:, start + _BLOCK :] -= errors[:, done] @ factor[done, start + _BLOCK :]
    return errors
