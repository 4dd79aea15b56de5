"""What runs in worker processes: whole process graphs, and the parts they are cut into."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from openeo_cloudmask.backend.api.errors import describe_error
from openeo_cloudmask.backend.jobs import runtime
from openeo_cloudmask.backend.jobs.runtime import Run, RunSpec

_log = logging.getLogger(__name__)


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
    from openeo_cloudmask.backend.cubes.doubts import add_warnings
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
            add_warnings(run)
            if not request.synchronous:  # who waits for an answer gets the one file
                add_mask_items(run, request.graph)
    except Exception as err:  # noqa: BLE001 - whatever a process raises is the job's error
        code, message = describe_error(err)
        if code == "Internal":
            _log.exception("run %s failed", request.run.job_id)
        return GraphAnswer(error=(code, message[: runtime.MAX_MESSAGE]))
    return GraphAnswer(files=tuple(run.files), value=value)


def warm_up() -> float:
    """Import what every run needs and return the seconds it took."""
    begin = time.monotonic()
    from openeo_cloudmask.backend.processes.registry import predefined_processes

    predefined_processes()
    return time.monotonic() - begin
