"""Masks of cubes larger than memory: planned here, computed strip by strip when they are needed.

A cube is cut into tall strips. Each is predicted with the windows the whole scene has, so the mask
is, bit for bit, that of the whole cube; only the windows that touch two strips are computed twice.
"""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

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
from openeo_cloudmask.masking import Masker
from openeo_cloudmask.models import ModelInput
from openeo_cloudmask.options import MaskOptions

STRIP_WINDOWS = 8
"""Rows of windows per strip. Each strip computes one row more than its share, an eighth here."""

_log = logging.getLogger(__name__)


class Watch(Protocol):
    """What a strip reports to, in whatever process it is computed; is pickled."""

    def progress(self, done: int, total: int) -> None:
        """Note that ``done`` of ``total`` windows are computed; may raise to stop the work."""

    def tell(self, message: str, code: str | None = None) -> None:
        """Note something that the user should know; ``code`` names what kind it is."""


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

    def run(self) -> NDArray[np.uint8]:
        """Return (band, y, x) uint8."""
        masker = Masker(self.options, self.inputs)
        mask = masker.mask(
            self.pixels,
            origin_yx=self.origin_yx,
            rows=self.rows,
            pixel_m=self.pixel_m,
            progress=self.watch.progress,
            tell=self.watch.tell,
        )
        for warning in masker.warnings():
            self.watch.tell(warning, DOUBT_CODE)
        return mask


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
) -> xr.DataArray:
    """Return the mask of a cube, computed strip by strip when it is needed.

    Args:
        cube: as for ``mask_datacube``; dask or NumPy.
        options: what to run and how to write it down.
        strips: number of strips per date; None makes each ``STRIP_WINDOWS`` windows high.
        name: the names of the tasks begin with it.
        watch: returns what strip ``part`` of ``parts`` reports to.

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
        from dask import delayed
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
    rows = plan_strips(height, step_px=masker.step_px, origin_px=origin_yx[0], count=count)
    parts = len(rows) * named.sizes.get("t", 1)
    masks = []
    for date, pixels in enumerate(_readers(named, masker, nodata_values(cube))):
        blocks = []
        for number, part in enumerate(rows):
            task = StripTask(
                options=options,
                inputs=masker.inputs,
                pixels=pixels,
                origin_yx=origin_yx,
                rows=part,
                pixel_m=pixel_m,
                watch=watch(date * len(rows) + number, parts),
            )
            block = delayed(run_sealed, pure=False, traverse=False)(
                Sealed.of(task), dask_key_name=f"{name}-{uuid.uuid4().hex}"
            )
            shape = (len(masker.labels), part[1] - part[0], width)
            blocks.append(da.from_delayed(block, shape=shape, dtype=np.uint8))
        masks.append(da.concatenate(blocks, axis=1))
    return label_mask(da.stack(masks) if "t" in named.dims else masks[0], cube, masker)


def run_sealed(sealed: Sealed) -> NDArray[np.uint8]:
    """Return the strip of a sealed ``StripTask``."""
    task: StripTask = sealed.open()
    return task.run()


def plan_strips(height: int, *, step_px: int, origin_px: int, count: int) -> list[tuple[int, int]]:
    """Return the rows of each of about ``count`` strips, cut where windows begin."""
    cuts = [0]
    for number in range(1, count):
        wanted = origin_px + number * height / count
        cut = round(wanted / step_px) * step_px - origin_px
        if cuts[-1] < cut < height:
            cuts.append(cut)
    return list(zip(cuts, [*cuts[1:], height], strict=True))


def _readers(
    named: xr.DataArray, masker: Masker, nodata: tuple[float, ...]
) -> Iterator[CubeReader]:
    """Yield the pixels of each date, the bands that are needed in the masker's order."""
    import dask.array as da

    labels = [str(label) for label in named["bands"].to_numpy()]
    places = masker.places(labels)
    for date in range(named.sizes.get("t", 1)):
        array = (named.isel(t=date) if "t" in named.dims else named).data
        if not isinstance(array, da.Array):
            array = da.from_array(array, chunks=(-1, 512, -1))
        if places != list(range(len(labels))):
            array = array[places]
        yield CubeReader(array.rechunk({0: -1, 2: -1}), masker.inputs, masker.options, nodata)
