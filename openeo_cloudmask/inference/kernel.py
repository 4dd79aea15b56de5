"""The one place where pixels meet a detector."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.errors import InputError
from openeo_cloudmask.inference.batches import Batch, Cube, Network, one_behind, start_batches
from openeo_cloudmask.inference.detector import Detector, check_bands
from openeo_cloudmask.inference.seams import Seam, average
from openeo_cloudmask.inference.windows import AxisPlan, Layout, plan_axis
from openeo_cloudmask.options import DEFAULT_STRIDE_PX

Progress = Callable[[int, int], None]
"""Called with (windows done, windows in all); an exception it raises stops the work."""

Watch = Callable[[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32], float], None]
"""Called with each window (band, y, x), what is valid in it, its probabilities (class, y, x), and
the share of it that the scene has, 0-1 (the rest is mirrored or no-data); changes nothing."""


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
        cube: (band, y, x), reflectance 0-1, NaN where no-data; bands in the detector's order.
        detector: what classifies.
        stride: step of the moving window, pixels.
        origin_yx: absolute indices of the cube's first row and column.
        layout: how windows are placed.
        batch_size: windows per call of the detector; None takes what suits its device.
        progress: called with (done, total) windows.

    Returns:
        (class, y, x) float32 in the order of ``detector.scheme``, NaN where no-data.

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
    seams: Sequence[Seam] = (),
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
        batch_size: windows per call of the detector.
        progress: called with (done, total) windows.
        part: first row and the one past the last that are wanted; None for all. Only windows that
            touch these rows are computed, and only rows under those windows are read, so parts
            of a scene can be shared out and are, bit for bit, those of the whole.
        part_columns: the same for columns; strips then hold these columns only. Whole rows are
            read all the same.
        watch: sees every window that is classified, with its answer.
        seams: each gets what the windows add to its rows, whether or not these are wanted.
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
    strips = _strips(cube, detector, rows, columns, batch_size, progress, watch, seams)
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
    seams: Sequence[Seam],
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield strips; while the network is at a batch, the one before is added and the next filled.

    Windows are added one after the other in their order, so sums are the same, bit for bit,
    however they are batched.
    """
    weights = np.outer(rows.weights, columns.weights)
    total, done = len(rows.starts) * len(columns.starts), 0
    classes, size = len(detector.scheme.classes), len(weights)
    # Sums of the rows from a batch's top on: those above are complete. Memory is taken once, as
    # taking it anew costs as much as the arithmetic.
    # The last plane is that of the weights.
    sums = np.zeros((classes + 1, min(size, cube.shape[1]), cube.shape[2]), np.float32)
    room = np.empty((classes + 1, size, size), np.float32)
    with Network(detector, (cube.shape[0], *weights.shape)) as network:
        batches = start_batches(cube, network, rows, columns, batch_size)
        for batch in one_behind(batches):
            _add(batch, weights, sums, room, watch, seams)
            done += batch.windows
            if progress is not None:
                progress(done, total)
            if complete := len(batch.complete):
                for seam in seams:
                    seam.see(batch.top, batch.complete)
                yield batch.top, average(sums[:, :complete], batch.complete)
                for plane in sums:
                    plane[:-complete] = plane[complete:]
                    plane[-complete:] = 0


def _add(
    batch: Batch,
    weights: NDArray[np.float32],
    sums: NDArray[np.float32],
    room: NDArray[np.float32],
    watch: Watch | None,
    seams: Sequence[Seam],
) -> None:
    """Add the weighted probabilities of the batch's windows to ``sums``, which begin at its top."""
    if batch.answer is None:
        return
    size, width, height = weights.shape[1], sums.shape[2], batch.bottom - batch.top
    answer = batch.answer.result()
    for index, (start, probabilities) in enumerate(zip(batch.starts, answer, strict=True)):
        left, right = max(start, 0), min(start + size, width)
        place = slice(batch.above, batch.above + height), slice(left - start, right - start)
        weighted = room[:, :height, : right - left]
        np.multiply(probabilities[:, *place], weights[place], out=weighted[:-1])
        weighted[-1] = weights[place]
        sums[:, :height, left:right] += weighted
        for seam in seams:
            seam.add(batch.top, left, weighted)
        if watch is not None:
            watch(batch.pixels[index], batch.seen[index], probabilities, batch.own[index])


def _check_shape(cube: Cube, detector: Detector) -> tuple[int, int, int]:
    if len(cube.shape) != 3 or 0 in cube.shape:
        raise InputError(
            f"the cube has shape {tuple(cube.shape)}; expected (band, y, x) with at least one "
            "pixel in each"
        )
    bands, height, width = cube.shape
    check_bands("the cube has", bands, detector.band_names)
    return bands, height, width
