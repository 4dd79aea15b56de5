"""The last stage of training ``mini``: its layers at full resolution learn alone.

Crops that vary teach a network what to look for; scenes as they come teach its last layers how to
weigh what it sees. All other layers stand still, so what they see is computed once for each scene,
and a step takes a tenth of a second on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from openeo_cloudmask.models.networks.mini import MULTIPLE_PX, NEEDED_PLANES, PLANES
from openeo_cloudmask.training.bank import LABEL, TAUGHT, Bank
from openeo_cloudmask.training.loss import label_loss
from openeo_cloudmask.training.options import rate_at
from openeo_cloudmask.training.scenes import ANY_CLOUD, PLANE_COUNT, SHADOW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from openeo_cloudmask.models.networks.mini import MiniNet
    from openeo_cloudmask.training.options import TrainOptions

_SIMULATED = 50
"""So many simulated scenes, at most."""
_SIMULATED_SHARE = 0.3
"""How often a simulated scene is shown; a real one: 1, or the root of its group's number."""
_BARE_SHARE = 0.5
"""How often a real scene is shown without the planes that not every sensor has."""
_EXAMPLES = 6
"""Crops per step."""
_CROP_PX = 192
_LEARNING_RATE = 3e-3
_DARK_RED = 0.08
"""Labels of cloud that do not tell thin from thick are often wider than the cloud. What they call
cloud and reflects less red than this lies in the cloud's shadow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """One scene, (1, channel, y, x) each, and how often it is shown."""

    told: Tensor
    around: Tensor
    """At half the resolution."""
    truth: Tensor
    taught: Tensor
    share: float

    def cut(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return a crop, at random."""
        height, width = self.around.shape[2:]
        side = min(_CROP_PX // 2, height, width)
        top, left = (
            int(torch.randint(length - side + 1, (), generator=generator))
            for length in (height, width)
        )
        coarse = (..., slice(top, top + side), slice(left, left + side))
        fine = (..., slice(2 * top, 2 * (top + side)), slice(2 * left, 2 * (left + side)))
        told, around = self.told[fine].float(), self.around[coarse].float()
        return told, around, self.truth[fine], self.taught[fine].float()


def refit_tail(
    network: MiniNet, simulated: Bank, real: Bank | None, options: TrainOptions
) -> float:
    """Let the layers at full resolution learn, in place; return the last steps' mean loss.

    Args:
        network: in eval mode.
        simulated: simulated scenes.
        real: real ones; None: only simulated ones.
        options: ``tail_steps``, ``trust`` and ``seed`` count.
    """
    with torch.no_grad():
        scenes = list(_views(network, simulated, real))
    share = torch.tensor([each.share for each in scenes])
    weights = [value for layer in network.tail for value in layer.parameters()]
    for value in weights:
        value.requires_grad_(True)
    optimiser = torch.optim.Adam(weights, lr=_LEARNING_RATE)
    generator = torch.Generator().manual_seed(options.seed)
    trust = options.trust if options.teacher is not None else 0.0
    losses = []
    for step in range(options.tail_steps):
        for group in optimiser.param_groups:
            group["lr"] = _LEARNING_RATE * rate_at(step, options.tail_steps)
        chosen = torch.multinomial(share, _EXAMPLES, replacement=True, generator=generator)
        loss = torch.zeros((), device=weights[0].device)
        for number in chosen.tolist():
            told, around, truth, taught = scenes[number].cut(generator)
            loss = loss + label_loss(network.weigh(told, around), truth, taught, trust) / _EXAMPLES
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.detach())
    for value in weights:
        value.requires_grad_(False)
    return float(torch.stack(losses[-100:]).mean())


def _views(network: MiniNet, simulated: Bank, real: Bank | None) -> Iterator[_Scene]:
    """Yield real scenes as they are, mirrored and bare, simulated ones as they are and bare."""
    if real is not None:
        for number in torch.nonzero(real.size.amin(dim=1) >= MULTIPLE_PX)[:, 0].tolist():
            share = float(real.share[number])
            yield _see(network, real, number, share=share)
            yield _see(network, real, number, share=share, mirrored=True)
            if real.present[number, len(NEEDED_PLANES) :].any():
                yield _see(network, real, number, share=_BARE_SHARE * share, bare=True)
    for number in range(min(simulated.count, _SIMULATED)):
        for bare in (False, True):
            yield _see(network, simulated, number, share=_SIMULATED_SHARE, bare=bare)


def _see(
    network: MiniNet,
    bank: Bank,
    number: int,
    *,
    share: float,
    mirrored: bool = False,
    bare: bool = False,
) -> _Scene:
    """Return a scene as the network sees it; ``bare``: without the planes that may be missing."""
    height, width = (int(side) // MULTIPLE_PX * MULTIPLE_PX for side in bank.size[number])
    layers = bank.layers[number, :height, :width].movedim(-1, 0)[None].float()
    present = bank.present[number][None].clone()
    if mirrored:
        layers = layers.flip(-1)
    if bare:
        layers = layers.clone()
        layers[:, len(NEEDED_PLANES) : PLANE_COUNT] = 0
        present[:, len(NEEDED_PLANES) :] = 0
    told = torch.cat(network.tell(layers[:, :PLANE_COUNT], present), dim=1)
    around = network.look(told.contiguous(memory_format=torch.channels_last))
    taught = layers[:, TAUGHT] if bank.taught else layers.new_zeros((1, 2, height, width))
    truth = layers[:, LABEL].long()
    dark = layers[:, PLANES.index("red")] < _DARK_RED
    return _Scene(
        told=told.half(),
        around=around.half(),
        truth=torch.where((truth == ANY_CLOUD) & dark, SHADOW, truth),
        taught=taught.half(),
        share=share,
    )
