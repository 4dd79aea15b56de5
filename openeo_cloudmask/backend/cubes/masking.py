"""Masks of lazily read cubes: planned here, computed strip by strip in worker processes.

A cube is cut into a few tall strips, about one for each worker thread. Each strip is predicted
with the windows the whole scene has (``predict_strips(part=...)``), so the mask is, bit for bit,
that of ``cloudmask run``; only the windows that touch two strips are computed twice.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.cubes.read import DateCube, find_dates
from openeo_cloudmask.backend.jobs import runtime
from openeo_cloudmask.backend.jobs.runtime import RunSpec
from openeo_cloudmask.classes import apply_style, style_scheme
from openeo_cloudmask.datacube import CubeReader, nodata_values, output_labels, pixel_origin
from openeo_cloudmask.guard import BrightGuard
from openeo_cloudmask.inference import Cube, Detector, predict_strips
from openeo_cloudmask.models import get_model, load_detector, select_input
from openeo_cloudmask.models.deferred import DeferredDetector
from openeo_cloudmask.models.entry import ModelInput
from openeo_cloudmask.models.onnx_detector import is_exported
from openeo_cloudmask.options import MaskOptions, parse_udf_context
from openeo_cloudmask.sensors import SENSORS, get_sensor, resolve_bands

MIN_WINDOW_ROWS = 4
"""Window rows a strip has at least: a strip computes one more than its share, so with four the
work of a scene that is shared out grows by a quarter at most."""
_PROGRESS_S = 1.0
_WEIGHTS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
MASK_ATTRIBUTE = "cloudmask"
"""Attribute of masks: what they are of; ``save_result`` writes class names and colours by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StripSpec:
    """Everything a worker needs to compute one strip of a mask."""

    run: RunSpec
    options: MaskOptions
    sensor: str
    band_names: tuple[str, ...]
    pixels: Any
    """``DateCube``, or a ``CubeReader``."""
    origin_yx: tuple[int, int]
    rows: tuple[int, int]
    part: int
    parts: int


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
    if options.sensor is not None and options.sensor not in SENSORS:
        raise _refuse("sensor", options.sensor, f"one of {', '.join(SENSORS)}")
    if options.weights is None:
        return options
    path = run.weights_dir / options.weights
    if not _WEIGHTS_NAME.fullmatch(options.weights) or not path.exists():
        names = sorted(item.name for item in run.weights_dir.glob("*"))
        raise _refuse("weights", options.weights, f"a name among: {', '.join(names) or 'none'}")
    return dataclasses.replace(options, weights=str(path))


def mask_lazily(data: xr.DataArray, options: MaskOptions, run: RunSpec) -> xr.DataArray:
    """Return the mask of a cube, as a cube that is computed strip by strip.

    Args:
        data: dimensions bands, y, x and perhaps t.
        options: checked by ``parse_client_options``.
        run: the run this is part of.

    Returns:
        uint8, dimensions as ``data``, one chunk a strip; 255 is no-data.
    """
    import dask.array as da
    from dask import delayed

    cube = _ordered(data)
    entry = get_model(options.model)
    labels = [str(label) for label in cube["bands"].to_numpy()]
    chosen = select_input(entry, sensor=options.sensor, bands=labels)
    indices = resolve_bands(labels, chosen.band_names, chosen.sensor)
    names = output_labels(options)
    height, width = cube.sizes["y"], cube.sizes["x"]
    origin = (pixel_origin(cube, "y"), pixel_origin(cube, "x"))
    window = entry.window
    step = window.size_px if window.pixelwise else options.stride
    strips = plan_strips(height, step_px=step, origin_px=origin[0], threads=_threads())
    dates = cube.sizes.get("t", 1)
    masks = []
    for date in range(dates):
        pixels = _pixels_of(cube, date, indices, chosen, options)
        rows = []
        for number, part in enumerate(strips):
            spec = StripSpec(
                run=run, options=options, sensor=chosen.sensor.id, band_names=chosen.band_names,
                pixels=pixels, origin_yx=origin, rows=part,
                part=date * len(strips) + number, parts=dates * len(strips),
            )  # fmt: skip
            name = f"mask-{run.name}-{uuid.uuid4().hex}"  # the run's name: a cancel looks for it
            block = delayed(mask_strip, pure=False, traverse=False)(
                Sealed.of(spec), dask_key_name=name
            )
            shape = (len(names), part[1] - part[0], width)
            rows.append(da.from_delayed(block, shape=shape, dtype=np.uint8))
        masks.append(da.concatenate(rows, axis=1))
    result = xr.DataArray(
        da.stack(masks) if "t" in cube.dims else masks[0],
        dims=cube.dims,
        coords={
            **{key: value for key, value in cube.coords.items() if "bands" not in value.dims},
            "bands": list(names),
        },
    )
    scheme = style_scheme(options.output_style, entry.scheme)
    result.attrs = {
        "nodata": 255,
        MASK_ATTRIBUTE: {
            "model": entry.id,
            "scheme": scheme.name,
            "categorise": options.categorise,
            "style": options.output_style.value,
            "stride": options.stride,
            "precision": options.precision,
            "sensor": chosen.sensor.id,
            "bands": list(chosen.band_names),
        },
    }
    return result.transpose(*data.dims)


