"""From a product on disk to a mask on disk: what the command line, viewer and back end share."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask import __version__
from openeo_cloudmask.classes import NODATA, ClassScheme, apply_style, style_scheme
from openeo_cloudmask.errors import BandError, ProductError
from openeo_cloudmask.guard import BrightGuard
from openeo_cloudmask.inference import Detector, Progress, predict_strips
from openeo_cloudmask.models import ModelEntry, get_model, load_detector, select_input
from openeo_cloudmask.models.deferred import DeferredDetector
from openeo_cloudmask.models.onnx_detector import is_exported
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products.ahead import ReadAhead
from openeo_cloudmask.products.cog import Strip, check_output, write_cog
from openeo_cloudmask.products.open import open_product
from openeo_cloudmask.products.scene import Scene
from openeo_cloudmask.sensors import BandKind, Sensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How the input is read, where the file does not say it; see ``open_product``."""

    bands: tuple[str, ...] | None = None
    scale: float | None = None
    offset: float | None = None
    granule: str | None = None
    date: str | None = None
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
    """What makes the mask doubtful; also in the file's tag ``WARNING`` and in the log."""


_log = logging.getLogger(__name__)


def mask_product(
    path: str | Path,
    output: str | Path,
    options: MaskOptions | None = None,
    *,
    read: ReadOptions | None = None,
    runtime: str = "auto",
    overwrite: bool = False,
    progress: Progress | None = None,
    detector: Detector | None = None,
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

    Raises:
        CloudMaskError: one of its leaves: the input cannot be read, lacks bands, or is not
            reflectance; a parameter is not allowed; the output cannot be written.
    """
    options, read = options or MaskOptions(), read or ReadOptions()
    source, target = Path(path), Path(output)
    get_model(options.model)  # a wrong name is told before anything is read
    check_output(target, source=source, overwrite=overwrite)
    begin = time.monotonic()
    scene, sensor, names = _open_chosen(source, options, read)
    with scene:
        if detector is None:
            # Loaded on first use: a scene without a valid pixel needs no weights.
            load = partial(
                load_detector,
                options.model,
                sensor=sensor,
                bands=scene.band_labels,
                weights=options.weights,
                device=options.device,
                precision=options.precision,
                runtime=runtime,
            )
            exported = is_exported(options.weights, runtime)
            detector = DeferredDetector(get_model(options.model), names, load, exported=exported)
        else:
            names = detector.band_names
        scheme = style_scheme(options.output_style, detector.scheme)
        counts = np.zeros(256, np.int64)
        window = detector.window
        step_px = window.size_px if window.pixelwise else options.stride
        guard = BrightGuard(sensor, names, detector.scheme)
        with ReadAhead(scene.cube(names, sensor=sensor), step_px) as cube:
            strips = predict_strips(
                cube,
                detector,
                stride=options.stride,
                origin_yx=scene.origin_yx,
                progress=progress,
                watch=guard.look,
            )
            write_cog(
                target,
                _styled(strips, detector.scheme, options, counts),
                grid=scene.grid,
                scheme=scheme,
                categorise=options.categorise,
                metadata=_tags(scene, options, names, sensor),
                overwrite=overwrite,
                closing=lambda: {"WARNING": "; ".join(guard.warnings())},
            )
        for warning in guard.warnings():
            _log.warning("%s: %s", source.name, warning)
        report = _report(target, scene, options, names, sensor, scheme, counts, begin)
        return replace(report, warnings=guard.warnings())


def _open_chosen(
    source: Path, options: MaskOptions, read: ReadOptions
) -> tuple[Scene, Sensor, tuple[str, ...]]:
    """Return the scene, the sensor that names its bands, and the bands to read, in order."""
    scene = _open(source, options.sensor, options, read)
    try:
        _check_georeference(scene, source, read)
        sensor, names = _choose_bands(scene, get_model(options.model), options, read)
    except BaseException:
        scene.close()
        raise
    thermal = any(band.kind is BandKind.THERMAL for band in sensor.bands if band.name in names)
    if scene.sensor is None and thermal:  # only now is it known which bands hold temperatures
        scene.close()
        scene = _open(source, sensor.id, options, read)
    return scene, sensor, names


def _check_georeference(scene: Scene, source: Path, read: ReadOptions) -> None:
    """A mask that lies nowhere is of no use to most; who wants one has to say so."""
    if read.ungeoreferenced or (scene.grid.crs is not None and scene.grid.transform is not None):
        return
    raise ProductError(
        f"{source} has no georeference, so its mask would lie nowhere; expected a coordinate "
        "reference system and a position. To mask it all the same pass --ungeoreferenced "
        "(ungeoreferenced=True)"
    )


def _open(source: Path, sensor: str | None, options: MaskOptions, read: ReadOptions) -> Scene:
    scale = options.scale if read.scale is None and options.scale != 1 else read.scale
    offset = options.offset if read.offset is None and options.offset != 0 else read.offset
    return open_product(
        source,
        sensor=sensor,
        scale=scale,
        offset=offset,
        bands=read.bands,
        granule=read.granule,
        date=read.date,
    )


def _choose_bands(
    scene: Scene, entry: ModelEntry, options: MaskOptions, read: ReadOptions
) -> tuple[Sensor, tuple[str, ...]]:
    sensor: Sensor | str | None = scene.sensor or options.sensor
    try:
        chosen = select_input(entry, sensor=sensor, bands=scene.band_labels)
    except BandError as err:
        hint = f". {scene.missing_hint}" if scene.missing_hint else ""
        raise BandError(f"{err}{hint}") from err
    _check_complete(scene, entry, read)
    return chosen.sensor, chosen.band_names


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


def _styled(
    strips: Iterator[tuple[int, NDArray[np.float32]]],
    native: ClassScheme,
    options: MaskOptions,
    counts: NDArray[np.int64],
) -> Iterator[Strip]:
    """Yield strips in the style wanted; add the number of pixels of each class to ``counts``."""
    for row, strip in strips:
        classes = apply_style(strip, native, options.output_style, categorise=True)
        counts += np.bincount(classes.ravel(), minlength=256)
        if options.categorise:
            yield row, classes
        else:
            yield row, apply_style(strip, native, options.output_style, categorise=False)


def _tags(
    scene: Scene, options: MaskOptions, names: Sequence[str], sensor: Sensor
) -> dict[str, object]:
    entry = get_model(options.model)
    return {
        "SOFTWARE": f"openeo-cloudmask {__version__}",
        "MODEL": entry.id,
        "MODEL_LICENCE": entry.licence.spdx,
        "MODEL_CITATION": entry.citation,
        "OUTPUT_STYLE": options.output_style.value,
        "STRIDE": options.stride,
        "CATEGORISE": str(options.categorise).lower(),
        "PRECISION": options.precision,
        "SENSOR": sensor.id,
        "BANDS": ",".join(names),
        "SOURCE": scene.metadata.get("id"),
        "ACQUIRED": None if scene.acquired is None else scene.acquired.isoformat(),
    }


def _report(
    target: Path,
    scene: Scene,
    options: MaskOptions,
    names: tuple[str, ...],
    sensor: Sensor,
    scheme: ClassScheme,
    counts: NDArray[np.int64],
    begin: float,
) -> MaskReport:
    total, unseen = int(counts.sum()), int(counts[NODATA])
    seen = max(total - unseen, 1)
    return MaskReport(
        path=target,
        model=get_model(options.model).id,
        sensor=sensor.id,
        band_names=tuple(names),
        scheme=scheme,
        shares={item.name: int(counts[item.value]) / seen for item in scheme.classes},
        nodata_share=unseen / total,
        seconds=time.monotonic() - begin,
        georeferenced=scene.grid.crs is not None and scene.grid.transform is not None,
    )
