"""From a product on disk to a mask on disk: what the command line, viewer and back end share."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from openeo_cloudmask.classes import NODATA, ClassScheme
from openeo_cloudmask.errors import (
    BandError,
    OptionError,
    OutputError,
    ProductError,
    SensorError,
)
from openeo_cloudmask.inference import Detector, Progress
from openeo_cloudmask.masking import Masker
from openeo_cloudmask.models import ModelEntry, ModelInput, get_model, select_input
from openeo_cloudmask.models.inputs import smallest_set
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products.addresses import Address, Source
from openeo_cloudmask.products.ahead import ReadAhead
from openeo_cloudmask.products.cog import check_output, open_percentages, write_cog
from openeo_cloudmask.products.crs import parse_crs
from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.products.open import open_product
from openeo_cloudmask.products.scene import Scene
from openeo_cloudmask.sensors import SENSORS, BandKind, Sensor
from openeo_cloudmask.version import __version__

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How the input is read, where the file does not say it; see ``open_product``."""

    bands: tuple[str, ...] | None = None
    scale: float | None = None
    offset: float | None = None
    granule: str | None = None
    date: str | None = None
    crs: str | None = None
    """Coordinate reference system of an input that has coordinates and does not say theirs."""
    ungeoreferenced: bool = False
    """Whether an input without georeference is masked too; its mask then has none either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskReport:
    """What was done."""

    path: Path
    model: str
    sensor: str
    band_names: tuple[str, ...]
    """Bands the detector was fed with."""
    scheme: ClassScheme
    """Classes of the mask."""
    shares: Mapping[str, float]
    """Class name -> share of the pixels that were seen, 0-1 (by the most probable class)."""
    nodata_share: float
    """Share of all pixels that are no-data, 0-1."""
    seconds: float
    georeferenced: bool
    warnings: tuple[str, ...] = ()
    """Reasons to doubt the mask; also in the file's tag ``WARNING`` and in the log."""


REQUEST_TAG = "REQUEST"
SUN_TAG = "SUN_ELEVATION_DEG"
_log = logging.getLogger(__name__)


def mask_product(  # noqa: PLR0913 - what is read, how, and what is notified
    path: str | Path | Address,
    output: str | Path,
    options: MaskOptions | None = None,
    *,
    read: ReadOptions | None = None,
    runtime: str = "auto",
    overwrite: bool = False,
    progress: Progress | None = None,
    detector: Detector | None = None,
    opened: Callable[[Masker], None] | None = None,
    percentages: str | Path | None = None,
) -> MaskReport:
    """Mask the product at ``path`` and write the mask to ``output`` as a COG.

    Memory does not depend on the height of the scene, and ``output`` is there only once it is
    complete.

    Args:
        path: what ``open_product`` takes.
        output: name of the GeoTIFF; its folder has to be there.
        options: model, style and so on; ``scale`` and ``offset`` count where ``read`` has none.
        read: how the input is read.
        runtime: what runs the network, see ``load_detector``.
        overwrite: whether an existing output may be replaced.
        progress: called with (done, total) windows; an exception it raises stops the work.
        detector: a detector that is loaded already, instead of the one ``options`` name; its
            bands are then looked up by name.
        opened: called when the input is found to be fit for the model, before it is read.
        percentages: name of a second GeoTIFF, which gets the percentages that the classes of the
            mask were chosen from (before threshold, smallest area and buffer); replaced if there.

    Raises:
        CloudMaskError: one of its leaves: the input cannot be read, lacks bands, or is not
            reflectance; a parameter is not allowed; the output cannot be written.
    """
    options, read = options or MaskOptions(), read or ReadOptions()
    source, target = _source(path), Path(output)
    get_model(options.model)  # a wrong name is an error before anything is read
    here = source if isinstance(source, Path) else None
    check_output(target, source=here, overwrite=overwrite)
    begin, asked = time.monotonic(), request_digest(source, options, read)
    scene, inputs = _open_chosen(source, options, read)
    with scene:
        if detector is not None:
            inputs = ModelInput(sensor=inputs.sensor, band_names=detector.band_names)
        masker = Masker(options, inputs, runtime=runtime, detector=detector)
        # Impossible requests are errors before anything is read.
        masker.cleaning(scene.grid.pixel_m)
        masker.check_pixels(scene.grid.pixel_m)
        masker.prepare()
        if opened is not None:
            opened(masker)
        counts = np.zeros(256, np.int64)
        pixels = scene.cube(inputs.band_names, sensor=inputs.sensor)
        tags = masker.tags() | _source_tags(scene) | {REQUEST_TAG: asked}
        with ExitStack() as stack:
            keep = percentages and stack.enter_context(
                open_percentages(
                    Path(percentages), grid=scene.grid, scheme=masker.scheme, metadata=tags
                )
            )
            cube = stack.enter_context(ReadAhead(pixels, masker.step_px))
            write_cog(
                target,
                masker.strips(
                    cube,
                    origin_yx=scene.origin_yx,
                    pixel_m=scene.grid.pixel_m,
                    progress=progress,
                    counts=counts,
                    keep=keep or None,
                ),
                grid=scene.grid,
                scheme=masker.scheme,
                categorise=options.categorise,
                metadata=tags,
                overwrite=overwrite,
                closing=lambda: {"WARNING": "; ".join(masker.warnings())},
            )
        report = _report(target, scene, masker, counts, time.monotonic() - begin)
        for warning in masker.warnings():
            _log.warning("%s: %s", source.name, warning)
        return replace(report, warnings=masker.warnings())


