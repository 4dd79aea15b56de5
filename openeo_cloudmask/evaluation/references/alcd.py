"""ALCD's references: an archive, or the folder of a scene."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from openeo_cloudmask.alcd.archive import AlcdArchive
from openeo_cloudmask.alcd.files import TAR_SUFFIXES
from openeo_cloudmask.classes import ClassScheme
from openeo_cloudmask.evaluation.evaluate import Reference, reference_of_scene
from openeo_cloudmask.evaluation.references.formats import ReferenceFormat
from openeo_cloudmask.evaluation.references.raster import rasters_in


@dataclass(frozen=True, slots=True)
class _Scenes:
    archive: AlcdArchive

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.archive.distinct())

    def find(self, scene: str) -> str:
        names = self.names
        return names[0] if len(names) == 1 else self.archive.find(scene).name

    def read(self, name: str) -> Reference:
        return reference_of_scene(self.archive.read(self.archive.find(name)))


def _matches(path: Path) -> bool:
    return path.name.endswith(TAR_SUFFIXES) if path.is_file() else not rasters_in(path)


@contextmanager
def _open(path: Path, _: ClassScheme | None) -> Iterator[_Scenes]:
    with AlcdArchive(path) as archive:
        yield _Scenes(archive)


FORMAT = ReferenceFormat(
    title="an ALCD archive or the folder of one of its scenes", matches=_matches, open=_open
)
