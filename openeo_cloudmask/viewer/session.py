"""What one user has opened: scenes, masks, references, running tasks and a back end.

What is computed of it is in ``findings``.

A session is held in memory and in a folder of its own; nothing in it is shared with others, and no
credentials are written down.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.evaluation.grids import read_mask
from openeo_cloudmask.products import ReadOptions
from openeo_cloudmask.viewer.colors import copy_colors
from openeo_cloudmask.viewer.comparison import (
    read_reference,
    shown_scheme,
    write_reference_map,
)
from openeo_cloudmask.viewer.entries import MaskEntry, ReferenceEntry, SceneEntry
from openeo_cloudmask.viewer.findings import Findings
from openeo_cloudmask.viewer.job_results import JobMask
from openeo_cloudmask.viewer.labeller import Labeller, mask_on_grid, start_labeller
from openeo_cloudmask.viewer.layers import class_colors, open_layer
from openeo_cloudmask.viewer.local import Task
from openeo_cloudmask.viewer.meaning import day_of_reference, name_classes, read_tags
from openeo_cloudmask.viewer.room import check_room, check_tasks
from openeo_cloudmask.viewer.scenes import Picture, Report, draw_picture, open_scene
from openeo_cloudmask.viewer.series import Series
from openeo_cloudmask.viewer.uploads import check_reference, save_upload

if TYPE_CHECKING:
    import openeo


KEEP_SECONDS = 2 * 24 * 3600
"""Folders of sessions older than this are removed when a new session begins."""

MAX_STEM = 150
"""Bytes of a scene's name that its mask's file has; file systems take 255 in all."""

DEMO_SIZE_PX = 1024
DEMO_SEED = 3


@dataclass(slots=True, kw_only=True)
class Session:
    """Everything one user sees; ``st.session_state`` holds it."""

    folder: Path
    scenes: dict[str, SceneEntry] = field(default_factory=dict)
    masks: dict[str, MaskEntry] = field(default_factory=dict)
    references: dict[str, ReferenceEntry] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    connection: openeo.Connection | None = field(default=None, repr=False)
    backend_url: str = ""
    opened_jobs: set[str] = field(default_factory=set)
    """Ids of the jobs whose results are open."""
    series: dict[str, Series] = field(default_factory=dict)
    latest: str = ""
    """Title of the scene or series that was opened last."""
    labellers: dict[str, Labeller] = field(default_factory=dict)
    """Title of a scene -> work on its reference."""
    findings: Findings = field(init=False)
    """What was computed of all this."""

    def __post_init__(self) -> None:
        """Let what is computed see what is open."""
        self.findings = Findings(
            masks=self.masks, references=self.references, subfolder=self._subfolder
        )

    def is_over(self) -> bool:
        """Return whether its files are gone, as those of sessions unused for days are."""
        return not self.folder.is_dir()

    def keep_upload(self, stream: IO[bytes], name: str, size: int) -> Path:
        """Return where a file that was sent is kept: others of its name stay as they are.

        Raises:
            InputError: it is no raster and no product; see ``save_upload``.
            OutputError: there is no room for it.
        """
        check_room(self.folder, size)
        return save_upload(stream, name, size, self._subfolder("upload"))

    def check_work(self) -> None:
        """Make sure that one more task may begin.

        Raises:
            CloudMaskError: too many are at work, or there is no room for what they make.
        """
        check_tasks(self.tasks)
        check_room(self.folder)

    def name_mask(self, model: str, scene: Path) -> Path:
        """Return the file for the next mask: of the scene's name as much as fits into a name."""
        stem = os.fsencode(scene.stem)[:MAX_STEM].decode(errors="ignore")
        return self.folder / f"{model}-{len(self.tasks)}-{stem}.tif"

    def add_scene(
        self,
        path: Path,
        *,
        title: str | None = None,
        sensor: str | None = None,
        read: ReadOptions | None = None,
        report: Report | None = None,
    ) -> SceneEntry:
        """Open a scene and draw its picture; ``read`` says what the file does not.

        Raises:
            CloudMaskError: it cannot be read or drawn.
        """
        name = self._new_name(title or path.stem, self.scenes)
        folder = self._subfolder("pictures")
        with open_scene(path, sensor=sensor, read=read) as scene:
            picture = draw_picture(scene, folder, report=report)
            day = None if scene.acquired is None else scene.acquired.date().isoformat()
        return self._keep_scene(name, path, picture, read=read, day=day)

    def add_colors(
        self, path: Path, names: Sequence[str], *, report: Report | None = None
    ) -> SceneEntry:
        """Open a picture in 8-bit colours, to look at; ``names`` says which band is which.

        Raises:
            CloudMaskError: it cannot be read or drawn, or lacks a colour.
        """
        name = self._new_name(path.stem, self.scenes)
        picture = copy_colors(path, names, self._subfolder("pictures"), report=report)
        return self._keep_scene(name, path, picture, day=read_tags(path).day)

    def _keep_scene(
        self,
        name: str,
        path: Path,
        picture: Picture,
        *,
        read: ReadOptions | None = None,
        day: str | None = None,
    ) -> SceneEntry:
        layers = {
            composite: open_layer(picture.path, title=composite, indexes=bands)
            for composite, bands in picture.composites.items()
        }
        entry = SceneEntry(
            title=name, path=path, picture=picture, layers=layers, read=read, day=day
        )
        self.scenes[name] = entry
        self.latest = name
        return entry

    def add_series(self, title: str, masks: Sequence[JobMask]) -> Series:
        """Open masks of several dates; what belongs to a date is opened with it."""
        name = self._new_name(title, {**self.series, **self.scenes})
        self.series[name] = Series(title=name, masks=tuple(masks))
        self.latest = name
        return self.series[name]

    def open_date(self, series: str, label: str) -> MaskEntry:
        """Return the mask of one date of a series, opened with its image; once.

        Raises:
            CloudMaskError: it cannot be downloaded or read.
        """
        found = self.series[series]
        if label not in found.opened:
            entry = self.open_job_mask(found.dates[label], f"{series}: {label}", series=series)
            found.opened[label] = entry.title
        return self.masks[found.opened[label]]

    def open_job_mask(
        self, mask: JobMask, title: str, *, scene: str | None = None, series: str | None = None
    ) -> MaskEntry:
        """Return a mask of a job, opened with its percentages, its item and its image.

        Args:
            mask: one of the job's results.
            title: its name, and that of the image.
            scene: title of the open scene that it is of; None opens the image of the results.
            series: title of the series it is a date of.

        Raises:
            CloudMaskError: a file cannot be downloaded or read.
        """
        check_room(self.folder)
        path = mask.fetch("mask")
        if path is None:
            raise ReferenceDataError(f"the results of {title} have no mask among them")
        latest = self.latest
        if scene is None and (image := mask.fetch("image")) is not None:
            shown = self.add_scene(image, title=title, sensor=read_tags(image).sensor)
            scene = shown.title
            self.scenes[scene] = replace(shown, day=mask.day, series=series)
        entry = self.add_mask(
            path, title=title, scene=scene, percentages=mask.fetch("percentages")
        )  # fmt: skip
        entry = replace(entry, item=mask.item, series=series)
        self.masks[entry.title] = entry
        self.latest = series or scene or latest
        return entry

    def add_mask(
        self,
        path: Path,
        *,
        title: str | None = None,
        scene: str | None = None,
        percentages: Path | None = None,
    ) -> MaskEntry:
        """Open a mask of class values, whose file says what they mean.

        ``percentages`` is the file of those that its classes were chosen from, if there is one.

        Raises:
            ProductError: it cannot be read or has no georeference.
            ReferenceDataError: it holds values of no class.
        """
        name = self._new_name(title or path.stem, {**self.masks, **self.references})
        tags = read_tags(path)
        scheme = read_mask(path).scheme
        layer = open_layer(path, title=name, colors=class_colors(scheme))
        entry = MaskEntry(
            title=name, path=path, layer=layer, scheme=scheme, scene=scene, day=tags.day,
            percentages=percentages,
        )  # fmt: skip
        self.masks[name] = entry
        return entry

    def add_reference(
        self, path: Path, *, title: str | None = None, meaning: str | None = None
    ) -> ReferenceEntry:
        """Open a reference: an ALCD scene folder or a raster of class values.

        Args:
            path: the folder or file.
            title: its name; None takes that of the scene.
            meaning: of a raster that does not say what its values mean: a class scheme, or a
                class for each value; see ``parse_meaning``.

        Raises:
            ReferenceDataError: it is neither, or incomplete.
            OptionError: the meaning cannot be understood.
        """
        if not path.is_dir():
            check_reference(path)
            path = name_classes(path, meaning, self._subfolder("references"))
        reference = read_reference(path)
        name = self._new_name(title or reference.name, {**self.masks, **self.references})
        shown = write_reference_map(reference, self._subfolder("references"))
        layer = open_layer(
            shown, title="Reference", colors=class_colors(shown_scheme(reference.scheme))
        )
        day = day_of_reference(path)
        entry = ReferenceEntry(title=name, path=path, reference=reference, layer=layer, day=day)
        self.references[name] = entry
        return entry

    def join(self, reference: str, scene: str) -> ReferenceEntry:
        """Note that a reference is of a scene; of its day, too, if it does not say another."""
        entry = self.references[reference]
        day = entry.day or self.scenes[scene].day
        entry = self.references[reference] = replace(entry, scene=scene, day=day)
        return entry

    def make_demo(self, *, seed: int = DEMO_SEED, report: Report | None = None) -> SceneEntry:
        """Simulate a Sentinel-2 scene with its reference and open both; takes seconds."""
        from openeo_cloudmask.alcd.writer import write_alcd_scene
        from openeo_cloudmask.simulator.products import make_reference, write_geotiff
        from openeo_cloudmask.simulator.scene import simulate_scene

        name = self._new_name(f"Demo scene {seed}", self.scenes)
        folder = self._subfolder("demo")
        scene = simulate_scene(seed, size=DEMO_SIZE_PX)
        if report is not None:
            report(0.3)
        path = write_geotiff(scene, folder / f"demo-{seed}.tif")
        reference = make_reference(scene, f"demo-{seed}")
        known = self.add_reference(write_alcd_scene(folder, reference), title=name)
        if report is not None:
            report(0.5)
        entry = self.add_scene(
            path,
            title=name,
            sensor="sentinel-2-l1c",
            report=None if report is None else lambda share: report(0.5 + share / 2),
        )
        self.join(known.title, name)
        return entry

    def label(
        self, scene: SceneEntry, *, pixel_m: float | None = None, report: Report | None = None
    ) -> Labeller:
        """Begin a reference of a scene; what was marked on it before is forgotten.

        Raises:
            CloudMaskError: the scene cannot be read, or has no pixels in metres.
        """
        self.labellers[scene.title] = start_labeller(
            scene.path,
            self._subfolder("labels"),
            title=scene.title,
            sensor=scene.sensor_id,
            read=scene.read,
            day=scene.day,
            pixel_m=pixel_m,
            report=report,
        )
        return self.labellers[scene.title]

    def doubt(self, labeller: Labeller) -> None:
        """Let the masks of a scene contradict the forest that labels it.

        Raises:
            ProductError: a mask cannot be read.
        """
        for entry in self.masks.values():
            if entry.scene == labeller.title and entry.title not in labeller.models:
                mask = mask_on_grid(entry.path, entry.scheme, labeller.features.grid)
                if mask is not None:
                    labeller.models[entry.title] = mask

    def save_reference(self, labeller: Labeller, *, name: str, location: str) -> ReferenceEntry:
        """Write the reference that was made, and open it.

        Raises:
            CloudMaskError: there are too few marks, or the name is no name.
        """
        folder = labeller.save(self._subfolder("made"), name=name, location=location)
        entry = self.add_reference(folder, title=labeller.title)
        return self.join(entry.title, labeller.title)

    def open_task(self, task: Task) -> None:
        """Open the mask that a finished task made, once.

        Raises:
            CloudMaskError: it cannot be read, or is no mask of classes.
        """
        if task.output is None or not task.classes or task.id in self.opened_jobs:
            return
        self.add_mask(task.output, title=task.title, scene=task.scene, percentages=task.percentages)
        self.opened_jobs.add(task.id)

    def running(self) -> list[Task]:
        """Return the tasks that are still at work."""
        return [task for task in self.tasks if task.state.value == "running"]

    def _subfolder(self, purpose: str) -> Path:
        check_room(self.folder)
        folder = self.folder / f"{purpose}-{secrets.token_hex(4)}"
        folder.mkdir(parents=True)
        return folder

    @staticmethod
    def _new_name(wanted: str, taken: Mapping[str, object]) -> str:
        name, number = wanted, 2
        while name in taken:
            name, number = f"{wanted} ({number})", number + 1
        return name


def begin_session(data: Path) -> Session:
    """Return a new session with a folder of its own under ``data``; clears old ones away."""
    root = data / "sessions"
    root.mkdir(parents=True, exist_ok=True)
    oldest = time.time() - KEEP_SECONDS
    for folder in root.iterdir():
        if folder.is_dir() and folder.stat().st_mtime < oldest:
            shutil.rmtree(folder, ignore_errors=True)
    own = root / secrets.token_urlsafe(16)
    own.mkdir(mode=0o700)
    return Session(folder=own)
