"""Workers that are killed at any moment of their life come back."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from openeo_cloudmask.backend.jobs.cluster import Cluster
from openeo_cloudmask.backend.settings import Settings
from tests.backend.conftest import find_workers, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Return a cluster of one worker."""
    found = Cluster(Settings(data_dir=Path("unused"), workers=1), lambda _: None)
    yield found
    found.close()


def test_worker_killed_while_it_starts(cluster: Cluster) -> None:
    """Dask itself starts one again that ran, and gives one up that ends while it starts."""
    killed: set[int] = set()

    def another() -> psutil.Process | None:
        cluster.mend()
        return next((worker for worker in find_workers() if worker.pid not in killed), None)

    for _ in range(3):
        worker = wait_for(another, 120)
        killed.add(worker.pid)
        worker.kill()
        worker.wait(20)
    wait_for(lambda: cluster.mend() or cluster.count() == (1, 1), 120)
    assert cluster.submit(len, "abc", key="letters").result() == 3


def test_worker_that_dask_gave_up_and_forgot(cluster: Cluster) -> None:
    """A nanny that fails while it starts is taken from dask's list; it is not one that starts."""
    # A worker registers with the scheduler before dask has it in its list.
    wait_for(lambda: cluster.count() == (1, 1) and 0 in cluster._local.workers, 60)
    nanny = cluster._local.workers.pop(0)
    cluster._local.sync(nanny.close)
    begin = time.monotonic()
    wait_for(lambda: cluster.mend() or cluster.count() == (1, 1), 120)
    assert time.monotonic() - begin < 90  # what starts may take 180 s


def test_cluster_that_cannot_be_closed_is_replaced_all_the_same(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = cluster.client
    lost.close()

    def hang(timeout: float) -> None:
        raise TimeoutError(timeout)

    monkeypatch.setattr(lost, "close", hang)
    cluster.mend()
    assert cluster.client is not lost
    assert cluster.submit(len, "abc", key="letters").result() == 3


def test_port_of_the_scheduler_takes_no_unknown_client(cluster: Cluster) -> None:
    from distributed.comm import connect

    # No `Client`: one that failed may be collected while the next starts, which then waits for it.
    async def knock(address: str, **options: Any) -> None:
        comm = await connect(address, timeout=60, **options)
        await comm.write({"op": "identity", "reply": True})
        await comm.read()

    address = cluster.client.scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    unknown = ssl.create_default_context()
    unknown.check_hostname, unknown.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(OSError, match=r"certificate|closed|reset"):
        asyncio.run(knock(address, ssl_context=unknown, require_encryption=True))
    with pytest.raises(OSError, match=r"Timed out|closed|connect"):
        asyncio.run(knock(address.replace("tls:", "tcp:")))
