"""Folders that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from openeo_cloudmask.errors import OutputError


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
        scratch = Path(
            tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        )
        try:
            fill(scratch)
            scratch.chmod(0o755)  # mkdtemp makes folders for its owner alone
            if target.exists():
                shutil.rmtree(target)
            os.replace(scratch, target)  # noqa: PTH105 - one step, also over an empty folder
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as err:
        raise OutputError(f"cannot write {target}: {err}") from err
    return target
