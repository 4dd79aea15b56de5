"""The one place where pixels meet a detector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.errors import BandError, InputError
from openeo_cloudmask.inference.detector import Detector
from openeo_cloudmask.inference.windows import AxisPlan, Layout, fill_window, plan_axis
from openeo_cloudmask.options import DEFAULT_STRIDE_PX
from openeo_cloudmask.sensors import find_layer

Progress = Callable[[int, int], None]
"""Called with (windows done, windows in all); an exception it raises stops the work."""

Watch = Callable[[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32], float], None]
"""Called with each window (band, y, x), what is valid in it, its probabilities (class, y, x), and
the share of it that the scene has, 0-1 (the rest is mirrored or no-data); changes nothing."""

DN_MEDIAN_LIMIT = 3.0
"""Reflectance and normalised temperatures lie in 0-1; a median above this is another unit."""


class Cube(Protocol):
    """Pixels that can be read in parts: a NumPy array, a dask array, or a lazy reader."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(band, y, x)."""

    def __getitem__(self, key: tuple[slice, slice, slice]) -> Any:  # noqa: ANN401
        """Return the part as something ``numpy.asarray`` takes: NaN where unseen."""


def predict(
    cube: Cube,
    detector: Detector,
    *,
    stride: int = DEFAULT_STRIDE_PX,
    origin_yx: tuple[int, int] = (0, 0),
    layout: Layout = Layout.ANCHORED,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Return class probabilities of a whole cube.

    A window's grid is anchored at absolute pixel indices, so a scene cut into chunks gives the
    same answer as the whole scene wherever a chunk reaches at least ``window.size_px - 1`` pixels
    beyond the pixels asked for (or the scene ends). Overlapping windows are averaged, with weights
    that taper towards a window's edge in the anchored layout.

    Args:
        cube: (band, y, x), reflectance 0-1, NaN where unseen; bands in the detector's order.
        detector: what classifies.
        stride: step of the moving window, pixels.
        origin_yx: absolute indices of the cube's first row and column.
        layout: how windows are placed.
        batch_size: windows a call of the detector; None takes what suits its device.
        progress: called with (done, total) windows.

    Returns:
        (class, y, x) float32 in the order of ``detector.scheme``, NaN where unseen.

    Raises:
        BandError: the number of bands is not the detector's.
        InputError: the cube is empty, not numeric, or does not hold reflectance.
        OptionError: the stride is larger than the window.
    """
    _, height, width = _check_shape(cube, detector)
    out = np.empty((len(detector.scheme.classes), height, width), np.float32)
    strips = predict_strips(
        cube,
        detector,
        stride=stride,
        origin_yx=origin_yx,
        layout=layout,
        batch_size=batch_size,
        progress=progress,
    )
    for row, strip in strips:
        out[:, row : row + strip.shape[1]] = strip
    return out


def predict_strips(  # noqa: PLR0913 - as ``predict``, and which part
    cube: Cube,
    detector: Detector,
    *,
    stride: int = DEFAULT_STRIDE_PX,
    origin_yx: tuple[int, int] = (0, 0),
    layout: Layout = Layout.ANCHORED,
    batch_size: int | None = None,
    progress: Progress | None = None,
    part: tuple[int, int] | None = None,
    part_columns: tuple[int, int] | None = None,
    watch: Watch | None = None,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield ``(first row, probabilities)`` from the top of the cube to its bottom.

    As ``predict``, but holds only as many rows as one window is high. Strips are
    (class, rows, x) float32, do not overlap, and cover all rows.

    Args:
        cube: as for ``predict``, as are the other arguments that are not named here.
        detector: what classifies.
        stride: step of the moving window, pixels.
        origin_yx: absolute indices of the cube's first row and column.
        layout: how windows are placed.
        batch_size: windows a call of the detector.
        progress: called with (done, total) windows.
        part: first row and the one past the last that are wanted; None for all. Only windows that
            touch these rows are computed, and only rows under those windows are read, so parts
            of a scene can be shared out and are, bit for bit, those of the whole.
        part_columns: the same for columns; strips then hold these columns only. Whole rows are
            read all the same.
        watch: sees every window that is classified, with its answer.
    """
    _, height, width = _check_shape(cube, detector)
    first, stop = _check_part("rows", part, height)
    left, right = _check_part("columns", part_columns, width)
    window = detector.window
    size = window.size_px
    step = size if window.pixelwise else stride
    oy, ox = origin_yx
    rim = window.rim_px
    rows = plan_axis(height, size_px=size, stride_px=step, origin_px=oy, layout=layout, rim_px=rim)
    columns = plan_axis(
        width, size_px=size, stride_px=step, origin_px=ox, layout=layout, rim_px=rim
    )
    rows, columns = _touching(rows, first, stop, size), _touching(columns, left, right, size)
    strips = _strips(cube, detector, rows, columns, batch_size, progress, watch)
    if part is None and part_columns is None:
        return strips
    return _clip(strips, first, stop, slice(left, right))


def _check_part(name: str, part: tuple[int, int] | None, length: int) -> tuple[int, int]:
    first, stop = part or (0, length)
    if not 0 <= first < stop <= length:
        raise InputError(
            f"{name} {first} to {stop} are asked for; the cube has {name} 0 to {length}"
        )
    return first, stop


def _touching(plan: AxisPlan, first: int, stop: int, size: int) -> AxisPlan:
    starts = tuple(start for start in plan.starts if start < stop and start + size > first)
    return replace(plan, starts=starts)


def _clip(
    strips: Iterator[tuple[int, NDArray[np.float32]]], first: int, stop: int, columns: slice
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield what was asked for; pixels beside it lack some of their windows."""
    for row, strip in strips:
        top, bottom = max(row, first), min(row + strip.shape[1], stop)
        if top < bottom:
            yield top, strip[:, top - row : bottom - row, columns]


def _strips(
    cube: Cube,
    detector: Detector,
    rows: AxisPlan,
    columns: AxisPlan,
    batch_size: int | None,
    progress: Progress | None,
    watch: Watch | None,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    _, height, width = cube.shape
    size = detector.window.size_px
    classes = len(detector.scheme.classes)
    total, done = len(rows.starts) * len(columns.starts), 0
    base = max(rows.starts[0], 0)
    adder = _Adder(detector, cube.shape[0], np.outer(rows.weights, columns.weights), watch)
    images = [find_layer(name) is None for name in detector.band_names]
    reader = _RowReader(cube, base, size, images)
    # Sums of the rows from `base` on; a window row adds to `size` of them and completes the first.
    sums: NDArray[np.float32] = np.zeros((classes, 0, width), np.float32)
    for index, start in enumerate(rows.starts):
        top, bottom = max(start, 0), min(start + size, height)
        block, valid = reader.read(top, bottom)
        if (missing := bottom - base - sums.shape[1]) > 0:
            more = np.zeros((classes, missing, width), np.float32)
            sums = np.concatenate([sums, more], axis=1)
        # Asked for anew: a detector that loads on first use knows its device only then.
        for batch in _batches(columns.starts, batch_size or detector.window.batch):
            part = sums[:, top - base : bottom - base]
            adder.add(block, valid, batch, start - top, part)
            done += len(batch)
            if progress is not None:
                progress(done, total)
        final = rows.starts[index + 1] if index + 1 < len(rows.starts) else bottom
        if (count := min(final, height) - base) > 0:
            strip = sums[:, :count] / np.outer(rows.sums[base : base + count], columns.sums)
            strip[:, ~valid[base - top : base - top + count]] = np.nan
            yield base, strip
            sums, base = sums[:, count:].copy(), base + count


def _batches(starts: tuple[int, ...], batch_size: int) -> Iterator[tuple[int, ...]]:
    """Yield batches of nearly the same size, so that no window is left over alone."""
    count = -(-len(starts) // batch_size)
    edges = [len(starts) * index // count for index in range(count + 1)]
    for first, stop in pairwise(edges):
        yield starts[first:stop]


class _Adder:
    """Classifies windows and adds up their answers; holds memory that batches use in turn."""

    def __init__(
        self,
        detector: Detector,
        bands: int,
        weights: NDArray[np.float32],
        watch: Watch | None,
    ) -> None:
        self._detector, self._weights, self._watch = detector, weights, watch
        self._shape = (bands, *weights.shape)
        self._reserve(0)

    def _reserve(self, count: int) -> None:
        """Hold room for ``count`` windows at least."""
        self._pixels = np.empty((count, *self._shape), np.float32)
        self._seen = np.empty((count, *self._shape[1:]), bool)

    def add(
        self,
        block: NDArray[np.float32],
        valid: NDArray[np.bool_],
        starts: tuple[int, ...],
        row: int,
        sums: NDArray[np.float32],
    ) -> None:
        """Add the weighted probabilities of the windows at ``starts`` to ``sums``, as block lies.

        Windows are added one after the other in their order, so sums are the same, bit for bit,
        however they are batched.
        """
        window, size = self._detector.window, self._shape[-1]
        if len(self._pixels) < len(starts):
            self._reserve(len(starts))
        filled: list[int] = []
        for start in starts:
            if fill_window(
                block,
                valid,
                row=row,
                column=start,
                size_px=size,
                mirrored=window.mirrored,
                out=(self._pixels[len(filled)], self._seen[len(filled)]),
            ):
                filled.append(start)
        if not filled:
            return
        pixels, seen = self._pixels[: len(filled)], self._seen[: len(filled)]
        answer = self._detector.predict_windows(pixels, seen)
        height, width = valid.shape
        for index, (start, probabilities) in enumerate(zip(filled, answer, strict=True)):
            left, right = max(start, 0), min(start + size, width)
            place = slice(-min(row, 0), height - row), slice(left - start, right - start)
            sums[:, :, left:right] += probabilities[:, *place] * self._weights[place]
            if self._watch is not None:
                own = float(np.count_nonzero(valid[:, left:right])) / size**2
                self._watch(pixels[index], seen[index], probabilities, own)


class _RowReader:
    """Reads rows of a cube from top to bottom, each once, keeping those still needed."""

    def __init__(self, cube: Cube, first: int, most_rows: int, images: list[bool]) -> None:
        """Read ``cube`` from row ``first``; ``images`` says which bands are no quality layers."""
        bands, height, width = cube.shape
        rows = min(most_rows, height)
        self._cube, self._images = cube, images
        self._first, self._end = first, first
        self._pixels = np.empty((bands, rows, width), np.float32)
        self._valid = np.empty((rows, width), bool)

    def read(self, top: int, bottom: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return rows ``top`` to ``bottom`` as (band, y, x) float32 and (y, x) bool.

        They are views, good until the next call.
        """
        gone, kept = top - self._first, self._end - top
        if gone:
            for plane in (*self._pixels, self._valid):
                plane[:kept] = plane[gone : gone + kept]
        if bottom > self._end:
            bands, _, width = self._cube.shape
            new = np.asarray(self._cube[:, self._end : bottom, 0:width])
            new = _check_pixels(new, (bands, bottom - self._end, width), self._images)
            self._pixels[:, kept : bottom - top] = new
            self._valid[kept : bottom - top] = np.isfinite(new).all(axis=0)
        self._first, self._end = top, max(bottom, self._end)
        return self._pixels[:, : bottom - top], self._valid[: bottom - top]


def _check_shape(cube: Cube, detector: Detector) -> tuple[int, int, int]:
    if len(cube.shape) != 3 or 0 in cube.shape:
        raise InputError(
            f"the cube has shape {tuple(cube.shape)}; expected (band, y, x) with at least one "
            "pixel in each"
        )
    bands, height, width = cube.shape
    if bands != len(detector.band_names):
        raise BandError(
            f"the cube has {bands} bands; expected {len(detector.band_names)}, in this order: "
            f"{', '.join(detector.band_names)}"
        )
    return bands, height, width


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
        worst = max(medians)
        factor = 0.01 if worst <= 150 else 0.0001
        raise InputError(
            f"the pixels do not look like reflectance: a band's median is {worst:.4g}, expected "
            f"0 to 1. If these are scaled integers, pass scale={factor} (and offset=-0.1 for "
            "Sentinel-2 products of baseline 04.00 or later whose offset is not applied yet)"
        )
    return values
