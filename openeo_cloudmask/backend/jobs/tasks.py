"""What runs in worker processes: whole process graphs, and the parts they are cut into."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openeo_cloudmask.backend.api.errors import ApiError, describe_error
from openeo_cloudmask.backend.jobs import runtime
from openeo_cloudmask.backend.jobs.runtime import Run, RunSpec

_log = logging.getLogger(__name__)
_POLL_S = 0.5
_left = threading.local()


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphRequest:
    """A process graph that was found valid, and everything needed to run it."""

    run: RunSpec
    graph: dict[str, Any]
    library: dict[str, dict[str, Any]]
    """User-defined processes that the graph uses."""
    synchronous: bool = False
    """Whether somebody waits for the answer, so that a value may be one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphAnswer:
    """What became of a graph."""

    files: tuple[dict[str, Any], ...] = ()
    value: Any = None
    """The result, as JSON, where no file was written."""
    error: tuple[str, str] | None = None
    """Code and message, where it failed."""


def run_graph(request: GraphRequest) -> GraphAnswer:
    """Run a process graph and return what it made.

    Errors of the graph come back as values: an exception would make dask's scheduler believe
    that the worker is at fault.
    """
    from openeo_cloudmask.backend.graph.execute import Executor
    from openeo_cloudmask.backend.outputs.mask_items import add_mask_items
    from openeo_cloudmask.backend.processes.registry import predefined_processes
    from openeo_cloudmask.backend.processes.results import write_default

    run = Run(spec=request.run)

    def before_node(process_id: str) -> None:
        runtime.check_cancelled()
        if not request.synchronous:
            runtime.log(request.run, "debug", f"process {process_id}")

    try:
        with runtime.running(run):
            executor = Executor(predefined_processes(), request.library, before_node)
            result = executor.run(request.graph, {})
            value = None
            if not run.files:
                value = write_default(result, run, synchronous=request.synchronous)
            if not request.synchronous:  # who waits for an answer gets the one file
                add_mask_items(run, request.graph)
    except Exception as err:  # noqa: BLE001 - whatever a process raises is the job's error
        code, message = describe_error(err)
        if code == "Internal":
            _log.exception("run %s failed", request.run.job_id)
        return GraphAnswer(error=(code, message))
    return GraphAnswer(files=tuple(run.files), value=value)


def worker_threads() -> int:
    """Return how many tasks the cluster runs at a time; 1 where there is none."""
    client = _client()
    return 1 if client is None else max(1, sum(client.nthreads().values()))


def compute_in_order(arrays: Sequence[Any]) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the values of dask arrays one after the other.

    They are computed by the cluster, a few ahead, so that memory depends on the largest of them
    and not on their number.

    Raises:
        ApiError: the run was cancelled.
    """
    client = _client()
    if client is None:
        for array in arrays:
            yield np.asarray(array.compute(scheduler="synchronous"))
        return
    _leave_pool()
    ahead = worker_threads() + 1
    waiting: list[Any] = []
    try:
        for number in range(len(arrays)):
            while len(waiting) + number < len(arrays) and len(waiting) < ahead:
                waiting.append(client.compute(arrays[number + len(waiting)], sync=False))
            yield np.asarray(_wait_for(waiting.pop(0)))
    finally:
        for future in waiting:
            future.cancel()


def _leave_pool() -> None:
    """Give this thread's place in the worker to the tasks that it waits for, once."""
    from distributed import secede
    from distributed.worker import thread_state

    key = getattr(thread_state, "key", None)
    if key is not None and _left.__dict__.get("key") != key:
        secede()
        _left.__dict__["key"] = key


def when_done(future: Any) -> threading.Event:  # noqa: ANN401
    """Return an event that is set when a dask future is done.

    ``future.result(timeout=...)`` is no way to wait: dask fetches the results of several callers
    at once, and a limit that is over for one of them breaks the fetch for all.
    """
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    return done


def _wait_for(future: Any) -> Any:  # noqa: ANN401
    """Return a future's result, and stop when the run is cancelled."""
    done = when_done(future)
    try:
        while not done.wait(_POLL_S):
            runtime.check_cancelled()
    except ApiError:
        future.cancel()
        raise
    return future.result()


def compute(array: Any) -> Any:  # noqa: ANN401 - numpy, whatever came in
    """Return a lazy array's values."""
    values = array.data if hasattr(array, "dims") else array  # of a cube
    if hasattr(values, "dask"):
        client = _client()
        return array.compute(**({} if client else {"scheduler": "synchronous"}))
    return array


def _client() -> Any:  # noqa: ANN401 - dask has no types
    import sys

    if "distributed" not in sys.modules:
        return None
    from distributed import get_client, get_worker

    try:
        get_worker()
        return get_client()
    except ValueError:
        return None


def warm_up() -> float:
    """Import what every run needs and return the seconds it took."""
    begin = time.monotonic()
    from openeo_cloudmask.backend.processes.registry import predefined_processes

    predefined_processes()
    return time.monotonic() - begin
