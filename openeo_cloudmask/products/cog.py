"""Masks as cloud optimized GeoTIFFs: written strip by strip, and there only once complete."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from openeo_cloudmask.classes import NODATA, ClassScheme
from openeo_cloudmask.errors import InputError, OutputError, ProductError
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.products.drivers import create_raster, open_raster
from openeo_cloudmask.publish import scratch_beside

BLOCK_PX = 512
KEPT_VALUES = 600_000_000
"""Percentages kept beside a mask at most: those of four classes of a full Sentinel-2 scene."""
Strip = tuple[int, NDArray[np.uint8]]
"""First row, and (band, rows, x) uint8."""


def check_output(path: Path, *, source: Path | None = None, overwrite: bool = False) -> None:
    """Make sure that ``path`` can be written, before any work is done.

    Raises:
        OutputError: the folder is not there or not writable, the name is not that of a GeoTIFF,
            the file exists and may not be overwritten, or it is the input.
    """
    folder = path.parent
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise OutputError(
            f"the output is {path.name!r}; expected a name that ends in .tif, as it is a GeoTIFF"
        )
    if not folder.is_dir():
        raise OutputError(f"the output folder {folder} is not there; create it first")
    if path.is_dir():
        raise OutputError(f"the output {path} is a folder; expected the name of a file")
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise OutputError(f"the output {path} is the input; choose another name")
    if path.exists() and not overwrite:
        raise OutputError(f"the output {path} exists; pass --overwrite (overwrite=True) or rename")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"the output folder {folder} is not writable")


def write_cog(
    path: Path,
    strips: Iterable[Strip],
    *,
    grid: Grid,
    scheme: ClassScheme,
    categorise: bool = True,
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = True,
    closing: Callable[[], Mapping[str, str]] | None = None,
) -> Path:
    """Return ``path`` after writing a mask, or percentages, to it as a real COG.

    Rows are written as they come, to a file in a temporary folder beside ``path``; the finished
    file is moved to ``path`` in one step, so that a complete file or none has that name, even when
    the process is killed. Memory depends on the width of the scene only.

    Args:
        path: the file to write; its folder has to be there.
        strips: from the top to the bottom without gaps: class values (one band), or a band of
            percentages for each class of ``scheme``; 255 is no-data.
        grid: size and georeference of the mask.
        scheme: classes of the mask; gives colours and names.
        categorise: True for class values, False for percentages.
        metadata: written to the file's tags, values as text.
        overwrite: whether an existing file may be replaced.
        closing: called after the last strip; gives tags that are known only then, if not empty.

    Raises:
        OutputError: the file cannot be written.
        InputError: the strips do not cover the grid.
    """
    check_output(path, overwrite=overwrite)
    bands = 1 if categorise else len(scheme.classes)
    # Between two classes there is no class: overviews pick pixels. Percentages can be averaged.
    with (
        _as_output_error(path),
        publish_cog(path, _profile(grid, bands), average=not categorise) as dataset,
    ):
        _describe(dataset, scheme, categorise=categorise, metadata=metadata or {})
        for window, block in _blocks(strips, grid, bands):
            dataset.write(block, window=window)
        if closing is not None:
            dataset.update_tags(**{key: text for key, text in closing().items() if text})
    return path


@contextmanager
def open_percentages(
    path: Path, *, grid: Grid, scheme: ClassScheme, metadata: Mapping[str, Any]
) -> Iterator[Callable[[Strip], None]]:
    """Yield what takes strips of percentages in any order; they become the COG ``path`` at the end.

    Args:
        path: the file to write; an existing one is replaced.
        grid: size and georeference.
        scheme: a band of percentages for each of its classes.
        metadata: written to the file's tags, values as text.

    Raises:
        OutputError: the file cannot be written.
    """
    check_output(path, overwrite=True)
    with (
        _as_output_error(path),
        publish_cog(path, _profile(grid, len(scheme.classes)), average=True) as dataset,
    ):
        _describe(dataset, scheme, categorise=False, metadata=metadata)

        def put(strip: Strip) -> None:
            row, values = strip
            dataset.write(values, window=Window(0, row, values.shape[2], values.shape[1]))

        yield put


@contextmanager
def publish_cog(
    path: Path, profile: Mapping[str, Any], *, average: bool, level: int | None = None
) -> Iterator[Any]:
    """Yield a GeoTIFF to write, whose content becomes the COG ``path`` in one step.

    It lies in a temporary folder beside ``path``, so that a complete file or none has that name.

    Args:
        path: the file to write; its folder has to be there.
        profile: of the GeoTIFF, as ``rasterio.open`` takes it.
        average: whether overviews average pixels; else they pick some.
        level: of the compression; None for the driver's own.

    Raises:
        OutputError: the folder cannot be written to, or the file is not there as written.
        RasterioError: the file cannot be written.
    """
    more = {} if level is None else {"LEVEL": level}
    with scratch_beside(path.parent) as scratch:
        plain, cog = scratch / "strips.tif", scratch / "cog.tif"
        with create_raster(plain, **profile) as dataset:
            yield dataset
        rasterio.shutil.copy(
            plain,
            cog,
            driver="COG",
            COMPRESS="DEFLATE",
            BLOCKSIZE=BLOCK_PX,
            OVERVIEW_RESAMPLING="AVERAGE" if average else "NEAREST",
            BIGTIFF="IF_SAFER",
            NUM_THREADS="ALL_CPUS",  # nothing else is done by now
            **more,
        )
        _check_written(cog)
        cog.replace(path)


def _profile(grid: Grid, bands: int) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        **grid.profile(),
        "count": bands,
        "dtype": "uint8",
        "nodata": NODATA,
        "tiled": True,
        "blockxsize": BLOCK_PX,
        "blockysize": BLOCK_PX,
        "interleave": "band",
        "compress": "deflate",
        "zlevel": 1,
        "bigtiff": "IF_SAFER",
    }


def _describe(
    dataset: Any,  # noqa: ANN401 - rasterio has no types
    scheme: ClassScheme,
    *,
    categorise: bool,
    metadata: Mapping[str, Any],
) -> None:
    classes = [
        {"value": item.value, "name": item.name, "title": item.title, "color_hint": item.color}
        for item in scheme.classes
    ]
    tags = {key: str(value) for key, value in metadata.items() if value is not None}
    tags |= {
        "CLASS_SCHEME": scheme.name,
        "CLASS_NAMES": ", ".join(f"{item.value}={item.name}" for item in scheme.classes),
        "CLASSES": json.dumps(classes),
    }
    if categorise:
        colours = {item.value: item.rgba for item in scheme.classes} | {NODATA: (0, 0, 0, 0)}
        dataset.write_colormap(1, colours)
        dataset.set_band_description(1, "mask")
    else:
        tags["UNITS"] = "percent"
        dataset.colorinterp = [ColorInterp.gray] + [ColorInterp.undefined] * (dataset.count - 1)
        for number, item in enumerate(scheme.classes, start=1):
            dataset.set_band_description(number, item.name)
            dataset.set_band_unit(number, "percent")
    dataset.update_tags(**tags)


def _blocks(
    strips: Iterable[Strip], grid: Grid, bands: int
) -> Iterator[tuple[Window, NDArray[np.uint8]]]:
    """Yield whole rows of tiles: a tile that is written twice is stored twice."""
    height, width = grid.shape_yx
    waiting = np.empty((bands, 0, width), np.uint8)
    top = 0
    for row, strip in strips:
        expected = top + waiting.shape[1]
        if row != expected or strip.shape[::2] != (bands, width) or strip.dtype != np.uint8:
            raise InputError(
                f"a strip at row {row} has shape {strip.shape}, {strip.dtype}; expected row "
                f"{expected} and ({bands}, rows, {width}), uint8"
            )
        waiting = np.concatenate([waiting, strip], axis=1)
        while waiting.shape[1] >= BLOCK_PX:
            yield Window(0, top, width, BLOCK_PX), waiting[:, :BLOCK_PX]
            waiting, top = waiting[:, BLOCK_PX:], top + BLOCK_PX
    if top + waiting.shape[1] != height:
        raise InputError(f"the strips end at row {top + waiting.shape[1]}; expected {height} rows")
    if waiting.shape[1]:
        yield Window(0, top, width, waiting.shape[1]), waiting


def _check_written(path: Path) -> None:
    """Make sure that a COG can be read again: a full disk may show only now.

    Raises:
        OutputError: it cannot be opened.
        RasterioError: its pixels cannot be read.
    """
    try:
        dataset = open_raster(path)
    except ProductError as err:
        raise OutputError(f"{path.name} is not there as it was written: is the disk full?") from err
    with dataset:
        last = max(dataset.height - 1, 0)
        dataset.read(window=Window(0, last, dataset.width, 1))
        for factor in dataset.overviews(1):
            dataset.read(1, out_shape=(1, 1), window=Window(0, 0, factor, factor))


@contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            yield
    except RasterioError as err:
        raise OutputError(
            f"cannot write {path}: {err}. Is the disk full, or the folder not writable?"
        ) from err
