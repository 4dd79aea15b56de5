"""From reflectance to what a third-party model takes: counts, fill, value scaling of MLM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.errors import CatalogError, InputError

Step = tuple[str, float, float]
"""Kind and two numbers: ``affine`` (subtract, divide) or ``clip`` (low, high)."""

_REFLECTANCE_LIMIT = 2.0
"""Statistics above this are not of reflectance, which hardly exceeds 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """What happens to the pixels of each band before the network sees them."""

    counts: float = 1.0
    """What reflectance 1 is in the model's units."""
    offset: float = 0.0
    """What reflectance 0 is there."""
    fill: float | None = None
    """What stands where nothing was seen, in these units; None where not stated."""
    steps: tuple[tuple[Step, ...], ...]
    """One tuple for each band."""
    dtype: str = "float32"

    def apply(
        self, windows: NDArray[np.float32], valid: NDArray[np.bool_], model: str
    ) -> NDArray[Any]:
        """Return (band, y, x) as the model takes it.

        Args:
            windows: (band, y, x) float32, reflectance.
            valid: (y, x) bool.
            model: its id, for the message.

        Raises:
            InputError: a pixel was not seen, and the item does not say what stands for it.
        """
        pixels = windows * np.float32(self.counts) + np.float32(self.offset)
        if not valid.all():
            if self.fill is None:
                raise InputError(
                    f"the item of {model!r} does not say what stands for no-data, and the scene "
                    "has pixels that were not seen; say so with --assume no-data=0 "
                    "(assume=['no-data=0'])"
                )
            pixels[:, ~valid] = self.fill
        for plane, steps in zip(pixels, self.steps, strict=True):
            for kind, first, second in steps:
                plane[:] = (
                    np.clip(plane, first, second) if kind == "clip" else (plane - first) / second
                )
        if np.dtype(self.dtype).kind in "iu":
            limits = np.iinfo(self.dtype)
            pixels = np.clip(np.rint(pixels), limits.min, limits.max)
        return pixels.astype(self.dtype, copy=False)


def parse_scaling(given: object, bands: int, place: str) -> tuple[tuple[Step, ...], ...]:
    """Return the steps of each band in a ``value_scaling``.

    Raises:
        CatalogError: it is no scaling of that many bands, or asks for a function.
    """
    if given is None:
        return ((),) * bands
    entries = [given] if isinstance(given, Mapping) else given
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        raise CatalogError(f"{place} is {given!r}; expected a list of scalings")
    if len(entries) not in (1, bands):
        raise CatalogError(f"{place} has {len(entries)} entries; expected 1 or {bands}")
    steps = tuple(_parse_step(entry, f"{place}[{i}]") for i, entry in enumerate(entries))
    return steps * bands if len(steps) == 1 else steps


_NAMES: Mapping[str, tuple[str, ...]] = {
    "min-max": ("minimum", "maximum"),
    "z-score": ("mean", "stddev"),
    "clip": ("minimum", "maximum"),
    "clip-min": ("minimum",),
    "clip-max": ("maximum",),
    "offset": ("value",),
    "scale": ("value",),
}


def _parse_step(entry: object, place: str) -> tuple[Step, ...]:
    if entry is None or (isinstance(entry, Mapping) and entry.get("type") is None):
        return ()
    kind = str(entry.get("type")) if isinstance(entry, Mapping) else ""
    if not isinstance(entry, Mapping) or kind not in _NAMES:
        raise CatalogError(f"{place}.type is {kind!r}; expected one of {', '.join(_NAMES)}")
    numbers = [entry.get(name) for name in _NAMES[kind]]
    for name, number in zip(_NAMES[kind], numbers, strict=True):
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise CatalogError(f"{place}.{name} is {number!r}; expected a number")
    first, *rest = (float(number) for number in numbers if number is not None)
    second = rest[0] if rest else 0.0
    steps: dict[str, Step] = {
        "min-max": ("affine", first, second - first),
        "z-score": ("affine", first, second),
        "clip": ("clip", first, second),
        "clip-min": ("clip", first, np.inf),
        "clip-max": ("clip", -np.inf, first),
        "offset": ("affine", first, 1.0),
        "scale": ("affine", 0.0, first),
    }
    step = steps[kind]
    if step[0] == "affine" and step[2] == 0:
        raise CatalogError(f"{place} divides by 0: {dict(entry)}")
    return (step,)


def is_of_counts(steps: Sequence[Sequence[Step]]) -> bool:
    """Return whether the scaling can only be one of counts: reflectance is never that large."""
    sizes = [
        max(abs(number) for number in step[1:] if np.isfinite(number))
        for band in steps
        for step in band
    ]
    return bool(sizes) and max(sizes) > _REFLECTANCE_LIMIT
