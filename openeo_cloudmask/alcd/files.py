"""Files of a reference archive: in a folder, or inside its .tgz without unpacking it."""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, Self

from openeo_cloudmask.errors import ReferenceDataError

SCENE_FOLDERS = ("Classification", "Samples", "Statistics")
"""Folders that make the folder around them a scene."""
MAX_DEPTH = 4
"""Folders below the one given that are searched: parent, archive, group, scene."""
TAR_SUFFIXES = (".tgz", ".tar.gz", ".tar")


class SceneFiles(Protocol):
    """Files by their path relative to what was opened, with ``/`` between folders."""

    def names(self) -> tuple[str, ...]:
        """Return all paths, in the order in which reading them is fastest."""

    def read(self, name: str) -> bytes:
        """Return the content; ``KeyError`` where there is no such file."""

    def close(self) -> None:
        """Give back what is open."""


class FolderFiles:
    """Files in a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> tuple[str, ...]:
        """Return the paths of files, sorted; only those in folders of scenes."""
        return tuple(sorted(self._walk(self._root, "", 0)))

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        path = self._root / name
        if not path.is_file():
            raise KeyError(name)
        try:
            return path.read_bytes()
        except OSError as err:
            raise ReferenceDataError(f"{path} cannot be read: {err.strerror}") from err

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _walk(self, folder: Path, prefix: str, depth: int) -> Iterator[str]:
        # os.scandir spares a tree of products that may lie beside the scenes.
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):  # a scene that is being written
                    continue
                if entry.is_dir() and entry.name in SCENE_FOLDERS:
                    for path in Path(entry.path).iterdir():
                        yield f"{prefix}{entry.name}/{path.name}"
                    yield f"{prefix}{entry.name}/"  # an empty folder is a broken scene, not none
                elif entry.is_dir() and depth < MAX_DEPTH and not entry.name.endswith(".SAFE"):
                    yield from self._walk(Path(entry.path), f"{prefix}{entry.name}/", depth + 1)


class TarFiles:
    """Files inside a tar archive, compressed or not; nothing is written to disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._scene: str | None = None
        self._contents: dict[str, bytes] = {}
        try:
            self._tar = tarfile.open(path, "r:*")  # noqa: SIM115 - closed by close()
            self._members = {
                member.name.removeprefix("./"): member for member in self._tar.getmembers()
            }
        except (tarfile.TarError, zlib.error, EOFError, OSError) as err:
            raise self._damaged(err) from err

    def names(self) -> tuple[str, ...]:
        """Return the paths in the order of the archive, which is the order to read them in."""
        return tuple(
            name + ("/" if member.isdir() else "") for name, member in self._members.items()
        )

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Going back in a compressed archive means unpacking it again from its start, so the files of
        a scene are read together, in the archive's order, when the first of them is asked for.
        """
        self._members[name]  # KeyError where the file is missing
        scene = name.rsplit("/", 2)[0]
        if scene != self._scene:
            self._contents = {
                other: self._extract(member)
                for other, member in self._members.items()
                if other.startswith(f"{scene}/") and member.isfile()
            }
            self._scene = scene
        return self._contents[name]

    def _extract(self, member: tarfile.TarInfo) -> bytes:
        try:
            stream = self._tar.extractfile(member)
            return b"" if stream is None else stream.read()
        except (tarfile.TarError, zlib.error, EOFError, OSError) as err:
            raise self._damaged(err) from err

    def close(self) -> None:
        """Close the archive."""
        self._tar.close()

    def _damaged(self, err: Exception) -> ReferenceDataError:
        return ReferenceDataError(
            f"{self._path} is no complete tar archive ({err}); download it again with "
            "'cloudmask references download', which continues where it stopped"
        )


class OpenFiles:
    """Closes the files of an archive at the end of a ``with``."""

    def __init__(self, files: SceneFiles) -> None:
        self.files = files

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self.files.close()


def open_files(path: Path) -> SceneFiles:
    """Return the files of a folder or a tar archive.

    Raises:
        ReferenceDataError: there is nothing at ``path``, or it is neither.
    """
    if path.is_dir():
        return FolderFiles(path)
    if path.is_file() and path.name.endswith(TAR_SUFFIXES):
        return TarFiles(path)
    what = "is neither a folder nor a .tgz" if path.exists() else "does not exist"
    raise ReferenceDataError(
        f"{path} {what}; expected the ALCD archive (folder or .tgz) or the folder of a scene"
    )
