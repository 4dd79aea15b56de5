"""References that are rasters of class values: one file, or a folder of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from openeo_cloudmask.alcd.files import TAR_SUFFIXES
from openeo_cloudmask.alcd.scenes import find_scene_info
from openeo_cloudmask.classes import ClassScheme
from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.evaluation.evaluate import Reference, read_reference_raster
from openeo_cloudmask.evaluation.references.formats import ReferenceFormat

RASTER_SUFFIXES = (".tif", ".tiff", ".jp2")


def rasters_in(path: Path) -> list[Path]:
    """Return rasters that lie directly in a folder; those of an ALCD scene lie deeper."""
    if not path.is_dir():
        return []
    return [item for item in sorted(path.iterdir()) if item.suffix.lower() in RASTER_SUFFIXES]


def find_mask(folder: Path, scene: str) -> Path:
    """Return the mask of a scene in a folder of masks.

    Its file name holds the scene's or product's name, old or new, or its tile and date.

    Raises:
        ReferenceDataError: there is none, or there are several.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in RASTER_SUFFIXES]
    info = find_scene_info(scene)
    names = [scene] if info is None else [info.product_name, info.archive_name]
    found = [path for path in files if any(name in path.name for name in names)]
    if not found and info is not None:
        found = [path for path in files if info.tile in path.name and info.date in path.name]
    exact = [path for path in found if path.stem in names]
    if len(exact) == 1:
        return exact[0]
    if len(found) != 1:
        what = (
            f"{len(found)} masks ({', '.join(path.name for path in found)})" if found else "no mask"
        )
        raise ReferenceDataError(
            f"scene {scene}: {what} in {folder}; expected one file with the scene's name in its own"
        )
    return found[0]


@dataclass(frozen=True, slots=True)
class _Rasters:
    path: Path
    scheme: ClassScheme | None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(item.stem for item in self._files())

    def find(self, scene: str) -> str:
        return (self.path if self.path.is_file() else find_mask(self.path, scene)).stem

    def read(self, name: str) -> Reference:
        [file] = (item for item in self._files() if item.stem == name)
        return read_reference_raster(file, scheme=self.scheme)

    def _files(self) -> list[Path]:
        return [self.path] if self.path.is_file() else rasters_in(self.path)


def _matches(path: Path) -> bool:
    return bool(rasters_in(path)) or (path.is_file() and not path.name.endswith(TAR_SUFFIXES))


@contextmanager
def _open(path: Path, scheme: ClassScheme | None) -> Iterator[_Rasters]:
    yield _Rasters(path, scheme)


FORMAT = ReferenceFormat(
    title="a raster of class values or a folder of them", matches=_matches, open=_open
)
