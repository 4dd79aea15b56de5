"""Masks of cubes larger than memory: planned here, computed strip by strip when they are needed.

A cube is cut into tall strips. Each is predicted with the windows the whole scene has, so the mask
is, bit for bit, that of the whole cube. A window that touches two strips is computed by the upper
one, which hands on what it adds to the lower one; where each strip is to stand alone, by both.
"""

from __future__ import annotations

import logging
import math
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from openeo_cloudmask.cleaning import SizeM
from openeo_cloudmask.datacube import (
    CubeReader,
    label_mask,
    name_dimensions,
    nodata_values,
    pixel_origin,
    pixel_size_m,
)
from openeo_cloudmask.errors import InputError, MissingExtraError
from openeo_cloudmask.guard import DOUBT_CODE
from openeo_cloudmask.inference import Layout, Seam
from openeo_cloudmask.inference.windows import plan_axis
from openeo_cloudmask.masking import Masker
from openeo_cloudmask.models import ModelInput
from openeo_cloudmask.options import MaskOptions

STRIP_WINDOWS = 8
"""Rows of windows per strip that stands alone: it computes one row more than its share."""
MIN_WINDOW_ROWS = 4
"""Rows of windows that a strip has at least where it computes one more than its share."""

_log = logging.getLogger(__name__)


class Watch(Protocol):
    """What a strip reports to, in whatever process it is computed; is pickled."""

    def progress(self, done: int, total: int) -> None:
        """Note that ``done`` of ``total`` windows are computed; may raise to stop the work."""

    def tell(self, message: str, code: str | None = None) -> None:
        """Note something that the user should know; ``code`` names what kind it is."""


class Source(Protocol):
    """What a date of a cube is read from, part by part; is pickled."""

    def pick(self, bands: Sequence[int]) -> Any:  # noqa: ANN401 - as an array is indexed
        """Return those of its bands, (band, y, x), in this order."""


