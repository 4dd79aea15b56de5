"""What OpenVINO compiled of a file, kept in the user's cache, from where it starts sooner.

A kept network belongs to the file's bytes, to the version of OpenVINO and to the processor; how
many threads compute it is said anew. It gives the same answers, bit for bit.
"""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from openeo_cloudmask.errors import OutputError
from openeo_cloudmask.models.processor import read_processor
from openeo_cloudmask.models.weights import cache_folder, sha256_of
from openeo_cloudmask.publish import publish_file

_FOLDER = "openvino"
_SUFFIX = ".blob"
_MOST_FILES = 8
"""Those of other files, versions and processors, which nobody may want any more, go first."""
_DIGEST_BYTES = hashlib.sha256().digest_size

_log = logging.getLogger(__name__)


def compile_file(path: Path, settings: dict[str, Any]) -> Any:  # noqa: ANN401 - no types
    """Return the network of an ONNX file, compiled for one window at a time on this processor.

    Args:
        path: the file.
        settings: properties of OpenVINO's CPU plugin.

    Raises:
        ModuleNotFoundError: openvino is not installed.
        RuntimeError: OpenVINO cannot read or compile the file.
    """
    import openvino

    core, kept = openvino.Core(), None
    with suppress(OSError, ValueError, RuntimeError):  # no home, no such file, another format
        kept = _place(path, openvino.get_version())
        return core.import_model(_read(kept), "CPU", settings)
    model = core.read_model(path)
    shapes = {item: item.partial_shape for item in model.inputs}
    model.reshape(
        {
            item: [1, *(shape[axis] for axis in range(1, len(shape)))]
            for item, shape in shapes.items()
        }
    )
    compiled = core.compile_model(model, "CPU", settings)
    if kept is not None:
        try:
            _keep(compiled, kept)
        except (OSError, OutputError, RuntimeError) as err:
            _log.info("what OpenVINO compiled of %s is not kept: %s", path, err)
    return compiled


def _place(path: Path, version: str) -> Path:
    facts = "\n".join((sha256_of(path), version, repr(read_processor())))
    name = hashlib.sha256(facts.encode()).hexdigest()
    return cache_folder() / _FOLDER / f"{name}{_SUFFIX}"


def _read(kept: Path) -> bytes:
    """Return a kept network.

    Raises:
        OSError: it is not there.
        ValueError: it is damaged, which OpenVINO would not see, or another user's.
    """
    if kept.stat().st_uid != getattr(os, "getuid", int)():  # Windows knows none: both are 0
        raise ValueError(f"{kept} is another user's")
    content = kept.read_bytes()
    digest, blob = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(blob).digest() != digest:
        raise ValueError(f"{kept} is damaged")
    return blob


def _keep(compiled: Any, kept: Path) -> None:  # noqa: ANN401 - no types
    stream = BytesIO()
    compiled.export_model(stream)
    blob = stream.getvalue()
    kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with publish_file(kept) as part:
        part.write_bytes(hashlib.sha256(blob).digest() + blob)
    files = sorted(kept.parent.glob(f"*{_SUFFIX}"), key=lambda file: file.stat().st_mtime)
    for old in files[:-_MOST_FILES]:
        old.unlink(missing_ok=True)
