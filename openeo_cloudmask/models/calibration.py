"""Percentages that say how often there is cloud: a map of the probability of cloud, in the card.

The classes of cloud are scaled together to the new probability of cloud, all others to the rest, so
that probabilities still sum to 1 and keep their order within both groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import CLOUD_NONCLOUD, ClassScheme, map_labels
from openeo_cloudmask.errors import WeightsError

METHODS = ("temperature", "isotonic")
_EDGE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What a probability of cloud is worth, as labelled scenes say."""

    method: str
    said: tuple[float, ...]
    """Of ``isotonic``: probabilities of cloud, rising, 0-1. Of ``temperature``: empty."""
    found: tuple[float, ...]
    """Of ``isotonic``: shares of cloud at ``said``, not falling, 0-1; straight in between. Of
    ``temperature``: the temperature alone."""
    scenes: int
    """How many scenes it was fitted on."""
    data: str
    """What these were."""

    def __post_init__(self) -> None:
        """Check that it is a map of probabilities."""
        said, found = np.array(self.said), np.array(self.found)
        if self.method == "temperature":
            good = not said.size and found.size == 1 and 0 < found[0] < np.inf
        else:
            good = (
                self.method in METHODS
                and said.shape == found.shape
                and said.size > 0
                and bool((np.diff(said) > 0).all() and (np.diff(found) >= 0).all())
                and bool(all(((v >= 0) & (v <= 1)).all() for v in (said, found)))
            )
        if not good:
            raise WeightsError(
                f"a calibration by {self.method!r} with {said.size} and {found.size} numbers is no "
                f"map of probabilities; expected one of {', '.join(METHODS)}, rising from 0 to 1"
            )

    def map(self, cloud: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return calibrated probabilities of cloud, of the same shape."""
        if self.method == "temperature":
            clipped = np.clip(np.asarray(cloud, np.float64), _EDGE, 1 - _EDGE)
            return np.asarray(1 / (1 + ((1 - clipped) / clipped) ** (1 / self.found[0])))
        return np.asarray(np.interp(cloud, self.said, self.found))

    def apply(self, probabilities: NDArray[np.float32], scheme: ClassScheme) -> NDArray[np.float32]:
        """Return calibrated class probabilities.

        Args:
            probabilities: (class, y, x) float32 that sum to 1, in the order of ``scheme``.
            scheme: the classes.
        """
        values = np.array(scheme.values, np.uint8)
        cloudy = map_labels(values, scheme, CLOUD_NONCLOUD) == 1
        before = np.clip(probabilities[cloudy].sum(axis=0, dtype=np.float64), 0, 1)
        after = self.map(before)
        out = np.empty_like(probabilities)
        for group, old, new in ((cloudy, before, after), (~cloudy, 1 - before, 1 - after)):
            # A group without any probability shares what it gets equally.
            scale = np.divide(new, old, out=np.zeros_like(new), where=old > _EDGE)
            share = np.where(old > _EDGE, 0.0, new / group.sum())
            out[group] = probabilities[group] * scale + share
        return out


def parse_calibration(content: Mapping[str, Any] | None) -> Calibration | None:
    """Return the calibration in a card, or None.

    Raises:
        WeightsError: it is no map of probabilities.
        TypeError: it does not say what is needed.
    """
    if content is None:
        return None
    lists = {key: tuple(float(v) for v in content[key]) for key in ("said", "found")}
    return Calibration(**{**content, **lists})
