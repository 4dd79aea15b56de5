"""Options of batch jobs on back ends that have to be told what a UDF needs."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.openeo.neighborhood import Neighborhood

BUNDLE_FOLDER = "cloudmask_deps"
"""The folder in which the UDF looks for a bundle; part of ``udf/cloud_mask.py``."""

_GIB = 1 << 30
_RUNTIME_BYTES = 2 * _GIB
"""Python, the runtime's libraries, a model and its activations for one window."""
_COPIES = 4
"""The cube as it arrives, as the UDF reads it, and what the runner keeps around both."""


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
    bands: int = 13,
    around: Neighborhood | None = None,
) -> dict[str, Any]:
    """Return ``job_options`` for ``cube.execute_batch`` and ``cube.create_job``.

    Memory is an estimate: 2 GiB for Python and a model, and four times the pixels that one call
    of the UDF gets (13 bands, 2048 x 2048 pixels, 4 bytes: 0.2 GiB). Nothing is said of
    ``soft-errors``: with it a back end leaves out what it could not read.

    Args:
        archive_url: where the archive that ``cloudmask bundle`` made can be downloaded; None where
            the back end has openeo-cloudmask installed.
        backend: what kind of back end it is.
        bands: bands of the cube, for the memory.
        around: the neighbourhood, for the memory; None for the default.

    Raises:
        OptionError: the kind is unknown, or the URL is no http(s) URL.
    """
    try:
        kind = BackendKind(backend)
    except ValueError:
        raise OptionError(
            f"backend is {backend!r}; expected one of {', '.join(BackendKind)}"
        ) from None
    if kind is BackendKind.CLOUDMASK:
        return {}
    pixels = (around or Neighborhood()).input_px ** 2
    need = _RUNTIME_BYTES + _COPIES * 4 * bands * pixels
    options: dict[str, Any] = {
        "executor-memory": "2g",
        "executor-memoryOverhead": "1g",
        "python-memory": f"{math.ceil(need / _GIB)}g",
    }
    if archive_url is not None:
        options["udf-dependency-archives"] = [f"{_check_url(archive_url)}#{BUNDLE_FOLDER}"]
    return options


def _check_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.fragment:
        raise OptionError(
            f"archive_url is {url!r}; expected the http(s) address of a zip file, without #"
        )
    return url
