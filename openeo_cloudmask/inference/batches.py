"""Batches of windows: cut from rows of a cube, and given to a network that works meanwhile."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.errors import InputError
from openeo_cloudmask.inference.detector import Detector
from openeo_cloudmask.inference.spares import Spares
from openeo_cloudmask.inference.windows import AxisPlan, fill_window
from openeo_cloudmask.sensors import find_layer
from openeo_cloudmask.sensors.radiometry import SCALES

DN_MEDIAN_LIMIT = 3.0
"""Reflectance and normalised temperatures lie in 0-1; a median above this is another unit."""


class Cube(Protocol):
    """Pixels that can be read in parts: a NumPy array, a dask array, or a lazy reader.

    One whose rows are better read piece by piece has ``piece_px``, the columns of a piece.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(band, y, x)."""

    def __getitem__(self, key: tuple[slice, slice, slice]) -> Any:  # noqa: ANN401
        """Return the part as something ``numpy.asarray`` takes: NaN where no-data."""


class Batch(NamedTuple):
    """Windows of one row of windows that the network has, or will have, looked at."""

    windows: int
    """How many there are; those that are spared, or see nothing, are not in the rest."""
    top: int
    bottom: int
    """Rows of the cube that they cover, ``top`` to ``bottom``."""
    above: int
    """Rows of the windows that lie above the cube."""
    starts: list[int]
    """First columns of the windows; may be negative."""
    own: list[float]
    """The share of each that is seen in the scene, 0-1."""
    pixels: NDArray[np.float32]
    """(window, band, y, x)."""
    seen: NDArray[np.bool_]
    """(window, y, x)."""
    answer: Future[NDArray[np.float32]] | None
    """None where there is no window."""
    complete: NDArray[np.bool_]
    """(y, x), what is valid in the rows from ``top`` on that no later window touches."""


def start_batches(
    cube: Cube, network: Network, rows: AxisPlan, columns: AxisPlan, batch_size: int | None
) -> Iterator[Batch]:
    """Yield batches, each when the network has got it."""
    height = cube.shape[1]
    size = len(rows.weights)
    images = [find_layer(name) is None for name in network.detector.band_names]
    reader = _RowReader(cube, max(rows.starts[0], 0), size, images)
    spares = Spares(rows, reader.look)
    for index, start in enumerate(rows.starts):
        top, bottom = max(start, 0), min(start + size, height)
        final = bottom if index + 1 == len(rows.starts) else min(rows.starts[index + 1], height)
        block, valid = reader.turn_to(top, bottom)
        left = list(columns.starts)
        while left:
            # Asked for anew: a detector that loads on first use knows its device only then.
            count = batch_size or network.detector.window.batch
            if not index and len(left) == len(columns.starts):
                # The first of all: they wait for one piece, and the network for them.
                reach = reader.reach(left[0] + size)
                count = min(count, sum(reader.reach(column + size) == reach for column in left))
            taken, left = left[:count], left[count:]
            reader.read_until(taken[-1] + size if left else cube.shape[2])
            needed = [column for column in taken if not spares.has(valid, start, column)]
            batch = network.start(block, valid, start, needed)
            done = 0 if left else max(final - top, 0)
            yield batch._replace(windows=len(taken), complete=valid[:done].copy())
        spares.turn(valid, start)


def one_behind(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield each batch once the next one is there."""
    before = next(batches)
    for batch in batches:
        yield before
        before = batch
    yield before


