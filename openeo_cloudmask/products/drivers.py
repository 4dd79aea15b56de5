"""The one place that opens raster files, and the formats that it opens.

A file is what its content says, never what its name says. Two formats are read through GDAL:
GeoTIFF (a COG is one) and JPEG 2000. GDAL knows some 150 more, and among them are those that read
other files or addresses that the file names (VRT, GTI, STACIT, WMS, ...): whoever may have a file
opened could have any file of the machine read. NetCDF and Zarr are read without GDAL
(``products/netcdf.py``).
"""

from __future__ import annotations

import os
import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from openeo_cloudmask.errors import ProductError
from openeo_cloudmask.products.addresses import S3_HINT
from openeo_cloudmask.products.crs import names_files

DRIVERS = ("GTiff", "JP2OpenJPEG")
"""GDAL drivers that may open a file."""

KEPT = frozenset({*DRIVERS, "COG", "MEM", "PNG"})
"""Drivers that a server's processes need: those above, and what masks and map tiles are written
with."""

SKIP_VARIABLE = "GDAL_SKIP"
"""Environment variable that switches some of GDAL's drivers off."""

_REFERRING = ("OVERVIEWS", "GEOLOCATION")
"""Metadata by which even a GeoTIFF makes GDAL open something else: ``OVERVIEW_FILE`` may be any
path, or a whole VRT, and is read as the file's overview."""


_PATIENCE = {
    "GDAL_HTTP_CONNECTTIMEOUT": "15", "GDAL_HTTP_TIMEOUT": "120",
    "GDAL_HTTP_MAX_RETRY": "3", "GDAL_HTTP_RETRY_DELAY": "1",
}  # fmt: skip
"""Seconds, and tries, after which a web server or bucket is given up."""

Opener = Any
"""From a name to a binary file object: a function or a file container, as rasterio takes them."""


def open_raster(
    path: str | os.PathLike[str], *, opener: Opener | None = None, overview: int | None = None
) -> Any:  # noqa: ANN401
    """Return an open dataset; files beside it (``.aux.xml``, ``.ovr``, ``.msk``) are not read.

    Args:
        path: a file, or a path of one of GDAL's virtual file systems (``/vsizip/``, ...).
        opener: opens the file in GDAL's stead; None leaves it to GDAL.
        overview: which of its overviews is taken for the whole, from 0; None: none of them.

    Raises:
        ProductError: it is no GeoTIFF and no JPEG 2000, is damaged, or refers to other files.
    """
    name = os.fspath(path)
    try:
        with (
            warnings.catch_warnings(),
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", **web_settings()),
        ):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = _open(name, opener, {} if overview is None else {"OVERVIEW_LEVEL": overview})
    except RasterioError as err:
        raise ProductError(
            f"cannot open {shown(name)} as a raster: {shown(err).rstrip('.')}. Expected a GeoTIFF "
            f"or JPEG 2000{_hint(name)}"
        ) from err
    if found := [domain for domain in _REFERRING if dataset.tags(ns=domain)]:
        dataset.close()
        raise ProductError(
            f"{shown(name)} takes pixels from other files (its metadata {found[0]}); expected a "
            "file that holds its own"
        )
    try:
        dataset.descriptions  # noqa: B018 - decoded as it is asked for
    except UnicodeDecodeError as err:
        dataset.close()
        raise ProductError(
            f"the names of the bands in {shown(name)} are not UTF-8; write them anew, "
            "as by rasterio's `descriptions`"
        ) from err
    if names_files(dataset.crs):
        dataset.close()
        raise ProductError(
            f"the reference system of {shown(name)} names a file; expected one that needs none"
        )
    return dataset


