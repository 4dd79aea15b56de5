"""Synchronous requests: runs whose callers wait, without a thread for each."""

from __future__ import annotations

import asyncio
import shutil
import threading
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.graph.planning import Planner
from openeo_cloudmask.backend.jobs.cluster import Cluster, describe_failure
from openeo_cloudmask.backend.jobs.tasks import GraphAnswer, run_graph
from openeo_cloudmask.backend.settings import Settings


class InstantRuns:
    """Runs processes while their callers wait.

    Args:
        settings: limits of time and number.
        planner: checks processes.
        cluster: returns the cluster; raises where none is running.
        closing: set when the server stops.
    """

    def __init__(
        self,
        settings: Settings,
        planner: Planner,
        cluster: Callable[[], Cluster],
        closing: threading.Event,
    ) -> None:
        self._settings = settings
        self._planner = planner
        self._cluster = cluster
        self._closing = closing
        self._waiting: Counter[str] = Counter()
        """User -> requests that wait; only touched by the event loop's thread."""

    async def run(
        self, user_id: str, process: object, *, tile: tuple[int, int, int] | None = None
    ) -> tuple[GraphAnswer, Path]:
        """Run a process; return the answer and the folder of its files.

        The caller deletes the folder.

        Args:
            user_id: whose process it is.
            process: what to run.
            tile: zoom, column and row, where one map tile of the result is wanted.

        Raises:
            ApiError: the process is not valid, failed, took too long, or the user has as many
                requests waiting as one may have.
        """
        async with self._place(user_id):
            folder = self._settings.scratch_dir / f"sync-{uuid.uuid4().hex}"
            try:
                answer = await self._wait(user_id, process, folder, tile)
            except BaseException:
                await run_in_threadpool(shutil.rmtree, folder, ignore_errors=True)
                raise
        return answer, folder

    @asynccontextmanager
    async def _place(self, user_id: str) -> AsyncIterator[None]:
        limit = self._settings.max_sync_requests
        if self._waiting[user_id] >= limit:
            raise ApiError(
                "TooManyRequests",
                f"{limit} synchronous requests of yours are running, as many as one user may have; "
                "wait for them, or use a batch job",
            )
        self._waiting[user_id] += 1
        try:
            yield
        finally:
            self._waiting[user_id] -= 1
            if not self._waiting[user_id]:
                del self._waiting[user_id]

    async def _wait(
        self, user_id: str, process: object, folder: Path, tile: tuple[int, int, int] | None
    ) -> GraphAnswer:
        name = folder.name
        future = await run_in_threadpool(self._submit, user_id, process, folder, tile)
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(done.set))
        limit = self._settings.sync_timeout_s
        try:
            await asyncio.wait_for(done.wait(), limit)
        except TimeoutError:
            threading.Thread(target=self._stop, args=(future, name), daemon=True).start()
            raise ApiError(
                "RequestTimeout", f"the request took longer than {limit:g} s; use a batch job"
            ) from None
        try:
            answer: GraphAnswer = await run_in_threadpool(future.result)
        except Exception as err:
            raise describe_failure(err) from err
        if answer.error is not None:
            raise ApiError(*answer.error)
        return answer

    def _submit(
        self, user_id: str, process: object, folder: Path, tile: tuple[int, int, int] | None
    ) -> Any:  # noqa: ANN401
        request = self._planner.plan(
            user_id,
            process,
            job_id=folder.name,
            output_dir=folder,
            synchronous=True,
            tile=tile,
        )
        return self._cluster().submit(run_graph, request, key=f"graph-{folder.name}")

    def _stop(self, future: Any, name: str) -> None:  # noqa: ANN401
        future.cancel()
        self._cluster().stop_work(name, self._closing)
