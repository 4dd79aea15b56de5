"""``apply_neighborhood``, piece by piece, and callbacks that are a labelled UDF."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.cubes.masking import mask_cube, parse_client_options
from openeo_cloudmask.backend.graph.execute import is_json
from openeo_cloudmask.backend.graph.process import openeo_process
from openeo_cloudmask.backend.jobs import runtime
from openeo_cloudmask.backend.jobs.compute import compute
from openeo_cloudmask.backend.jobs.runtime import Run, RunSpec, current_run
from openeo_cloudmask.backend.processes.udf import call_udf, check_udf, lone_udf
from openeo_cloudmask.lazy import Sealed

_Slices = dict[str, slice]


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceSpec:
    """One neighbourhood with its overlap, and what is to be done with it."""

    run: RunSpec
    data: xr.DataArray
    """Lazy; the neighbourhood and as much of its overlap as the cube has."""
    pads: dict[str, tuple[int, int]]
    """Pixels of the overlap that lie outside of the cube, filled with no data (NaN)."""
    keep: _Slices
    """The part of the answer that is the result."""
    graph: dict[str, Any]
    parameters: dict[str, Any]
    library: dict[str, dict[str, Any]]


@openeo_process()
def apply_neighborhood(
    data: xr.DataArray,
    process: Callable[..., Any],
    size: list[dict[str, Any]],
    overlap: list[dict[str, Any]] | None = None,
    context: Any = None,  # noqa: ANN401 - any JSON
) -> xr.DataArray:
    """Return ``process`` applied to neighbourhoods of ``size`` that reach ``overlap`` further.

    The user-defined function of this package gets no neighbourhoods: its masks do not depend on
    how a cube is cut, so the cube is cut the way that costs least.
    """
    run = current_run().spec
    udf = lone_udf(process)
    if udf is not None and check_udf(udf.get("udf"), run):
        given = context if _refers(udf.get("context"), "context") else udf.get("context")
        return mask_cube(data, parse_client_options(given, run), run)
    sizes, overlaps = _pixels(data, size, "size"), _pixels(data, overlap or [], "overlap")
    for dim, pixels in overlaps.items():
        if dim not in sizes:
            raise _invalid("overlap", f"the dimension {dim!r} is not in size")
        if pixels > sizes[dim]:
            raise _invalid("overlap", f"{pixels} px along {dim} is larger than the size")
    return _assemble(data, process, sizes, overlaps, {"context": context}, run)


def apply_udf(
    data: xr.DataArray,
    process: Callable[..., Any],
    context: Any,  # noqa: ANN401
) -> xr.DataArray | None:
    """Return what a callback that is nothing but a UDF makes of the labelled cube, else None."""
    udf = lone_udf(process)
    if udf is None:
        return None
    run = current_run().spec
    given = context if _refers(udf.get("context"), "context") else udf.get("context")
    if check_udf(udf.get("udf"), run):
        return mask_cube(data, parse_client_options(given, run), run)
    return call_udf(udf["udf"], data, given)


def _assemble(
    data: xr.DataArray,
    process: Callable[..., Any],
    sizes: Mapping[str, int],
    overlaps: Mapping[str, int],
    parameters: dict[str, Any],
    run: RunSpec,
) -> xr.DataArray:
    import dask.array as da
    from dask import delayed

    cuts = {dim: list(_cut(data.sizes[dim], size)) for dim, size in sizes.items()}
    dims = list(cuts)
    specs: dict[tuple[int, ...], PieceSpec] = {}
    for place in itertools.product(*(range(len(cuts[dim])) for dim in dims)):
        cut = {dim: cuts[dim][at] for dim, at in zip(dims, place, strict=True)}
        specs[place] = _plan_piece(data, cut, overlaps, process, parameters, run)
    first = run_piece(Sealed.of(next(iter(specs.values()))), labelled=True)
    if set(first.dims) != set(data.dims):
        raise ApiError(
            "ProcessParameterInvalid",
            f"the process returned the dimensions {first.dims}; expected those of the data",
        )
    template = first.transpose(*data.dims)

    def block(place: tuple[int, ...]) -> Any:  # noqa: ANN401
        cut = {dim: cuts[dim][at] for dim, at in zip(dims, place, strict=True)}
        shape = tuple(
            cut[str(dim)].stop - cut[str(dim)].start if dim in cut else template.sizes[dim]
            for dim in data.dims
        )
        if not any(place):
            return da.from_array(template.to_numpy(), chunks=-1)
        task = delayed(run_piece, pure=False, traverse=False)(
            Sealed.of(specs[place]), dask_key_name=f"piece-{run.job_id}-{uuid.uuid4().hex}"
        )
        return da.from_delayed(task, shape=shape, dtype=template.dtype)

    array = _join([len(cuts[dim]) for dim in dims], [data.get_axis_num(dim) for dim in dims], block)
    labels = {
        str(dim): template[dim] if dim not in cuts else data[dim]
        for dim in data.dims
        if dim in (template.coords if dim not in cuts else data.coords)
    }
    if "spatial_ref" in data.coords:
        labels["spatial_ref"] = data.coords["spatial_ref"]
    return xr.DataArray(array, dims=data.dims, coords=labels, attrs=dict(template.attrs))


def _join(counts: list[int], axes: list[int], block: Callable[[tuple[int, ...]], Any]) -> Any:  # noqa: ANN401
    """Return the blocks of a grid as one dask array."""
    import dask.array as da

    def build(place: tuple[int, ...]) -> Any:  # noqa: ANN401
        level = len(place)
        if level == len(counts):
            return block(place)
        parts = [build((*place, at)) for at in range(counts[level])]
        return parts[0] if len(parts) == 1 else da.concatenate(parts, axis=axes[level])

    return build(())


def run_piece(sealed: Sealed, *, labelled: bool = False) -> Any:  # noqa: ANN401
    """Run the process on one neighbourhood; in a worker process, where it is read, too."""
    from openeo_cloudmask.backend.graph.execute import Executor
    from openeo_cloudmask.backend.processes.registry import predefined_processes

    spec: PieceSpec = sealed.open()
    runtime.check_cancelled()
    part = spec.data.compute(scheduler="synchronous")
    if any(before or after for before, after in spec.pads.values()):
        part = _pad(part, spec.pads)
    with runtime.running(Run(spec=spec.run)):
        executor = Executor(
            predefined_processes(), spec.library, lambda _: runtime.check_cancelled()
        )
        answer = compute(executor.run(spec.graph, {**spec.parameters, "data": part, "x": part}))
    if not isinstance(answer, xr.DataArray):
        answer = part.copy(data=np.broadcast_to(np.asarray(answer), part.shape))
    for dim in spec.keep:
        if answer.sizes.get(dim) != part.sizes[dim]:
            raise ApiError(
                "ProcessParameterInvalid",
                f"the process returned {answer.sizes.get(dim)} pixels along {dim}; expected "
                f"{part.sizes[dim]}, as it was given",
            )
    kept = answer.isel(spec.keep)
    if labelled:
        return kept
    values: NDArray[Any] = kept.transpose(*spec.data.dims).to_numpy()
    return values


def _plan_piece(
    data: xr.DataArray,
    cut: _Slices,
    overlaps: Mapping[str, int],
    process: Callable[..., Any],
    parameters: dict[str, Any],
    run: RunSpec,
) -> PieceSpec:
    wide, pads, keep = {}, {}, {}
    for dim, part in cut.items():
        around, length = overlaps.get(dim, 0), data.sizes[dim]
        first, last = part.start - around, part.stop + around
        wide[dim] = slice(max(first, 0), min(last, length))
        pads[dim] = (max(-first, 0), max(last - length, 0))
        keep[dim] = slice(around, around + part.stop - part.start)
    outer = getattr(process, "parameters", {})
    return PieceSpec(
        run=run,
        data=data.isel(wide),
        pads=pads,
        keep=keep,
        graph=json.loads(json.dumps(process.process_graph)),  # type: ignore[attr-defined]
        parameters={key: value for key, value in outer.items() if is_json(value)} | parameters,
        library=getattr(process, "library", {}),
    )


def _pad(part: xr.DataArray, pads: Mapping[str, tuple[int, int]]) -> xr.DataArray:
    """Return ``part`` with no data around it; coordinates run on."""
    labels: dict[str, Any] = {}
    for dim, (before, after) in pads.items():
        if dim in part.coords and part.sizes[dim] > 1:
            values = part[dim].to_numpy()
            step = (values[-1] - values[0]) / (values.size - 1)
            labels[dim] = values[0] + step * np.arange(-before, values.size + after)
    wide = part.astype(np.result_type(part.dtype, np.float32)).pad(
        dict(pads), constant_values=np.nan
    )
    return wide.assign_coords(labels)


def _cut(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def _pixels(data: xr.DataArray, argument: list[dict[str, Any]], name: str) -> dict[str, int]:
    """Return dimension -> number of labels for ``size`` or ``overlap``."""
    found: dict[str, int] = {}
    for item in argument:
        dim, value, unit = item.get("dimension"), item.get("value"), item.get("unit")
        if dim not in data.dims:
            raise ApiError("DimensionNotAvailable", f"the cube has no dimension {dim!r}")
        if value == "P1D" and name == "size" and dim not in ("x", "y"):
            found[str(dim)] = 1
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _invalid(name, f"value is {value!r} along {dim}; expected a number of pixels")
        number = float(value)
        if unit == "m" or (unit is None and dim in ("x", "y") and "spatial_ref" in data.coords):
            labels = data[str(dim)].to_numpy()
            number = abs(number / float((labels[-1] - labels[0]) / max(labels.size - 1, 1)))
        if number != int(number) or number < (1 if name == "size" else 0):
            raise _invalid(name, f"value is {value!r} along {dim}; expected whole pixels")
        if number:
            found[str(dim)] = int(number)
    return found


def _refers(value: object, name: str) -> bool:
    return value == {"from_parameter": name}


def _invalid(name: str, reason: str) -> ApiError:
    return ApiError("ProcessParameterInvalid", f"{name} is not valid: {reason}")
