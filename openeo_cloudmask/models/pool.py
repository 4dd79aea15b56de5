"""Calls side by side in threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import lru_cache

MAX_WORKERS = 4
"""Windows at a time at most; each takes memory of its own."""


def share_threads(threads: int) -> tuple[int, int]:
    """Return how many windows are computed at a time, and with how many threads each.

    Threads that share a window wait for each other at the end of every layer. Threads with a
    window each do not, and a core's cache holds one window's rows.
    """
    workers = min(threads, MAX_WORKERS)
    return workers, threads // workers


def call_each(pool: Executor, run: Callable[[int], None], count: int) -> None:
    """Call ``run`` with each of 0 to ``count - 1`` in ``pool``.

    An exception of ``run`` is raised here, once no call is under way any more.
    """
    calls = [pool.submit(run, index) for index in range(count)]
    failures = [failure for call in calls if (failure := call.exception()) is not None]
    if failures:
        raise failures[0]


@lru_cache
def plain_pool(workers: int) -> ThreadPoolExecutor:
    """Return the ``workers`` threads of this process that call a runtime."""
    return ThreadPoolExecutor(workers, thread_name_prefix="windows")


if hasattr(os, "register_at_fork"):
    # A forked process has none of its parent's threads.
    os.register_at_fork(after_in_child=plain_pool.cache_clear)
