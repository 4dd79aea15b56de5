"""Whole numbers in texts of others: in addresses, headers and files."""

from __future__ import annotations

MOST = 2**63 - 1
"""The largest number that databases and file systems count to."""


def whole_number(text: str, most: int = MOST) -> int | None:
    """Return the number that a text says in ASCII digits; None where it says none up to ``most``.

    Python's own ``int`` takes signs, underscores and digits of all scripts, and raises an error
    for a number of some thousand digits.
    """
    short = len(text) <= len(str(most))
    number = int(text) if short and text.isascii() and text.isdecimal() else None
    return None if number is None or number > most else number
