"""Masks that a client asks for by the package's own function, as the process ``cloud_mask``.

``openeo_cloudmask.cloud_mask`` sends that function to every back end; where a process is checked
or computed tile by tile, both forms have to be one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LAYOUT = "neighborhood"
"""Of the function's context: how the client would cut the cube, and no option of the mask."""


def with_own_masks(process: Mapping[str, Any]) -> dict[str, Any]:
    """Return a process in which every mask by the package's own function is a ``cloud_mask``.

    Args:
        process: checked; a node of another form, or with other code, stays as it is.
    """
    graph = process["process_graph"]
    return {**process, "process_graph": {name: _as_mask(graph[name]) for name in graph}}


def _as_mask(node: dict[str, Any]) -> dict[str, Any]:
    from openeo_cloudmask.backend.processes.udf import bundled_digest, udf_digest

    arguments = node.get("arguments", {})
    called, context = arguments, arguments.get("context")
    if node["process_id"] == "apply_neighborhood":
        called = _lone_udf(arguments.get("process"))
        if called.get("context") != {"from_parameter": "context"}:
            context = called.get("context")
    elif node["process_id"] != "run_udf":
        return node
    udf, context = called.get("udf"), context or {}
    own = isinstance(udf, str) and udf_digest(udf) == bundled_digest()
    if not own or not isinstance(context, dict) or "from_parameter" in context:
        return node
    options = {key: value for key, value in context.items() if key != _LAYOUT}
    return {
        **node,
        "process_id": "cloud_mask",
        "arguments": {"data": arguments.get("data"), **options},
    }


def _lone_udf(process: Any) -> dict[str, Any]:  # noqa: ANN401 - what a client sent
    """Return the arguments of a callback that is nothing but ``run_udf``; empty for others."""
    graph = process.get("process_graph") if isinstance(process, dict) else None
    if not isinstance(graph, dict) or len(graph) != 1:
        return {}
    (node,) = graph.values()
    return dict(node.get("arguments", {})) if node.get("process_id") == "run_udf" else {}
