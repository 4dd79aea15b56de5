"""Raster files as planes of one grid."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window

from openeo_cloudmask.errors import ProductError
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.models.pool import call_each
from openeo_cloudmask.models.processor import count_threads
from openeo_cloudmask.products.drivers import open_raster, shown, web_settings
from openeo_cloudmask.products.resample import AxisMap, plan_taps, resample
from openeo_cloudmask.products.scene import Floats
from openeo_cloudmask.sensors import BandDecoder, Decoder, mark_declared

CACHE_BYTES = 512 * 2**20
"""Decoded blocks that are kept: a row of JPEG 2000 tiles of all 13 bands of Sentinel-2 is 170 MB,
and is read several times."""
PIECE_PX = 1024
"""Columns that are read in one go where files lie in tiles, as wide as one of Sentinel-2's: the
network has work after the first piece, and memory for more grows with width. Of threads that have
no file of their own each gets as many."""
_MOST_PIECES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """One band of one raster file, and how it becomes a plane of the grid."""

    path: str
    """What GDAL opens."""
    index: int = 1
    """Band of the file, from 1."""
    decode: BandDecoder
    nodata: float | None = None
    """Stored number that metadata declare no-data; the file's own and NaN always are."""
    rows: AxisMap
    columns: AxisMap


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """Where no plane is seen, told apart from the planes' own values."""

    mask_path: str | None = None
    """A raster whose own mask (a mask band, or alpha) holds for all planes."""
    flag_path: str | None = None
    """A raster of bit flags whose bit 0 marks fill."""


