"""Read ALCD reference masks: the whole archive, a scene's folder, or the .tgz as it is."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.alcd.files import (
    SCENE_FOLDERS,
    OpenFiles,
    SceneFiles,
    open_files,
)
from openeo_cloudmask.alcd.scenes import GROUPS, AlcdSceneInfo, find_scene_info
from openeo_cloudmask.alcd.types import (
    CONFIDENCE_FILE,
    CONTOURS_FILE,
    MAP_FILE,
    METRICS,
    PARAMETERS_FILE,
    SAMPLE_LAYERS,
    SHAPEFILE_PARTS,
    STATISTICS_FILE,
    AlcdParameters,
    AlcdScene,
    KFold,
    Samples,
)
from openeo_cloudmask.classes import ALCD
from openeo_cloudmask.errors import ProductError, ReferenceDataError
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.products.crs import names_files
from openeo_cloudmask.products.stack import raster_grid


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneEntry:
    """A scene's folder in an archive, not read yet."""

    name: str
    group: str
    prefix: str
    """Path of the folder in the archive, ending with ``/``; empty where it is the archive."""
    duplicate_of: str | None = None
    """Prefix of the folder that holds the same scene and comes first, else None."""

    @property
    def info(self) -> AlcdSceneInfo | None:
        """What is known of the scene, or None where it is not one of the 37."""
        return find_scene_info(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Something that was left out, and why."""

    name: str
    reason: str


class AlcdArchive(OpenFiles):
    """Scenes of an archive; a context manager that closes it.

    Args:
        path: the archive's folder (or one around it), its .tgz, or the folder of one scene.

    Raises:
        ReferenceDataError: there is no scene at ``path``.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(open_files(path))
        self.path = path
        self.entries = _find_entries(self.files, path)
        """Every scene's folder, in the archive's order."""
        if not self.entries:
            self.files.close()
            raise ReferenceDataError(
                f"{path} holds no reference scene; expected folders with "
                f"{', '.join(SCENE_FOLDERS)} in them, as in the ALCD archive"
            )

    def distinct(self) -> tuple[SceneEntry, ...]:
        """Return the scenes, each once."""
        return tuple(entry for entry in self.entries if entry.duplicate_of is None)

    def find(self, name: str) -> SceneEntry:
        """Return the scene with this folder or product name, old or new.

        Raises:
            ReferenceDataError: it is not here.
        """
        info = find_scene_info(name)
        for entry in self.distinct():
            if entry.name == name or (info is not None and entry.info == info):
                return entry
        raise ReferenceDataError(
            f"no scene {name!r} in {self.path}; list them with 'cloudmask references list'"
        )

    def read(self, entry: SceneEntry) -> AlcdScene:
        """Return a scene with all its files checked.

        Raises:
            ReferenceDataError: a file is missing or wrong; the message names scene and file.
        """
        return read_alcd_scene(self.files, entry)

    def read_each(self, on_failure: Callable[[Failure], None] | None) -> Iterator[AlcdScene]:
        """Yield the distinct scenes; broken ones go to ``on_failure``, or raise where it is None.

        Raises:
            ReferenceDataError: a scene is broken and ``on_failure`` is None.
        """
        for entry in self.distinct():
            try:
                scene = self.read(entry)
            except ReferenceDataError as err:
                if on_failure is None:
                    raise
                on_failure(Failure(name=entry.name, reason=str(err)))
            else:
                yield scene


def read_alcd_scene(files: SceneFiles, entry: SceneEntry) -> AlcdScene:
    """Return the scene of ``entry``.

    Raises:
        ReferenceDataError: a file is missing or wrong; the message names scene and file.
    """
    source = _SceneReader(files, entry)
    labels, grid = source.raster(MAP_FILE)
    confidence, other = source.raster(CONFIDENCE_FILE)
    if other != grid:
        raise source.error(CONFIDENCE_FILE, f"lies on another grid than {MAP_FILE}")
    return AlcdScene(
        name=entry.name,
        group=entry.group,
        labels=labels,
        confidence=confidence,
        grid=grid,
        parameters=source.parameters(),
        statistics=source.statistics(),
        samples=tuple(source.samples(layer) for layer in SAMPLE_LAYERS),
        contours=source.optional(CONTOURS_FILE),
    )


def _find_entries(files: SceneFiles, path: Path) -> tuple[SceneEntry, ...]:
    prefixes: dict[str, None] = {}  # keeps the order, holds each once
    for name in files.names():
        parts = name.rstrip("/").split("/")
        for position, part in enumerate(parts):
            if part in SCENE_FOLDERS and (position < len(parts) - 1 or name.endswith("/")):
                prefixes["".join(f"{item}/" for item in parts[:position])] = None
                break
    entries: list[SceneEntry] = []
    first: dict[str, str] = {}
    for prefix in prefixes:
        place = PurePosixPath(path.resolve().as_posix()) / prefix
        group = place.parent.name if place.parent.name in GROUPS else ""
        # The same scene may be there under its old and its new name.
        info = find_scene_info(place.name)
        key = info.archive_name if info else place.name
        entries.append(
            SceneEntry(name=place.name, group=group, prefix=prefix, duplicate_of=first.get(key))
        )
        first.setdefault(key, prefix)
    return tuple(entries)


class _SceneReader:
    """Reads the files of one scene and words the errors."""

    def __init__(self, files: SceneFiles, entry: SceneEntry) -> None:
        self._files = files
        self._entry = entry

    def error(self, name: str, what: str) -> ReferenceDataError:
        return ReferenceDataError(f"scene {self._entry.name}: {name} {what}")

    def content(self, name: str) -> bytes:
        try:
            return self._files.read(self._entry.prefix + name)
        except KeyError:
            raise self.error(name, "is missing; the scene is incomplete") from None

    def optional(self, name: str) -> bytes | None:
        try:
            return self._files.read(self._entry.prefix + name)
        except KeyError:
            return None

    def raster(self, name: str) -> tuple[NDArray[np.uint8], Grid]:
        from rasterio.errors import RasterioError
        from rasterio.io import MemoryFile

        from openeo_cloudmask.products.drivers import open_raster

        content = self.content(name)
        try:
            with MemoryFile(content) as memory, open_raster(memory.name) as data:
                bands, kind = data.count, data.dtypes[0]
                values = data.read(1)
                grid = raster_grid(data)
        except (RasterioError, ProductError) as err:
            raise self.error(name, f"is no readable GeoTIFF: {err}") from err
        if bands != 1 or kind != "uint8":
            raise self.error(name, f"has {bands} bands of {kind}; expected one of uint8")
        if grid.crs is None:
            raise self.error(name, "has no coordinate reference system; expected the tile's UTM")
        if name == MAP_FILE and (strange := sorted(set(np.unique(values)) - set(ALCD.values))):
            raise self.error(name, f"holds class {strange[0]}; expected codes 0 to 7")
        return values, grid

    def document(self, name: str) -> dict[str, Any]:
        try:
            content = json.loads(self.content(name))
        except ValueError as err:  # also what is not UTF-8
            raise self.error(name, f"is no valid JSON: {err}") from err
        if not isinstance(content, dict):
            raise self.error(name, f"holds a {type(content).__name__}; expected an object")
        return content

    def parameters(self) -> AlcdParameters:
        content = self.document(PARAMETERS_FILE)
        names = [item.name for item in fields(AlcdParameters)]
        if missing := [name for name in names if name not in content]:
            raise self.error(PARAMETERS_FILE, f"lacks {', '.join(missing)}")
        return AlcdParameters(**{name: str(content[name]) for name in names})

    def statistics(self) -> KFold:
        content = self.document(STATISTICS_FILE)
        if missing := [key for key in ("K", "all_metrics", "metrics_names") if key not in content]:
            raise self.error(STATISTICS_FILE, f"lacks {', '.join(missing)}")
        names = content["metrics_names"]
        if not isinstance(names, list) or sorted(map(str, names)) != sorted(METRICS):
            raise self.error(
                STATISTICS_FILE, f"has metrics_names {names}; expected {', '.join(METRICS)}"
            )
        try:
            folds = np.asarray(content["all_metrics"], np.float64)
        except (TypeError, ValueError) as err:
            raise self.error(STATISTICS_FILE, f"has no table all_metrics: {err}") from err
        if folds.shape != (content["K"], len(METRICS)):
            raise self.error(
                STATISTICS_FILE,
                f"has all_metrics of shape {folds.shape}; "
                f"expected {content['K']} folds of {len(METRICS)} metrics",
            )
        return KFold(folds=folds[:, [names.index(name) for name in METRICS]])

    def samples(self, layer: str) -> Samples:
        import shapefile
        from rasterio.crs import CRS
        from rasterio.errors import CRSError

        path = f"Samples/{layer}"
        parts = {end: self.content(f"{path}.{end}") for end in SHAPEFILE_PARTS}
        streams = {end: io.BytesIO(parts[end]) for end in ("shp", "shx", "dbf")}
        try:
            with shapefile.Reader(**streams) as reader:
                # A record without a shape is legal, and no sample.
                shapes = [
                    shape.__geo_interface__
                    for shape in reader.iterShapes()
                    if shape.shapeType != shapefile.NULL
                ]
        except (
            shapefile.ShapefileException,
            shapefile.GeoJSON_Error,
            struct.error,
            ValueError,
            LookupError,
        ) as err:
            raise self.error(f"{path}.shp", f"is no readable shapefile: {err}") from err
        try:
            crs = CRS.from_wkt(parts["prj"].decode(), morph_from_esri_dialect=True)
        except (CRSError, UnicodeDecodeError) as err:
            raise self.error(f"{path}.prj", "describes no coordinate reference system") from err
        if names_files(crs):
            raise self.error(f"{path}.prj", "names a file; expected a system that needs none")
        return Samples(
            layer=layer,
            code=SAMPLE_LAYERS[layer],
            crs_wkt=crs.to_wkt(),
            geometries=tuple(shape for shape in shapes if shape.get("coordinates")),
        )
