"""What a process knows of its run: where it may write, what it may do, whether to stop.

The specification travels to worker processes with every task. It holds no secrets.
"""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openeo_cloudmask.backend.api.errors import ApiError

TOPIC = "openeo-cloudmask"
"""Name of the dask events by which workers tell the server how far they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One run of a process graph."""

    job_id: str
    output_dir: Path
    """Where result files are written; seen by the server and by all workers."""
    collections_dir: Path
    weights_dir: Path
    """Weights files that users may name."""
    allow_any_udf: bool = False
    local: bool = False
    """Whether it was started by who owns this machine: options may name files of it."""
    stac_hosts: tuple[str, ...] = ()
    synchronous: bool = False
    """Whether somebody waits for the answer, which is one file."""
    max_pixels: int | None = None
    """Most pixels times bands times dates that may be loaded; None for no limit."""
    log_level: str = "info"
    tile: tuple[int, int, int] | None = None
    """Zoom, column and row of the one map tile that is wanted; None for everything."""
    margin_px: int = 0
    """Pixels around a tile that the models of the graph look at."""
    public_url: str | None = None
    """Where clients reach the server, where that is known; items of masks refer to it."""

    @property
    def name(self) -> str:
        """Name of the run, unlike that of any other; keys of its tasks hold it."""
        return self.output_dir.name


@dataclass(frozen=True, slots=True, kw_only=True)
class InputItem:
    """A STAC item that a run loaded."""

    href: str | None
    """None where the server's address is not known."""
    day: str
    """When it was taken, e.g. ``2024-05-01``."""
    platform: str | None = None
    """The satellite, e.g. ``sentinel-2a``; None where the item does not say it."""


@dataclass(slots=True, kw_only=True)
class Run:
    """A run as it goes on, in the process that drives it."""

    spec: RunSpec
    files: list[dict[str, Any]] = field(default_factory=list)
    """Result files written so far: name, media type, roles and STAC fields."""
    inputs: list[InputItem] = field(default_factory=list)
    """The items that were loaded."""
    sources: dict[str, Sequence[Any]] = field(default_factory=dict)
    """Name of a loaded cube's array -> ``cubes.read.DateCube`` of each date, where it is read."""
    masks: dict[str, Any] = field(default_factory=dict)
    """Name of a mask's array -> ``cubes.masking.MaskSource``, what it is made of."""


_current: contextvars.ContextVar[Run] = contextvars.ContextVar("openeo_cloudmask_run")


def current_run() -> Run:
    """Return the run this code is part of.

    Raises:
        ApiError: it is part of none.
    """
    try:
        return _current.get()
    except LookupError:
        raise ApiError("Internal", "a process was called outside of a run") from None


@contextlib.contextmanager
def running(run: Run) -> Iterator[Run]:
    """Make ``run`` the current one."""
    token = _current.set(run)
    try:
        yield run
    finally:
        _current.reset(token)


listeners: list[Callable[[dict[str, Any]], None]] = []
"""Called with events, in the process they come from."""


MAX_MESSAGE = 2000
"""Characters of a line of a log, and of the reason of an error."""


def emit(spec: RunSpec, **event: Any) -> None:  # noqa: ANN401 - JSON
    """Tell the server something about a run."""
    message = {"job_id": spec.job_id, "run": spec.name, "time": time.time(), **event}
    worker = _worker()
    if worker is not None:
        worker.log_event(TOPIC, message)
    for listener in listeners:
        listener(message)


def log(spec: RunSpec, level: str, message: str, code: str | None = None) -> None:
    """Write a line to the job's log."""
    emit(spec, kind="log", level=level, message=message[:MAX_MESSAGE], code=code)


def check_cancelled() -> None:
    """Stop the task this code is part of if its result is no longer wanted.

    Raises:
        ApiError: the task was cancelled.
    """
    worker = _worker()
    if worker is None:
        return
    from distributed.worker import thread_state

    key = getattr(thread_state, "key", None)
    task = worker.state.tasks.get(key)
    if key is not None and (task is None or task.state == "cancelled"):
        raise ApiError("JobCanceled", "the job was stopped")


def _worker() -> Any:  # noqa: ANN401 - dask has no types
    import sys

    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None