class RasterStack:
    """Planes of raster files, resampled to one grid as they are read.

    Args:
        planes: bands of files.
        fill: where no plane is seen.
        open_file: opens a path as a raster; None opens files of this machine.
    """

    def __init__(
        self,
        planes: Sequence[Plane],
        fill: Fill | None = None,
        *,
        open_file: Callable[[str], Any] | None = None,
    ) -> None:
        self._open_file = open_file or open_raster
        self._planes = tuple(planes)
        self._fill = fill or Fill()
        self._decoder = Decoder(plane.decode for plane in self._planes)
        self._open: dict[str, Any] = {}
        self._lock = threading.Lock()  # a GDAL dataset is not for several threads at once

    def extended(self, planes: Sequence[Plane]) -> RasterStack:
        """Return a stack of these planes and more; this one is not to be used any longer."""
        return RasterStack((*self._planes, *planes), self._fill, open_file=self._open_file)

    @property
    def fills(self) -> Mapping[str, int]:
        """Why -> pixels read so far that are no-data but not declared so."""
        return self._decoder.fills

    @property
    def paths(self) -> frozenset[str]:
        """What is read: paths of GDAL."""
        named = (
            *(plane.path for plane in self._planes),
            self._fill.mask_path,
            self._fill.flag_path,
        )
        return frozenset(path for path in named if path is not None)

    def read(self, planes: Sequence[int], rows: slice, columns: slice) -> Floats:
        """Return (band, y, x) float32, NaN where no-data.

        Raises:
            ProductError: a file cannot be read.
        """
        shape = (len(planes), rows.stop - rows.start, columns.stop - columns.start)
        out = np.empty(shape, np.float32)
        if 0 in shape:
            return out
        with self._lock, rasterio.Env(**_settings()):
            seen = self._read_seen(rows, columns)
            self._read_planes(planes, rows, columns, out)
        if not seen.all():
            out[:, ~seen] = np.nan
        return self._decoder.decode(out, planes)

    def _read_planes(self, planes: Sequence[int], rows: slice, columns: slice, out: Floats) -> None:
        """Read into ``out``: files of this machine side by side, as each is decoded by a thread."""
        groups = _groups([self._planes[number] for number in planes])
        workers = min(len(groups), count_threads())
        if workers == 1 or self._open_file is not open_raster:
            for group in groups:
                self._read_group(group, rows, columns, out)
            return

        def read(index: int) -> None:
            with rasterio.Env(**_settings()):
                self._read_group(groups[index], rows, columns, out)

        for group in groups:  # opened by one thread, as warnings are silenced for all threads
            self._guard(group[0][1].path, lambda _: None)
        # No pool is kept: a forked process would not have its threads.
        with ThreadPoolExecutor(workers, thread_name_prefix="read") as pool:
            call_each(pool, read, len(groups))

    def piece_px(self, planes: Sequence[int]) -> int | None:
        """Return the columns to read in one go; None for whole rows, where files lie in rows.

        Raises:
            ProductError: a file cannot be opened.
        """
        paths = {self._planes[number].path for number in planes}
        with self._lock, rasterio.Env(**_settings()):
            for path in paths:
                width, block = self._guard(path, lambda file: (file.width, file.block_shapes[0][1]))
                # A coarse band may be one tile, which is kept decoded.
                if block >= width > PIECE_PX:
                    return None
        least = 1 if len(paths) > 1 else 2
        return PIECE_PX * min(max(count_threads() // len(paths), least), _MOST_PIECES)

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            for dataset in self._open.values():
                dataset.close()
            self._open.clear()

    def _read_group(
        self, group: list[tuple[int, Plane]], rows: slice, columns: slice, out: Floats
    ) -> None:
        """Read bands of one file in one go: bands that lie pixel by pixel are decoded once."""
        plane = group[0][1]
        indexes = [item.index for _, item in group]
        whole = plane.rows.whole and plane.columns.whole
        if whole:
            top = rows.start + round(plane.rows.shift)
            left = columns.start + round(plane.columns.shift)
            height, width = out.shape[1:]
            window = Window(left, top, width, height)
            first = group[0][0]
            side_by_side = group[-1][0] - first + 1 == len(group)
            room = out[first : first + len(group)] if side_by_side else None
            blocks = self._read(plane.path, indexes, window, room)
        else:
            across = plan_taps(plane.columns, columns.start, columns.stop)
            down = plan_taps(plane.rows, rows.start, rows.stop)
            window = Window(
                across.first, down.first, across.stop - across.first, down.stop - down.first
            )
            blocks = self._read(plane.path, indexes, window)
        for (place, item), block in zip(group, blocks, strict=True):
            mark_declared(block, (item.nodata, self._open[item.path].nodatavals[item.index - 1]))
            if not np.shares_memory(block, out[place]):
                out[place] = block if whole else resample(block, down, across)

    def _read_seen(self, rows: slice, columns: slice) -> NDArray[np.bool_]:
        window = Window(
            columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start
        )
        seen = np.ones((rows.stop - rows.start, columns.stop - columns.start), bool)
        if (path := self._fill.mask_path) is not None:
            seen &= self._guard(path, lambda dataset: dataset.dataset_mask(window=window)) != 0
        if (path := self._fill.flag_path) is not None:
            seen &= self._guard(path, lambda dataset: dataset.read(1, window=window)) & 1 == 0
        return seen

    def _read(
        self, path: str, indexes: list[int], window: Window, room: Floats | None = None
    ) -> Floats:
        """Return bands as (band, y, x), in ``room`` where that is given."""
        given: dict[str, Any] = {"out_dtype": "float32"} if room is None else {"out": room}

        def read(dataset: Any) -> Floats:  # noqa: ANN401
            (top, bottom), (left, right) = window.toranges()
            # Beyond the edge rasterio would stretch the rest over ``out``.
            if min(top, left) < 0 or bottom > dataset.height or right > dataset.width:
                raise ProductError(
                    f"{shown(path)} has {dataset.height} x {dataset.width} pixels; expected rows "
                    f"{top} to {bottom} and columns {left} to {right} there: it is smaller than "
                    "what describes it says"
                )
            blocks: Floats = dataset.read(indexes, window=window, **given)
            return blocks

        found: Floats = self._guard(path, read)
        return found

    def _guard(self, path: str, work: Callable[[Any], Any]) -> Any:  # noqa: ANN401
        try:
            if path not in self._open:
                self._open[path] = self._open_file(path)
            return work(self._open[path])
        except RasterioError as err:
            raise ProductError(
                f"cannot read pixels of {shown(path)}: {shown(err.__cause__ or err).rstrip('.')}. "
                "The file may be damaged or incomplete; download it again"
            ) from err


def _settings() -> dict[str, Any]:
    return {"GDAL_CACHEMAX": CACHE_BYTES, "GDAL_NUM_THREADS": "ALL_CPUS", **web_settings()}


def raster_grid(dataset: Any) -> Grid:  # noqa: ANN401 - rasterio has no types
    """Return the grid of an open dataset; without transform where it has no georeference.

    Raises:
        ProductError: it states a transform that places no pixels.
    """
    stated: Affine = dataset.transform
    if not all(map(math.isfinite, tuple(stated)[:6])) or not stated.determinant:
        raise ProductError(
            f"{shown(dataset.name)} has the transform {tuple(stated)[:6]}; expected finite "
            "numbers, and pixels with a width and a height"
        )
    transform = None if stated == Affine.identity() else stated
    return Grid(shape_yx=(dataset.height, dataset.width), transform=transform, crs=dataset.crs)


def _groups(planes: list[Plane]) -> list[list[tuple[int, Plane]]]:
    found: dict[str, list[tuple[int, Plane]]] = {}
    for place, plane in enumerate(planes):
        found.setdefault(plane.path, []).append((place, plane))
    return list(found.values())
