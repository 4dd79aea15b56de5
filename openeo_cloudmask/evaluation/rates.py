"""What a mask finds of a class and what it leaves alone, summed over pixels of scenes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import NODATA
from openeo_cloudmask.evaluation.labelled import LabelledScene
from openeo_cloudmask.evaluation.scores import json_number

CLOUD, SHADOW = (1, 2), (3,)
"""Values of cloud and of shadow in the four classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Counts of pixels; shares are NaN where there is nothing to share."""

    found: int
    """Pixels of the class that the mask has too."""
    there: int
    """Pixels of the class."""
    kept: int
    """Other pixels that the mask leaves alone."""
    rest: int
    """Other pixels."""

    @property
    def recall(self) -> float:
        """Share of the class that is found."""
        return self.found / self.there if self.there else float("nan")

    @property
    def specificity(self) -> float:
        """Share of the other pixels that are kept."""
        return self.kept / self.rest if self.rest else float("nan")

    @property
    def balanced(self) -> float:
        """Mean of both shares."""
        return (self.recall + self.specificity) / 2

    def __add__(self, other: Rates) -> Rates:
        """Return the counts of both."""
        return Rates(
            found=self.found + other.found,
            there=self.there + other.there,
            kept=self.kept + other.kept,
            rest=self.rest + other.rest,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return shares, to four places, and the counts they come from."""
        shares = {"found": self.recall, "kept": self.specificity, "balanced": self.balanced}
        return {
            **{key: json_number(round(value, 4)) for key, value in shares.items()},
            "pixels": [self.found, self.there, self.kept, self.rest],
        }


def rate_scene(scene: LabelledScene, mask: NDArray[np.uint8]) -> dict[str, Rates]:
    """Return the counts of a mask by what they are about.

    ``cloud`` (thick and thin together) always; ``overcast`` and ``snow``, the same counts, for
    scenes of that kind; ``shadow`` and ``invalid`` (cloud and shadow together) where shadow is
    labelled. A pixel that is labelled and has no class counts as wrong.

    Args:
        scene: the scene.
        mask: (y, x) uint8, the four classes, 255 no data.
    """
    labelled = scene.label != NODATA
    truth, given = scene.label[labelled], mask[labelled]
    cloud = _rates(truth, given, CLOUD)
    out = {"cloud": cloud}
    if scene.overcast:
        out["overcast"] = cloud
    if scene.snowy:
        out["snow"] = cloud
    if scene.shadow_labelled:
        out["shadow"] = _rates(truth, given, SHADOW)
        out["invalid"] = _rates(truth, given, CLOUD + SHADOW)
    return out


def pool_rates(each: Iterable[dict[str, Rates]]) -> dict[str, Rates]:
    """Return the counts of several scenes together."""
    total: dict[str, Rates] = {}
    for rates in each:
        for name, counts in rates.items():
            total[name] = total[name] + counts if name in total else counts
    return total


def _rates(truth: NDArray[np.uint8], given: NDArray[np.uint8], values: tuple[int, ...]) -> Rates:
    there = np.isin(truth, values)
    found = np.where(given == NODATA, ~there, np.isin(given, values))
    return Rates(
        found=int((there & found).sum()),
        there=int(there.sum()),
        kept=int((~there & ~found).sum()),
        rest=int((~there).sum()),
    )
