"""Runs jobs: from the queue to the cluster to the result storage, and back from every failure."""

from __future__ import annotations

import contextlib
import logging
import queue
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openeo_cloudmask.backend import clock
from openeo_cloudmask.backend.cluster import Cluster, describe_failure
from openeo_cloudmask.backend.database import keep_trying
from openeo_cloudmask.backend.errors import ApiError
from openeo_cloudmask.backend.jobs import ACTIVE, LEVELS, JobStore
from openeo_cloudmask.backend.planning import Planner
from openeo_cloudmask.backend.processes.registry import predefined_specs
from openeo_cloudmask.backend.security import unseal
from openeo_cloudmask.backend.settings import TEMPORARY_DAYS, Settings
from openeo_cloudmask.backend.storage import ResultStorage, deliver_private
from openeo_cloudmask.backend.tables import Job
from openeo_cloudmask.backend.tasks import GraphAnswer, run_graph, warm_up

_log = logging.getLogger(__name__)
_TICK_S = 0.5
_JANITOR_S = 60.0
_ORPHAN_S = 3600.0
_MAX_LOG_MESSAGE = 2000


@dataclass(slots=True, kw_only=True)
class _Running:
    """A job that the cluster works on."""

    job: Job
    future: Any
    deadline: float
    output_dir: Path
    shares: dict[int, float] = field(default_factory=dict)
    """Part of the mask -> how much of it is done, 0-1."""
    stopped: ApiError | None = None
    """Why it was stopped from here, if it was."""


