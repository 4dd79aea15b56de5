"""Work on the reference of one scene: what the page Label draws, hears and saves."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.warp import Resampling, reproject, transform

from openeo_cloudmask.alcd.features import Features, choose_pixel_m, read_features
from openeo_cloudmask.alcd.labelling import (
    ROUND_MARKS,
    Answer,
    Round,
    draft_step,
    learn,
    make_scene,
    validate,
)
from openeo_cloudmask.alcd.marks import MARK_CODES, Mark
from openeo_cloudmask.alcd.marks_file import Work, read_marks, write_marks
from openeo_cloudmask.alcd.places import Place, first_places
from openeo_cloudmask.alcd.types import AlcdParameters
from openeo_cloudmask.alcd.writer import write_alcd_scene
from openeo_cloudmask.classes import ALCD, FOUR_CLASS, NODATA, ClassScheme, mapping
from openeo_cloudmask.errors import InputError, OptionError
from openeo_cloudmask.grid import WGS84, Bounds, Grid
from openeo_cloudmask.products import ReadOptions
from openeo_cloudmask.products.drivers import create_raster, open_raster
from openeo_cloudmask.viewer.comparison import shown_scheme
from openeo_cloudmask.viewer.drawing import Event, Json, Shape, pen_data
from openeo_cloudmask.viewer.layers import STORE, Layer, class_colors, open_layer
from openeo_cloudmask.viewer.scenes import open_scene

LABEL_SCHEME = shown_scheme(ALCD)
"""ALCD's classes in colours that all eyes tell apart."""
TOOLS = ("brush", "lasso", "polygon")
ACTIONS = (("undo", "Undo", "z"), ("next", "Next place", "n"))
AROUND_PX = 40
"""Pixels shown on each side of a place that is gone to."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_OTHER = re.compile(r"[^A-Za-z0-9_.-]+")
_MAX_NAME = 100

Classes = NDArray[np.uint8]
Report = Callable[[float], None]


@dataclass(slots=True, kw_only=True)
class Labeller:
    """The marks on a scene, and what a forest makes of them."""

    title: str
    """Of the scene."""
    day: str | None
    features: Features
    pixel_m: float
    folder: Path
    """Where label maps are written."""
    places: tuple[Place, ...]
    marks: list[Mark] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    answer: Answer | None = None
    layer: Layer | None = None
    at: int = -1
    """Which of the places is looked at; -1 before the first."""
    gone: int = 0
    """How often the map went to a place."""
    heard: int = 0
    """Number of the last event of the pen."""
    complaint: str = ""
    """Why the last shape is no mark."""
    models: dict[str, Classes] = field(default_factory=dict)
    """Masks whose contradictions count, in the four classes on the features' grid."""
    _shapes: dict[Mark, Shape] = field(default_factory=dict)
    _learned: list[Mark] = field(default_factory=list)
    """What ``answer`` was made of."""

    @property
    def is_behind(self) -> bool:
        """Whether there are other marks than those that were learned."""
        return self._learned != self.marks

    @property
    def place(self) -> Place | None:
        """The place that is looked at."""
        return self.places[self.at] if 0 <= self.at < len(self.places) else None

    def hear(self, events: Sequence[Event]) -> None:
        """Do what was done with the pen; what there is to learn is not learned yet.

        A shape that cannot be a mark is left out, and ``complaint`` says why.
        """
        for event in events:
            self.heard, self.complaint = event.number, ""
            if event.shape is not None:
                try:
                    self.marks.append(self._to_mark(event.shape))
                except OptionError as err:
                    self.complaint = str(err)
            elif event.action == "undo" and self.marks:
                self.marks.pop()
                self._drop_rounds()
            elif event.action == "next":
                self.go_on()

    def go_on(self) -> None:
        """Look at the next place; after the last comes the first again."""
        self.at = (self.at + 1) % len(self.places) if self.places else -1
        self.gone += 1

    def learn(self) -> None:
        """Learn the marks there are, and draw the map of classes; every so often, count a round.

        Raises:
            CloudMaskError: that is not possible.
        """
        self._drop_rounds()
        self._learned = list(self.marks)
        self.answer = None  # what other marks gave is never saved for these
        if len({mark.code for mark in self.marks}) < 2:
            self._show(None)
            return
        self.answer = learn(self.features, self.marks, models=self.models)
        self.places, self.at = self.answer.places, -1
        self._show(self._draw(self.answer.labels))
        done = self.rounds[-1].marks if self.rounds else 0
        if len(self.marks) >= done + ROUND_MARKS and (found := self._figures()) is not None:
            self.rounds.append(found)

    def _drop_rounds(self) -> None:
        """Forget the figures of marks that were taken back: others may come in their place."""
        self.rounds = [item for item in self.rounds if item.marks <= len(self.marks)]

    def _figures(self) -> Round | None:
        """Return the 10-fold figures of the marks there are, or None while these are too few."""
        if self.rounds and self.rounds[-1].marks == len(self.marks):
            return self.rounds[-1]
        if self.answer is None:
            return None
        return validate(self.features, self.answer, len(self.marks))

    def pen(self) -> Json:
        """Return what the map has to know of its pen."""
        return pen_data(
            TOOLS,
            classes=[
                {
                    "value": code,
                    "title": LABEL_SCHEME.classes[code].title,
                    "color": LABEL_SCHEME.classes[code].color,
                    "key": str(number),
                }
                for number, code in enumerate(MARK_CODES, start=1)
            ],
            shapes=[
                (self._to_shape(mark), LABEL_SCHEME.classes[mark.code].color) for mark in self.marks
            ],
            actions=ACTIONS,
            heard=self.heard,
        )

    def point(self) -> tuple[float, float] | None:
        """Return latitude and longitude of the place that is looked at."""
        place = self.place
        if place is None:
            return None
        x, y = self.features.grid.to_xy(place.row + 0.5, place.column + 0.5)
        ((longitude, latitude),) = self._to_degrees([(x, y)])
        return latitude, longitude

    def around(self) -> Bounds | None:
        """Return west, south, east and north of the surroundings of the place, degrees."""
        place = self.place
        if place is None:
            return None
        rows, columns = (
            slice(at - AROUND_PX, at + AROUND_PX + 1) for at in (place.row, place.column)
        )
        return self.features.grid.crop(rows, columns).bounds_in(WGS84)

    def save_text(self) -> str:
        """Return the file of the marks."""
        work = Work(scene=self.title, pixel_m=self.pixel_m, marks=tuple(self.marks))
        return write_marks(work, self.features.grid)

    def load(self, text: bytes) -> None:
        """Take the marks of a file in the place of those there are, and learn them.

        Raises:
            CloudMaskError: it holds none, or marks of another scene's reference system.
        """
        self.marks = list(read_marks(text, self.features.grid).marks)
        self.rounds = []
        self.learn()

    def save(self, root: Path, *, name: str, location: str) -> Path:
        """Return the folder of the reference, written in ALCD's layout under ``root``.

        It is made of the marks there are; what was not learned yet is learned first.

        Raises:
            OptionError: the name cannot be that of a folder.
            ReferenceDataError: there are too few marks.
            OutputError: it cannot be written.
        """
        if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
            raise OptionError(
                f"the name is {name!r}; expected letters, digits, '.', '_' and '-', as a product's"
            )
        if self.is_behind:
            self.learn()
        if self.answer is None:
            raise InputError("nothing is learned yet; mark at least two classes")
        figures = self._figures()
        answer = self.answer
        if draft_step(self.features) > 1:
            answer = learn(self.features, self.marks, draft=False)
        parameters = AlcdParameters(
            tile="unknown",
            location=location or "unknown",
            cloudy_date=(self.day or "unknown").replace("-", ""),
            cloudy_product_name=name,
            clear_date="none",
            clear_product_name="none",
        )
        statistics = None if figures is None else figures.statistics
        scene = make_scene(self.features, answer, statistics, name=name, parameters=parameters)
        return write_alcd_scene(root, scene, overwrite=True)

    def _to_mark(self, shape: Shape) -> Mark:
        longitudes, latitudes = zip(*shape.points, strict=True)
        xs, ys = transform(WGS84, self.features.grid.crs, longitudes, latitudes)
        mark = Mark(
            code=-1 if shape.value is None else shape.value,
            points=tuple(zip(xs, ys, strict=True)),
            area=shape.area,
            radius_m=shape.radius_m,
        )
        if not mark.pixels(self.features.grid).size:
            raise OptionError("the mark lies outside the scene; draw it on the scene")
        self._shapes[mark] = shape
        return mark

    def _to_shape(self, mark: Mark) -> Shape:
        if mark not in self._shapes:
            self._shapes[mark] = Shape(
                points=self._to_degrees(mark.points), area=mark.area, radius_m=mark.radius_m,
                value=mark.code,
            )  # fmt: skip
        return self._shapes[mark]

    def _to_degrees(self, points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
        xs, ys = zip(*points, strict=True)
        return tuple(zip(*transform(self.features.grid.crs, WGS84, xs, ys), strict=True))

    def _show(self, layer: Layer | None) -> None:
        """Show another map of classes, or none; the file of the one before goes."""
        before, self.layer = self.layer, layer
        if before is not None and (layer is None or layer.path != before.path):
            STORE.close(before.token)
            before.path.unlink(missing_ok=True)

    def _draw(self, labels: Classes) -> Layer:
        path = self.folder / f"labels-{len(self.marks)}-{self.heard}.tif"
        profile: dict[str, Any] = {
            "driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": 0, "compress": "deflate",
            **self.features.grid.profile(),
        }  # fmt: skip
        with create_raster(path, **profile) as out:
            out.write(labels, 1)
        return open_layer(path, title="Forest", colors=class_colors(LABEL_SCHEME))


def start_labeller(
    path: Path,
    folder: Path,
    *,
    title: str,
    sensor: str,
    read: ReadOptions | None = None,
    day: str | None = None,
    pixel_m: float | None = None,
    report: Report | None = None,
) -> Labeller:
    """Return the work on a scene before the first mark; reads all of it once.

    Args:
        path: the scene's file.
        folder: where label maps are written; has to be there.
        title: what the scene is called.
        sensor: id of its sensor.
        read: what the file does not say of itself.
        day: when it was taken, where that is known.
        pixel_m: side of the reference's pixels; None chooses one.
        report: called with the share done, 0-1.

    Raises:
        CloudMaskError: the scene cannot be read, or has no pixels in metres.
    """
    with open_scene(path, sensor=sensor, read=read) as scene:
        if scene.sensor is None:
            raise InputError("the scene's sensor is not known")
        known = {
            band.name: label
            for label in scene.band_labels
            if (band := scene.sensor.find_band(label)) is not None
        }
        size = pixel_m or choose_pixel_m(scene.grid)
        features = read_features(
            scene.cube(list(known.values())),
            scene.grid,
            tuple(known),
            scene.sensor,
            pixel_m=size,
            report=report,
        )
    return Labeller(
        title=title, day=day, features=features, pixel_m=size, folder=folder,
        places=first_places(features),
    )  # fmt: skip


def mask_on_grid(path: Path, scheme: ClassScheme, grid: Grid) -> Classes | None:
    """Return (y, x) uint8, a mask in the four classes on another grid; None if it has not those.

    Each pixel gets the class under its centre, 255 without one.

    Raises:
        ProductError: the mask cannot be read.
    """
    try:
        meant = mapping(scheme, FOUR_CLASS)
    except OptionError:
        return None
    found = np.full(grid.shape_yx, NODATA, np.uint8)
    with open_raster(path) as source:
        reproject(
            source.read(1), found, src_transform=source.transform, src_crs=source.crs,
            src_nodata=NODATA, dst_transform=grid.transform, dst_crs=grid.crs, dst_nodata=NODATA,
            resampling=Resampling.nearest,
        )  # fmt: skip
    table = np.full(256, NODATA, np.uint8)
    table[list(scheme.values)] = meant
    return table[found]


def plain_name(title: str) -> str:
    """Return a title as the name of a folder, such as ``Labeller.save`` takes."""
    return _OTHER.sub("-", title).strip("-._")[:_MAX_NAME] or "scene"


def pack(folder: Path) -> bytes:
    """Return a zip of a folder, with the folder's own name in it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                packed.write(path, path.relative_to(folder.parent))
    return out.getvalue()


def count_marks(marks: Sequence[Mark]) -> Mapping[str, int]:
    """Return title of a class -> marks of it, all classes that are marked."""
    return {
        LABEL_SCHEME.classes[code].title: sum(mark.code == code for mark in marks)
        for code in MARK_CODES
    }