class Logged:
    """A watch that writes to the log of the process."""

    def progress(self, done: int, total: int) -> None:
        """Do nothing."""

    def tell(self, message: str, code: str | None = None) -> None:  # noqa: ARG002
        """Log a warning."""
        _log.warning(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class StripTask:
    """Everything that is needed to compute one strip of a mask, wherever that is."""

    options: MaskOptions
    inputs: ModelInput
    pixels: CubeReader
    origin_yx: tuple[int, int]
    rows: tuple[int, int]
    pixel_m: tuple[float, float] | None
    watch: Watch
    seam_px: int = 0
    """Rows below each seam that are shared with the strip above; 0: this strip stands alone."""
    percentages: bool = False
    """Whether the percentages that the classes were chosen from come too, after the mask."""

    def run(self) -> StripPart:
        """Return the mask of all rows that windows of this strip alone add to."""
        masker = Masker(self.options, self.inputs)
        first, stop = self.rows
        above, below = (self._seam(row) for row in self.rows)
        top = first if above is None else above.rows[1]
        kept: list[tuple[int, NDArray[np.uint8]]] = []
        mask = masker.mask(
            self.pixels,
            origin_yx=self.origin_yx,
            rows=(top, stop),
            pixel_m=self.pixel_m,
            progress=self.watch.progress,
            keep=kept.append if self.percentages else None,
            seams=[seam for seam in (above, below) if seam is not None],
            tell=self.watch.tell,
        )
        for warning in masker.warnings():
            self.watch.tell(warning, DOUBT_CODE)
        if kept:
            # What a buffer sees beyond the strip is kept too, and cut off here.
            begin = top - kept[0][0]
            percent = np.concatenate([strip for _, strip in kept], axis=1)
            mask = np.concatenate([mask, percent[:, begin : begin + mask.shape[1]]])
        return StripPart(mask=mask, above=above, below=below)

    def _seam(self, row: int) -> Seam | None:
        height = self.pixels.shape[1]
        if not self.seam_px or row in (0, height):
            return None
        return Seam(rows=(row, min(row + self.seam_px, height)))


@dataclass(frozen=True, slots=True, kw_only=True)
class StripPart:
    """A strip, but for the rows that windows of the strip above add to."""

    mask: NDArray[np.uint8]
    """(band, y, x)."""
    above: Seam | None
    """What its windows add to the rows that are missing at its top."""
    below: Seam | None
    """What they add to those of the strip below."""

    def __sizeof__(self) -> int:
        """Return its bytes: by them dask chooses where a strip is finished."""
        return self.mask.nbytes + sum(map(sys.getsizeof, (self.above, self.below)))


@dataclass(frozen=True, slots=True)
class Sealed:
    """A pickled value: dask must not look into it, or it would compute the arrays inside."""

    content: bytes

    @classmethod
    def of(cls, value: object) -> Sealed:
        """Return ``value`` pickled."""
        import cloudpickle

        return cls(cloudpickle.dumps(value))

    def open(self) -> Any:  # noqa: ANN401
        """Return the value."""
        import cloudpickle

        return cloudpickle.loads(self.content)


def mask_lazily(
    cube: xr.DataArray,
    options: MaskOptions,
    *,
    strips: int | None = None,
    name: str = "cloudmask",
    watch: Callable[[int, int], Watch] = lambda part, parts: Logged(),  # noqa: ARG005
    percentages: bool = False,
    sources: Sequence[Source] | None = None,
) -> xr.DataArray:
    """Return the mask of a cube, computed strip by strip when it is needed.

    Args:
        cube: as for ``mask_datacube``; dask or NumPy.
        options: what to run and how to write it down.
        strips: number of strips per date, for a mask that is wanted whole: they share windows, so
            one waits for the one above. None: each stands alone, ``STRIP_WINDOWS`` windows high.
        name: the names of the tasks begin with it.
        watch: returns what strip ``part`` of ``parts`` reports to.
        percentages: whether bands of the percentages that the classes were chosen from (before
            threshold, smallest area and buffer) follow the mask, named like the classes.
        sources: what the dates of the cube are read from, where it holds that and nothing else:
            of a chunk of the cube all bands and rows are read, of these what windows need.

    Returns:
        As ``mask_datacube`` returns, over dask, one chunk per strip.

    Raises:
        InputError: a dimension is missing, or the cube is empty.
        OptionError: buffer or smallest area cannot be applied to this mask.
        BandError: bands are missing, unlabelled or given twice.
        MissingExtraError: dask is not installed.
    """
    try:
        import dask.array as da
    except ImportError as err:
        raise MissingExtraError.for_extra("server", "masking a cube lazily") from err

    named = name_dimensions(cube)
    if not named.size:
        raise InputError(f"the cube is empty: {dict(named.sizes)}; expected at least one pixel")
    masker = Masker.open(options, [str(label) for label in named["bands"].to_numpy()])
    height, width = named.sizes["y"], named.sizes["x"]
    origin_yx = (pixel_origin(named, "y"), pixel_origin(named, "x"))
    pixel_m = pixel_size_m(named)
    masker.cleaning(pixel_m)  # impossible requests are errors now, not when a strip is computed
    masker.check_pixels(pixel_m)
    count = strips or math.ceil(height / masker.step_px / STRIP_WINDOWS)
    seam_px = masker.seam_px(pixel_m) if strips else 0
    plan = plan_axis(
        height,
        size_px=masker.detector.window.size_px,
        stride_px=masker.step_px,
        origin_px=origin_yx[0],
        layout=Layout.ANCHORED,
        rim_px=masker.detector.window.rim_px,
    )
    rows = plan_strips(height, plan.needed(height), count=count, seam_px=seam_px)
    parts = len(rows) * named.sizes.get("t", 1)
    labels = (*masker.labels, *(masker.scheme.names if percentages else ()))
    about = Sealed.of((options, masker.inputs, percentages))
    masks = []
    for date, pixels in enumerate(_readers(named, masker, nodata_values(cube), sources)):
        blocks = []
        upper = None
        for number, part in enumerate(rows):
            task = StripTask(
                options=options,
                inputs=masker.inputs,
                pixels=pixels,
                origin_yx=origin_yx,
                rows=part,
                pixel_m=pixel_m,
                watch=watch(date * len(rows) + number, parts),
                seam_px=seam_px,
                percentages=percentages,
            )
            computed = _call(name, run_sealed, Sealed.of(task))
            block = _call(name, finish, about, computed, upper)
            upper = _call(name, hand_on, computed) if seam_px else None
            shape = (len(labels), part[1] - part[0], width)
            blocks.append(da.from_delayed(block, shape=shape, dtype=np.uint8))
        masks.append(da.concatenate(blocks, axis=1))
    return label_mask(da.stack(masks) if "t" in named.dims else masks[0], cube, masker, labels)


def _call(name: str, function: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401
    """Return the task of calling ``function``."""
    from dask import delayed

    task: Any = delayed(function, pure=False, traverse=False)
    return task(*arguments, dask_key_name=f"{name}-{uuid.uuid4().hex}")


def run_sealed(sealed: Sealed) -> StripPart:
    """Return what a sealed ``StripTask`` gives."""
    task: StripTask = sealed.open()
    return task.run()


def finish(about: Sealed, part: StripPart, upper: Seam | None) -> NDArray[np.uint8]:
    """Return a whole strip, (band, y, x), with what the strip above has handed on."""
    if part.above is None or upper is None:
        return part.mask
    options, inputs, percentages = about.open()
    joined = Masker(options, inputs).join(upper, part.above, percentages=percentages)
    return np.concatenate([joined, part.mask], axis=1)


def hand_on(part: StripPart) -> Seam | None:
    """Return what a strip adds to the one below, which need not get more of it."""
    return part.below


def count_strips(height: int, masker: Masker, workers: int, pixel_m: SizeM | None) -> int:
    """Return how many strips of a scene keep ``workers`` busy."""
    seam_px = masker.seam_px(pixel_m)
    least = MIN_WINDOW_ROWS
    if seam_px or masker.detector.window.pixelwise:
        least = seam_px // masker.step_px + 1  # each has rows of its own
    return max(1, min(workers, math.ceil(height / masker.step_px) // least))


def plan_strips(
    height: int, starts: Sequence[int], *, count: int, seam_px: int = 0
) -> list[tuple[int, int]]:
    """Return the rows of each of about ``count`` strips, which have as many rows of windows each.

    Args:
        height: rows of the scene.
        starts: first row of each row of windows, where cuts may lie.
        count: how many strips are wanted.
        seam_px: rows below each cut that are shared; all strips but the first have more.
    """
    cuts, count = [0], min(count, len(starts))
    for number in range(1, count):
        cut = starts[-(-number * len(starts) // count)]  # up: the first begins above the scene
        least = seam_px if len(cuts) > 1 else 0
        if cuts[-1] + least < cut < height - seam_px:
            cuts.append(cut)
    return list(zip(cuts, [*cuts[1:], height], strict=True))


def _readers(
    named: xr.DataArray,
    masker: Masker,
    nodata: tuple[float, ...],
    sources: Sequence[Source] | None,
) -> Iterator[CubeReader]:
    """Yield the pixels of each date, the bands that are needed in the masker's order."""
    import dask.array as da

    labels = [str(label) for label in named["bands"].to_numpy()]
    places = masker.places(labels)
    if sources is not None:
        for source in sources:
            yield CubeReader(source.pick(places), masker.inputs, masker.options, nodata)
        return
    for date in range(named.sizes.get("t", 1)):
        array = (named.isel(t=date) if "t" in named.dims else named).data
        if not isinstance(array, da.Array):
            array = da.from_array(array, chunks=(-1, 512, -1))
        if places != list(range(len(labels))):
            array = array[places]
        yield CubeReader(array.rechunk({0: -1, 2: -1}), masker.inputs, masker.options, nodata)
