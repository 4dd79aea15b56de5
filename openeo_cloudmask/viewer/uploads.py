"""Files that users send: kept in their session's folder, and only if they are rasters."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import IO, Any

import numpy as np
from rasterio.enums import Interleaving

from openeo_cloudmask.errors import InputError, OptionError, OutputError, ProductError
from openeo_cloudmask.products import open_product
from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.products.files import ARCHIVE_FAULTS, FILES, open_zip
from openeo_cloudmask.products.scene import Scene
from openeo_cloudmask.products.stack import RasterStack
from openeo_cloudmask.publish import publish_file

MAX_UPLOAD_BYTES = 2 * 1024**3
MAX_UNPACKED_BYTES = 8 * 1024**3
MAX_RATIO = 200
"""Unpacked by packed size of a zip; JPEG 2000 and GeoTIFF hardly shrink, a zip bomb does."""
MAX_PIXELS = 2**30
"""Of a scene or reference; a file of some kB can claim any number of them. Sentinel-2 has 2**27."""
MAX_CLASS_PIXELS = 2**27
"""Of a reference: the share of each class in each of its pixels is held in memory, 4 bytes each."""
MAX_BLOCK_BYTES = 2**30
"""Of a block of a raster, which is unpacked whole."""
SUFFIXES = (".tif", ".tiff", ".nc", ".zip")
_COPY_BYTES = 1 << 20


def save_upload(stream: IO[bytes], name: str, size: int, folder: Path) -> Path:
    """Return the path of the uploaded file, once it is known to be a raster or a zipped product.

    Args:
        stream: the file's content.
        name: its name as the browser gave it; only a cleaned last part is used.
        size: its length, bytes.
        folder: the session's own folder.

    Raises:
        InputError: it is too large, or neither a raster nor a zipped product.
        OutputError: it cannot be written.
    """
    clean = re.sub(r"[^A-Za-z0-9._-]", "_", Path(name.replace("\\", "/")).name).lstrip(".")
    suffix = Path(clean).suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"{clean or 'the file'} ends in {suffix or 'nothing'}; expected one of "
            f"{', '.join(SUFFIXES)} (a SAFE product as a zip)"
        )
    if size > MAX_UPLOAD_BYTES:
        raise InputError(
            f"{clean} has {size / 1024**3:.1f} GB; at most {MAX_UPLOAD_BYTES / 1024**3:.0f} GB can "
            "be uploaded. Give the path of the file on this machine instead, or use a back end"
        )
    target = folder / clean
    with publish_file(target) as part:  # of the same suffix, which says how it is read
        try:
            with part.open("wb") as out:
                shutil.copyfileobj(stream, out, _COPY_BYTES)
        except OSError as err:
            raise OutputError(f"{clean} cannot be kept: {err.strerror or err}") from err
        if suffix == ".zip":
            check_zip(part, clean)
        else:
            check_raster(part, clean)
    return target


def check_zip(path: Path, name: str) -> None:
    """Make sure that a zip is one, and does not unpack to more than it should.

    Raises:
        InputError: it is no zip, a zip bomb, of very many files, or has names that lead out of its
            folder.
    """
    try:
        with path.open("rb") as stream, open_zip(stream, name) as archive:
            members = archive.infolist()
    except ProductError:
        raise
    except ARCHIVE_FAULTS as err:
        raise InputError(f"{name} is no readable zip file: {err}") from err
    if len(members) > FILES:  # each file that is read of it reads them all again
        raise InputError(f"{name} holds {len(members)} files; expected at most {FILES}")
    unpacked = sum(member.file_size for member in members)
    packed = max(sum(member.compress_size for member in members), 1)
    if unpacked > MAX_UNPACKED_BYTES or unpacked / packed > MAX_RATIO:
        raise InputError(
            f"{name} would unpack to {unpacked / 1024**2:.0f} MB, {unpacked / packed:.0f} times "
            f"its size; expected at most {MAX_UNPACKED_BYTES / 1024**3:.0f} GB and {MAX_RATIO} "
            "times. It is refused"
        )
    for member in members:
        parts = Path(member.filename.replace("\\", "/")).parts
        if member.filename.startswith("/") or ".." in parts:
            raise InputError(f"{name} holds the name {member.filename!r}, which leads out of it")


def check_raster(path: Path, name: str) -> None:
    """Make sure that a file is a raster of a format that is expected.

    Raises:
        InputError: it is not.
    """
    try:
        if path.suffix.lower() == ".nc":
            open_product(path).close()
        else:
            with open_raster(path) as dataset:
                check_pixels(dataset.shape, name)
                _check_blocks(dataset, name)
    except OptionError:
        return  # of several dates, one is chosen later
    except ProductError as err:
        reason = str(err).replace(str(path), name)
        raise InputError(
            f"{name} is no raster that can be read ({reason}); expected a GeoTIFF or NetCDF-4"
        ) from err


def check_scene(scene: Scene, name: str) -> None:
    """Make sure that a scene and each raster in it are not larger than the viewer shows.

    Raises:
        InputError: one is.
        ProductError: a raster cannot be read.
    """
    check_pixels(scene.grid.shape_yx, name)
    if isinstance(scene.source, RasterStack):
        for path in sorted(scene.source.paths):
            with open_raster(path) as dataset:
                inner = f"{Path(path).name} in {name}" if len(scene.source.paths) > 1 else name
                check_pixels(dataset.shape, inner)
                _check_blocks(dataset, inner)


def check_pixels(shape_yx: tuple[int, int], name: str, most: int = MAX_PIXELS) -> None:
    """Make sure that a raster is not larger than the viewer shows.

    Raises:
        InputError: it is.
    """
    height, width = shape_yx
    if height * width > most:
        raise InputError(
            f"{name} has {height} x {width} pixels; the viewer takes {most}. Use `cloudmask run` "
            "and `cloudmask score`, or cut out a part"
        )


def check_reference(path: Path) -> None:
    """Make sure that a raster of classes is not larger than the viewer compares.

    Raises:
        InputError: it is.
        ProductError: it cannot be read.
    """
    with open_raster(path) as dataset:
        check_pixels(dataset.shape, path.name, MAX_CLASS_PIXELS)


def _check_blocks(dataset: Any, name: str) -> None:  # noqa: ANN401 - rasterio has no types
    together = dataset.count if dataset.interleaving == Interleaving.pixel else 1
    for (height, width), dtype in zip(dataset.block_shapes, dataset.dtypes, strict=True):
        size = height * width * np.dtype(dtype).itemsize * together
        if size > MAX_BLOCK_BYTES:
            raise InputError(
                f"{name} has blocks of {height} x {width} pixels, {size / 2**20:.0f} MB each; "
                f"expected at most {MAX_BLOCK_BYTES / 2**20:.0f} MB. Write it with tiles: "
                f"gdal_translate -co TILED=YES {name} tiled.tif"
            )