def plan_strips(
    height: int, *, step_px: int, origin_px: int, threads: int
) -> list[tuple[int, int]]:
    """Return the rows of each strip: about one strip a thread, cut where windows begin."""
    window_rows = math.ceil(height / step_px)
    count = max(1, min(threads, window_rows // MIN_WINDOW_ROWS))
    cuts = [0]
    for number in range(1, count):
        wanted = origin_px + number * height / count
        cut = round(wanted / step_px) * step_px - origin_px
        if cuts[-1] < cut < height:
            cuts.append(cut)
    return list(zip(cuts, [*cuts[1:], height], strict=True))


def mask_strip(sealed: Sealed) -> NDArray[np.uint8]:
    """Compute one strip: (band, y, x) uint8. Runs in a worker process."""
    import time

    spec: StripSpec = sealed.open()
    options = spec.options
    reported = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal reported
        runtime.check_cancelled()
        if done == total or time.monotonic() - reported > _PROGRESS_S:
            reported = time.monotonic()
            runtime.emit(
                spec.run, kind="progress", part=spec.part, parts=spec.parts, share=done / total
            )

    entry = get_model(options.model)
    load = partial(
        load_detector, options.model, sensor=spec.sensor, bands=spec.band_names,
        weights=options.weights, device=options.device, precision=options.precision,
    )  # fmt: skip
    exported = is_exported(options.weights)
    detector: Detector = DeferredDetector(entry, spec.band_names, load, exported=exported)
    cube: Cube = spec.pixels
    guard = BrightGuard(get_sensor(spec.sensor), spec.band_names, entry.scheme)
    strips = [
        apply_style(strip, detector.scheme, options.output_style, categorise=options.categorise)
        for _, strip in predict_strips(
            cube,
            detector,
            stride=options.stride,
            origin_yx=spec.origin_yx,
            progress=progress,
            part=spec.rows,
            watch=guard.look,
        )
    ]
    for warning in guard.warnings():
        runtime.log(spec.run, "warning", warning, "CloudMaskDoubtful")
    return np.concatenate(strips, axis=1)


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


def _pixels_of(
    cube: xr.DataArray,
    date: int,
    indices: list[int],
    chosen: ModelInput,
    options: MaskOptions,
) -> DateCube | CubeReader:
    plain = options.scale == 1 and options.offset == 0
    dates = find_dates(cube)
    if dates is not None and plain:
        return dates[date].take(indices)
    import dask.array as da

    one = cube.isel(t=date) if "t" in cube.dims else cube
    array = one.isel(bands=indices).data
    if not isinstance(array, da.Array):
        array = da.from_array(array, chunks=(-1, 512, -1))
    return CubeReader(array.rechunk({0: -1, 2: -1}), chosen, options, nodata_values(cube))


def _ordered(data: xr.DataArray) -> xr.DataArray:
    from openeo_cloudmask.backend.processes.dims import name_dimensions

    return name_dimensions(data)


def _threads() -> int:
    from openeo_cloudmask.backend.jobs.compute import worker_threads

    return worker_threads()


def _refuse(name: str, value: object, expected: str) -> ApiError:
    return ApiError("ProcessParameterInvalid", f"{name} is {value!r}; expected {expected}")
