"""Weights in bfloat16: what a convolution's output loses, against rounding each weight alone."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from openeo_cloudmask.models.networks.rounding import measure_moments, round_to_bf16


def _image(seed: int, channels: int) -> torch.Tensor:
    """Smooth channels that are mixtures of a few: what a network's tensors are like."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn((1, 6, 16, 16), generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, scale_factor=6.0, mode="bilinear")
    mixed = torch.einsum(
        "oc,ncyx->noyx",
        torch.randn((channels, 6), generator=torch.Generator().manual_seed(0)),
        smooth,
    )
    return mixed + 0.3 * torch.randn(mixed.shape, generator=generator)


def _loss(weight: torch.Tensor, rounded: torch.Tensor, x: torch.Tensor) -> float:
    difference = rounded.double() - weight.double()
    return float(torch.nn.functional.conv2d(x.double(), difference).square().mean())


@pytest.mark.parametrize("size", [2, 3])
def test_output_loses_less_than_by_rounding_each_weight(size):
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn((8, 70, size, size), generator=generator)  # more than a block of channels
    rounded = round_to_bf16(weight, measure_moments(_image(1, 70)))
    assert rounded.dtype == torch.bfloat16
    assert rounded.shape == weight.shape
    other = _image(2, 70)  # not what was measured
    assert _loss(weight, rounded, other) < 0.5 * _loss(weight, weight.bfloat16(), other)
    # Each stays near its own value: two steps of bfloat16 of the largest.
    assert (rounded.float() - weight).abs().max() <= 2 * 2**-8 * weight.abs().max()


def test_inputs_that_overflow_leave_each_weight_to_itself():
    moments = measure_moments(torch.full((1, 3, 8, 8), 1e30))
    weight = torch.randn((2, 3, 3, 3), generator=torch.Generator().manual_seed(6))
    assert torch.equal(round_to_bf16(weight, moments), weight.bfloat16())


def test_exact_weights_stay():
    weight = torch.randint(-8, 9, (4, 5, 3, 3), generator=torch.Generator().manual_seed(4)).float()
    assert torch.equal(round_to_bf16(weight, measure_moments(_image(1, 5))).float(), weight)


def test_channels_without_a_value_do_no_harm():
    x = torch.zeros((1, 3, 8, 8))
    weight = torch.randn((2, 3, 3, 3), generator=torch.Generator().manual_seed(5))
    rounded = round_to_bf16(weight, measure_moments(x))
    assert torch.equal(rounded, weight.bfloat16())