class Network:
    """A detector at work in threads of its own, on two batches in turn."""

    def __init__(self, detector: Detector, shape: tuple[int, int, int]) -> None:
        """Take the shape (band, y, x) of its windows."""
        self.detector = detector
        self._shape = shape
        self._rooms = [self._room(0), self._room(0)]
        self._context = copy_context()
        self._pool = ThreadPoolExecutor(len(self._rooms), thread_name_prefix="network")
        self._before: list[Future[NDArray[np.float32]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _room(self, count: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Memory for ``count`` windows."""
        return np.empty((count, *self._shape), np.float32), np.empty(
            (count, *self._shape[1:]), bool
        )

    def start(
        self, block: NDArray[np.float32], valid: NDArray[np.bool_], row: int, starts: list[int]
    ) -> Batch:
        """Return the windows at ``starts``, once the network has them.

        Args:
            block: (band, y, x), the cube's rows from ``row`` on, or from its first.
            valid: (y, x).
            row: first row of the windows in the cube; may be negative.
            starts: first columns of the windows in the cube; may be negative.
        """
        size = self._shape[-1]
        pixels, seen = self._rooms.pop(0)
        if len(pixels) < len(starts):
            pixels, seen = self._room(len(starts))
        self._rooms.append((pixels, seen))
        filled: list[int] = []
        for start in starts:
            if fill_window(
                block,
                valid,
                row=min(row, 0),
                column=start,
                size_px=size,
                mirrored=self.detector.window.mirrored,
                out=(pixels[len(filled)], seen[len(filled)]),
            ):
                filled.append(start)
        pixels, seen = pixels[: len(filled)], seen[: len(filled)]
        answer = None
        if filled:
            work = self._context.copy().run
            answer = self._pool.submit(work, self._look, pixels, seen, self._before)
            self._before = [answer]
        return Batch(
            windows=len(starts),
            top=max(row, 0),
            bottom=max(row, 0) + len(valid),
            above=-min(row, 0),
            starts=filled,
            own=[
                float(np.count_nonzero(valid[:, max(start, 0) : start + size])) / size**2
                for start in filled
            ],
            pixels=pixels,
            seen=seen,
            answer=answer,
            complete=np.empty((0, valid.shape[1]), bool),
        )

    def _look(
        self,
        pixels: NDArray[np.float32],
        seen: NDArray[np.bool_],
        before: list[Future[NDArray[np.float32]]],
    ) -> NDArray[np.float32]:
        if not self.detector.window.overlaps:
            for call in before:
                call.result()  # it failed: nothing goes on
        return self.detector.predict_windows(pixels, seen)


class _RowReader:
    """Reads rows of a cube from top to bottom, each once, keeping those still needed.

    They are read from left to right, when windows need them: of a wide scene pieces alone are
    held twice, and the network has work after the first.
    """

    def __init__(self, cube: Cube, first: int, most_rows: int, images: list[bool]) -> None:
        """Read ``cube`` from row ``first``; ``images`` says which bands are no quality layers."""
        bands, height, width = cube.shape
        rows = min(most_rows, height)
        self._cube, self._images = cube, images
        self._first, self._end = first, first
        self._piece: int = getattr(cube, "piece_px", width)
        self._pixels = np.empty((bands, rows, width), np.float32)
        self._valid = np.empty((rows, width), bool)
        self._gone, self._kept, self._new = 0, 0, slice(first, first)
        self._column = 0

    def turn_to(self, top: int, bottom: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return rows ``top`` to ``bottom`` as (band, y, x) float32 and (y, x) bool.

        They are views, good until the next call, and as far to the right as ``read_until`` says.
        """
        self._gone, self._kept = top - self._first, self._end - top
        self._new = slice(self._end, max(bottom, self._end))
        self._first, self._end, self._column = top, self._new.stop, 0
        return self._pixels[:, : bottom - top], self._valid[: bottom - top]

    def reach(self, column: int) -> int:
        """Return how far the rows are there where they are as far as ``column``."""
        return min(math.ceil(column / self._piece) * self._piece, self._cube.shape[2])

    def read_until(self, column: int) -> None:
        """Make sure that the rows are there as far as ``column``."""
        width = self._cube.shape[2]
        while self._column < min(column, width):
            columns = slice(self._column, min(self._column + self._piece, width))
            self._read(columns)
            self._column = columns.stop

    def _read(self, columns: slice) -> None:
        kept = self._kept
        if self._gone:
            for plane in (*self._pixels, self._valid):
                plane[:kept, columns] = plane[self._gone : self._gone + kept, columns]
        if count := self._new.stop - self._new.start:
            shape = (len(self._pixels), count, columns.stop - columns.start)
            new = np.asarray(self._cube[:, self._new, columns])
            new = _check_pixels(new, shape, self._images)
            self._pixels[:, kept : kept + count, columns] = new
            self._valid[kept : kept + count, columns] = _is_seen(new)

    def look(self, rows: slice, columns: slice) -> NDArray[np.bool_]:
        """Return what is valid in a small part of the cube, (y, x), wherever the reader is."""
        return _is_seen(np.asarray(self._cube[:, rows, columns]))


def _is_seen(pixels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where all bands have a value."""
    seen = np.ones(pixels.shape[1:], bool)
    for plane in pixels:
        seen &= np.isfinite(plane)
    return seen


def _check_pixels(
    pixels: NDArray[Any], shape: tuple[int, int, int], images: list[bool]
) -> NDArray[np.float32]:
    if pixels.shape != shape:
        raise InputError(f"reading gave an array of shape {pixels.shape}; expected {shape}")
    if pixels.dtype.kind not in "fiub":
        raise InputError(
            f"the cube holds values of type {pixels.dtype}; expected floating point reflectance"
        )
    values = pixels.astype(np.float32, copy=False)
    sample = values[images, ::8, ::8]  # enough for a median, and cheap
    medians = [
        float(np.median(seen)) for plane in sample if (seen := plane[np.isfinite(plane)]).size
    ]
    high = sum(median > DN_MEDIAN_LIMIT for median in medians)
    if medians and high > len(medians) / 2:
        raise InputError(
            f"the pixels do not look like reflectance: a band's median is {max(medians):.4g} "
            f"after scale and offset, expected 0 to 1. {SCALES}"
        )
    return values
