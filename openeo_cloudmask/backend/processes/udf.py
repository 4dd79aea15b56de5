"""User-defined functions: whose code may run, and how it is called."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from openeo_cloudmask import assets
from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.cubes.masking import mask_cube, parse_client_options
from openeo_cloudmask.backend.graph.process import openeo_process
from openeo_cloudmask.backend.jobs.compute import compute
from openeo_cloudmask.backend.jobs.runtime import RunSpec, current_run

RUNTIMES = ("Python", "python", "Python-Jep")


@functools.cache
def bundled_digest() -> str:
    """Return the SHA-256 of the UDF that comes with the package."""
    return udf_digest(assets.path("udf/cloud_mask.py").read_text(encoding="utf-8"))


def udf_digest(text: str) -> str:
    """Return the SHA-256 of a UDF's source, whatever its line ends."""
    return hashlib.sha256("\n".join(text.strip().splitlines()).encode()).hexdigest()


def check_udf(udf: object, run: RunSpec) -> bool:
    """Return whether ``udf`` is the bundled one.

    Raises:
        ApiError: it is other code and the server does not run that, or it is no source text.
    """
    if not isinstance(udf, str):
        raise ApiError("ProcessParameterInvalid", "udf must be the source text of the function")
    if udf_digest(udf) == bundled_digest():
        return True
    if "\n" not in udf.strip():
        raise ApiError(
            "ProcessParameterInvalid",
            "udf is a URL or path; this back end takes the source text itself only",
        )
    if not run.allow_any_udf:
        raise ApiError(
            "UdfNotAllowed",
            f"this back end runs only the UDF of openeo-cloudmask (SHA-256 {bundled_digest()}); "
            f"the one given has {udf_digest(udf)}. Send that of the version the server has, or "
            "ask whoever runs it to start it with --allow-any-udf",
        )
    return False


@openeo_process()
def run_udf(
    data: Any,  # noqa: ANN401 - a cube, or what a parent process hands over
    udf: str,
    runtime: str,
    version: str | None = None,
    context: Mapping[str, Any] | None = None,
) -> Any:  # noqa: ANN401
    """Return what a UDF makes of a labelled cube; the bundled one is computed strip by strip."""
    del version
    run = current_run().spec
    if runtime not in RUNTIMES:
        raise ApiError("ProcessParameterInvalid", f"runtime is {runtime!r}; expected one of Python")
    if check_udf(udf, run):
        return mask_cube(_labelled(data), parse_client_options(context, run), run)
    return call_udf(udf, _labelled(data), context)


def call_udf(udf: str, data: xr.DataArray, context: Mapping[str, Any] | None) -> xr.DataArray:
    """Return what a UDF makes of a cube that is loaded for it."""
    from openeo.udf import UdfData, XarrayDataCube, run_udf_code

    loaded = compute(data)
    request = UdfData(datacube_list=[XarrayDataCube(loaded)], user_context=dict(context or {}))
    try:
        cubes = run_udf_code(udf, request).get_datacube_list() or []
    except Exception as err:
        reason = " ".join(f"{type(err).__name__}: {err}".split())[:500]
        raise ApiError("UdfFailed", f"the user-defined function failed: {reason}") from err
    if len(cubes) != 1:
        raise ApiError("UdfFailed", f"the UDF returned {len(cubes)} cubes; expected one")
    result: xr.DataArray = cubes[0].get_array()
    if "spatial_ref" in data.coords and "spatial_ref" not in result.coords:
        result = result.assign_coords(spatial_ref=data.coords["spatial_ref"])
    return result


def lone_udf(process: Any) -> dict[str, Any] | None:  # noqa: ANN401
    """Return the arguments of a callback that does nothing but ``run_udf``, else None."""
    graph = getattr(process, "process_graph", None)
    if not isinstance(graph, dict) or len(graph) != 1:
        return None
    node = next(iter(graph.values()))
    return dict(node["arguments"]) if node.get("process_id") == "run_udf" else None


def _labelled(data: Any) -> xr.DataArray:  # noqa: ANN401
    if isinstance(data, xr.DataArray):
        return data
    if isinstance(data, list | tuple | np.ndarray) or hasattr(data, "dask"):
        return xr.DataArray(data if hasattr(data, "shape") else np.asarray(data))
    raise ApiError(
        "ProcessParameterInvalid", f"data is of type {type(data).__name__}; expected a datacube"
    )
