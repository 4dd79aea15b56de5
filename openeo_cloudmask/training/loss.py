"""The loss of labels that may leave classes open, and of what a teacher says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from openeo_cloudmask.training.scenes import ASK_TEACHER, CLEAR_OR_SHADOW, SHADOW

if TYPE_CHECKING:
    from torch import Tensor

_CLASS_WEIGHTS = (1.0, 1.3, 1.8, 2.2, 1.4, 1.0)
"""Of the labels 0-5: thin cloud and shadow are rarer and harder than clear sky and thick cloud."""
_SETS = ((0,), (1,), (2,), (3,), (1, 2), (0, 3))
"""The classes each label leaves open."""
_SMOOTHING = 0.03


def label_loss(
    logits: Tensor, truth: Tensor, taught: Tensor | None = None, trust: float = 0.0
) -> Tensor:
    """Return the mean cross entropy of (n, 4, y, x) logits with labels that may leave classes open.

    Args:
        logits: of the four classes.
        truth: (n, y, x) int64, labels 0-6, or 255 where no-data.
        taught: (n, 2, y, x), a teacher's probabilities of cloud and shadow.
        trust: weight of what the teacher says.
    """
    chance = F.log_softmax(logits, dim=1)
    parts = torch.stack([chance[:, list(open_)].logsumexp(1) for open_ in _SETS[4:]], dim=1)
    every = torch.cat([chance, parts], dim=1)
    seen = truth < len(_SETS)
    label = torch.where(seen, truth, 0)
    hit = every.gather(1, label[:, None])[:, 0]
    weight = logits.new_tensor(_CLASS_WEIGHTS)[label] * seen
    each = -(1 - _SMOOTHING) * hit - _SMOOTHING * chance.mean(dim=1)
    loss, total = (each * weight).sum(), weight.sum()
    if taught is not None and trust > 0:
        cloud, shadow = taught[:, 0], taught[:, 1]
        clear = (1 - cloud - shadow).clamp(min=0)
        heavy = _CLASS_WEIGHTS[SHADOW] * shadow
        # Where the label says that there is no cloud, all but the teacher's shadow is clear.
        split = heavy * (chance[:, SHADOW] - parts[:, 1])
        split = split + (1 - shadow) * (chance[:, 0] - parts[:, 1])
        whole = heavy * chance[:, SHADOW] + clear * chance[:, 0] + cloud * parts[:, 0]
        open_, asked = trust * (truth == CLEAR_OR_SHADOW), trust * (truth == ASK_TEACHER)
        loss = loss - (open_ * split + asked * whole).sum()
        total = total + (asked * (heavy + clear + cloud)).sum()
    return loss / total.clamp(min=1)
