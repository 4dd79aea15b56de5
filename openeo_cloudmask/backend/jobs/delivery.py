"""Result files of jobs: delivered, kept where that fails, and deleted when their time is over."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.api.security import unseal
from openeo_cloudmask.backend.jobs import clock
from openeo_cloudmask.backend.jobs.journal import Journal
from openeo_cloudmask.backend.jobs.states import JobStore
from openeo_cloudmask.backend.jobs.storage import ResultStorage, deliver_private
from openeo_cloudmask.backend.jobs.tables import Job
from openeo_cloudmask.backend.settings import TEMPORARY_DAYS, Settings

_log = logging.getLogger(__name__)
_ORPHAN_S = 3600.0
_KEPT_S = TEMPORARY_DAYS * 86400.0
_KEPT = "kept"
_MANIFEST = "manifest.json"
"""Lies beside kept files and says of which process they are the results."""

File = dict[str, Any]
"""A result file: name, media type, size, roles and what it is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """Where a job's results are now."""

    files: list[File]
    stored_at: str | None
    """As the storage wrote it down; None where they are in the user's bucket."""
    expires: float | None
    """Seconds since 1970 at which they are deleted; None for never."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Results that wait for delivery."""

    folder: Path
    files: tuple[File, ...]


class Delivery:
    """Brings results to where the job wants them, and takes them away again."""

    def __init__(
        self, settings: Settings, jobs: JobStore, storage: ResultStorage, journal: Journal
    ) -> None:
        self._settings = settings
        self._jobs = jobs
        self._storage = storage
        self._journal = journal

    def deliver(self, job: Job, folder: Path, files: Sequence[File]) -> Delivered:
        """Take the files over from ``folder``.

        Raises:
            ApiError: their destination did not take them; they are kept, if that is possible, so
                that the job's next start delivers them without computing them again.
        """
        try:
            delivered = self._deliver(job, folder, files)
        except ApiError as err:
            if not self._keep(job, folder, files):
                raise
            advice = (
                f"{err}. The results are kept for {TEMPORARY_DAYS} days: start the job again, "
                "for a bucket of yours after sending its keys again (PATCH), and they are "
                "delivered without being computed again"
            )
            raise ApiError(err.code, advice) from None
        shutil.rmtree(folder, ignore_errors=True)
        return delivered

    def _deliver(self, job: Job, folder: Path, files: Sequence[File]) -> Delivered:
        names = [item["name"] for item in files]
        kind = job.options.get("output_storage")
        if kind != "PRIVATE":
            stored_at = self._storage.store(job.id, folder, names)
            expires = clock.now_s() + TEMPORARY_DAYS * 86400 if kind == "TEMPORARY" else None
            return Delivered(files=list(files), stored_at=stored_at, expires=expires)
        if job.sealed is None:
            raise ApiError("CredentialsInvalid", "the keys of the user's bucket are gone")
        places = deliver_private(unseal(self._settings.secret, job.sealed), job.id, folder, names)
        if job.stored_at is not None:
            self.delete(job.id, job.stored_at)  # of a former run that was no PRIVATE one
        return Delivered(
            files=[item | {"href": places[item["name"]]} for item in files],
            stored_at=None,
            expires=None,
        )

    def _keep(self, job: Job, folder: Path, files: Sequence[File]) -> bool:
        place = self._settings.jobs_dir / job.id / _KEPT
        manifest = json.dumps({"process": job.process, "files": list(files)})
        try:
            if folder != place:
                shutil.rmtree(place, ignore_errors=True)
                (folder / _MANIFEST).write_text(manifest, encoding="utf-8")
                folder.replace(place)
        except OSError as err:
            _log.warning("the results of %s could not be kept: %s", job.id, err.strerror)
            return False
        return True

    def find_kept(self, job: Job) -> Kept | None:
        """Return the results of a job that wait for delivery, or None.

        Those of another process than the job has now are no results of it.
        """
        place = self._settings.jobs_dir / job.id / _KEPT
        try:
            manifest = json.loads((place / _MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        files = tuple(manifest["files"])
        there = all((place / item["name"]).is_file() for item in files)
        return Kept(place, files) if there and manifest["process"] == job.process else None

    def delete(self, job_id: str, stored_at: str | None) -> bool:
        """Delete a job's files; return whether that could be done."""
        try:
            self._storage.delete(job_id, stored_at)
        except ApiError as err:
            _log.warning("the results of %s are not deleted yet: %s", job_id, err)
            return False
        return True

    def delete_leftover(self, job_id: str, stored_at: str | None) -> None:
        """Delete the files of a job that is deleted itself; if that fails, later."""
        if self.delete(job_id, stored_at):
            self._jobs.forget_leftover(job_id)

    def clean_up(self) -> int:
        """Delete files whose time is over and return of how many jobs those were results."""
        for job_id, stored_at in self._jobs.leftovers():
            self.delete_leftover(job_id, stored_at)
        deleted = 0
        for job in self._jobs.expired(clock.now_s()):
            if self.delete(job.id, job.stored_at):
                self._jobs.set_fields(job.id, stored_at=None)
                done = f"the results were deleted after {TEMPORARY_DAYS} days"
                self._journal.log(job.id, "info", done)
                deleted += 1
        self._remove_old_folders()
        return deleted

    def _remove_old_folders(self) -> None:
        """Delete what was kept for too long, and folders of jobs that are not known any longer."""
        now = clock.now_s()
        for folder in self._settings.jobs_dir.glob("j-*"):
            with contextlib.suppress(OSError):  # gone meanwhile
                manifest = folder / _KEPT / _MANIFEST
                if manifest.exists() and manifest.stat().st_mtime < now - _KEPT_S:
                    shutil.rmtree(manifest.parent)
                if folder.stat().st_mtime < now - _ORPHAN_S and not self._jobs.find(folder.name):
                    shutil.rmtree(folder)
