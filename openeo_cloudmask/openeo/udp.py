"""The mask as a user-defined process: ``udf/cloud_mask.json``.

Rebuild the file with ``cloudmask udf --json > udf/cloud_mask.json``; a test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from openeo_cloudmask.models.registry import get_model
from openeo_cloudmask.openeo.client import udf_text
from openeo_cloudmask.openeo.neighborhood import Neighborhood, plan_neighborhood
from openeo_cloudmask.options import default_context, option_fields, to_json

PROCESS_ID = "cloud_mask"

_CUBE = {
    "type": "object",
    "subtype": "datacube",
    "dimensions": [
        {"type": "spatial", "axis": ["x", "y"]},
        {"type": "temporal"},
        {"type": "bands"},
    ],
}


def build_udp(around: Neighborhood | None = None, *, model: str | None = None) -> dict[str, Any]:
    """Return the process as openEO stores it: id, parameters, graph.

    Args:
        around: size and overlap; None for what suits ``model``, and without one for 1024 and 512
            pixels, which suit windows up to 512 pixels, and so every model. (A graph cannot look a
            model's window up.)
        model: for a process of this model alone, without the parameter ``model``. That of a model
            that looks at one pixel at a time needs no overlap, a quarter of the pixels.

    Raises:
        UnknownModelError: no model of that name.
    """
    entry = None if model is None else get_model(model)
    if around is None:
        around = Neighborhood() if entry is None else plan_neighborhood(entry.window)
    fixed = {} if entry is None else {"model": entry.id}
    return {
        "id": PROCESS_ID if entry is None else f"{PROCESS_ID}_{_to_id(entry.id)}",
        "summary": "Cloud and cloud-shadow mask",
        "description": (
            "Masks clouds and their shadows in optical images with one of several published "
            "models. Each date is masked by itself.\n\nThe result has the same `x`, `y` and `t`, "
            "and the band `mask`, or one band for each class. 255 is no-data: pixels that were "
            "not seen are never called clear.\n\nThe back end's UDF runtime needs the package "
            "openeo-cloudmask: installed there, or shipped as an archive that `cloudmask bundle` "
            "makes."
        ),
        "categories": ["cubes", "masks"],
        "parameters": _build_parameters(fixed),
        "returns": {
            "description": "A datacube with the same `x`, `y` and `t`, and new bands (uint8).",
            "schema": _CUBE,
        },
        "process_graph": _build_graph(around, fixed),
    }


def _build_parameters(fixed: Mapping[str, Any]) -> list[dict[str, Any]]:
    data = {
        "name": "data",
        "description": (
            "Bands of one sensor, at the resolution of the mask wanted. Bands are found by their "
            "names; others do no harm."
        ),
        "schema": _CUBE,
    }
    options = [
        {
            "name": item.name,
            "description": item.metadata["help"],
            "schema": item.metadata["schema"],
            "optional": True,
            "default": to_json(item.default),
        }
        for item in option_fields()
        if item.name not in fixed
    ]
    return [data, *options]


def _build_graph(around: Neighborhood, fixed: Mapping[str, Any]) -> dict[str, Any]:
    run_udf = {
        "process_id": "run_udf",
        "arguments": {
            "data": {"from_parameter": "data"},
            "udf": udf_text(),
            "runtime": "Python",
            "context": {"from_parameter": "context"},
        },
        "result": True,
    }
    arguments = {
        "data": {"from_parameter": "data"},
        "process": {"process_graph": {"runudf1": run_udf}},
        "size": around.size_argument(),
        "overlap": around.overlap_argument(),
        "context": {name: {"from_parameter": name} for name in default_context()}
        | {**fixed, "neighborhood": around.to_context()},
    }
    return {
        "applyneighborhood1": {
            "process_id": "apply_neighborhood",
            "arguments": arguments,
            "result": True,
        }
    }


def _to_id(name: str) -> str:
    """Return ``name`` with what openEO allows in the name of a process."""
    return re.sub(r"\W", "_", name.lower())
