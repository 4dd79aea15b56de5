"""Progress stays readable where names are long and terminals narrow."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from openeo_cloudmask.cli.progress import NAME_CHARS, shorten, window_progress

PRODUCT = "S2A_MSIL1C_20210908T042701_N0301_R133_T46RER_20210908T070248.SAFE"


def test_names_keep_their_beginning_and_end() -> None:
    assert shorten("scene.tif") == "scene.tif"
    short = shorten(PRODUCT)
    assert len(short) == NAME_CHARS
    assert short.startswith("S2A_MSIL1C")
    assert short.endswith("070248.SAFE")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_terminal_shows_name_count_rate_and_time_left(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    with window_progress(PRODUCT, console) as advance:
        for done in range(1, 901):
            advance(done, 900)
    last = re.split(r"[\r\n]", re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", out.getvalue()).strip())[-1]
    assert len(last) <= width
    assert shorten(PRODUCT) in last
    assert re.search(r"900/900 +[\d.]+/s +\S+ left$", last.strip())


def test_a_log_gets_a_line_for_each_tenth() -> None:
    out = io.StringIO()
    with window_progress(PRODUCT, Console(file=out, width=80)) as advance:
        for done in range(1, 901):
            advance(done, 900)
    lines = out.getvalue().splitlines()
    assert len(lines) == 10
    assert re.fullmatch(r".+: 90/900 windows, [\d.]+/s, \d+ s left", lines[0])


def test_nothing_is_shown_before_the_first_window() -> None:
    out = io.StringIO()
    with window_progress("scene", Console(file=out, width=80, force_terminal=True)):
        pass
    assert out.getvalue() == ""
