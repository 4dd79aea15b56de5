"""The dask cluster: of our own, or one that is there already."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from openeo_cloudmask.backend.api.errors import ApiError, describe_error
from openeo_cloudmask.backend.jobs.runtime import TOPIC
from openeo_cloudmask.backend.settings import Settings
from openeo_cloudmask.errors import BackendError
from openeo_cloudmask.products.drivers import SKIP_VARIABLE, skipped_drivers

_log = logging.getLogger(__name__)
_ENVIRONMENT = "distributed.nanny.pre-spawn-environ"
_CONFIG = {
    # A task that was on three workers when they died is at fault, not the workers.
    "distributed.scheduler.allowed-failures": 2,
    "distributed.comm.timeouts.connect": "20s",
    # Dask's default has workers hand freed memory back at once (MALLOC_TRIM_THRESHOLD_), which
    # doubles the time of small networks: each window's arrays are mapped and zeroed anew.
    _ENVIRONMENT: {
        "OMP_NUM_THREADS": 1,
        "MKL_NUM_THREADS": 1,
        "OPENBLAS_NUM_THREADS": 1,
    },
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.target": False,
}
_BUSY = ("executing", "long-running", "cancelled", "resumed")
_ENDED = ("stopping", "stopped", "closing", "closed", "failed")
"""What dask says of a nanny that starts no worker any longer."""
_POLL_S = 0.5
_DEAD_S = 3.0
"""How long dask itself has to start a worker process again that ended."""
_FIRST_S = 60.0
"""How long the start of the server waits for its workers."""
_START_S = 180.0
"""How long a worker process that lives may take until the scheduler knows it."""
_HOPELESS_S = 600.0
"""After so long without any worker, scheduler and workers are all started anew."""


class Cluster:
    """Worker processes and the connection to them.

    Args:
        settings: how many workers, or the scheduler's address.
        on_event: called with every event a worker sends.

    Raises:
        BackendError: the scheduler cannot be reached.
    """

    def __init__(self, settings: Settings, on_event: Callable[[dict[str, Any]], None]) -> None:
        self._settings = settings
        self._on_event = on_event
        self._local: Any = None
        self._since: dict[str, float] = {}
        """Name of a worker that is missing -> since when."""
        self._whole = time.monotonic()
        """When there was a worker the last time."""
        self._lock = threading.Lock()
        self.client: Any = None
        self._open()

    def _open(self) -> None:
        import dask
        from distributed import Client, LocalCluster
        from distributed.security import Security

        dask.config.set(_CONFIG)
        # Workers have no driver that lets an untrusted file name another one to be read.
        dask.config.set({f"{_ENVIRONMENT}.{SKIP_VARIABLE}": skipped_drivers()})
        settings = self._settings
        try:
            if settings.scheduler is None:
                self._local = LocalCluster(
                    n_workers=0,  # one that ends while it starts would end the server
                    threads_per_worker=settings.threads_per_worker,
                    memory_limit=settings.worker_memory,
                    processes=True,
                    host="127.0.0.1",
                    # Whoever reaches a scheduler can run code: only who has this key can.
                    protocol="tls",
                    security=Security.temporary(),
                    dashboard_address=None,
                    # Any free port: dask knows nothing of other servers on this machine.
                    scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                    silence_logs=logging.ERROR,
                )
                self.client = Client(self._local, set_as_default=False)
                self._local.scale(settings.workers)
                self._wait_for_workers()
            else:
                self.client = Client(settings.scheduler, timeout=20, set_as_default=False)
        except OSError as err:
            if settings.scheduler is None:
                raise
            raise BackendError(
                f"the dask scheduler {settings.scheduler!r} cannot be reached; start it, or leave "
                "--scheduler out"
            ) from err
        self.client.subscribe_topic(TOPIC, lambda event: self._on_event(event[1]))

    def submit(self, function: Callable[..., Any], argument: object, *, key: str) -> Any:  # noqa: ANN401
        """Return the future of ``function(argument)`` in a worker process."""
        return self.client.submit(function, argument, key=key, pure=False)

    def processes(self) -> dict[str, int]:
        """Return worker address -> number of its threads."""
        found: dict[str, int] = self.client.nthreads()
        return found

    def count(self) -> tuple[int, int]:
        """Return how many workers there are, and how many there should be."""
        try:
            found = len(self.processes())
        except Exception:  # noqa: BLE001 - dask raises many kinds while the scheduler is away
            found = 0
        return found, found if self._local is None else self._settings.workers

    def _wait_for_workers(self) -> None:
        """Give workers time to start; where some do not, the server starts without them."""
        self._whole = time.monotonic()
        end = self._whole + _FIRST_S
        while len(self._known()) < self._settings.workers and time.monotonic() < end:
            time.sleep(_POLL_S)
            self._mend_workers()

    def mend(self) -> None:
        """Start the workers again that dask gave up, and connect again where that is lost.

        Dask starts a worker process again that ends, but not one that ends while it starts.
        """
        with self._lock:
            lost = self.client.status not in ("running", "connecting")
            if not lost and self._local is not None:
                self._mend_workers()
                lost = time.monotonic() - self._whole > _HOPELESS_S
            if lost:
                _log.error("the cluster is lost; it is started anew, and its jobs are queued again")
                self._close()
                self._open()

    def _known(self) -> set[str]:
        """Return the names of the workers that the scheduler knows."""
        return {str(worker.name) for worker in list(self._local.scheduler.workers.values())}

    def _mend_workers(self) -> None:
        known, now = self._known(), time.monotonic()
        if known:
            self._whole = now
        expected = {str(name): name for name in self._local.worker_spec}
        self._since = {name: self._since.get(name, now) for name in expected if name not in known}
        gone = []
        for name, since in self._since.items():
            if now - since > (_START_S if self._lives(expected[name]) else _DEAD_S):
                gone.append(name)
        for name in gone:
            _log.error("worker %s ended and did not come back; another one is started", name)
            self._since[name] = now
            nanny = self._local.workers.pop(expected[name], None)
            if nanny is not None:
                self._local.loop.add_callback(_close_quietly, nanny)
        if gone:
            self._local.scale(len(expected))  # starts those of its list that are not there

    def _lives(self, name: object) -> bool:
        """Whether a worker of that name runs or starts.

        Dask lists a worker with ``workers`` when it has started, and forgets one that gave up; of
        those that start, only what it created tells.
        """
        made = [*self._local.workers.values(), *self._local._created]  # noqa: SLF001
        return any(
            nanny.name == name
            and str(nanny.status.name) not in _ENDED
            and (nanny.process is None or nanny.process.is_alive())
            for nanny in made
        )

    def busy_workers(self, word: str) -> list[str]:
        """Return the workers that still work on tasks whose keys hold ``word``."""
        try:
            answers = self.client.run(_works_on, word, on_error="return")
        except (OSError, TimeoutError):
            return []
        # A worker that cannot even answer is busy with something that holds Python's lock.
        return [address for address, answer in answers.items() if answer is not False]

    def stop_work(self, word: str, closing: threading.Event) -> None:
        """Replace the workers that still work on tasks with ``word`` after the time of grace."""
        end = time.monotonic() + self._settings.cancel_grace_s
        while not closing.is_set():
            busy = self.busy_workers(word)
            if not busy:
                return
            if time.monotonic() > end:
                _log.warning("%d workers did not stop work on %s; replaced", len(busy), word)
                self.replace_workers(busy)
                return
            closing.wait(_POLL_S)

    def replace_workers(self, addresses: list[str]) -> None:
        """Kill worker processes; their nannies start new ones, other tasks are done again."""
        try:
            self.client.restart_workers(addresses, timeout=60)
        except Exception:  # noqa: BLE001 - dask raises whatever a worker raises
            _log.exception("worker processes could not be replaced")

    def close(self) -> None:
        """Disconnect, and stop the workers that are ours."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        for part, limit_s in ((self.client, 5), (self._local, 10)):
            try:
                if part is not None:
                    part.close(timeout=limit_s)
            except Exception as err:  # noqa: BLE001 - dask raises many kinds
                _log.warning("a part of the cluster did not close: %s", type(err).__name__)


async def _close_quietly(nanny: Any) -> None:  # noqa: ANN401
    """Close what is left of a worker, which may be anything."""
    try:
        await nanny.close(timeout=2)
    except Exception as err:  # noqa: BLE001 - it is gone in any case
        _log.info("closing a worker that ended: %s", type(err).__name__)


def _works_on(word: str, dask_worker: Any = None) -> bool:  # noqa: ANN401
    return any(
        word in str(key) and task.state in _BUSY for key, task in dask_worker.state.tasks.items()
    )


def describe_failure(error: BaseException) -> ApiError:
    """Return why a task failed that did not even return its own error."""
    code, message = describe_error(error)
    if code == "Internal":
        _log.error("a task failed: %s", type(error).__name__, exc_info=error)
        message = "the task failed in a worker; the server's log has the details"
    return ApiError(code, message)
