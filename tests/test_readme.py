"""The README's first program runs offline and prints what the README says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FIRST_PROGRAM = r"```python\n(.*?)```\n+```text\n(.*?)```"
README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_first_program_prints_what_stands_below_it(tmp_path):
    pytest.importorskip("torch")
    text = README.read_text(encoding="utf-8")
    program, output = re.search(FIRST_PROGRAM, text, re.DOTALL).groups()
    ran = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    given, expected = ran.stdout.split("\n"), output.split("\n")
    assert len(given) == len(expected)
    for line, wanted in zip(given, expected, strict=True):
        # Another processor may round a pixel otherwise: words are exact, shares within 0.5 %.
        assert re.sub(r"[\d.]+", "#", line) == re.sub(r"[\d.]+", "#", wanted)
        for number, known in zip(
            re.findall(r"[\d.]+(?=%)", line), re.findall(r"[\d.]+(?=%)", wanted), strict=True
        ):
            assert abs(float(number) - float(known)) <= 0.5


def test_the_first_lines_hold_what_a_newcomer_needs():
    head = "\n".join(README.read_text(encoding="utf-8").split("\n")[:32])
    assert "![" in head
    assert "make demo" in head
    assert "```python" in head
