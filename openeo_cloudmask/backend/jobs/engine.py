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
from typing import Any

from openeo_cloudmask.backend.api.errors import NOT_THE_JOBS_FAULT, ApiError
from openeo_cloudmask.backend.graph.planning import Planner
from openeo_cloudmask.backend.jobs import clock
from openeo_cloudmask.backend.jobs.cluster import Cluster
from openeo_cloudmask.backend.jobs.delivery import Delivery, Kept
from openeo_cloudmask.backend.jobs.instant import InstantRuns
from openeo_cloudmask.backend.jobs.journal import Journal, log_line
from openeo_cloudmask.backend.jobs.lease import RENEW_S, Lease
from openeo_cloudmask.backend.jobs.outcomes import Outcomes
from openeo_cloudmask.backend.jobs.running import TICK_S, Run, Runs
from openeo_cloudmask.backend.jobs.states import ACTIVE, JobStore
from openeo_cloudmask.backend.jobs.storage import ResultStorage, check_disk
from openeo_cloudmask.backend.jobs.tables import Job
from openeo_cloudmask.backend.jobs.tasks import GraphAnswer, GraphRequest, run_graph, warm_up
from openeo_cloudmask.backend.processes.registry import predefined_specs
from openeo_cloudmask.backend.settings import Settings

_log = logging.getLogger(__name__)
_JANITOR_S = 60.0
_WATCH_S = 1.0


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
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._journal = Journal(jobs)
        self._delivery = Delivery(settings, jobs, storage, self._journal)
        self._outcomes = Outcomes(settings, jobs, self._delivery, self._journal, lease)
        self.runs = Runs(self._outcomes, lambda: self.cluster, self._closing, self._wake)
        """Runs of jobs."""
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
        self._journal.start(self.runs.progress)
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
        self.runs.cancel()
        for thread in self._threads:
            thread.join(timeout=5)
        self._starters.shutdown(wait=True, cancel_futures=True)
        self.runs.close()
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
        self.runs.stop(job_id, reason)

    def discard(self, job: Job) -> None:
        """Stop a job that was deleted and delete its files."""
        self.runs.stop(job.id, ApiError("JobCanceled", "the job was deleted"))
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
            self._outcomes.try_again(job, "the server stopped in the middle of the job")

    def _dispatch_loop(self) -> None:
        look_for_lost = time.monotonic() + _JANITOR_S
        while not self._closing.is_set():
            self._wake.wait(timeout=TICK_S)
            self._wake.clear()
            if self._closing.is_set():
                return
            try:
                self._dispatch()
                self.runs.stop_late(self._settings.job_timeout_s)
                if time.monotonic() > look_for_lost:
                    look_for_lost = time.monotonic() + _JANITOR_S
                    self._take_up_lost()
            except ApiError as err:
                _log.warning("the queue waits: %s", err)
                time.sleep(TICK_S)
            except Exception:  # noqa: BLE001 - this thread has to go on
                _log.exception("the queue stumbled")

    def _dispatch(self) -> None:
        limit = self._settings.max_running_jobs
        while True:
            taken, alone = self.runs.taken(), self.runs.alone()
            if len(taken) >= limit or taken & alone:
                return
            # A user may have long jobs in plenty: one place is left for others.
            job = self._jobs.next_queued(without=taken, only=alone, per_user=max(1, limit - 1))
            if job is None or (job.id in alone and taken):
                return
            # A name of its own: of a run that was stopped, tasks and files may still be about.
            name = f"attempt-{job.attempts + 1}-{uuid.uuid4().hex[:12]}"
            folder = self._settings.jobs_dir / job.id / name
            run = Run(job=job, output_dir=folder, results_dir=folder)
            self.runs.reserve(run)
            self._starters.submit(self._start, run)

    def _start(self, run: Run) -> None:
        """Begin a run, on a thread of its own: its processes may come from slow addresses."""
        try:
            self._begin(run)
        except ApiError as err:
            _log.warning("the queue waits: %s", err)
            self._closing.wait(TICK_S)
        except Exception:  # noqa: BLE001 - the queue has to go on
            _log.exception("job %s was not begun", run.job.id)
            self._closing.wait(TICK_S)
        finally:
            self.runs.give_up(run)

    def _take_up_lost(self) -> None:
        """Take up jobs that only seem to run: their end could not be written down."""
        for job in self._jobs.with_status(["running"]):
            if job.id not in self.runs.taken():
                self._outcomes.try_again(job, "the end of the job could not be written down")

    def _begin(self, run: Run) -> None:
        job, output_dir = run.job, run.output_dir
        kept = self._delivery.find_kept(job)
        try:
            check_disk(self._settings.data_dir)
            request = None if kept else self._planner.plan(
                job.user_id, job.process, job_id=job.id, output_dir=output_dir,
                log_level=job.log_level,
            )  # fmt: skip
        except ApiError as err:
            if err.code in NOT_THE_JOBS_FAULT:
                raise  # the job stays in the queue
            self._outcomes.fail(job.id, err)
            return
        attempt = job.attempts + 1
        if not self._jobs.move(
            job.id, to="running", allowed=("queued",), attempts=attempt, started=clock.now_s(),
            progress=0.0, by=self._lease.holder,
        ):  # fmt: skip
            self._keep_lease()  # it was canceled, or is another server's
            return
        job.attempts = attempt
        if run.stopped is not None:  # and queued anew since: for a run that nobody has stopped
            self._outcomes.queue_again(job, "the job was stopped and started")
            return
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            self._outcomes.fail(job.id, ApiError("StorageFailure", f"cannot write: {err.strerror}"))
            return
        try:
            future = self._hand_over(job, request, kept, output_dir.name)
        except Exception as err:  # noqa: BLE001 - dask raises many kinds
            _log.warning("job %s was not handed over: %s", job.id, type(err).__name__)
            self._outcomes.queue_again(job, "the workers could not be reached")
            return
        run.deadline = time.monotonic() + self._settings.job_timeout_s
        if kept:
            run.results_dir = kept.folder
        self.runs.watch(run, future)

    def _hand_over(
        self, job: Job, request: GraphRequest | None, kept: Kept | None, name: str
    ) -> Any:  # noqa: ANN401
        """Return the future of the run ``name``; of results that are kept it is done already."""
        if kept is not None:
            self._journal.log(job.id, "info", "the results of the last run are delivered")
            future: Future[GraphAnswer] = Future()
            future.set_result(GraphAnswer(files=kept.files))
            return future
        self._journal.log(job.id, "info", f"the job runs (attempt {job.attempts})")
        return self.cluster.submit(run_graph, request, key=f"graph-{name}")

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
