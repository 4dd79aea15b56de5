"""Execution of a process graph on this machine, for the few processes a mask needs.

Enough to run what the client builds, on cubes held in memory: ``load_collection`` ->
``apply_neighborhood`` -> ``run_udf`` -> ``save_result``. The embedded back end does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from openeo_cloudmask.errors import BackendError, InputError, MissingExtraError, OptionError

if TYPE_CHECKING:
    import xarray as xr

Progress = Callable[[int, int], None]
"""Called with (neighbourhoods done, neighbourhoods in all)."""


def run_graph(
    graph: Mapping[str, Any],
    cubes: Mapping[str, xr.DataArray],
    *,
    parameters: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> xr.DataArray:
    """Return the result of a process graph.

    Args:
        graph: flat process graph, as ``openeo.DataCube.flat_graph()`` gives.
        cubes: collection id -> cube with the dimensions bands, y, x and optionally t.
        parameters: values of the graph's parameters; what an optional one defaults to has to be
            given too.
        progress: called with (done, total) neighbourhoods.

    Returns:
        What the graph's result node gives.

    Raises:
        MissingExtraError: openeo-pg-parser-networkx is not installed.
        BackendError: the graph uses a process that is not supported here.
        InputError: a collection is not among ``cubes``.
    """
    try:
        from openeo_pg_parser_networkx import OpenEOProcessGraph, ProcessRegistry
        from openeo_pg_parser_networkx.process_registry import Process
    except ImportError as err:
        raise MissingExtraError.for_extra("server", "running a process graph") from err

    engine = _Engine(cubes=cubes, progress=progress)
    registry = ProcessRegistry()
    for name, run in engine.processes().items():
        registry[name] = Process(spec={}, implementation=run)
    parsed = OpenEOProcessGraph(pg_data={"process_graph": dict(graph)})
    if strange := sorted(parsed.required_processes - set(engine.processes())):
        raise BackendError(
            f"processes {', '.join(strange)} are not supported in a local run, which knows "
            f"{', '.join(engine.processes())}; send the graph to an openEO back end"
        )
    result: xr.DataArray = parsed.to_callable(
        registry, results_cache=engine.results, parameters=dict(parameters or {})
    )(named_parameters=dict(parameters or {}))
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class _Engine:
    """The processes, and what they share during one run."""

    cubes: Mapping[str, xr.DataArray]
    progress: Progress | None = None
    results: dict[str, Any] = field(default_factory=dict)
    """Node -> result, filled by the parser."""

    def processes(self) -> dict[str, Callable[..., Any]]:
        """Return process id -> implementation."""
        return {
            "load_collection": self.load_collection,
            "apply_neighborhood": self.apply_neighborhood,
            "run_udf": _run_udf,
            "save_result": _save_result,
        }

    def load_collection(
        self,
        *,
        named_parameters: Mapping[str, Any],
        **arguments: Any,  # noqa: ANN401
    ) -> xr.DataArray:
        """Return one of the cubes, with the bands asked for."""
        given = _resolve(arguments, named_parameters)
        for name in ("spatial_extent", "temporal_extent", "properties"):
            if given.get(name) is not None:
                raise OptionError(
                    f"{name} is given, but a local run takes the whole cube: leave it out (null)"
                )
        if given["id"] not in self.cubes:
            raise InputError(
                f"no collection {given['id']!r}; there are {', '.join(self.cubes) or 'none'}"
            )
        cube = self.cubes[given["id"]]
        return cube if given.get("bands") is None else cube.sel(bands=given["bands"])

    def apply_neighborhood(
        self,
        *,
        process: Callable[..., xr.DataArray],
        named_parameters: Mapping[str, Any],
        **arguments: Any,  # noqa: ANN401
    ) -> xr.DataArray:
        """Return ``process`` applied to neighbourhoods; outside of the cube there is no-data."""
        given = _resolve(arguments, named_parameters)
        cube: xr.DataArray = given["data"]
        size, overlap = _pixels(given["size"]), _pixels(given.get("overlap") or [])
        daily = any(item.get("value") == "P1D" for item in given["size"])

        def call(part: xr.DataArray) -> xr.DataArray:
            inner = {**named_parameters, "data": part, "context": given.get("context")}
            known = set(self.results)
            answer = process(named_parameters=inner)
            for node in set(self.results) - known:  # the parser would answer the next call with it
                del self.results[node]
            return answer

        days = list(_days(cube)) if daily else [cube]
        grid = [(day, cut) for day in range(len(days)) for cut in _cuts(cube, size)]
        masks: list[xr.DataArray | None] = [None] * len(days)
        for done, (day, cut) in enumerate(grid, start=1):
            answer = call(_part(days[day], cut, overlap))
            masks[day] = _paste(masks[day], answer, days[day], cut, overlap)
            if self.progress is not None:
                self.progress(done, len(grid))
        found = [mask for mask in masks if mask is not None]
        if len(found) == 1:
            return found[0]
        import xarray as xr

        return xr.concat(found, dim="t")


def _run_udf(*, named_parameters: Mapping[str, Any], **arguments: Any) -> xr.DataArray:  # noqa: ANN401
    """Return what the UDF makes of ``data``; only its text is taken, no URL and no path."""
    from openeo.udf import UdfData, XarrayDataCube, run_udf_code

    given = _resolve(arguments, named_parameters)
    if "\n" not in given["udf"]:
        raise OptionError("udf is a URL or path; a local run takes the UDF's source text only")
    data = UdfData(
        datacube_list=[XarrayDataCube(given["data"])], user_context=given.get("context") or {}
    )
    [result] = run_udf_code(given["udf"], data).get_datacube_list() or []
    array: xr.DataArray = result.get_array()
    return array


def _save_result(*, named_parameters: Mapping[str, Any], **arguments: Any) -> xr.DataArray:  # noqa: ANN401
    """Return ``data``: whoever runs the graph writes the file."""
    data: xr.DataArray = _resolve(arguments, named_parameters)["data"]
    return data


def _resolve(value: Any, named: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
    """Return ``value`` with the values of parameters in place of references to them."""
    name = getattr(value, "from_parameter", None)
    if name is None and isinstance(value, dict) and set(value) == {"from_parameter"}:
        name = value["from_parameter"]
    if name is not None:
        if name not in named:
            raise OptionError(f"the graph's parameter {name!r} has no value")
        return named[name]
    if isinstance(value, dict):
        return {key: _resolve(item, named) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, named) for item in value]
    return value


def _pixels(argument: list[dict[str, Any]]) -> dict[str, int]:
    """Return dimension -> pixels for the x and y of ``size`` or ``overlap``."""
    spatial = [item for item in argument if item["dimension"] in ("x", "y")]
    if any(item.get("unit") != "px" for item in spatial):
        raise OptionError(f"size and overlap are {argument}; expected pixels (unit px) along x, y")
    return {item["dimension"]: int(item["value"]) for item in spatial}


def _days(cube: xr.DataArray) -> Iterator[xr.DataArray]:
    """Yield the dates of ``cube``, each a cube with ``t`` of length 1."""
    if "t" not in cube.dims:
        yield cube
        return
    for index in range(cube.sizes["t"]):
        yield cube.isel(t=[index])


def _cuts(cube: xr.DataArray, size: dict[str, int]) -> Iterator[dict[str, slice]]:
    """Yield the part of the cube that each neighbourhood answers for, row by row."""
    height, width = cube.sizes["y"], cube.sizes["x"]
    step_y, step_x = size.get("y", height), size.get("x", width)
    for top in range(0, height, step_y):
        for left in range(0, width, step_x):
            yield {
                "y": slice(top, min(top + step_y, height)),
                "x": slice(left, min(left + step_x, width)),
            }


def _part(cube: xr.DataArray, cut: dict[str, slice], overlap: dict[str, int]) -> xr.DataArray:
    """Return ``cut`` with its overlap, NaN where the cube ends; coordinates run on."""
    import xarray as xr

    wide, pads, coords = {}, {}, {}
    for axis, part in cut.items():
        around, length = overlap.get(axis, 0), cube.sizes[axis]
        first, last = part.start - around, part.stop + around
        wide[axis] = slice(max(first, 0), min(last, length))
        pads[axis] = (max(-first, 0), max(last - length, 0))
        if axis in cube.coords and length > 1:
            labels = cube[axis].to_numpy().astype(np.float64)
            step = (labels[-1] - labels[0]) / (length - 1)
            coords[axis] = labels[0] + step * np.arange(first, last)
    inner = cube.isel(wide)
    values = np.pad(
        inner.to_numpy().astype(np.float32),
        [pads.get(str(axis), (0, 0)) for axis in inner.dims],
        constant_values=np.nan,
    )
    others = {str(axis): inner[axis] for axis in inner.dims if axis in inner.coords}
    kept = {axis: labels for axis, labels in others.items() if axis not in cut}
    return xr.DataArray(values, dims=inner.dims, coords=kept | coords)


def _paste(
    mask: xr.DataArray | None,
    answer: xr.DataArray,
    cube: xr.DataArray,
    cut: dict[str, slice],
    overlap: dict[str, int],
) -> xr.DataArray:
    """Return ``mask`` (made on the first call) with what ``answer`` says of ``cut``."""
    import xarray as xr

    inner = {
        axis: slice(overlap.get(axis, 0), overlap.get(axis, 0) + part.stop - part.start)
        for axis, part in cut.items()
    }
    for axis, part in cut.items():
        wanted = part.stop - part.start + 2 * overlap.get(axis, 0)
        if answer.sizes[axis] != wanted:
            raise BackendError(
                f"the process returned {answer.sizes[axis]} pixels along {axis}; expected {wanted}"
            )
    if mask is None:
        sizes = {str(axis): answer.sizes[axis] for axis in answer.dims}
        sizes |= {axis: cube.sizes[axis] for axis in cut}
        labels = {str(axis): answer[axis] for axis in answer.dims if axis in answer.coords}
        labels |= {axis: cube[axis] for axis in cut if axis in cube.coords}
        mask = xr.DataArray(
            np.empty(tuple(sizes.values()), answer.dtype), dims=tuple(sizes), coords=labels
        )
    mask[cut] = answer.isel(inner).to_numpy()
    return mask
