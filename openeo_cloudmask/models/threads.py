"""Windows side by side in threads of torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch

from openeo_cloudmask.models.pool import call_each, share_threads


def for_each(run: Callable[[int], None], count: int) -> None:
    """Call ``run`` with each of 0 to ``count - 1``, side by side on the threads torch may use.

    Each call has the same share of the threads, however many there are, and even where it is
    alone: kernels are chosen by the number of threads, and with it the order of their sums. An
    exception of ``run`` is raised here, once no call is under way any more.
    """
    workers, threads = share_threads(torch.get_num_threads())
    if workers == 1:
        for index in range(count):
            run(index)
    else:
        call_each(_workers(workers, threads), run, count)


@lru_cache
def _workers(count: int, threads: int) -> ThreadPoolExecutor:
    """``count`` threads that use ``threads`` threads each inside of torch."""
    return ThreadPoolExecutor(
        count, thread_name_prefix="windows", initializer=_take_share, initargs=(threads,)
    )


def _take_share(threads: int) -> None:
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    # torch.set_num_threads would set the number for threads to come as well. OpenMP's own call
    # holds for this thread alone, once torch has set what it sets at a thread's first use.
    torch.get_num_threads()
    ThreadpoolController().select(user_api="openmp").limit(limits=threads)


if hasattr(os, "register_at_fork"):
    # A forked process has none of its parent's threads.
    os.register_at_fork(after_in_child=_workers.cache_clear)
