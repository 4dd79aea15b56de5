"""Runs a process graph: nodes in order, callbacks as functions.

The evaluator of ``openeo-pg-parser-networkx`` is not used: it turns every text that looks like a
year, a date or a duration into one (so that ``text_begins("2020", ...)`` fails), keeps the results
of callbacks between calls, and writes down the provenance of every array.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.graph.process import Process
from openeo_cloudmask.backend.graph.validate import (
    bad_value,
    is_address,
    library_key,
    result_node,
    run_order,
    schema_problem,
)

MAX_CALLS_DEPTH = 40
MAX_STORED_CALLS = 100_000
"""Calls of users' processes in one run: thirty of them that each call the one before twice make
a thousand million."""


class Executor:
    """Evaluates process graphs with one set of processes.

    Args:
        processes: predefined processes by id.
        library: user-defined processes by id.
        before_node: called before each node with its process id; an exception it raises stops
            the work.
    """

    def __init__(
        self,
        processes: Mapping[str, Process],
        library: Mapping[str, dict[str, Any]],
        before_node: Callable[[str], None],
    ) -> None:
        self._processes = processes
        self._library = library
        self._before_node = before_node
        self._depth = 0
        self._stored_calls = 0

    def run(
        self,
        graph: Mapping[str, Any],
        parameters: Mapping[str, Any],
        extra: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Return the result of a graph.

        Args:
            graph: nodes by name; all are run, also those the result does not need.
            parameters: what ``from_parameter`` refers to.
            extra: arguments that a parent process hands to every function that takes them, such
                as ``axis``.

        Raises:
            ApiError: the graph is not valid.
        """
        self._depth += 1
        if self._depth > MAX_CALLS_DEPTH:
            raise ApiError("ProcessGraphInvalid", "processes call each other too deeply")
        try:
            results: dict[str, Any] = {}
            for name in run_order(graph):
                results[name] = self._call(graph[name], results, parameters, extra or {})
            return results[result_node(graph)]
        finally:
            self._depth -= 1

    def _call(
        self,
        node: Mapping[str, Any],
        results: Mapping[str, Any],
        parameters: Mapping[str, Any],
        extra: Mapping[str, Any],
    ) -> Any:  # noqa: ANN401
        process_id = node["process_id"]
        self._before_node(process_id)
        arguments = {
            name: self._resolve(value, results, parameters)
            for name, value in node.get("arguments", {}).items()
        }
        process = self._processes.get(process_id)
        namespace = node.get("namespace")
        if process is None or namespace == "user" or is_address(namespace):
            return self._call_stored(library_key(process_id, namespace), arguments)
        for parameter in process.spec["parameters"]:
            name = parameter["name"]
            if arguments.get(name, 0) is None and parameter.get("optional"):
                del arguments[name]
            _check_text(process_id, parameter, arguments.get(name))
        handed = {name: value for name, value in extra.items() if name in process.accepts}
        return process.function(**(handed | arguments))

    def _call_stored(self, process_id: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401
        spec = self._library.get(process_id)
        if spec is None:
            raise ApiError("ProcessUnsupported", f"process {process_id!r} is not available")
        self._stored_calls += 1
        if self._stored_calls > MAX_STORED_CALLS:
            raise ApiError(
                "ProcessGraphComplexity",
                f"user-defined processes are called more than {MAX_STORED_CALLS} times",
            )
        parameters = {
            item["name"]: item.get("default")
            for item in spec.get("parameters") or []
            if item.get("optional") or "default" in item
        }
        return self.run(spec["process_graph"], parameters | arguments)

    def _resolve(
        self,
        value: Any,  # noqa: ANN401
        results: Mapping[str, Any],
        parameters: Mapping[str, Any],
    ) -> Any:  # noqa: ANN401
        if isinstance(value, dict):
            if "process_graph" in value:
                return self._callback(value["process_graph"], parameters)
            if len(value) == 1 and isinstance(value.get("from_node"), str):
                return results[value["from_node"]]
            if len(value) == 1 and isinstance(value.get("from_parameter"), str):
                name = value["from_parameter"]
                if name not in parameters:
                    raise ApiError("ProcessParameterRequired", f"parameter {name!r} is required")
                return parameters[name]
            return {key: self._resolve(item, results, parameters) for key, item in value.items()}
        if isinstance(value, list):
            return [self._resolve(item, results, parameters) for item in value]
        return value

    def _callback(self, graph: Mapping[str, Any], outer: Mapping[str, Any]) -> Callback:
        return Callback(graph, outer, self._library, self)


class Callback:
    """A child graph as the function that processes call.

    It can be pickled: what calls it in a worker process has its graph, the user-defined processes
    that it may use, and those parameters of outer graphs that are JSON.

    Args:
        process_graph: nodes by name.
        parameters: of outer graphs.
        library: user-defined processes.
        executor: evaluates it.
    """

    def __init__(
        self,
        process_graph: Mapping[str, Any],
        parameters: Mapping[str, Any],
        library: Mapping[str, dict[str, Any]],
        executor: Executor,
    ) -> None:
        self.process_graph = process_graph
        self.parameters = parameters
        self.library = library
        self._executor = executor

    def __call__(
        self,
        *values: Any,  # noqa: ANN401
        positional_parameters: Mapping[str, int] | None = None,
        named_parameters: Mapping[str, Any] | None = None,
        **extra: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Return the child graph's result.

        Args:
            values: of the parameters in ``positional_parameters``, which says where each is.
            positional_parameters: see ``values``.
            named_parameters: values by the parameters' names.
            extra: arguments handed to every function that takes them, such as ``axis``.
        """
        given = {name: values[at] for name, at in (positional_parameters or {}).items()}
        inner = {**self.parameters, **(named_parameters or {}), **given}
        if "context" in extra:
            inner.setdefault("context", extra["context"])
        return self._executor.run(self.process_graph, inner, extra)

    def __reduce__(self) -> tuple[Callable[..., Callback], tuple[Any, ...]]:
        """Pickle without the processes, which every worker has."""
        plain = {key: value for key, value in self.parameters.items() if is_json(value)}
        return _restore, (dict(self.process_graph), plain, dict(self.library))


def _check_text(process_id: str, parameter: Mapping[str, Any], value: object) -> None:
    """Refuse a text that only this run knows, where it would be refused in the graph itself.

    Some functions of the library take a text in place of an object for a file or an address.
    """
    if not isinstance(value, str):
        return
    if problem := schema_problem(parameter, value):
        raise bad_value(process_id, parameter["name"], problem)


def _restore(
    graph: dict[str, Any], parameters: dict[str, Any], library: dict[str, dict[str, Any]]
) -> Callback:
    from openeo_cloudmask.backend.jobs.runtime import check_cancelled
    from openeo_cloudmask.backend.processes.registry import predefined_processes

    executor = Executor(predefined_processes(), library, lambda _: check_cancelled())
    return Callback(graph, parameters, library, executor)


def is_json(value: object) -> bool:
    """Return whether a value is of a type that JSON has."""
    return isinstance(value, str | int | float | bool | list | dict | None)
