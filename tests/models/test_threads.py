"""Windows side by side."""

from __future__ import annotations

import threading

import pytest

torch = pytest.importorskip("torch")

from openeo_cloudmask.models.pool import MAX_WORKERS
from openeo_cloudmask.models.threads import for_each


@pytest.fixture(params=[1, 2, 3, 8])
def thread_count(request, monkeypatch):
    count = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(count)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_each_is_called_once(thread_count, count):
    seen = []
    for_each(seen.append, count)
    assert sorted(seen) == list(range(count))


@pytest.mark.parametrize("count", [1, 4])
def test_calls_share_the_threads_and_leave_the_caller_its_own(thread_count, count):
    shares = {}

    def run(index):
        shares[index] = torch.get_num_threads()

    for_each(run, count)
    workers = min(thread_count, MAX_WORKERS)
    assert set(shares.values()) == {thread_count // workers}
    assert torch.get_num_threads() == thread_count
    fresh = []
    other = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert fresh == [thread_count]


def test_an_exception_is_raised_when_nothing_runs_any_more(thread_count):
    running = set()

    def run(index):
        running.add(index)
        try:
            if index == 1:
                raise ValueError(f"window {index}")
        finally:
            running.remove(index)

    with pytest.raises(ValueError, match="window 1"):
        for_each(run, 4)
    assert not running
