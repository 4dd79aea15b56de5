"""Files and folders that are there whole or not at all, even when the process is killed.

They are made in a hidden folder beside their place and renamed in one step. Its name does not
depend on theirs, so that any name the file system allows can be used. Such folders of killed
processes are removed by whoever writes there next: a lock, which ends with its process, tells them
from those in use.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from openeo_cloudmask.errors import OutputError

GIB = 2**30
_PREFIX, _SUFFIX = ".cloudmask-", ".tmp"
_LOCK = "lock"


def lack_of_room(folder: Path, needed: int = 0, *, spare: int) -> str | None:
    """Return what a disk lacks to take more, to end a sentence; None where there is room.

    Args:
        folder: on the disk; need not be there yet.
        needed: bytes, as far as they are known.
        spare: bytes that have to stay free after that.
    """
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free >= needed + spare:
        return None
    return f"{free / GIB:.1f} GB are free, expected {(needed + spare) / GIB:.1f} GB"


@contextmanager
def scratch_beside(folder: Path) -> Iterator[Path]:
    """Yield an empty folder on the same disk as ``folder``, in it; it goes at the end.

    Raises:
        OutputError: it cannot be made.
    """
    _sweep(folder)
    try:
        hidden = Path(tempfile.mkdtemp(prefix=_PREFIX, suffix=_SUFFIX, dir=folder))
        inner = hidden / "new"
        inner.mkdir()
        lock = _hold(hidden)
    except OSError as err:
        raise OutputError(f"cannot write in {folder}: {err}") from err
    try:
        yield inner
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        lock.close()


@contextmanager
def publish_file(path: Path) -> Iterator[Path]:
    """Yield the path of a file to write, which gets the name ``path`` when that went well.

    Raises:
        OutputError: the folder of ``path`` cannot be written to.
    """
    with scratch_beside(path.parent) as scratch:
        part = scratch / f"file{path.suffix}"
        yield part
        part.replace(path)


def publish_text(path: Path, text: str, *, private: bool = False) -> Path:
    """Return ``path`` after writing a text to it in one step; the folders above are made too.

    Args:
        path: the file to write, in UTF-8 with plain line ends.
        text: what it is to hold.
        private: whether only the file's owner may read it.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with publish_file(path) as part:
            part.touch(mode=0o600 if private else 0o666)
            part.write_text(text, encoding="utf-8", newline="\n")
    except OSError as err:
        raise OutputError(f"cannot write {path}: {err}") from err
    return path


def publish_folder(target: Path, fill: Callable[[Path], None], *, overwrite: bool = False) -> Path:
    """Return ``target``, made by filling a hidden folder beside it that is then renamed.

    Args:
        target: the folder to make; those above it are made too.
        fill: writes the files into the folder it is given.
        overwrite: whether a folder that is there already may be replaced.

    Raises:
        OutputError: it is there already and may not be replaced, or cannot be written.
    """
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists; remove it or choose another folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch_beside(target.parent) as scratch:
            fill(scratch)
            if target.exists():
                shutil.rmtree(target)
            os.replace(scratch, target)  # noqa: PTH105 - one step, also over an empty folder
    except OutputError:
        raise
    except OSError as err:
        raise OutputError(f"cannot write {target}: {err}") from err
    return target


def _hold(hidden: Path) -> IO[bytes]:
    """Return the open lock of a folder; it has its name only once it is locked."""
    early = hidden / f"{_LOCK}.new"
    lock = early.open("wb")
    _lock(lock)
    early.rename(hidden / _LOCK)
    return lock


def _lock(file: IO[bytes]) -> bool:
    """Lock a file, and return whether no other process has; False where there are no locks."""
    try:
        import fcntl
    except ImportError:  # not on Windows: nothing is swept there
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sweep(folder: Path) -> None:
    """Remove what killed processes left in ``folder``."""
    for hidden in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError), (hidden / _LOCK).open("rb") as lock:
            if _lock(lock):
                shutil.rmtree(hidden, ignore_errors=True)
