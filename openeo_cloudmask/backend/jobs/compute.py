"""Values of lazy arrays, computed by the cluster that a task runs in, or here."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.jobs import runtime

_POLL_S = 0.5
_TOLD_S = 0.05
"""After that the scheduler knows that a worker is free; it would give its tasks to the others."""
_left = threading.local()


def worker_threads() -> int:
    """Return how many tasks the cluster runs at a time; 1 without a cluster."""
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
    left = _share_tasks(arrays)
    waiting: list[Any] = []

    def submit(count: int) -> None:
        waiting.extend(
            client.compute(array, sync=False, optimize_graph=False)
            for array in itertools.islice(left, count)
        )

    try:
        submit(worker_threads() + 1)
        for _ in arrays:
            values = np.asarray(_wait_for(waiting.pop(0)))
            # Before the caller goes on: a task that the next one shares is forgotten once done.
            submit(1)
            yield values
    finally:
        for future in waiting:
            future.cancel()


def _share_tasks(arrays: Sequence[Any]) -> Iterator[Any]:
    """Yield the arrays, each with those tasks alone that it needs, under names they all share.

    By itself dask optimises each array that is computed. That joins tasks under new names, so that
    one whose result two arrays need, as a strip of a mask and the strip below do, is done twice.
    """
    import dask
    from dask.highlevelgraph import HighLevelGraph

    with dask.config.set({"optimization.fuse.active": False}):
        arrays = dask.optimize(*arrays)
    for array in arrays:
        graph = array.__dask_graph__()
        if not isinstance(graph, HighLevelGraph):
            graph = HighLevelGraph.from_collections(array.name, graph)
        needed = graph.cull(list(dask.core.flatten(array.__dask_keys__())))
        yield dask.array.Array(needed, array.name, array.chunks, meta=array)


def _leave_pool() -> None:
    """Give this thread's place in the worker to the tasks that it waits for, once."""
    from distributed import secede
    from distributed.worker import thread_state

    key = getattr(thread_state, "key", None)
    if key is not None and _left.__dict__.get("key") != key:
        secede()
        _left.__dict__["key"] = key
        time.sleep(_TOLD_S)


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
