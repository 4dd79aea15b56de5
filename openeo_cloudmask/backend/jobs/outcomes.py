"""What becomes of jobs whose runs are over: written down, however long the database is away."""

from __future__ import annotations

from pathlib import Path

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.jobs import clock
from openeo_cloudmask.backend.jobs.database import keep_trying
from openeo_cloudmask.backend.jobs.delivery import Delivery
from openeo_cloudmask.backend.jobs.journal import Journal, log_line
from openeo_cloudmask.backend.jobs.lease import Lease
from openeo_cloudmask.backend.jobs.states import ACTIVE, JobStore
from openeo_cloudmask.backend.jobs.tables import Job
from openeo_cloudmask.backend.jobs.tasks import GraphAnswer
from openeo_cloudmask.backend.settings import Settings


class Outcomes:
    """Moves jobs from running to finished, to error, or back into the queue."""

    def __init__(
        self, settings: Settings, jobs: JobStore, delivery: Delivery, journal: Journal, lease: Lease
    ) -> None:
        self._settings = settings
        self._jobs = jobs
        self._delivery = delivery
        self._journal = journal
        self._lease = lease

    def fail(self, job_id: str, error: ApiError) -> None:
        """End a job with an error."""
        line = log_line("error", error, error.code)
        keep_trying(
            lambda: self._jobs.move(
                job_id,
                to="error",
                allowed=ACTIVE,
                line=line,
                finished=clock.now_s(),
                sealed=None,
                by=self._lease.holder,
            )
        )

    def try_again(self, job: Job, reason: str) -> None:
        """Queue a job that was interrupted, or give it up after a few attempts."""
        if job.attempts < self._settings.max_attempts:
            self.queue_again(job, reason)
            return
        message = f"{reason}, {job.attempts} times in all; it was given up"
        self.fail(job.id, ApiError("InfrastructureBusy", message))

    def queue_again(self, job: Job, reason: str) -> None:
        """Queue a job that was interrupted, however often it was."""
        self._jobs.move(
            job.id, to="queued", allowed=("running",), progress=None, by=self._lease.holder,
            line=log_line("warning", f"{reason}; it is started again"),
        )  # fmt: skip

    def deliver(self, job: Job, folder: Path, answer: GraphAnswer) -> None:
        """Bring the results to where the job wants them, and finish it.

        Where another server has taken over the jobs, it runs this one too: nothing is touched.

        Raises:
            ApiError: see ``Delivery.deliver``.
        """
        if keep_trying(self._lease.is_lost):
            return
        found = self._delivery.deliver(job, folder, answer.files)
        self._journal.flush()  # what the workers said comes before the end
        line = log_line("info", f"the job is finished: {len(found.files)} files")
        moved = keep_trying(
            lambda: self._jobs.move(
                job.id, to="finished", allowed=("running",), finished=clock.now_s(),
                progress=100.0, files=found.files, stored_at=found.stored_at,
                expires=found.expires, sealed=None, by=self._lease.holder, line=line,
            )
        )  # fmt: skip
        if moved or found.stored_at is None or keep_trying(self._lease.is_lost):
            return
        if not self._delivery.delete(job.id, found.stored_at):
            self._jobs.add_leftover(job.id, found.stored_at)
