"""Process graphs on cubes in memory: the back end's own evaluator and processes, without a server.

Nothing is sent anywhere, and there is no cluster: what the graph asks for is computed here.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.errors import MissingExtraError

if TYPE_CHECKING:
    import xarray as xr

    from openeo_cloudmask.backend.graph.process import Process
    from openeo_cloudmask.backend.jobs.runtime import RunSpec

_log = logging.getLogger(__name__)
_MAX_NODES = 10_000


def run_local(
    graph: Mapping[str, Any],
    cubes: Mapping[str, xr.DataArray],
    *,
    parameters: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> Any:  # noqa: ANN401 - mostly a cube
    """Return what a process graph makes of cubes in memory.

    All processes of the back end are there, and any user-defined function runs: it is the
    caller's own. ``save_result`` gives its data back; files are written with ``folder`` only.

    Args:
        graph: flat process graph, as ``openeo.DataCube.flat_graph()`` gives.
        cubes: collection id -> cube with the dimensions bands, y, x and optionally t; NumPy or
            dask.
        parameters: values of the graph's parameters, cubes among them; what an optional one
            defaults to has to be given too.
        folder: where ``save_result`` writes its files; None for nowhere.

    Returns:
        The result node's value; a cube is computed.

    Raises:
        MissingExtraError: the extra ``server`` is not installed.
        BackendError: the graph is not valid, or a process cannot do what it asks for.
    """
    try:
        from openeo_cloudmask.backend.graph.execute import Executor
        from openeo_cloudmask.backend.graph.validate import parse_process, validate_process
        from openeo_cloudmask.backend.jobs.compute import compute
        from openeo_cloudmask.backend.jobs.runtime import Run, RunSpec, running
        from openeo_cloudmask.backend.processes.registry import (
            predefined_processes,
            predefined_specs,
        )

        specs = predefined_specs()
    except ImportError as err:
        raise MissingExtraError.for_extra("server", "running a process graph") from err

    given = dict(parameters or {})
    process = {"process_graph": dict(graph), "parameters": [{"name": name} for name in given]}
    lookup: Callable[[str, str | None], Any] = lambda name, _: specs.get(name)  # noqa: E731
    if errors := validate_process(parse_process(process), lookup, max_nodes=_MAX_NODES):
        raise errors[0]
    with tempfile.TemporaryDirectory(prefix="cloudmask-run-") as scratch:
        spec = RunSpec(
            job_id="local",
            output_dir=Path(scratch, "local") if folder is None else folder,
            collections_dir=Path(scratch, "collections"),
            weights_dir=Path(scratch, "weights"),
            allow_any_udf=True,
            local=True,
        )
        own = {"load_collection": _loading(cubes), "save_result": _saving(write=folder is not None)}
        processes: dict[str, Process] = dict(predefined_processes())
        processes |= {name: type(processes[name]).of(specs[name], own[name]) for name in own}
        with running(Run(spec=spec)), _logged(spec):
            return compute(Executor(processes, {}, lambda _: None).run(graph, given))


def _loading(cubes: Mapping[str, xr.DataArray]) -> Callable[..., xr.DataArray]:
    """Return ``load_collection`` for cubes in memory."""

    def load_collection(
        id: str,  # noqa: A002 - the name openEO gives it
        spatial_extent: Any = None,  # noqa: ANN401
        temporal_extent: Any = None,  # noqa: ANN401
        bands: list[str] | None = None,
        properties: Any = None,  # noqa: ANN401
    ) -> xr.DataArray:
        from openeo_cloudmask.backend.api.errors import ApiError
        from openeo_cloudmask.backend.processes.dims import grid_of
        from openeo_cloudmask.backend.processes.labels import (
            filter_bands,
            filter_bbox,
            filter_temporal,
        )
        from openeo_cloudmask.backend.processes.load import mask_outside

        if id not in cubes:
            raise ApiError(
                "CollectionNotFound", f"no collection {id!r}; there are {', '.join(cubes) or '-'}"
            )
        if properties:
            raise ApiError(
                "ProcessParameterInvalid",
                "properties are given, but cubes in memory have none; leave them out (null)",
            )
        cube = cubes[id]
        if bands is not None:
            cube = filter_bands(cube, bands)
        if temporal_extent is not None:
            cube = filter_temporal(cube, temporal_extent)
        if spatial_extent is not None:
            cut = filter_bbox(cube, spatial_extent)
            cube = mask_outside(cut, grid_of(cut), spatial_extent)
        return cube

    return load_collection


def _saving(*, write: bool) -> Callable[..., Any]:
    """Return ``save_result`` that gives the data back, computed once."""

    def save_result(data: Any, format: str, options: dict[str, Any] | None = None) -> Any:  # noqa: A002, ANN401
        from openeo_cloudmask.backend.jobs.compute import compute
        from openeo_cloudmask.backend.processes import results

        results.find_format(format)
        data = compute(data)
        if write:
            results.save_result(data, format, options)
        return data

    return save_result


@contextmanager
def _logged(spec: RunSpec) -> Iterator[None]:
    """Write the run's log lines to the log of this process."""
    from openeo_cloudmask.backend.jobs.runtime import listeners

    def listen(event: dict[str, Any]) -> None:
        if event["run"] == spec.name and event["kind"] == "log":
            _log.log(logging.getLevelNamesMapping()[event["level"].upper()], event["message"])

    listeners.append(listen)
    try:
        yield
    finally:
        listeners.remove(listen)
