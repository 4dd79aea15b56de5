"""Progress of long work on the terminal: readable at 80 columns, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

NAME_CHARS = 26
_LINES = 10
"""Lines that a run writes to a log: one for each tenth."""

Advance = Callable[[int, int], None]
"""Called with (done, total)."""


def shorten(name: str, chars: int = NAME_CHARS) -> str:
    """Return ``name`` in at most ``chars`` characters: its beginning and its end."""
    if len(name) <= chars:
        return name
    head = (chars - 1) // 2
    return f"{name[:head]}…{name[len(name) - (chars - 1 - head) :]}"


@contextmanager
def window_progress(name: str, console: Console | None = None) -> Iterator[Advance]:
    """Show name, bar, count, windows per second and time left, on stderr.

    Nothing is shown before the first window. Where stderr is no terminal, each tenth is a line.

    Args:
        name: of the scene; shortened where it is long.
        console: where to; None is stderr.
    """
    from rich.console import Console

    console = console or Console(stderr=True)
    with (_bar if console.is_terminal else _lines)(shorten(name), console) as advance:
        yield advance


@contextmanager
def _bar(name: str, console: Console) -> Iterator[Advance]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeftColumn
    from rich.table import Column

    bar = Progress(
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=8)),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[rate]}", table_column=Column(no_wrap=True)),
        TimeLeftColumn(compact=True, table_column=Column(no_wrap=True)),
        TextColumn("left", table_column=Column(no_wrap=True)),
        console=console,
        expand=True,
    )
    task = bar.add_task(name, total=None, rate="", start=False)

    def advance(done: int, total: int) -> None:
        if not bar.tasks[0].started:  # not before there is something to show
            bar.start()
            bar.start_task(task)
        speed = bar.tasks[0].speed
        bar.update(
            task, completed=done, total=total, rate="" if speed is None else f"{speed:.1f}/s"
        )

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()


@contextmanager
def _lines(name: str, console: Console) -> Iterator[Advance]:
    begin, said = time.monotonic(), 0

    def advance(done: int, total: int) -> None:
        nonlocal said
        tenth = _LINES * done // max(total, 1)
        if tenth <= said:
            return
        said = tenth
        spent = time.monotonic() - begin
        left = spent * (total - done) / done
        console.print(
            f"{name}: {done}/{total} windows, {done / max(spent, 1e-9):.1f}/s, {left:.0f} s left",
            highlight=False, soft_wrap=True,
        )  # fmt: skip

    yield advance
