"""What jobs and their workers say, on its way to the database."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from openeo_cloudmask.backend.jobs import clock
from openeo_cloudmask.backend.jobs.database import keep_trying
from openeo_cloudmask.backend.jobs.runtime import MAX_MESSAGE
from openeo_cloudmask.backend.jobs.states import LEVELS, JobStore

_log = logging.getLogger(__name__)
_GATHER_S = 0.05
_MANY = 500


class Journal:
    """Writes log lines and progress down, many at a time, in a thread of its own.

    Args:
        jobs: where lines and progress are written.
    """

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs
        self._on_progress: Callable[[dict[str, Any]], float | None] = lambda _: None
        self._events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="journal", daemon=True)

    def start(self, on_progress: Callable[[dict[str, Any]], float | None]) -> None:
        """Begin to write.

        Args:
            on_progress: takes a progress event and returns the job's progress, 0-100, or None
                where the event is of a run that is over.
        """
        self._on_progress = on_progress
        self._thread.start()

    def stop(self) -> None:
        """Write what is waiting, and end."""
        self._events.put(None)
        self._thread.join(timeout=5)

    def put(self, event: dict[str, Any]) -> None:
        """Take an event as ``runtime.emit`` sends it."""
        self._events.put(event)

    def log(self, job_id: str, level: str, message: str) -> None:
        """Write a line to a job's log, soon."""
        self.put({"kind": "log", "job_id": job_id, "time": clock.now_s(), "level": level,
                  "message": message})  # fmt: skip

    def flush(self, timeout_s: float = 5.0) -> None:
        """Return once all that was taken before is written; after ``timeout_s`` in any case."""
        written = threading.Event()
        self.put({"kind": "flush", "job_id": "", "written": written})
        written.wait(timeout_s)

    def _serve(self) -> None:
        events: list[dict[str, Any] | None] = []
        while None not in events:
            events = [self._events.get()]
            time.sleep(_GATHER_S)
            with contextlib.suppress(queue.Empty):
                while len(events) < _MANY:
                    events.append(self._events.get_nowait())
            try:
                self._write([event for event in events if event is not None])
            except Exception:  # noqa: BLE001 - this thread has to go on
                _log.exception("log lines were lost")

    def _write(self, events: list[dict[str, Any]]) -> None:
        lines = [
            {"job_id": event["job_id"], **log_line(**event)}
            for event in events
            if event["kind"] == "log" and not event["job_id"].startswith("sync-")
        ]
        if lines:
            keep_trying(lambda: self._jobs.add_logs(lines))
        changed: dict[str, float] = {}
        for event in events:
            if event["kind"] == "progress":
                progress = self._on_progress(event)
                if progress is not None:
                    changed[event["job_id"]] = progress
        for job_id, progress in changed.items():
            self._jobs.note_progress(job_id, progress)
        for event in events:
            if event["kind"] == "flush":
                event["written"].set()


def log_line(
    level: str, message: object, code: str | None = None, time: float | None = None, **_: object
) -> dict[str, Any]:
    """Return a line as the table of log lines has it, without its job."""
    return {
        "time": clock.now_s() if time is None else float(time),
        "level": level if level in LEVELS else "info",
        "code": code,
        "message": str(message)[:MAX_MESSAGE],
    }
