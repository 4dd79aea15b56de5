"""What a command does where its output cannot go."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from openeo_cloudmask.cli import main, stdout

COMMANDS = (["--version"], ["--help"], ["udf"], ["models"], ["models", "--json"], ["run", "--help"])


def _status(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(sys, "argv", ["cloudmask", *arguments])
    monkeypatch.setattr(sys, "stderr", sys.stderr)  # put back where it is replaced
    with pytest.raises(SystemExit) as end:  # noqa: PT012
        main()
        sys.exit(0)
    return end.value.code


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", COMMANDS)
@pytest.mark.parametrize("write_through", [0, 1])
def test_a_full_disk_is_told_in_a_sentence(
    arguments: list[str],
    write_through: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        full.reconfigure(write_through=bool(write_through))  # type: ignore[attr-defined]
        monkeypatch.setattr(sys, "stdout", full)
        assert _status(arguments, monkeypatch) == 2
        assert sys.stdout is full
    told = capsys.readouterr().err
    assert told == "Error: the standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_closed_pipe_ends_a_command_without_a_word(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert _status(arguments, monkeypatch) == 1
    assert capsys.readouterr().err == ""


def test_what_was_printed_without_being_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault would come up when Python ends, with a traceback and status 120."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit) as end, stdout.told_stdout():
            print("a line")  # noqa: T201
    assert end.value.code == 1


def test_a_command_runs_without_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert _status(["models"], monkeypatch) == 0
