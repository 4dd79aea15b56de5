"""Runs of jobs on the cluster, from their start to their end."""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openeo_cloudmask.backend.api.errors import NOT_THE_JOBS_FAULT, WORKERS_DIED, ApiError
from openeo_cloudmask.backend.jobs.cluster import Cluster, describe_failure
from openeo_cloudmask.backend.jobs.database import keep_trying
from openeo_cloudmask.backend.jobs.outcomes import Outcomes
from openeo_cloudmask.backend.jobs.tables import Job
from openeo_cloudmask.backend.jobs.tasks import GraphAnswer

_log = logging.getLogger(__name__)
TICK_S = 0.5
"""Between two looks at what has no signal of its own."""


@dataclass(slots=True, kw_only=True)
class Run:
    """A run of a job, from the moment it is chosen."""

    job: Job
    output_dir: Path
    """Where its worker writes; its name is the run's."""
    future: Any = None
    """None until the cluster has it."""
    deadline: float = math.inf
    results_dir: Path
    """Where its results are when it is over: there, or where a former run's are kept."""
    shares: dict[int, float] = field(default_factory=dict)
    """Part of the mask -> how much of it is done, 0-1."""
    neighbours: bool = False
    """Whether other jobs ran at the same time, so that they may have killed its workers."""
    stopped: ApiError | None = None
    """Why it was stopped from here, if it was."""
    ending: bool = False
    """Whether a thread sees to its end already."""


class Runs:
    """The runs of now, and the threads that see to their ends.

    Args:
        outcomes: writes down what became of a job.
        cluster: returns the cluster; raises where none is running.
        closing: set when the server stops.
        wake: is set when there is room for another job.
    """

    def __init__(
        self,
        outcomes: Outcomes,
        cluster: Callable[[], Cluster],
        closing: threading.Event,
        wake: threading.Event,
    ) -> None:
        self._outcomes = outcomes
        self._cluster = cluster
        self._closing = closing
        self._wake = wake
        self._running: dict[str, Run] = {}
        self._alone: set[str] = set()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="jobs")

    def taken(self) -> set[str]:
        """Return the jobs that run or are begun just now."""
        with self._lock:
            return set(self._running)

    def alone(self) -> set[str]:
        """Return the jobs that run only while nothing else does: workers died beside others."""
        with self._lock:
            return set(self._alone)

    def reserve(self, run: Run) -> None:
        """Take a place for a run that is begun now.

        From here on it counts as a neighbour: the cluster may have it, and lose it, long before
        the thread that handed it over goes on.
        """
        with self._lock:
            run.neighbours = bool(self._running)
            for one in self._running.values():
                one.neighbours = one.neighbours or not one.ending
            self._running[run.job.id] = run

    def give_up(self, run: Run) -> None:
        """End the reservation of a run that was not begun."""
        with self._lock:
            if run.future is None:
                del self._running[run.job.id]
        self._wake.set()

    def watch(self, run: Run, future: Any) -> None:  # noqa: ANN401
        """See to the end of a run that the cluster has."""
        with self._lock:
            run.future = future
        if run.stopped is not None:
            self._cancel(run)
        future.add_done_callback(lambda _: self._end_soon(run))

    def stop(self, job_id: str, reason: ApiError) -> None:
        """Stop a job's run, if there is one; one that is begun just now, as soon as it is."""
        with self._lock:
            run = self._running.get(job_id)
            if run is None:
                return
            run.stopped = reason
        if run.future is not None:
            self._cancel(run)

    def _cancel(self, run: Run) -> None:
        run.future.cancel()
        self._end_soon(run)
        with contextlib.suppress(RuntimeError):
            self._pool.submit(self._cluster().stop_work, run.output_dir.name, self._closing)

    def stop_late(self, limit_s: float) -> None:
        """Stop runs whose time is over; ``limit_s`` is what they were given."""
        now = time.monotonic()
        with self._lock:
            late = [r for r in self._running.values() if now > r.deadline and r.stopped is None]
        for run in late:
            message = f"the job took longer than {limit_s:g} s"
            self.stop(run.job.id, ApiError("RequestTimeout", message))

    def progress(self, event: dict[str, Any]) -> float | None:
        """Return how far a job is, 0-100, None where the event is of a run that is over."""
        with self._lock:
            run = self._running.get(event["job_id"])
        if run is None or run.output_dir.name != event["run"]:
            return None
        run.shares[event["part"]] = event["share"]
        share: float = sum(run.shares.values()) / event["parts"]
        return round(min(share, 0.99) * 100, 1)

    def cancel(self) -> None:
        """Cancel all runs, as the server stops; they are taken up at the next start."""
        with self._lock:
            futures = [run.future for run in self._running.values()]
        for future in filter(None, futures):
            future.cancel()

    def close(self) -> None:
        """Wait for the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _end_soon(self, run: Run) -> None:
        with contextlib.suppress(RuntimeError):  # the pool is shut: the next start takes it up
            self._pool.submit(self._end, run)

    def _end(self, run: Run) -> None:
        job = run.job
        with self._lock:
            if run.ending:
                return
            run.ending = True
            self._alone.discard(job.id)
        try:
            self._write_down(run)
        except Exception:  # noqa: BLE001 - this thread has to go on
            _log.exception("the end of job %s could not be written down", job.id)
        finally:
            shutil.rmtree(run.output_dir, ignore_errors=True)
            with self._lock:
                if self._running.get(job.id) is run:
                    del self._running[job.id]
            getattr(run.future, "release", lambda: None)()  # kept results have none
            self._wake.set()

    def _write_down(self, run: Run) -> None:
        """Note what became of a job; a database that is away is waited for."""
        job = run.job
        answer = self._fetch(run)
        if self._closing.is_set():
            return
        if run.stopped is not None:
            if run.stopped.code != "JobCanceled":
                self._outcomes.fail(job.id, run.stopped)
            return
        if answer.error is None:
            try:
                self._outcomes.deliver(job, run.results_dir, answer)
            except ApiError as err:
                self._outcomes.fail(job.id, err)
            return
        code, message = answer.error
        if code in NOT_THE_JOBS_FAULT:
            keep_trying(lambda: self._outcomes.try_again(job, message))
        elif code == WORKERS_DIED and run.neighbours:
            with self._lock:
                self._alone.add(job.id)
            keep_trying(
                lambda: self._outcomes.queue_again(
                    job, "worker processes died, perhaps because of the jobs beside it"
                )
            )
        else:
            self._outcomes.fail(job.id, ApiError(code, message))

    def _fetch(self, run: Run) -> GraphAnswer:
        """Return a run's answer, however long a busy worker takes to hand it over.

        Where the run itself went well, every error is one of the handing over.
        """
        while not self._closing.is_set() and run.stopped is None:
            try:
                answer: GraphAnswer = run.future.result()  # see ``when_done``: no timeout
            except Exception as err:  # noqa: BLE001 - whatever dask raises
                if run.future.status in ("finished", "pending"):
                    self._closing.wait(TICK_S)
                    continue
                failure = describe_failure(err)
                return GraphAnswer(error=(failure.code, str(failure)))
            return answer
        return GraphAnswer(error=("JobCanceled", "the job was stopped"))
