"""From pixels to a mask: the one way that cubes, products, the back end and the scores go.

A ``Masker`` is opened with options and the labels of the bands there are; it then says which of
them it takes, and turns any cube of theirs into strips of a mask.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.amounts import UNITS
from openeo_cloudmask.classes import (
    NODATA,
    ClassScheme,
    apply_style,
    style_probabilities,
    style_scheme,
)
from openeo_cloudmask.cleaning import Cleaning, SizeM, plan_cleaning
from openeo_cloudmask.errors import SensorError
from openeo_cloudmask.guard import BrightGuard, OffsetGuard, ScaleGuard
from openeo_cloudmask.inference import (
    Cube,
    Detector,
    Progress,
    Seam,
    join_seam,
    predict,
    predict_strips,
)
from openeo_cloudmask.models import ModelInput, get_model, load_detector, select_input
from openeo_cloudmask.models.deferred import DeferredDetector
from openeo_cloudmask.models.onnx_detector import is_exported
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.sensors import Sensor, resolve_bands
from openeo_cloudmask.version import __version__

MASK_LABEL = "mask"
"""Band label of a categorised mask."""
Strip = tuple[int, NDArray[np.uint8]]
"""First row, and (band, rows, x) uint8: class values or percentages; 255 is no-data."""

_Probabilities = tuple[int, NDArray[np.float32]]
_Part = tuple[int, int] | None
_log = logging.getLogger(__name__)


class Masker:
    """Makes masks of cubes that hold the bands of ``inputs``.

    Weights are loaded when the first valid pixel is to be classified, once per process. May be
    called from one thread at a time; is not pickled: tasks carry options and inputs.
    """

    def __init__(
        self,
        options: MaskOptions,
        inputs: ModelInput,
        *,
        runtime: str = "auto",
        load: Callable[..., Detector] = load_detector,
        detector: Detector | None = None,
    ) -> None:
        """Take what ``open`` found; ``detector`` is one that is loaded already."""
        self.options, self.inputs = options, inputs
        self.entry = get_model(options.model)
        self._load = partial(
            load,
            options.model,
            sensor=inputs.sensor,
            bands=inputs.band_names,
            weights=options.weights,
            device=options.device,
            precision=options.precision,
            runtime=runtime,
        )
        self.detector = detector or DeferredDetector(
            self.entry,
            inputs.band_names,
            self._load,
            exported=is_exported(options.weights, runtime),
        )
        self._bright = BrightGuard(inputs.sensor, inputs.band_names, self.detector.scheme)
        self._offset = OffsetGuard(inputs.sensor, inputs.band_names)
        self._scale = ScaleGuard(inputs.sensor, inputs.band_names)
        self._told: tuple[str, ...] = ()

    @classmethod
    def open(
        cls,
        options: MaskOptions,
        labels: Sequence[str],
        *,
        sensor: Sensor | str | None = None,
        runtime: str = "auto",
        load: Callable[..., Detector] = load_detector,
    ) -> Masker:
        """Return the masker for data with these bands.

        Args:
            options: what to run and how to write it down.
            labels: labels of the bands the data has, any order, extra ones ignored.
            sensor: sensor of the data where that is known better than by ``options.sensor``.
            runtime: what runs the network, see ``load_detector``.
            load: how to get the detector.

        Raises:
            UnknownModelError: no model of that name.
            SensorError: the sensor is unknown, cannot be determined, or the model does not take it.
            BandError: the data lacks bands.
        """
        entry = get_model(options.model)
        inputs = select_input(entry, sensor=sensor or options.sensor, bands=labels)
        return cls(options, inputs, runtime=runtime, load=load)

    def prepare(self) -> None:
        """Begin to load the detector where that takes a while: pixels are read meanwhile."""
        if isinstance(self.detector, DeferredDetector):
            self.detector.prepare()

    @property
    def scheme(self) -> ClassScheme:
        """Classes of the mask."""
        return style_scheme(self.options.output_style, self.detector.scheme)

    @property
    def labels(self) -> tuple[str, ...]:
        """Band labels of the mask: ``mask``, or the names of the classes."""
        return (MASK_LABEL,) if self.options.categorise else self.scheme.names

    @property
    def step_px(self) -> int:
        """Rows between two rows of windows."""
        window = self.detector.window
        return window.size_px if window.pixelwise else self.options.stride

    def seam_px(self, pixel_m: SizeM | None = None) -> int:
        """Return how many rows at the top of a part windows of the part above add to.

        0 where nothing is shared: windows that do not overlap, or of which more than one row of
        windows reaches that far; and what is done to a mask afterwards needs rows beyond a part.
        """
        overlap = self.detector.window.size_px - self.step_px
        shared = 0 < overlap <= self.step_px and not self.cleaning(pixel_m).active
        return overlap if shared else 0

    def places(self, labels: Sequence[str]) -> list[int]:
        """Return where each of the bands it takes stands in the data.

        Raises:
            BandError: a band is missing or is there twice.
        """
        return resolve_bands(labels, self.inputs.band_names, self.inputs.sensor)

    def cleaning(self, pixel_m: SizeM | None = None) -> Cleaning:
        """Return what is done to a mask with pixels of this size (height and width, metres).

        Raises:
            OptionError: that cannot be done to masks of this model, style and grid.
        """
        return plan_cleaning(self.options, self.scheme, pixel_m)

    def check_pixels(self, pixel_m: SizeM | None) -> None:
        """Note a doubt where pixels of this size (height and width, metres) are not the sensor's.

        Raises:
            SensorError: the sensor is only assumed, and they contradict it.
        """
        sensor = self.inputs.sensor
        low, high = sensor.pixel_range_m
        if pixel_m is None or low <= min(pixel_m) <= max(pixel_m) <= high:
            return
        size = " x ".join(f"{side:g}" for side in dict.fromkeys(pixel_m))
        what = f"pixels of {size} m are not those of {sensor.id} ({low:g} to {high:g} m)"
        if self.inputs.assumed:
            raise SensorError(
                f"{what}, which the names of the bands fit: pass sensor (--sensor), an id, or a "
                f"file that describes the real one; with --sensor {sensor.id} they are masked "
                "all the same"
            )
        self._told = (f"{what}: the model knows no images of that size",)

    def load(self) -> Masker:
        """Load the weights now; return itself."""
        self.detector = self._load()
        return self

    def predict(self, cube: Cube) -> NDArray[np.float32]:
        """Return the native class probabilities of a whole cube, as ``inference.predict`` does."""
        return predict(cube, self.detector, stride=self.options.stride)

    def strips(  # noqa: PLR0913 - the whole and its parts go one way
        self,
        cube: Cube,
        *,
        origin_yx: tuple[int, int] = (0, 0),
        rows: tuple[int, int] | None = None,
        columns: tuple[int, int] | None = None,
        pixel_m: SizeM | None = None,
        progress: Progress | None = None,
        counts: NDArray[np.int64] | None = None,
        keep: Callable[[Strip], None] | None = None,
        seams: Sequence[Seam] = (),
        tell: Callable[[str], None] = _log.warning,
    ) -> Iterator[Strip]:
        """Yield the mask from the top of the cube to its bottom.

        Args:
            cube: (band, y, x), reflectance 0-1, NaN where no-data; the bands of ``inputs``.
            origin_yx: absolute indices of the cube's first row and column.
            rows: first row wanted and the one past the last; None for all. What the buffer and
                the smallest area need to see beyond is computed too.
            columns: the same for columns.
            pixel_m: height and width of a pixel in metres, where they are known.
            progress: called with (done, total) windows.
            counts: (256,) int64, gets the number of pixels of each class added, 255 no-data.
            keep: gets the percentages of the same run, before threshold, smallest area and buffer,
                strip by strip, of all that is computed.
            seams: get what windows add to rows that are shared with other parts.
            tell: called at the end with the number of pixels that are no-data but not declared so.

        Raises:
            OptionError: buffer or smallest area cannot be applied to this mask.
        """
        before = Counter(getattr(cube, "fills", {}))
        cleaning = self.cleaning(pixel_m)
        self.check_pixels(pixel_m)
        wanted, margin = (rows, columns), cleaning.margin_px
        wider = [
            _widen(part, length, margin)
            for part, length in zip(wanted, cube.shape[1:], strict=True)
        ]
        strips = predict_strips(
            cube,
            self.detector,
            stride=self.options.stride,
            origin_yx=origin_yx,
            part=wider[0],
            part_columns=wider[1],
            progress=progress,
            watch=self._look,
            seams=seams,
        )
        if keep is not None:
            strips = self._keep(strips, keep)
        if cleaning.active:
            yield from self._clean(strips, cleaning, wanted, wider, counts)
        else:
            yield from self._style(strips, counts)
        found = Counter(getattr(cube, "fills", {}))
        found.subtract(before)
        if text := _describe_fills(found):
            tell(text)

    def _keep(
        self, strips: Iterator[_Probabilities], keep: Callable[[Strip], None]
    ) -> Iterator[_Probabilities]:
        native, style = self.detector.scheme, self.options.output_style
        for row, strip in strips:
            keep((row, apply_style(strip, native, style, categorise=False)))
            yield row, strip

    def _style(
        self, strips: Iterator[_Probabilities], counts: NDArray[np.int64] | None
    ) -> Iterator[Strip]:
        native, style = self.detector.scheme, self.options.output_style
        categorise = self.options.categorise
        for row, strip in strips:
            values = apply_style(strip, native, style, categorise=categorise)
            if counts is not None:
                classes = (
                    values if categorise else apply_style(strip, native, style, categorise=True)
                )
                counts += np.bincount(classes.ravel(), minlength=256)
            yield row, values

    def _clean(
        self,
        strips: Iterator[_Probabilities],
        cleaning: Cleaning,
        wanted: Sequence[_Part],
        wider: Sequence[_Part],
        counts: NDArray[np.int64] | None,
    ) -> Iterator[Strip]:
        """Yield the part that is wanted of the wider one that ``strips`` are of."""
        native, style = self.detector.scheme, self.options.output_style
        rows, columns = wanted
        first, stop = rows or (0, np.iinfo(np.int64).max)
        left = columns[0] - (wider[1] or (0, 0))[0] if columns else 0
        inner = slice(left, left + columns[1] - columns[0]) if columns else slice(None)
        styled = (
            (row, cleaning.classify(style_probabilities(strip, native, style)))
            for row, strip in strips
        )
        for row, values in cleaning.finish(styled):
            top, bottom = max(row, first), min(row + values.shape[1], stop)
            if top < bottom:
                part = values[:, top - row : bottom - row, inner]
                if counts is not None:
                    counts += np.bincount(part.ravel(), minlength=256)
                yield top, part

    def join(self, upper: Seam, lower: Seam, *, percentages: bool = False) -> NDArray[np.uint8]:
        """Return the mask (band, y, x) of rows that windows of two parts add to.

        Args:
            upper: what those of the part above add.
            lower: what those of the part below add.
            percentages: whether bands of percentages follow the mask.
        """
        native, style = self.detector.scheme, self.options.output_style
        strip = join_seam(upper, lower, len(native.classes))
        mask = apply_style(strip, native, style, categorise=self.options.categorise)
        if not percentages:
            return mask
        return np.concatenate([mask, apply_style(strip, native, style, categorise=False)])

    def mask(self, cube: Cube, **where: Any) -> NDArray[np.uint8]:  # noqa: ANN401 - as for strips
        """Return (band, y, x) uint8: all strips, of the rows and columns asked for."""
        return np.concatenate([strip for _, strip in self.strips(cube, **where)], axis=1)

    def warnings(self) -> tuple[str, ...]:
        """Return the reasons to doubt the masks so far."""
        guards = (self._bright, self._offset, self._scale)
        return (*self._told, *(text for guard in guards for text in guard.warnings()))

    def _look(
        self,
        window: NDArray[np.float32],
        valid: NDArray[np.bool_],
        probabilities: NDArray[np.float32],
        own_share: float,
    ) -> None:
        self._bright.look(window, valid, probabilities, own_share)
        self._offset.look(window, valid)
        self._scale.look(window, valid)

    def attributes(self) -> dict[str, Any]:
        """Return what an array of the mask says of itself: CF flags, colours, model, provenance."""
        title = self.scheme.title
        what: dict[str, Any] = {"long_name": f"Percentages: {title}", "units": "percent"}
        if self.options.categorise:
            classes = self.scheme.classes
            what = {
                "long_name": f"Cloud mask: {title}",
                "flag_values": np.asarray(self.scheme.values, np.uint8),
                "flag_meanings": " ".join(self.scheme.names),
                "flag_colors": " ".join(f"#{item.color}" for item in classes),
            }
        made_by = {name.lower(): value for name, value in self.tags().items()}
        doubts = {"warning": "; ".join(self.warnings())} if self.warnings() else {}
        return {**what, "nodata": NODATA, **made_by, **doubts}

    def tags(self) -> dict[str, Any]:
        """Return what made the mask, for the metadata of files and items."""
        options = self.options
        return {
            "SOFTWARE": f"openeo-cloudmask {__version__}",
            "MODEL": self.entry.id,
            "MODEL_LICENCE": self.entry.licence.spdx,
            "MODEL_CITATION": self.entry.citation,
            "OUTPUT_STYLE": options.output_style.value,
            "STRIDE": options.stride,
            "CATEGORISE": str(options.categorise).lower(),
            "PRECISION": options.precision,
            **{name.upper(): getattr(options, name) for name in UNITS if options.amounts(name)},
            "SENSOR": self.inputs.sensor.id,
            **({"SENSOR_ASSUMED": "from the names of the bands"} if self.inputs.assumed else {}),
            "BANDS": ",".join(self.inputs.band_names),
        }


def _widen(part: _Part, length: int, margin: int) -> _Part:
    return part and (max(part[0] - margin, 0), min(part[1] + margin, length))


def _describe_fills(found: Mapping[str, int]) -> str:
    parts = [f"{count} ({reason})" for reason, count in found.items() if count > 0]
    return f"pixels that are no-data but not declared so: {', '.join(parts)}" if parts else ""
