"""Whole numbers in texts of others."""

import pytest

from openeo_cloudmask.digits import MOST, whole_number


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("007", 7), (str(MOST), MOST), (str(MOST + 1), None), ("9" * 5000, None), ("", None),
     ("-1", None), ("+1", None), ("1_0", None), (" 1", None), ("1\n", None), ("²", None),
     ("1e3", None), ("0x1", None)],
)  # fmt: skip
def test_ascii_digits_are_numbers(text: str, number: int | None) -> None:
    assert whole_number(text) == number


def test_the_limit_counts_too() -> None:
    assert [whole_number(str(number), 24) for number in (24, 25)] == [24, None]
