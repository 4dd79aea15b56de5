"""The dask cluster: of our own, or one that is there already."""

from __future__ import annotations

import logging
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


class Cluster:
    """Worker processes and the connection to them.

    Args:
        settings: how many workers, or the scheduler's address.
        on_event: called with every event a worker sends.

    Raises:
        BackendError: the scheduler cannot be reached.
    """

    def __init__(self, settings: Settings, on_event: Callable[[dict[str, Any]], None]) -> None:
        import dask
        from distributed import Client, LocalCluster

        dask.config.set(_CONFIG)
        # Whatever a stranger's file says, a worker has no driver that reads another for it.
        dask.config.set({f"{_ENVIRONMENT}.{SKIP_VARIABLE}": skipped_drivers()})
        self._local: Any = None
        try:
            if settings.scheduler is None:
                self._local = LocalCluster(
                    n_workers=settings.workers,
                    threads_per_worker=settings.threads_per_worker,
                    memory_limit=settings.worker_memory,
                    processes=True,
                    host="127.0.0.1",  # whoever reaches a scheduler can run code
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.ERROR,
                )
                self.client: Any = Client(self._local, set_as_default=False)
            else:
                self.client = Client(settings.scheduler, timeout=20, set_as_default=False)
        except OSError as err:
            raise BackendError(
                f"the dask scheduler {settings.scheduler!r} cannot be reached; start it, or leave "
                "--scheduler out"
            ) from err
        self.client.subscribe_topic(TOPIC, lambda event: on_event(event[1]))

    def submit(self, function: Callable[..., Any], argument: object, *, key: str) -> Any:  # noqa: ANN401
        """Return the future of ``function(argument)`` in a worker process."""
        return self.client.submit(function, argument, key=key, pure=False)

    def processes(self) -> dict[str, int]:
        """Return worker address -> number of its threads."""
        found: dict[str, int] = self.client.nthreads()
        return found

    def busy_workers(self, word: str) -> list[str]:
        """Return the workers that still work on tasks whose keys hold ``word``."""
        try:
            answers = self.client.run(_works_on, word, on_error="return")
        except (OSError, TimeoutError):
            return []
        # A worker that cannot even answer is busy with something that holds Python's lock.
        return [address for address, answer in answers.items() if answer is not False]

    def replace_workers(self, addresses: list[str]) -> None:
        """Kill worker processes; their nannies start new ones, other tasks are done again."""
        try:
            self.client.restart_workers(addresses, timeout=60)
        except Exception:  # noqa: BLE001 - dask raises whatever a worker raises
            _log.exception("worker processes could not be replaced")

    def close(self) -> None:
        """Disconnect, and stop the workers that are ours."""
        self.client.close(timeout=5)
        if self._local is not None:
            self._local.close(timeout=10)


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
