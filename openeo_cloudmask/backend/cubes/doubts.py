"""Doubts about masks: noted where a strip is computed, reported with the results of the run.

Strips are computed in worker processes; the folder of the results is what they share with the
process that writes items and documents.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import xarray as xr

from openeo_cloudmask.backend.jobs.runtime import Run, RunSpec
from openeo_cloudmask.publish import publish_text

_FOLDER = ".doubts"


def date_text(scene: xr.DataArray) -> str | None:
    """Return the time of a scene of one date, e.g. ``2024-05-01T10:20:00Z``; None without one."""
    if "t" not in scene.coords or scene["t"].ndim:
        return None
    value = scene["t"].to_numpy()
    if value.dtype.kind != "M" or np.isnat(value):
        return None
    return str(np.datetime_as_string(value, unit="s")) + "Z"


def note_doubt(spec: RunSpec, *, model: str, when: str | None, text: str) -> None:
    """Write a doubt about a model's mask down for ``find_doubts``.

    Args:
        spec: the run.
        model: name of the model.
        when: the mask's time, as ``date_text`` gives it.
        text: the reason to doubt the mask.

    Raises:
        OutputError: the folder of the results cannot be written to.
    """
    content = json.dumps({"model": model, "when": when, "text": text}, sort_keys=True)
    folder = spec.output_dir / _FOLDER
    # Strips of one mask have the same doubt, and so the same file.
    publish_text(folder / f"{hashlib.sha256(content.encode()).hexdigest()}.json", content)


def find_doubts(
    spec: RunSpec, *, model: str | None = None, times: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the doubts about the masks of a run, each once.

    Args:
        spec: the run; its masks have to be computed.
        model: of masks of this model only.
        times: of masks of these times only; none for all. A mask without a time is of any.
    """
    found = []
    for path in sorted((spec.output_dir / _FOLDER).glob("*.json")):
        doubt = json.loads(path.read_text(encoding="utf-8"))
        of_model = model in (None, doubt["model"])
        if of_model and (not times or doubt["when"] is None or doubt["when"] in times):
            found.append(doubt["text"])
    return tuple(dict.fromkeys(found))


def add_warnings(run: Run) -> None:
    """Add to ``about`` of each file of ``run`` the reasons to doubt its masks."""
    for file in run.files:
        about = file["about"]
        mask: Mapping[str, Any] = about.get("mask") or {}
        times = [about["datetime"]] if "datetime" in about else about.get("dates", ())
        if doubts := find_doubts(run.spec, model=mask.get("model"), times=times):
            about["warnings"] = list(doubts)
