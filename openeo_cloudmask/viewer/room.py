"""How much of the machine visitors may take: its disk, its memory for uploads, work at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from openeo_cloudmask.digits import whole_number
from openeo_cloudmask.errors import OptionError, OutputError
from openeo_cloudmask.publish import GIB, lack_of_room
from openeo_cloudmask.viewer.local import State, Task
from openeo_cloudmask.viewer.uploads import MAX_UPLOAD_BYTES

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

MAX_SESSION_BYTES = 50 * GIB
"""Of the files of one session; a scene of Sentinel-2 with pictures and masks has about two GB."""
SPARE_DISK_BYTES = 2 * GIB
"""Left free, for the back end's database beside the sessions and for whatever else is there."""
SPARE_MEMORY_BYTES = 2 * GIB
"""Left available while uploads arrive: they are held in memory until their page has them."""
MAX_TASKS = 4
"""Masks and downloads of one session at a time."""
UPLOADS = "/_stcore/upload_file/"
"""Path to which Streamlit's pages send files."""

_MEMORY = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


def check_room(folder: Path, needed: int = 0) -> None:
    """Make sure that there is room for more files of a session.

    Args:
        folder: all that the session has.
        needed: bytes, as far as they are known.

    Raises:
        OutputError: the disk is full, or the session has as much as one may have.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # that of an old session is cleared away
    if lack := lack_of_room(folder, needed, spare=SPARE_DISK_BYTES):
        raise OutputError(
            f"the viewer's disk is full: {lack}; whoever runs the viewer can make room"
        )
    held = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
    if held + needed > MAX_SESSION_BYTES:
        raise OutputError(
            f"this session has {held / GIB:.1f} GB of files; at most {MAX_SESSION_BYTES / GIB:.0f} "
            "GB are kept. They go two days after the last of them; a private window of the browser "
            "begins a new session"
        )


def check_tasks(tasks: Iterable[Task]) -> None:
    """Make sure that a session may begin one more task.

    Raises:
        OptionError: as many as it may have are at work.
    """
    running = sum(task.state is State.RUNNING for task in tasks)
    if running >= MAX_TASKS:
        raise OptionError(
            f"{running} tasks of this session are at work, as many as one may have; wait for one, "
            "or cancel it"
        )


class UploadRoom:
    """Refuses uploads for which the machine has no memory; Streamlit limits each alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._arriving = 0
        """Bytes of uploads that are on their way; only touched by the event loop's thread."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, or refuse it before its body is read."""
        if scope["type"] != "http" or scope["method"] != "PUT" or UPLOADS not in scope["path"]:
            await self._app(scope, receive, send)
            return
        size = _declared_bytes(scope)
        if reason := self._refusal(size):
            from starlette.responses import PlainTextResponse

            await PlainTextResponse(reason, status_code=507)(scope, receive, send)
            return
        self._arriving += size
        try:
            await self._app(scope, receive, send)
        finally:
            self._arriving -= size

    def _refusal(self, size: int) -> str | None:
        needed = self._arriving + size
        memory = available_memory()
        if memory is not None and memory < needed + SPARE_MEMORY_BYTES:
            return "the viewer has no memory for this upload now; try again later"
        # On its way an upload is a temporary file.
        if lack_of_room(Path(tempfile.gettempdir()), needed, spare=SPARE_DISK_BYTES):
            return "the viewer's disk has no room for this upload"
        return None


def _declared_bytes(scope: Scope) -> int:
    """Return how large a request says it is; as large as it may be where it does not say it."""
    text = dict(scope["headers"]).get(b"content-length", b"")
    size = whole_number(text.decode("latin-1"), MAX_UPLOAD_BYTES)
    return MAX_UPLOAD_BYTES if size is None else size


def available_memory() -> int | None:
    """Return the bytes that can still be taken, of the machine and the container; None: unknown."""
    found = [
        int(line.split()[1]) * 1024 for line in _lines(_MEMORY) if line.startswith("MemAvailable:")
    ]
    limit, used = (_lines(_GROUP / name)[:1] for name in ("memory.max", "memory.current"))
    if limit and used and limit[0].isdigit() and used[0].isdigit():
        found.append(int(limit[0]) - int(used[0]))
    return min(found, default=None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
