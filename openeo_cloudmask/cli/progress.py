"""Progress of long work on the terminal: readable at 80 columns, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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


class ScenesProgress:
    """One progress for scenes that are masked one after the other."""

    def __init__(self, count: int, console: Console) -> None:
        """Show nothing before the first window."""
        self._count, self._console = count, console
        self._begin, self._windows, self._said = time.monotonic(), 0, 0
        self._bar: Any = _make_bar(console) if console.is_terminal else None

    def scene(self, index: int, name: str) -> Advance:
        """Return what is called with (done, total) windows of the scene ``index``, from 0 on."""
        before = self._windows
        title = shorten(name)
        if self._count > 1:
            title = f"{index + 1}/{self._count} {title}"

        def advance(done: int, total: int) -> None:
            self._windows = before + done
            share = (index + done / max(total, 1)) / self._count
            rate = self._windows / max(time.monotonic() - self._begin, 1e-9)
            show = self._show_bar if self._bar is not None else self._show_line
            show(title, f"{done}/{total}", f"{rate:.1f}/s", share)

        return advance

    def say(self, text: str) -> None:
        """Write a line, above the bar where there is one."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None and self._bar.live.is_started:
            self._bar.stop()

    def _show_bar(self, title: str, count: str, rate: str, share: float) -> None:
        if not self._bar.tasks:  # not before there is something to show
            self._bar.start()
            self._bar.add_task(title, total=1.0, count=count, rate=rate)
        self._bar.update(
            self._bar.tasks[0].id, completed=share, description=title, count=count, rate=rate
        )

    def _show_line(self, title: str, count: str, rate: str, share: float) -> None:
        tenth = int(_LINES * share + 1e-9)
        if tenth <= self._said:
            return
        self._said = tenth
        left = (time.monotonic() - self._begin) * (1 - share) / share
        self.say(f"{title}: {count} windows, {rate}, {left:.0f} s left")


@contextmanager
def scenes_progress(count: int, console: Console | None = None) -> Iterator[ScenesProgress]:
    """Show name, bar, count, windows per second and time left of all scenes, on stderr.

    Where stderr is no terminal, each tenth is a line.

    Args:
        count: number of scenes.
        console: where to; None is stderr.
    """
    from rich.console import Console

    shown = ScenesProgress(count, console or Console(stderr=True))
    try:
        yield shown
    finally:
        shown.close()


def _make_bar(console: Console) -> Any:  # noqa: ANN401 - rich is imported where it is used
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeftColumn
    from rich.table import Column

    return Progress(
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=8)),
        TextColumn("{task.fields[count]}", table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[rate]}", table_column=Column(no_wrap=True)),
        TimeLeftColumn(compact=True, table_column=Column(no_wrap=True)),
        TextColumn("left", table_column=Column(no_wrap=True)),
        console=console,
        expand=True,
        redirect_stdout=False,  # what is written there may go to a file
    )