class Engine:
    """The queue of jobs and the threads that serve it."""

    def __init__(
        self, settings: Settings, jobs: JobStore, planner: Planner, storage: ResultStorage
    ) -> None:
        self._settings = settings
        self._jobs = jobs
        self._planner = planner
        self._storage = storage
        self._events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="jobs")
        self._cluster: Cluster | None = None
        self._threads: list[threading.Thread] = []

    @property
    def cluster(self) -> Cluster:
        """The cluster.

        Raises:
            ApiError: the engine was not started.
        """
        if self._cluster is None:
            raise ApiError("InfrastructureMaintenance", "the server is starting or stopping")
        return self._cluster

    def start(self) -> None:
        """Start the cluster, take up the jobs of a server that stopped, and serve the queue."""
        self._cluster = Cluster(self._settings, self._events.put)
        for address in self._cluster.processes():
            self._cluster.client.submit(warm_up, workers=[address], pure=False).add_done_callback(
                lambda future: future.release()
            )
        predefined_specs()  # seconds of imports, better now than at the first request
        self._recover()
        loops = (self._dispatch_loop, self._event_loop, self._janitor_loop)
        self._threads = [
            threading.Thread(target=loop, name=loop.__name__, daemon=True) for loop in loops
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop the threads and the cluster; running jobs are taken up at the next start."""
        self._closing.set()
        self._wake.set()
        self._events.put(None)
        with self._lock:
            futures = [running.future for running in self._running.values()]
        for future in futures:
            future.cancel()
        for thread in self._threads:
            thread.join(timeout=5)
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None

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
        self.log(job.id, "info", "the job is queued")
        self._wake.set()

    def cancel(self, job_id: str) -> None:
        """Stop a job that is queued or running; others stay as they are."""
        if self._jobs.move(job_id, to="canceled", allowed=ACTIVE, finished=clock.now_s()):
            self.log(job_id, "info", "the job was stopped by its user")
        self._stop_running(job_id, ApiError("JobCanceled", "the job was stopped by its user"))

    def discard(self, job: Job) -> None:
        """Stop a job that was deleted and delete its files."""
        self._stop_running(job.id, ApiError("JobCanceled", "the job was deleted"))
        self._storage.delete(job.id, job.stored_at)

    def run_now(self, user_id: str, process: object) -> tuple[GraphAnswer, Path]:
        """Run a process while its caller waits; return the answer and the folder of its files.

        The caller deletes the folder.

        Raises:
            ApiError: the process is not valid, failed, or took too long.
        """
        name = f"sync-{uuid.uuid4().hex}"
        folder = self._settings.scratch_dir / name
        request = self._planner.plan(
            user_id, process, job_id=name, output_dir=folder, synchronous=True
        )
        future = self.cluster.submit(run_graph, request, key=f"graph-{name}")
        try:
            answer: GraphAnswer = future.result(timeout=self._settings.sync_timeout_s)
        except TimeoutError:
            future.cancel()
            self._pool.submit(self._ensure_stopped, name)
            shutil.rmtree(folder, ignore_errors=True)
            raise ApiError(
                "RequestTimeout",
                f"the request took longer than {self._settings.sync_timeout_s:g} s; "
                "use a batch job",
            ) from None
        except Exception as err:
            shutil.rmtree(folder, ignore_errors=True)
            raise describe_failure(err) from err
        if answer.error is not None:
            shutil.rmtree(folder, ignore_errors=True)
            raise ApiError(*answer.error)
        return answer, folder

    def log(self, job_id: str, level: str, message: str, code: str | None = None) -> None:
        """Write a line to a job's log, soon."""
        self._events.put(
            {"kind": "log", "job_id": job_id, "level": level, "message": message, "code": code,
             "time": clock.now_s()}
        )  # fmt: skip

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
            if self._jobs.move(job.id, to="queued", allowed=("running",), progress=None):
                self.log(job.id, "warning", f"{reason}; it is started again")
            return
        message = f"{reason}, {job.attempts} times in all; it was given up"
        if self._jobs.move(
            job.id, to="error", allowed=("running",), finished=clock.now_s(), sealed=None
        ):
            self.log(job.id, "error", message, "InfrastructureBusy")

    def _dispatch_loop(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(timeout=_TICK_S)
            self._wake.clear()
            if self._closing.is_set():
                return
            try:
                self._dispatch()
                self._watch_deadlines()
            except ApiError as err:
                _log.warning("the queue waits: %s", err)
                time.sleep(_TICK_S)
            except Exception:  # noqa: BLE001 - this thread has to go on
                _log.exception("the queue stumbled")

    def _dispatch(self) -> None:
        with self._lock:
            free = self._settings.max_running_jobs - len(self._running)
            taken = set(self._running)
        if free <= 0:
            return
        waiting = [job for job in self._jobs.with_status(["queued"]) if job.id not in taken]
        for job in waiting[:free]:
            self._begin(job)

    def _begin(self, job: Job) -> None:
        now = clock.now_s()
        attempt = job.attempts + 1
        if not self._jobs.move(
            job.id, to="running", allowed=("queued",), attempts=attempt, started=now, progress=0.0
        ):
            return
        job.attempts = attempt
        output_dir = self._settings.jobs_dir / job.id / f"attempt-{attempt}"
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
            request = self._planner.plan(
                job.user_id, job.process, job_id=job.id, output_dir=output_dir, attempt=attempt,
                log_level=job.log_level,
            )  # fmt: skip
            self.log(job.id, "info", f"the job runs (attempt {attempt})")
            future = self.cluster.submit(run_graph, request, key=f"graph-{job.id}-{attempt}")
        except OSError as err:
            self._fail(job.id, ApiError("StorageFailure", f"cannot write: {err.strerror}"))
            return
        except ApiError as err:
            self._fail(job.id, err)
            return
        running = _Running(
            job=job, future=future, output_dir=output_dir,
            deadline=time.monotonic() + self._settings.job_timeout_s,
        )  # fmt: skip
        with self._lock:
            self._running[job.id] = running
        future.add_done_callback(lambda _: self._end_soon(running))

    def _end_soon(self, running: _Running) -> None:
        with contextlib.suppress(RuntimeError):  # the pool is shut: the next start takes it up
            self._pool.submit(self._end, running)

    def _end(self, running: _Running) -> None:
        job = running.job
        try:
            self._write_down(running)
        except Exception:  # noqa: BLE001 - this thread has to go on
            _log.exception("the end of job %s could not be written down", job.id)
        finally:
            shutil.rmtree(running.output_dir, ignore_errors=True)
            with self._lock:
                if self._running.get(job.id) is running:
                    del self._running[job.id]
            running.future.release()
            self._wake.set()

    def _write_down(self, running: _Running) -> None:
        """Note what became of a job; a database that is away is waited for."""
        job = running.job
        if self._closing.is_set():
            return
        if running.stopped is not None:
            if running.stopped.code != "JobCanceled":
                self._fail(job.id, running.stopped)
            return
        try:
            answer: GraphAnswer = running.future.result(timeout=30)
        except Exception as err:  # noqa: BLE001 - whatever dask raises
            failure = describe_failure(err)
            if failure.code == "InfrastructureBusy":
                keep_trying(lambda: self._try_again(job, str(failure)))
            else:
                self._fail(job.id, failure)
            return
        if answer.error is not None:
            self._fail(job.id, ApiError(*answer.error))
            return
        try:
            self._store(running, answer)
        except ApiError as err:
            self._fail(job.id, err)

    def _store(self, running: _Running, answer: GraphAnswer) -> None:
        job, files = running.job, [dict(item) for item in answer.files]
        names = [item["name"] for item in files]
        kind = job.options.get("output_storage")
        now = clock.now_s()
        stored_at = None
        if kind == "PRIVATE":
            if job.sealed is None:
                raise ApiError("CredentialsInvalid", "the keys of the user's bucket are gone")
            keys = unseal(self._settings.secret, job.sealed)
            places = deliver_private(keys, job.id, running.output_dir, names)
            for item in files:
                item["href"] = places[item["name"]]
        else:
            stored_at = self._storage.store(job.id, running.output_dir, names)
        expires = now + TEMPORARY_DAYS * 86400 if kind == "TEMPORARY" else None
        moved = keep_trying(
            lambda: self._jobs.move(
                job.id,
                to="finished",
                allowed=("running",),
                finished=now,
                progress=100.0,
                files=files,
                stored_at=stored_at,
                expires=expires,
                sealed=None,
            )
        )
        if moved:
            self.log(job.id, "info", f"the job is finished: {len(names)} files")
        elif stored_at is not None:
            self._storage.delete(job.id, stored_at)

    def _fail(self, job_id: str, error: ApiError) -> None:
        self.log(job_id, "error", str(error), error.code)
        keep_trying(
            lambda: self._jobs.move(
                job_id, to="error", allowed=ACTIVE, finished=clock.now_s(), sealed=None
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
            self._pool.submit(self._ensure_stopped, job_id)

    def _ensure_stopped(self, word: str) -> None:
        """Replace worker processes that still work on something nobody waits for."""
        end = time.monotonic() + self._settings.cancel_grace_s
        while not self._closing.is_set():
            busy = self.cluster.busy_workers(word)
            if not busy:
                return
            if time.monotonic() > end:
                _log.warning("%d workers did not stop work on %s; replaced", len(busy), word)
                self.cluster.replace_workers(busy)
                return
            time.sleep(_TICK_S)

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

    def _event_loop(self) -> None:
        """Write down what workers say, many lines at a time."""
        while not self._closing.is_set():
            events = [self._events.get()]
            time.sleep(0.05)
            with contextlib.suppress(queue.Empty):
                while len(events) < 500:
                    events.append(self._events.get_nowait())
            known = [event for event in events if event is not None]
            try:
                self._write_events(known)
            except Exception:  # noqa: BLE001 - this thread has to go on
                _log.exception("log lines were lost")

    def _write_events(self, events: list[dict[str, Any]]) -> None:
        lines = [_log_line(event) for event in events if event["kind"] == "log"]
        lines = [line for line in lines if not line["job_id"].startswith("sync-")]
        if lines:
            keep_trying(lambda: self._jobs.add_logs(lines))
        changed: dict[str, float] = {}
        for event in events:
            if event["kind"] == "progress":
                with self._lock:
                    running = self._running.get(event["job_id"])
                if running is not None:
                    running.shares[event["part"]] = event["share"]
                    share = sum(running.shares.values()) / event["parts"]
                    changed[event["job_id"]] = round(min(share, 0.99) * 100, 1)
        for job_id, progress in changed.items():
            self._jobs.set_fields(job_id, progress=progress)

    def _janitor_loop(self) -> None:
        while not self._closing.wait(timeout=_JANITOR_S):
            try:
                self.clean_up()
            except ApiError as err:
                _log.warning("cleaning up waits: %s", err)
            except Exception:  # noqa: BLE001 - this thread has to go on
                _log.exception("cleaning up failed")

    def clean_up(self) -> int:
        """Delete result files whose time is over and return of how many jobs."""
        expired = self._jobs.expired(clock.now_s())
        for job in expired:
            self._storage.delete(job.id, job.stored_at)
            self._jobs.set_fields(job.id, stored_at=None)
            self.log(job.id, "info", f"the results were deleted after {TEMPORARY_DAYS} days")
        self._remove_orphans()
        return len(expired)

    def _remove_orphans(self) -> None:
        """Delete the folders of jobs that are not in the database any longer."""
        limit = clock.now_s() - _ORPHAN_S
        for folder in self._settings.jobs_dir.glob("j-*"):
            with contextlib.suppress(OSError):
                if folder.stat().st_mtime < limit and self._jobs.find(folder.name) is None:
                    shutil.rmtree(folder)

    def _remove_attempts(self, job_id: str) -> None:
        for folder in (self._settings.jobs_dir / job_id).glob("attempt-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def wait_idle(self, timeout_s: float, check: Callable[[], bool] | None = None) -> bool:
        """Wait until nothing runs and nothing is queued; return whether that came to be."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            with self._lock:
                idle = not self._running
            if idle and not self._jobs.with_status(ACTIVE) and (check is None or check()):
                return True
            time.sleep(0.05)
        return False


def _log_line(event: dict[str, Any]) -> dict[str, Any]:
    level = event["level"] if event["level"] in LEVELS else "info"
    return {
        "job_id": event["job_id"],
        "time": float(event["time"]),
        "level": level,
        "code": event.get("code"),
        "message": str(event["message"])[:_MAX_LOG_MESSAGE],
    }
