"""Progress stays readable where names are long and terminals narrow."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from openeo_cloudmask.cli.progress import NAME_CHARS, scenes_progress, shorten

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
    with scenes_progress(1, console) as shown:
        advance = shown.scene(0, PRODUCT)
        for done in range(1, 901):
            advance(done, 900)
    last = re.split(r"[\r\n]", re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", out.getvalue()).strip())[-1]
    assert len(last) <= width
    assert shorten(PRODUCT) in last
    assert re.search(r"900/900 +[\d.]+/s +\S+ left$", last.strip())


def test_a_log_gets_a_line_for_each_tenth() -> None:
    out = io.StringIO()
    with scenes_progress(1, Console(file=out, width=80)) as shown:
        advance = shown.scene(0, PRODUCT)
        for done in range(1, 901):
            advance(done, 900)
    lines = out.getvalue().splitlines()
    assert len(lines) == 10
    assert re.fullmatch(r".+: 90/900 windows, [\d.]+/s, \d+ s left", lines[0])


def test_nothing_is_shown_before_the_first_window() -> None:
    out = io.StringIO()
    with scenes_progress(1, Console(file=out, width=80, force_terminal=True)) as shown:
        shown.scene(0, "scene")
    assert out.getvalue() == ""


def test_scenes_have_one_progress() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None)
    with scenes_progress(2, console) as shown:
        for index, name in enumerate((PRODUCT, "second.tif")):
            advance = shown.scene(index, name)
            for done in range(1, 51):
                advance(done, 50)
            shown.say(f"wrote {index}")
    text = re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", out.getvalue())
    lines = [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
    assert "wrote 0" in lines
    assert "wrote 1" in lines
    assert max(map(len, lines)) <= 80
    assert re.search(r"^2/2 second.tif .*50/50 +[\d.]+/s +\S+ left$", lines[-1])
    assert any(line.startswith(f"1/2 {shorten(PRODUCT)} ") for line in lines)


def test_a_log_of_scenes_has_ten_lines_for_all() -> None:
    out = io.StringIO()
    with scenes_progress(4, Console(file=out, width=80)) as shown:
        for index in range(4):
            advance = shown.scene(index, "scene")
            for done in range(1, 101):
                advance(done, 100)
    lines = out.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[-1].startswith("4/4 scene: 100/100 windows, ")
    assert lines[-1].endswith(" 0 s left")
