"""Options of batch jobs on back ends that need to know what a UDF requires."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.models.entry import ModelEntry
from openeo_cloudmask.models.onnx_detector import is_exported, packaged_onnx
from openeo_cloudmask.models.registry import get_model
from openeo_cloudmask.openeo.neighborhood import Neighborhood, plan_neighborhood
from openeo_cloudmask.options import DEFAULT_MODEL

BUNDLE_FOLDER = "cloudmask_deps"
"""The folder in which the UDF looks for a bundle; part of ``udf/cloud_mask.py``."""

RUNTIME_MIB = {
    "none": 640,
    "onnx": 1152,
    "ukis": 1280,
    "s2cloudless": 704,
    "torch": 2048,
    "omnicloudmask": 2368,
}
"""Runtime -> addresses that a worker takes before a large tile comes: Python, what the driver and
the runtime load, a model, one window."""
DRIVER_MIB = 128
"""What openeo-geopyspark-driver itself loads and ``benchmarks/udf_memory.py`` cannot."""
BYTES_A_CELL = 52
"""A tile comes as protobuf, read by Python: a list of float objects, then arrays."""
_STEP_MIB = 256


class BackendKind(StrEnum):
    """Kinds of back ends, by what their job options are called."""

    GEOPYSPARK = "geopyspark"
    """openeo-geopyspark-driver: Copernicus Data Space, Terrascope and others."""
    CLOUDMASK = "cloudmask"
    """The embedded back end: everything is installed there, it needs no options."""


def job_options(
    archive_url: str | None = None,
    *,
    backend: BackendKind | str = BackendKind.GEOPYSPARK,
    model: str = DEFAULT_MODEL,
    runtime: str | None = None,
    bands: int | None = None,
    around: Neighborhood | None = None,
) -> dict[str, Any]:
    """Return ``job_options`` for ``cube.execute_batch`` and ``cube.create_job``.

    ``python-memory`` divided by ``executor-cores`` is a limit of virtual memory there, which covers
    every library that is loaded. ``benchmarks/udf_memory.py`` finds by trial what a job needs.
    Nothing is said of ``soft-errors``: with it a back end leaves out what it could not read.

    Args:
        archive_url: where the archive that ``cloudmask bundle`` made can be downloaded; None where
            the back end has openeo-cloudmask installed.
        backend: what kind of back end it is.
        model: the model that the job runs.
        runtime: what runs it, as ``cloudmask bundle`` names it; None for what the model needs by
            itself, ``onnx`` with an exported file.
        bands: bands of the cube; None for those that the model takes.
        around: the neighbourhood; None for the one that ``cloud_mask`` takes.

    Raises:
        OptionError: the kind or runtime is unknown, or the URL is no http(s) URL.
        UnknownModelError: no model of that name.
    """
    try:
        kind = BackendKind(backend)
    except ValueError:
        raise OptionError(
            f"backend is {backend!r}; expected one of {', '.join(BackendKind)}"
        ) from None
    if kind is BackendKind.CLOUDMASK:
        return {}
    entry = get_model(model)
    if bands is None:
        bands = max(len(names) for names in entry.inputs.values())
    around = around or plan_neighborhood(entry.window)
    need = python_mebibytes(runtime or runtime_of(entry), bands=bands, side_px=around.input_px)
    options: dict[str, Any] = {
        "executor-memory": "2g",
        "executor-memoryOverhead": "1g",
        "executor-cores": 1,
        "python-memory": f"{need}m",
    }
    if archive_url is not None:
        options["udf-dependency-archives"] = [f"{_check_url(archive_url)}#{BUNDLE_FOLDER}"]
    return options


def python_mebibytes(runtime: str, *, bands: int, side_px: int) -> int:
    """Return the virtual memory that one worker needs, MiB, for tiles of ``side_px`` squared.

    Raises:
        OptionError: the runtime is unknown.
    """
    if runtime not in RUNTIME_MIB:
        raise OptionError(f"runtime is {runtime!r}; expected one of {', '.join(RUNTIME_MIB)}")
    tile = BYTES_A_CELL * bands * side_px**2 / (1 << 20)
    return _STEP_MIB * math.ceil((RUNTIME_MIB[runtime] + DRIVER_MIB + tile) / _STEP_MIB)


def runtime_of(entry: ModelEntry, weights: Path | None = None) -> str:
    """Return the runtime that a model needs, with weights that replace its own."""
    if is_exported(weights) or (weights is None and packaged_onnx(entry).is_file()):
        return "onnx"
    return entry.extra or "none"


def _check_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.fragment:
        raise OptionError(
            f"archive_url is {url!r}; expected the http(s) address of a zip file, without #"
        )
    return url