def request_digest(source: Source, options: MaskOptions, read: ReadOptions) -> str:
    """Return what tells apart masks of other scenes, options or versions of the package.

    A mask's tag ``REQUEST`` holds it, so that a run of many scenes that was stopped can go on.
    """
    context = {key: value for key, value in options.to_context().items() if key != "device"}
    request = [__version__, source.name, context, asdict(read)]
    text = json.dumps(request, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_done(target: Path, source: Source, options: MaskOptions, read: ReadOptions) -> bool:
    """Return whether ``target`` is the mask that ``mask_product`` would make of ``source``.

    Raises:
        OutputError: there is another file of that name.
    """
    if not target.exists():
        return False
    try:
        with open_raster(target) as dataset:
            found = dataset.tags().get(REQUEST_TAG)
    except ProductError:
        found = None
    if found == request_digest(source, options, read):
        return True
    raise OutputError(
        f"the output {target} exists and was made by other options or another version; pass "
        "--overwrite (overwrite=True), or write to another folder"
    )


def mask_scene(
    path: str | Path | Address,
    options: MaskOptions | None = None,
    *,
    read: ReadOptions | None = None,
    progress: Progress | None = None,
) -> xr.DataArray:
    """Return the mask of the product at ``path``: (bands, y, x) uint8 in memory, 255 is no-data.

    Arguments and errors are those of ``mask_product``.
    """
    import xarray as xr

    options, read = options or MaskOptions(), read or ReadOptions()
    scene, inputs = _open_chosen(_source(path), options, read)
    with scene:
        masker = Masker(options, inputs)
        pixels = scene.cube(inputs.band_names, sensor=inputs.sensor)
        with ReadAhead(pixels, masker.step_px) as cube:
            data = masker.mask(
                cube,
                origin_yx=scene.origin_yx,
                pixel_m=scene.grid.pixel_m,
                progress=progress,
            )
        coords = scene.grid.coordinates() | {"bands": list(masker.labels)}
        source = {key.lower(): value for key, value in _source_tags(scene).items() if value}
    return xr.DataArray(
        data,
        dims=("bands", "y", "x"),
        coords=coords,
        name="cloud_mask",
        attrs=masker.attributes() | source,
    )


def _source(path: str | Path | Address) -> Source:
    return path if isinstance(path, Address) else Path(path)


def _open_chosen(
    source: Source, options: MaskOptions, read: ReadOptions
) -> tuple[Scene, ModelInput]:
    """Return the scene, and which of its bands are read."""
    scene = _open(source, options.sensor, options, read)
    try:
        _check_georeference(scene, source, read)
        inputs = _choose_bands(scene, get_model(options.model), options, read)
    except BaseException:
        scene.close()
        raise
    thermal = any(inputs.sensor.band(name).kind is BandKind.THERMAL for name in inputs.band_names)
    if scene.sensor is None and thermal:  # only now is it known which bands hold temperatures
        scene.close()
        scene = _open(source, inputs.sensor.id, options, read)
    return scene, inputs


def _has_points(source: Source) -> bool:
    """Return whether a file of this machine has ground control points."""
    if not isinstance(source, Path) or not source.is_file():
        return False
    try:
        with open_raster(source) as dataset:
            return bool(dataset.gcps[0])
    except ProductError:
        return False


def _check_georeference(scene: Scene, source: Source, read: ReadOptions) -> None:
    """A mask that lies nowhere is of no use to most; who wants one has to say so."""
    if read.ungeoreferenced or (scene.grid.crs is not None and scene.grid.transform is not None):
        return
    raise ProductError(
        f"{source} has no georeference, so its mask would lie nowhere; expected a coordinate "
        "reference system and a position. "
        + ("" if scene.grid.transform is None else "If you know the system: --crs EPSG:... . ")
        + ("Ground control points alone place it: gdalwarp it. " if _has_points(source) else "")
        + "To mask it all the same pass --ungeoreferenced (ungeoreferenced=True)"
    )


def _open(source: Source, sensor: str | None, options: MaskOptions, read: ReadOptions) -> Scene:
    scale = options.scale if read.scale is None and options.scale != 1 else read.scale
    offset = options.offset if read.offset is None and options.offset != 0 else read.offset
    scene = open_product(
        source,
        sensor=sensor,
        scale=scale,
        offset=offset,
        bands=read.bands,
        granule=read.granule,
        date=read.date,
        layers=get_model(options.model).layers,
    )
    return scene if read.crs is None else _with_crs(scene, source, parse_crs(read.crs))


def _with_crs(scene: Scene, source: Source, crs: CRS) -> Scene:
    if scene.grid.crs is None and scene.grid.transform is not None:
        return replace(scene, grid=replace(scene.grid, crs=crs))
    scene.close()
    raise OptionError(
        f"a coordinate reference system is given, but {source} "
        + ("has no coordinates" if scene.grid.crs is None else f"says its own, {scene.grid.crs}")
        + "; leave it out"
    )


def _choose_bands(
    scene: Scene, entry: ModelEntry, options: MaskOptions, read: ReadOptions
) -> ModelInput:
    sensor: Sensor | str | None = scene.sensor or options.sensor
    try:
        chosen = select_input(entry, sensor=sensor, bands=scene.band_labels)
    except (BandError, SensorError) as err:
        hint = f". {scene.missing_hint}" if scene.missing_hint else ""
        told = isinstance(err, SensorError) and _is_named(scene)  # then it asks for the sensor
        raise type(err)(f"{err}{hint}{'' if told else _way_out(scene, entry)}") from err
    _check_complete(scene, entry, read)
    return chosen


def _way_out(scene: Scene, entry: ModelEntry) -> str:
    """Return the fewest bands that would do, and how to name those of a raster."""
    if scene.metadata.get("product_type") is not None:
        return ""
    least = smallest_set(entry, scene.sensor)
    named, have = list(least.band_names), list(scene.band_labels)
    text = f". The fewest bands that {entry.id} takes are {', '.join(named)} of {least.sensor.id}"
    if len(have) < len(named):
        return f"{text}; there are {len(have)}"
    if _is_named(scene):
        return f"{text}. Layers that bear other names are named by --bands, all in their order"
    # Only the user knows which layer is which: those beyond the fewest keep their names.
    names = ",".join((*named, *have[len(named) :]))
    return (
        f"{text}. If the first layers are these in this order: --bands {names} --sensor "
        f"{least.sensor.id}, and --scale 0.0001 (--offset -0.1) where they hold counts"
    )


def _is_named(scene: Scene) -> bool:
    """Return whether some layers bear the names of bands: new names would shift them."""
    return any(sensor.knows(label) for sensor in SENSORS.values() for label in scene.band_labels)


def _check_complete(scene: Scene, entry: ModelEntry, read: ReadOptions) -> None:
    """A product of a known layout that lacks bands is broken, unless the user chose the bands.

    A sensor-independent model would run on what is there, and the mask would be another one than
    that of a complete product.
    """
    complete = scene.metadata.get("product_type") is None or scene.sensor is None
    if complete or not entry.sensor_independent or read.bands is not None:
        return
    expected = entry.inputs.get(scene.sensor.id, scene.sensor.band_names) if scene.sensor else ()
    if missing := [name for name in expected if name not in scene.band_labels]:
        raise BandError(
            f"the product {scene.metadata.get('id')} lacks bands {', '.join(missing)}. "
            f"{scene.missing_hint}. To do without them, name those to use: "
            f"--bands {','.join(scene.band_labels)}"
        )


def _source_tags(scene: Scene) -> dict[str, object]:
    return {
        "SOURCE": scene.metadata.get("id"),
        "ACQUIRED": None if scene.acquired is None else scene.acquired.isoformat(),
        SUN_TAG: scene.metadata.get("sun_elevation_deg"),
    }


def _report(
    target: Path, scene: Scene, masker: Masker, counts: NDArray[np.int64], seconds: float
) -> MaskReport:
    total, nodata = int(counts.sum()), int(counts[NODATA])
    seen = max(total - nodata, 1)
    return MaskReport(
        path=target,
        model=masker.entry.id,
        sensor=masker.inputs.sensor.id,
        band_names=masker.inputs.band_names,
        scheme=masker.scheme,
        shares={item.name: int(counts[item.value]) / seen for item in masker.scheme.classes},
        nodata_share=nodata / total,
        seconds=seconds,
        georeferenced=scene.grid.crs is not None and scene.grid.transform is not None,
    )
