"""Runs jobs: from the queue to the cluster to their end, and back from every failure."""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openeo_cloudmask.backend.api.errors import NOT_THE_JOBS_FAULT, WORKERS_DIED, ApiError
from openeo_cloudmask.backend.graph.planning import Planner
from openeo_cloudmask.backend.jobs import clock
from openeo_cloudmask.backend.jobs.cluster import Cluster, describe_failure
from openeo_cloudmask.backend.jobs.database import keep_trying
from openeo_cloudmask.backend.jobs.delivery import Delivery
from openeo_cloudmask.backend.jobs.instant import InstantRuns
from openeo_cloudmask.backend.jobs.journal import Journal, log_line
from openeo_cloudmask.backend.jobs.lease import RENEW_S, Lease
from openeo_cloudmask.backend.jobs.states import ACTIVE, JobStore
from openeo_cloudmask.backend.jobs.storage import ResultStorage
from openeo_cloudmask.backend.jobs.tables import Job
from openeo_cloudmask.backend.jobs.tasks import GraphAnswer, run_graph, warm_up
from openeo_cloudmask.backend.processes.registry import predefined_specs
from openeo_cloudmask.backend.settings import Settings

_log = logging.getLogger(__name__)
_TICK_S = 0.5
_JANITOR_S = 60.0
_WATCH_S = 1.0


@dataclass(slots=True, kw_only=True)
class _Running:
    """A run of a job that the cluster works on."""

    job: Job
    future: Any
    deadline: float
    output_dir: Path
    """Where its worker writes; its name is the run's."""
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