def _open(name: str, opener: Opener | None, options: dict[str, int]) -> Any:  # noqa: ANN401
    if opener is None:
        return DatasetReader(name, driver=list(DRIVERS), sharing=False, **options)
    for driver in DRIVERS[:-1]:
        with suppress(RasterioError):
            return rasterio.open(name, driver=driver, sharing=False, opener=opener, **options)
    return rasterio.open(name, driver=DRIVERS[-1], sharing=False, opener=opener, **options)


def create_raster(path: str | os.PathLike[str], **profile: Any) -> Any:  # noqa: ANN401
    """Return a dataset to write to, with rasterio's ``profile`` (driver, height, width, ...).

    Raises:
        RasterioError: it cannot be created.
    """
    return rasterio.open(path, "w", **profile)


def change_raster(path: str | os.PathLike[str]) -> Any:  # noqa: ANN401
    """Return a GeoTIFF to change where it lies.

    Raises:
        RasterioError: it is no GeoTIFF, or cannot be changed.
    """
    return rasterio.open(path, "r+", driver="GTiff", sharing=False, IGNORE_COG_LAYOUT_BREAK=True)


def skipped_drivers() -> str:
    """Return the value of ``GDAL_SKIP`` that leaves a new process the drivers in ``KEPT`` only.

    ``open_raster`` opens no other format anyhow; this closes the ways around it, for processes
    that read untrusted files: the viewer, and the workers of the back end.
    """
    with rasterio.Env() as env:
        names = set(env.drivers())
    given = os.environ.get(SKIP_VARIABLE, "")
    names |= set(given.split("," if "," in given else None))
    return ",".join(sorted(names - KEPT))


def web_settings() -> dict[str, str]:
    """Return how GDAL reads from elsewhere, as far as the environment does not say it."""
    return {name: value for name, value in _PATIENCE.items() if name not in os.environ}


def shown(name: object) -> str:
    """Return a path of GDAL, or its message, without the queries of addresses: they hold keys."""
    return re.sub(r"(?<=[^\s?])\?[^\s'\"?]*=[^\s'\"]*", "", str(name))


_ELSEWHERE = {
    "/vsis3/": S3_HINT,
    "/vsicurl/": "The server has to answer without a login and to send parts of files (Range); if "
    "it does not, download the file",
}
"""Beginning of a path elsewhere -> what is said where it cannot be opened."""

_OTHERS = (
    (b"\xff\xd8\xff", ". It is a picture (JPEG), which holds no reflectance"),
    (b"\x89PNG", ". It is a picture (PNG), which holds no reflectance"),
    (b"<!DOCTYPE html", ". It is a web page, perhaps that of a login: download it again"),
    (b"<html", ". It is a web page, perhaps that of a login: download it again"),
    (b"PK", ". It is a zip archive: name it .zip, or unpack it"),
    (b"CDF", ". It is a NetCDF file: name it .nc"),
    (b"\x89HDF", ". It is a NetCDF or HDF5 file: name it .nc if it is NetCDF"),
)
"""How files begin that people take for rasters, and what is said of them."""


def _hint(name: str) -> str:
    elsewhere = next((says for start, says in _ELSEWHERE.items() if name.startswith(start)), None)
    if elsewhere is not None:
        return f". {elsewhere}"
    try:
        with Path(name).open("rb") as file:
            start = file.read(1024)
    except OSError:
        return ""
    if start.startswith((b"II*\0", b"MM\0*", b"II+\0", b"\0\0\0\x0cjP")):
        return ". It begins like one: it may be incomplete, or still being written"
    for magic, says in _OTHERS:
        if start.lstrip().startswith(magic):
            return says
    if not start:
        return ". It is empty: download it again"
    what = "If it is a raster of another format, convert it"
    if b"<VRTDataset" in start:
        what = "It is a VRT, which reads other files; write their pixels to a file"
    stem = Path(name).stem + ("_converted" if Path(name).suffix.lower() == ".tif" else "")
    return (
        f". {what}: gdal_translate {Path(name).name} {stem}.tif (or rio convert, which "
        "drops the names of the bands)"
    )
