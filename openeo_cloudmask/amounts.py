"""Amounts for cloud and for cloud shadow in one text: ``120m``, or ``cloud=120m,shadow=60m``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from openeo_cloudmask.errors import OptionError

KINDS = ("cloud", "shadow")
PIXELS = "px"
UNITS: Mapping[str, Mapping[str, float]] = {
    # Option -> unit -> how much it is in the first of them; pixels are counted as they are.
    "buffer": {"m": 1, "km": 1e3, PIXELS: 1},
    "min_area": {"m2": 1, "ha": 1e4, "km2": 1e6, PIXELS: 1},
    "threshold": {"": 1},
}
EXAMPLES = {
    "buffer": "120m, 12px or cloud=120m,shadow=60m",
    "min_area": "1ha, 5000m2, 50px or cloud=1ha,shadow=0.5ha",
    "threshold": "0.4 or cloud=0.4,shadow=0.3",
}
_NUMBER = re.compile(r"([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([a-z0-9]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """A distance, an area or a probability."""

    value: float
    """Metres, square metres, pixels, or a share 0-1."""
    pixels: bool
    """Whether it is counted in pixels."""


def parse_amounts(name: str, text: str) -> dict[str, Amount]:
    """Return the amounts of ``cloud`` and ``shadow`` in ``text``; one that is not named is absent.

    Args:
        name: option they belong to, a key of ``UNITS``.
        text: one amount for both, or ``cloud=...``, ``shadow=...`` or both, parted by commas.

    Raises:
        OptionError: ``text`` is not of that form, or an amount is out of range.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 1 and "=" not in parts[0]:
        amount = _parse_one(name, text, parts[0])
        return dict.fromkeys(KINDS, amount)
    found: dict[str, Amount] = {}
    for part in parts:
        kind, _, given = (piece.strip() for piece in part.partition("="))
        if kind not in KINDS or kind in found:
            raise _wrong(name, text)
        found[kind] = _parse_one(name, text, given)
    return found


def _parse_one(name: str, text: str, given: str) -> Amount:
    units = UNITS[name]
    match = _NUMBER.fullmatch(given)
    if match is None:
        raise _wrong(name, text)
    unit = match[2] or next(iter(units))
    if unit not in units:
        raise _wrong(name, text)
    value = float(match[1]) * units[unit]
    if not math.isfinite(value) or (name == "threshold" and not 0 < value <= 1):
        raise _wrong(name, text)
    return Amount(value=value, pixels=unit == PIXELS)


def _wrong(name: str, text: str) -> OptionError:
    units = [unit for unit in UNITS[name] if unit]
    expected = f"an amount in {', '.join(units)}" if units else "a probability above 0, up to 1"
    return OptionError(f"{name} is {text!r}; expected {expected}, such as {EXAMPLES[name]}")