class Engine:
    """The queue of jobs and the threads that serve it."""

    def __init__(
        self,
        settings: Settings,
        jobs: JobStore,
        planner: Planner,
        storage: ResultStorage,
        lease: Lease,
    ) -> None:
        self._settings = settings
        self._jobs = jobs
        self._planner = planner
        self._lease = lease
        self._journal = Journal(jobs, self._progress)
        self._delivery = Delivery(settings, jobs, storage, self._journal)
        self._running: dict[str, _Running] = {}
        self._starting: set[str] = set()
        """Jobs that are begun just now."""
        self._alone: set[str] = set()
        """Jobs that run only while nothing else does: their workers died beside others."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="jobs")
        self._starters = ThreadPoolExecutor(settings.max_running_jobs, thread_name_prefix="start")
        self._cluster: Cluster | None = None
        self._threads: list[threading.Thread] = []
        self.instant = InstantRuns(settings, planner, lambda: self.cluster, self._closing)
        """Runs of synchronous requests."""

    @property
    def cluster(self) -> Cluster:
        """The cluster.

        Raises:
            ApiError: the engine was not started.
        """
        if self._cluster is None:
            raise ApiError("InfrastructureMaintenance", "the server is starting or stopping")
        return self._cluster

    def health(self) -> dict[str, Any]:
        """Return how many workers there are and should be, and whether jobs can run.

        ``status`` is ``ok``, ``degraded`` (some workers are missing, and are being started) or
        ``down`` (no job runs).
        """
        if self._cluster is None or self._closing.is_set():
            return {"status": "down", "workers": 0, "expected": self._settings.workers}
        workers, expected = self._cluster.count()
        status = "ok" if workers and workers >= expected else "degraded" if workers else "down"
        return {"status": status, "workers": workers, "expected": expected}

    def start(self) -> None:
        """Start the cluster, take up the jobs of a server that stopped, and serve the queue.

        Raises:
            BackendError: another server works on these jobs, or no scheduler can be reached.
        """
        self._lease.take()
        self._cluster = Cluster(self._settings, self._journal.put)
        for address in self._cluster.processes():
            self._cluster.client.submit(warm_up, workers=[address], pure=False).add_done_callback(
                lambda future: future.release()
            )
        predefined_specs()  # seconds of imports, better now than at the first request
        self._recover()
        self._journal.start()
        repeated: tuple[tuple[str, float, Callable[[], object]], ...] = (
            ("the janitor", _JANITOR_S, self.clean_up),
            ("the watch over workers", _WATCH_S, self.cluster.mend),
            ("the lease of the jobs", RENEW_S, self._keep_lease),
        )
        self._threads = [threading.Thread(target=self._dispatch_loop, name="queue", daemon=True)]
        self._threads += [
            threading.Thread(target=self._repeat, args=(pause_s, action), name=name, daemon=True)
            for name, pause_s, action in repeated
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop the threads and the cluster; running jobs are taken up at the next start."""
        self._closing.set()
        self._wake.set()
        with self._lock:
            futures = [running.future for running in self._running.values()]
        for future in futures:
            future.cancel()
        for thread in self._threads:
            thread.join(timeout=5)
        self._starters.shutdown(wait=True, cancel_futures=True)
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._journal.stop()
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None
        with contextlib.suppress(ApiError):  # without the database: others wait for a silence
            self._lease.give_back()

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises:
            ApiError: it is queued or running already.
        """
        moved = self._jobs.move(
            job.id, to="queued", allowed=("created", "finished", "error", "canceled"),
            attempts=0, progress=None, started=None, finished=None,
        )  # fmt: skip
        if not moved:
            raise ApiError("JobLocked", "the job is queued or running already")
        self._journal.log(job.id, "info", "the job is queued")
        self._wake.set()

    def note(self, job_id: str, level: str, message: str) -> None:
        """Write a line to a job's log, soon."""
        self._journal.log(job_id, level, message)

    def cancel(self, job_id: str) -> None:
        """Stop a job that is queued or running; others stay as they are."""
        reason = ApiError("JobCanceled", "the job was stopped by its user")
        line = log_line("info", reason)
        self._jobs.move(job_id, to="canceled", allowed=ACTIVE, line=line, finished=clock.now_s())
        self._stop_running(job_id, reason)

    def discard(self, job: Job) -> None:
        """Stop a job that was deleted and delete its files."""
        self._stop_running(job.id, ApiError("JobCanceled", "the job was deleted"))
        self._delivery.delete_leftover(job.id, job.stored_at)

    def clean_up(self) -> int:
        """Delete result files whose time is over and return of how many jobs."""
        return self._delivery.clean_up()

    # -- the threads --------------------------------------------------------------------------

    def _recover(self) -> None:
        """Take up what a server that was killed left behind."""
        shutil.rmtree(self._settings.scratch_dir, ignore_errors=True)
        self._settings.scratch_dir.mkdir(parents=True, exist_ok=True)
        for job in self._jobs.with_status(["running"]):
            self._remove_attempts(job.id)
            self._try_again(job, "the server stopped in the middle of the job")

    def _try_again(self, job: Job, reason: str) -> None:
        """Queue a job that was interrupted, or give it up after a few attempts."""
        if job.attempts < self._settings.max_attempts:
            self._queue_again(job, reason)
            return
        message = f"{reason}, {job.attempts} times in all; it was given up"
        self._fail(job.id, ApiError("InfrastructureBusy", message))

    def _queue_again(self, job: Job, reason: str) -> None:
        if self._jobs.move(job.id, to="queued", allowed=("running",), progress=None):
            self._journal.log(job.id, "warning", f"{reason}; it is started again")

    def _dispatch_loop(self) -> None:
        look_for_lost = time.monotonic() + _JANITOR_S
        while not self._closing.is_set():
            self._wake.wait(timeout=_TICK_S)
            self._wake.clear()
            if self._closing.is_set():
                return
            try:
                self._dispatch()
                self._watch_deadlines()
                if time.monotonic() > look_for_lost:
                    look_for_lost = time.monotonic() + _JANITOR_S
                    self._take_up_lost()
            except ApiError as err:
                _log.warning("the queue waits: %s", err)
                time.sleep(_TICK_S)
            except Exception:  # noqa: BLE001 - this thread has to go on
                _log.exception("the queue stumbled")

    def _dispatch(self) -> None:
        limit = self._settings.max_running_jobs
        while True:
            with self._lock:
                taken = {*self._running, *self._starting}
            if len(taken) >= limit or taken & self._alone:
                return
            # A user may have long jobs in plenty: one place is left for others.
            job = self._jobs.next_queued(
                without=taken, only=self._alone, per_user=max(1, limit - 1)
            )
            if job is None or (job.id in self._alone and taken):
                return
            with self._lock:
                self._starting.add(job.id)
            self._starters.submit(self._start_job, job)

    def _start_job(self, job: Job) -> None:
        """Begin a job, on a thread of its own: its processes may come from slow addresses."""
        try:
            self._begin(job)
        except ApiError as err:
            _log.warning("the queue waits: %s", err)
            self._closing.wait(_TICK_S)
        except Exception:  # noqa: BLE001 - the queue has to go on
            _log.exception("job %s was not begun", job.id)
            self._closing.wait(_TICK_S)
        finally:
            with self._lock:
                self._starting.discard(job.id)
            self._wake.set()

    def _take_up_lost(self) -> None:
        """Take up jobs that only seem to run: their end could not be written down."""
        for job in self._jobs.with_status(["running"]):
            with self._lock:
                lost = job.id not in self._running and job.id not in self._starting
            if lost:
                self._try_again(job, "the end of the job could not be written down")

    def _begin(self, job: Job) -> None:
        attempt = job.attempts + 1
        # A name of its own: of a run that was stopped, tasks and files may still be about.
        output_dir = self._settings.jobs_dir / job.id / f"attempt-{attempt}-{uuid.uuid4().hex[:12]}"
        kept = self._delivery.find_kept(job)
        try:
            request = None if kept else self._planner.plan(
                job.user_id, job.process, job_id=job.id, output_dir=output_dir,
                log_level=job.log_level,
            )  # fmt: skip
        except ApiError as err:
            if err.code in NOT_THE_JOBS_FAULT:
                raise  # the job stays in the queue
            self._fail(job.id, err)
            return
        if not self._jobs.move(
            job.id, to="running", allowed=("queued",), attempts=attempt, started=clock.now_s(),
            progress=0.0,
        ):  # fmt: skip
            return
        job.attempts = attempt
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            self._fail(job.id, ApiError("StorageFailure", f"cannot write: {err.strerror}"))
            return
        if kept:
            self._journal.log(job.id, "info", "the results of the last run are delivered")
            future: Any = Future()
            future.set_result(GraphAnswer(files=kept.files))
        else:
            self._journal.log(job.id, "info", f"the job runs (attempt {attempt})")
            try:
                future = self.cluster.submit(run_graph, request, key=f"graph-{output_dir.name}")
            except Exception as err:  # noqa: BLE001 - dask raises many kinds
                _log.warning("job %s was not handed over: %s", job.id, type(err).__name__)
                self._queue_again(job, "the workers could not be reached")
                return
        self._watch(
            _Running(
                job=job, future=future, output_dir=output_dir,
                results_dir=kept.folder if kept else output_dir,
                deadline=time.monotonic() + self._settings.job_timeout_s,
            )
        )  # fmt: skip

    def _watch(self, running: _Running) -> None:
        with self._lock:
            self._running[running.job.id] = running
            if len(self._running) > 1:
                for one in self._running.values():
                    one.neighbours = True
        running.future.add_done_callback(lambda _: self._end_soon(running))

    def _end_soon(self, running: _Running) -> None:
        with contextlib.suppress(RuntimeError):  # the pool is shut: the next start takes it up
            self._pool.submit(self._end, running)

    def _end(self, running: _Running) -> None:
        job = running.job
        with self._lock:
            if running.ending:
                return
            running.ending = True
        self._alone.discard(job.id)
        try:
            self._write_down(running)
        except Exception:  # noqa: BLE001 - this thread has to go on
            _log.exception("the end of job %s could not be written down", job.id)
        finally:
            shutil.rmtree(running.output_dir, ignore_errors=True)
            with self._lock:
                if self._running.get(job.id) is running:
                    del self._running[job.id]
            getattr(running.future, "release", lambda: None)()  # kept results have none
            self._wake.set()

    def _write_down(self, running: _Running) -> None:
        """Note what became of a job; a database that is away is waited for."""
        job = running.job
        answer = self._fetch(running)
        if self._closing.is_set():
            return
        if running.stopped is not None:
            if running.stopped.code != "JobCanceled":
                self._fail(job.id, running.stopped)
            return
        if answer.error is None:
            try:
                self._deliver(running, answer)
            except ApiError as err:
                self._fail(job.id, err)
            return
        code, message = answer.error
        if code in NOT_THE_JOBS_FAULT:
            keep_trying(lambda: self._try_again(job, message))
        elif code == WORKERS_DIED and running.neighbours:
            self._alone.add(job.id)
            keep_trying(
                lambda: self._queue_again(
                    job, "worker processes died, perhaps because of the jobs beside it"
                )
            )
        else:
            self._fail(job.id, ApiError(code, message))

    def _fetch(self, running: _Running) -> GraphAnswer:
        """Return a run's answer, however long a busy worker takes to hand it over.

        Where the run itself went well, every error is one of the handing over.
        """
        while not self._closing.is_set() and running.stopped is None:
            try:
                answer: GraphAnswer = running.future.result()  # see ``when_done``: no timeout
            except Exception as err:  # noqa: BLE001 - whatever dask raises
                if running.future.status in ("finished", "pending"):
                    self._closing.wait(_TICK_S)
                    continue
                failure = describe_failure(err)
                return GraphAnswer(error=(failure.code, str(failure)))
            return answer
        return GraphAnswer(error=("JobCanceled", "the job was stopped"))

    def _deliver(self, running: _Running, answer: GraphAnswer) -> None:
        job = running.job
        found = self._delivery.deliver(job, running.results_dir, answer.files)
        moved = keep_trying(
            lambda: self._jobs.move(
                job.id, to="finished", allowed=("running",), finished=clock.now_s(),
                progress=100.0, files=found.files, stored_at=found.stored_at,
                expires=found.expires, sealed=None,
            )
        )  # fmt: skip
        if moved:
            self._journal.log(job.id, "info", f"the job is finished: {len(found.files)} files")
        elif found.stored_at is not None and not self._delivery.delete(job.id, found.stored_at):
            self._jobs.add_leftover(job.id, found.stored_at)

    def _fail(self, job_id: str, error: ApiError) -> None:
        line = log_line("error", error, error.code)
        keep_trying(
            lambda: self._jobs.move(
                job_id, to="error", allowed=ACTIVE, line=line, finished=clock.now_s(), sealed=None
            )
        )

    def _stop_running(self, job_id: str, reason: ApiError) -> None:
        with self._lock:
            running = self._running.get(job_id)
        if running is None:
            return
        running.stopped = reason
        running.future.cancel()
        self._end_soon(running)
        with contextlib.suppress(RuntimeError):
            self._pool.submit(self.cluster.stop_work, running.output_dir.name, self._closing)

    def _watch_deadlines(self) -> None:
        now = time.monotonic()
        with self._lock:
            late = [r for r in self._running.values() if now > r.deadline and r.stopped is None]
        for running in late:
            limit = self._settings.job_timeout_s
            self._stop_running(
                running.job.id,
                ApiError("RequestTimeout", f"the job took longer than {limit:g} s"),
            )

    def _progress(self, event: dict[str, Any]) -> float | None:
        """Return how far a job is, 0-100, None where the event is of a run that is over."""
        with self._lock:
            running = self._running.get(event["job_id"])
        if running is None or running.output_dir.name != event["run"]:
            return None
        running.shares[event["part"]] = event["share"]
        share: float = sum(running.shares.values()) / event["parts"]
        return round(min(share, 0.99) * 100, 1)

    def _keep_lease(self) -> None:
        """Stop work where another server has taken over the jobs."""
        if not self._lease.renew():
            _log.critical("another server has taken over the jobs; this one runs none any longer")
            self._closing.set()
            self._wake.set()

    def _repeat(self, pause_s: float, action: Callable[[], object]) -> None:
        while not self._closing.wait(timeout=pause_s):
            try:
                action()
            except ApiError as err:
                _log.warning("%s waits: %s", threading.current_thread().name, err)
            except Exception:  # noqa: BLE001 - this thread has to go on
                _log.exception("%s stumbled", threading.current_thread().name)

    def _remove_attempts(self, job_id: str) -> None:
        for folder in (self._settings.jobs_dir / job_id).glob("attempt-*"):
            shutil.rmtree(folder, ignore_errors=True)
