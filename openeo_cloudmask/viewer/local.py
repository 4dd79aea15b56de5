"""Masks made by the viewer itself, in the background, with progress and a way to stop."""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from openeo_cloudmask.classes import style_scheme
from openeo_cloudmask.errors import CloudMaskError
from openeo_cloudmask.models import get_model
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products import ReadOptions
from openeo_cloudmask.products.cog import KEPT_VALUES
from openeo_cloudmask.viewer.speeds import data_folder, note_speed


class State(StrEnum):
    """Where a task stands; the words are openEO's."""

    RUNNING = "running"
    FINISHED = "finished"
    CANCELED = "canceled"
    ERROR = "error"


_log = logging.getLogger(__name__)
_PATH = re.compile(r"(?<![\w:/.])/(?:[^\s/:,;'\"()]+/)+(?=[^\s/:,;'\"()])")


def plain_text(error: BaseException) -> str:
    """Return an error's message; of a path on this machine only the last part, as users know it."""
    return _PATH.sub("", str(error))


class _StopError(Exception):
    """Raised in the worker when the user cancels."""


@dataclass(slots=True, kw_only=True)
class Task:
    """One piece of work on a thread; read from the pages, written by the worker."""

    title: str
    scene: str | None = None
    """Title of the scene it works on."""
    classes: bool = True
    """Whether it makes a mask of classes; percentages can only be downloaded."""
    output: Path | None = None
    percentages: Path | None = None
    """What the classes of the mask were chosen from, where it is kept."""
    product: Path | None = None
    """The product that it fetched."""
    state: State = State.RUNNING
    share: float = 0.0
    """Of the work done, 0-1."""
    message: str = ""
    """What went wrong, or makes the mask doubtful, for people."""
    started: float = field(default_factory=time.monotonic)
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def cancel(self) -> None:
        """Ask the worker to stop; it does so after the current window."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the work is over, at most so long."""
        if self._thread is not None:
            self._thread.join(seconds)

    def report(self, share: float) -> None:
        """Note the share of the work done; stops the worker where the user canceled."""
        self.share = max(0.0, min(1.0, share))
        if self._stop.is_set():
            raise _StopError


def start_task(title: str, work: Callable[[Task], Path | None]) -> Task:
    """Return a task whose ``work`` runs on a thread of its own.

    ``work`` gets the task, calls ``task.report`` now and then, and returns the file it made.
    """
    task = Task(title=title)

    def run() -> None:
        try:
            task.output = work(task)
        except _StopError:
            task.state, task.message = State.CANCELED, "stopped; nothing was kept"
        except CloudMaskError as err:
            task.state, task.message = State.ERROR, plain_text(err)
        except Exception:  # noqa: BLE001 - a thread's error would be lost; the page shows it
            task.state = State.ERROR
            _log.exception("a task of the viewer failed")
            task.message = "unexpected error; the viewer's log has the details"
        else:
            task.share, task.state = 1.0, State.FINISHED

    thread = threading.Thread(target=run, name=f"viewer-{task.id}", daemon=True)
    task._thread = thread  # noqa: SLF001 - the task's own maker
    thread.start()
    return task


def start_mask(
    scene: Path,
    output: Path,
    options: MaskOptions,
    *,
    sensor: str | None = None,
    read: ReadOptions | None = None,
    pixels: int = 0,
) -> Task:
    """Return the task that masks ``scene`` into ``output``, as ``cloudmask run`` does.

    Beside a mask of classes their percentages are kept, unless they are more than
    ``KEPT_VALUES``.

    Args:
        scene: its file.
        output: the GeoTIFF to write.
        options: model, style and so on.
        sensor: id of the sensor, where the file does not say it.
        read: what else the file does not say of itself.
        pixels: of the scene, as far as they are known.
    """
    from dataclasses import replace

    from openeo_cloudmask.products import mask_product

    chosen = options if sensor is None else replace(options, sensor=sensor)

    classes = len(style_scheme(chosen.output_style, get_model(chosen.model).scheme).classes)
    keeps = chosen.categorise and pixels * classes <= KEPT_VALUES
    kept = output.with_name(f"{output.stem}-percent.tif") if keeps else None

    def work(task: Task) -> Path:
        report = mask_product(
            scene,
            output,
            chosen,
            read=read,
            overwrite=True,
            percentages=kept,
            progress=lambda done, total: task.report(done / max(total, 1)),
        )
        task.message, task.percentages = "; ".join(report.warnings), kept
        note_speed(data_folder(), chosen.model, pixels=pixels, seconds=report.seconds)
        return output

    task = start_task(f"{options.model} on {scene.name}", work)
    task.classes = options.categorise
    return task
