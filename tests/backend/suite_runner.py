"""Lets the HTTP runner of the public openEO test suite send what it leaves out; a plugin of pytest.

JSON has neither infinity nor NaN, but process graphs make them: the process ``nan``, and the
logarithm of 0. So a test whose arguments hold them is sent with nodes in their place. Callbacks
are sent as they are written; the suite's runner drops them. Answers and what is expected of them
stay the suite's::

    PYTHONPATH=tests/backend python -m pytest -p openeo_test_suite.lib.pytest_plugin \\
        -p suite_runner --pyargs openeo_test_suite.tests.processes.processing --runner=http -U URL
"""

from __future__ import annotations

import math
from typing import Any

NODES = {
    "nan": {"process_id": "nan", "arguments": {}},
    "-inf": {"process_id": "ln", "arguments": {"x": 0}},
    "inf": {"process_id": "multiply", "arguments": {"x": -1, "y": {"from_node": "-inf"}}},
}


def written(value: Any, used: set[str]) -> Any:
    """Return a value with references in the place of what JSON has not; note which are used."""
    if isinstance(value, float) and not math.isfinite(value):
        used |= {str(value), "-inf"} if value == math.inf else {str(value)}
        return {"from_node": str(value)}
    if isinstance(value, dict):
        return {key: written(item, used) for key, item in value.items()}
    if isinstance(value, list):
        return [written(item, used) for item in value]
    return value


def graph_of(process_id: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the graph of one process, with the nodes that its arguments need."""
    used: set[str] = set()
    node = {"process_id": process_id, "arguments": written(arguments, used), "result": True}
    return {"node": node, **{name: NODES[name] for name in sorted(used)}}


def pytest_configure() -> None:
    """Change the suite's runner."""
    from openeo_test_suite.lib.process_runner.http import Http

    def execute(self: Any, process_id: str, arguments: dict[str, Any]) -> Any:
        return self.connection.execute({"process_graph": graph_of(process_id, arguments)})

    def encode_process_graph(_: Any, process: Any, **__: object) -> Any:
        return process

    Http.execute = execute
    Http.encode_process_graph = encode_process_graph
    Http.is_json_only = lambda _: False
