"""Masks of the cubes of a process graph, shared out over the worker threads of the cluster."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from openeo_cloudmask.amounts import UNITS
from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.cubes.doubts import date_text, note_doubt
from openeo_cloudmask.backend.jobs import runtime
from openeo_cloudmask.backend.jobs.runtime import RunSpec
from openeo_cloudmask.backend.processes.dims import grid_of
from openeo_cloudmask.classes import NODATA, ClassScheme
from openeo_cloudmask.datacube import (
    CubeReader,
    label_mask,
    name_dimensions,
    nodata_values,
    pixel_size_m,
)
from openeo_cloudmask.guard import DOUBT_CODE
from openeo_cloudmask.lazy import count_strips, mask_lazily
from openeo_cloudmask.masking import Masker
from openeo_cloudmask.models import get_model
from openeo_cloudmask.options import MaskOptions, parse_udf_context
from openeo_cloudmask.products.xyz import Region, Tile, mask_region
from openeo_cloudmask.sensors import SENSORS, Sensor

_PROGRESS_S = 1.0
_WEIGHTS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
MASK_ATTRIBUTE = "cloudmask"
"""Attribute of masks: what they are of; ``save_result`` writes class names and colours by it."""


@dataclass(slots=True, kw_only=True)
class StripWatch:
    """Tells the server how far a strip is, and stops it when its result is no longer wanted."""

    run: RunSpec
    part: int
    parts: int
    model: str
    when: str | None
    """The mask's time, as ``date_text`` gives it."""
    reported: float = field(default_factory=time.monotonic)

    def progress(self, done: int, total: int) -> None:
        """Report now and then."""
        runtime.check_cancelled()
        if done == total or time.monotonic() - self.reported > _PROGRESS_S:
            self.reported = time.monotonic()
            runtime.emit(
                self.run, kind="progress", part=self.part, parts=self.parts, share=done / total
            )

    def tell(self, message: str, code: str | None = None) -> None:
        """Write a line to the job's log; a warning goes to the results too."""
        runtime.log(self.run, "warning", message, code)
        if code == DOUBT_CODE:
            note_doubt(self.run, model=self.model, when=self.when, text=message)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskSource:
    """What a mask is made of, for what may be saved beside it."""

    cube: xr.DataArray
    """(t?, bands, y, x), lazy, as it was loaded."""
    options: MaskOptions
    sensor: Sensor
    scheme: ClassScheme
    with_percentages: Callable[[], xr.DataArray]
    """Returns the mask once more, lazy, its percentages after it: one run of the model for both."""


def source_of(mask: xr.DataArray) -> MaskSource | None:
    """Return what a mask of the current run is made of; None where it was changed since."""
    found: MaskSource | None = runtime.current_run().masks.get(getattr(mask.data, "name", ""))
    return found


def parse_client_options(context: Mapping[str, Any] | None, run: RunSpec) -> MaskOptions:
    """Return the options of a mask that a client asks for.

    A client may not name files of the server: ``sensor`` has to be a known id, and ``weights``
    the bare name of a file that whoever runs the server has put into its weights folder.

    Raises:
        OptionError: an option is unknown or its value is not allowed.
        ApiError: a sensor or weights file is not known.
    """
    import dataclasses

    # How the client would cut the cube is of no concern here: results do not depend on it.
    options, _ = parse_udf_context(context)
    get_model(options.model)
    if run.local:
        return options
    if options.sensor is not None and options.sensor not in SENSORS:
        raise _refuse("sensor", options.sensor, f"one of {', '.join(SENSORS)}")
    if options.weights is None:
        return options
    path = run.weights_dir / options.weights
    if not _WEIGHTS_NAME.fullmatch(options.weights) or not path.exists():
        names = sorted(item.name for item in run.weights_dir.glob("*"))
        raise _refuse("weights", options.weights, f"a name among: {', '.join(names) or 'none'}")
    return dataclasses.replace(options, weights=str(path))


def mask_cube(data: xr.DataArray, options: MaskOptions, run: RunSpec) -> xr.DataArray:
    """Return the mask of a cube, as a cube that is computed strip by strip.

    Args:
        data: dimensions bands, y, x and perhaps t.
        options: checked by ``parse_client_options``.
        run: the run this is part of.

    Returns:
        uint8, dimensions as ``data``, about one chunk per worker thread; 255 is no-data.
    """
    named = name_dimensions(data)
    if run.tile is not None:
        return _mask_tile(data, named, options, run)
    masker = Masker.open(options, [str(label) for label in named["bands"].to_numpy()])
    dates = named.sizes.get("t", 1)
    scenes = [named.isel(t=date) for date in range(dates)] if "t" in named.dims else [named]
    times = [date_text(scene) for scene in scenes]

    def watch(part: int, parts: int) -> StripWatch:
        when = times[part * dates // parts]  # each date has the same number of parts
        return StripWatch(run=run, part=part, parts=parts, model=masker.entry.id, when=when)

    lazily = partial(
        mask_lazily,
        named,
        options,
        strips=count_strips(named.sizes["y"], masker, _threads(), pixel_size_m(named)),
        name=f"mask-{run.name}",  # a cancel looks for the run's name
        watch=watch,
        sources=runtime.current_run().sources.get(getattr(data.data, "name", "")),
    )
    mask = lazily()
    mask.attrs[MASK_ATTRIBUTE] = _about(masker)
    runtime.current_run().masks[mask.data.name] = MaskSource(
        cube=named,
        options=options,
        sensor=masker.inputs.sensor,
        scheme=masker.scheme,
        with_percentages=partial(lazily, percentages=True),
    )
    return mask


def _about(masker: Masker) -> dict[str, Any]:
    options = masker.options
    return {
        "model": masker.entry.id,
        "scheme": masker.scheme.name,
        "categorise": options.categorise,
        "style": options.output_style.value,
        "stride": options.stride,
        "precision": options.precision,
        "cleaning": {name: getattr(options, name) for name in UNITS if options.amounts(name)},
        "sensor": masker.inputs.sensor.id,
        "bands": list(masker.inputs.band_names),
    }


def _mask_tile(
    data: xr.DataArray, named: xr.DataArray, options: MaskOptions, run: RunSpec
) -> xr.DataArray:
    """Return the mask of the pixels that a map tile shows; 255 around them."""
    labels = [str(label) for label in named["bands"].to_numpy()]
    masker = Masker.open(options, labels)  # its detector stays loaded in this process
    grid = grid_of(named)
    region = Region.of(grid, Tile.of(run.tile))
    scenes = list(named) if "t" in named.dims else [named]
    height, width = grid.shape_yx
    masks = np.full((len(scenes), len(masker.labels), height, width), NODATA, np.uint8)
    for mask, scene in zip(masks, scenes, strict=True):
        chosen = scene.data[masker.places(labels)]
        reader = CubeReader(chosen, masker.inputs, options, nodata_values(data))
        if region is not None:
            mask[:, region.rows, region.columns] = mask_region(reader, masker, grid, region)
    found = label_mask(masks if "t" in named.dims else masks[0], data, masker)
    found.attrs[MASK_ATTRIBUTE] = _about(masker)
    return found


def _threads() -> int:
    from openeo_cloudmask.backend.jobs.compute import worker_threads

    return worker_threads()


def _refuse(name: str, value: object, expected: str) -> ApiError:
    return ApiError("ProcessParameterInvalid", f"{name} is {value!r}; expected {expected}")
