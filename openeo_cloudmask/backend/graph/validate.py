"""Process graphs as untrusted text: what is wrong with them, and in which order they run."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from openeo_cloudmask.backend.api.errors import ApiError

MAX_DEPTH = 30
"""How deeply process graphs may be nested in each other."""

MAX_SCHEMA_PARTS = 500
"""Values in the schema of a user's parameter."""
MAX_CHECKED_PARTS = 2000
"""Values in an argument; only the type is checked of one that has more."""
_MAX_CHECKS = 2_000_000
"""Values of arguments times values of their schemas, in one process."""

Spec = dict[str, Any]
Lookup = Callable[[str, str | None], "Spec | None"]
"""(process id, namespace) -> its description, or None where there is no such process."""


def parse_process(body: object) -> dict[str, Any]:
    """Return ``body`` if it has the outward form of a process with a process graph.

    Raises:
        ApiError: it has not.
    """
    if not isinstance(body, dict):
        raise ApiError("ProcessInvalid", "a process must be an object with a process_graph")
    graph = body.get("process_graph")
    if not isinstance(graph, dict) or not graph:
        raise ApiError(
            "ProcessGraphMissing", "the process has no process_graph with at least one node"
        )
    return body


@dataclass(slots=True)
class _Budget:
    """What is left of the work that one process may cause."""

    nodes: int
    checks: int = _MAX_CHECKS


def validate_process(
    process: Mapping[str, Any], lookup: Lookup, *, max_nodes: int
) -> list[ApiError]:
    """Return everything that is wrong with a process; an empty list if nothing is."""
    errors: list[ApiError] = []
    names = _parameter_names(process.get("parameters"))
    budget = _Budget(max_nodes)
    try:
        _check_graph(process["process_graph"], names, lookup, errors, budget, depth=0)
    except ApiError as err:
        errors.append(err)
    except RecursionError:
        errors.append(_invalid("its values are nested too deeply"))
    return errors


def parse_parameters(process_id: str, spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parameters of a user's process, with schemas that are safe to check values by.

    A schema that refers to another is refused. What can keep the server busy endlessly is left out:
    regular expressions, and the comparison of all items of a list.

    Raises:
        ApiError: they are not of the form openEO gives them.
    """
    from jsonschema import Draft7Validator
    from jsonschema.exceptions import SchemaError

    found = spec.get("parameters") or []
    if not isinstance(found, list) or not all(
        isinstance(item, dict) and isinstance(item.get("name"), str) for item in found
    ):
        raise _bad_process(process_id, "parameters must be a list of objects with a name")
    parameters = []
    for item in found:
        schema = item.get("schema", {})
        if _count_parts(schema, MAX_SCHEMA_PARTS + 1) > MAX_SCHEMA_PARTS:
            raise _bad_process(
                process_id,
                f"the schema of parameter {item['name']!r} has more than {MAX_SCHEMA_PARTS} values",
            )
        try:
            tame = _without(schema, _UNTRUSTED)
            for option in tame if isinstance(tame, list) else [tame]:
                Draft7Validator.check_schema(option)
        except (SchemaError, RecursionError, TypeError) as err:
            name = item["name"]
            raise _bad_process(
                process_id, f"the schema of parameter {name!r} is no JSON schema"
            ) from err
        except KeyError as err:
            name = item["name"]
            raise _bad_process(
                process_id, f"the schema of parameter {name!r} has {err}; write the schema out"
            ) from None
        parameters.append(item | {"schema": tame})
    return parameters


_REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})
_ENDLESS = frozenset({"uniqueItems"})
"""It compares each item with each other."""
_UNTRUSTED = _REFERENCES | _ENDLESS | {"pattern", "patternProperties"}
"""References are errors; a regular expression made for it never ends on the right text."""


def _without(schema: Any, words: frozenset[str]) -> Any:  # noqa: ANN401
    """Return a schema without some words.

    Raises:
        KeyError: it refers to another schema.
    """
    if isinstance(schema, list):
        return [_without(item, words) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if found := sorted(_REFERENCES & words & set(schema)):
        raise KeyError(found[0])
    return {key: _without(value, words) for key, value in schema.items() if key not in words}


def run_order(graph: Mapping[str, Any]) -> list[str]:
    """Return the names of all nodes, each after those it takes results from.

    Raises:
        ApiError: nodes wait for each other, or a node does not exist.
    """
    needs: dict[str, set[str]] = {}
    for name, node in graph.items():
        arguments = node.get("arguments") if isinstance(node, dict) else None
        needs[name] = set(_find_references(arguments, "from_node"))
        if strange := sorted(needs[name] - set(graph)):
            raise _invalid(f"node {name!r} takes its input from {strange[0]!r}, which is no node")
    order: list[str] = []
    ready = [name for name, before in needs.items() if not before]
    users: dict[str, list[str]] = {name: [] for name in graph}
    for name, before in needs.items():
        for other in before:
            users[other].append(name)
    left = {name: len(before) for name, before in needs.items()}
    while ready:
        name = ready.pop()
        order.append(name)
        for user in users[name]:
            left[user] -= 1
            if not left[user]:
                ready.append(user)
    if len(order) < len(graph):
        waiting = sorted(set(graph) - set(order))
        raise _invalid(f"nodes wait for each other in a circle: {', '.join(waiting[:5])}")
    return order


def result_node(graph: Mapping[str, Any]) -> str:
    """Return the name of the node whose result is the graph's.

    Raises:
        ApiError: no node or more than one node is a result.
    """
    marked = [name for name, node in graph.items() if node.get("result") is True]
    if len(marked) == 1:
        return marked[0]
    if not marked and len(graph) == 1:
        return next(iter(graph))
    raise _invalid(f"{len(marked)} nodes have result: true; expected exactly one")


def is_address(namespace: object) -> bool:
    """Return whether a namespace is the address of a process, or of a list of processes."""
    return isinstance(namespace, str) and namespace.startswith(("https://", "http://"))


def library_key(process_id: str, namespace: object) -> str:
    """Return under which key a user-defined process is handed to a run."""
    return f"{process_id} of {namespace}" if is_address(namespace) else process_id


def nodes_of(graph: object) -> Iterator[dict[str, Any]]:
    """Yield every node of a graph and of the graphs inside its arguments."""
    if not isinstance(graph, dict):
        return
    for node in graph.values():
        if isinstance(node, dict) and "process_id" in node:
            yield node
            for inner in _inner_graphs(node.get("arguments")):
                yield from nodes_of(inner)


def schemas_of(parameter: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the schemas a parameter's value may have; one of them must fit."""
    schema = parameter.get("schema", {})
    options = schema if isinstance(schema, list) else [schema]
    flat: list[dict[str, Any]] = []
    for option in options:
        if not isinstance(option, dict):
            continue
        inner = option.get("anyOf") or option.get("oneOf")
        flat.extend(inner if isinstance(inner, list) else [option])
    return flat


def _check_graph(
    graph: Any,  # noqa: ANN401
    parameters: frozenset[str],
    lookup: Lookup,
    errors: list[ApiError],
    budget: _Budget,
    depth: int,
) -> None:
    if depth > MAX_DEPTH:
        raise _invalid(f"process graphs are nested more than {MAX_DEPTH} deep")
    if not isinstance(graph, dict) or not graph:
        raise _invalid("a process graph must be an object with at least one node")
    budget.nodes -= len(graph)
    if budget.nodes < 0:
        raise ApiError(
            "ProcessGraphComplexity", "the process graph has too many nodes; split it into parts"
        )
    for name, node in graph.items():
        if not isinstance(node, dict) or not isinstance(node.get("process_id"), str):
            raise _invalid(f"node {name!r} must be an object with a process_id")
        if not isinstance(node.setdefault("arguments", {}), dict):
            raise _invalid(f"the arguments of node {name!r} must be an object")
        if not isinstance(node.get("namespace"), str | None):
            raise _invalid(f"the namespace of node {name!r} must be text")
    run_order(graph)
    result_node(graph)
    for node in graph.values():
        _check_node(node, parameters, lookup, errors, budget, depth)


def _check_node(
    node: dict[str, Any],
    parameters: frozenset[str],
    lookup: Lookup,
    errors: list[ApiError],
    budget: _Budget,
    depth: int,
) -> None:
    process_id, namespace = node["process_id"], node.get("namespace")
    spec = lookup(process_id, namespace)
    if spec is None:
        errors.append(
            ApiError(
                "ProcessUnsupported",
                f"process {process_id!r} is not available in namespace {namespace or 'n/a'!r}",
            )
        )
        return
    known = {item["name"]: item for item in spec.get("parameters") or []}
    arguments = node["arguments"]
    errors.extend(
        ApiError(
            "ProcessParameterUnsupported",
            f"process {process_id!r} does not support parameter {name!r}",
        )
        for name in sorted(set(arguments) - set(known))
    )
    for name, item in known.items():
        if name not in arguments:
            if not item.get("optional", False) and "default" not in item:
                errors.append(
                    ApiError(
                        "ProcessParameterRequired",
                        f"process {process_id!r} parameter {name!r} is required",
                    )
                )
            continue
        value = arguments[name]
        errors.extend(
            bad_value(process_id, name, f"there is no parameter {missing!r} to take it from")
            for missing in sorted(set(_find_references(value, "from_parameter")) - parameters)
        )
        if isinstance(value, dict) and "process_graph" in value:
            inner = parameters | _callback_parameters(item)
            _check_graph(value["process_graph"], inner, lookup, errors, budget, depth + 1)
        elif problem := schema_problem(item, value, budget):
            errors.append(bad_value(process_id, name, problem))


def schema_problem(
    parameter: Mapping[str, Any], value: object, budget: _Budget | None = None
) -> str | None:
    """Return why a literal value does not fit a parameter; None if it does or is no literal.

    Raises:
        ApiError: checking it would take too long.
    """
    if (value is None and parameter.get("optional")) or _has_reference(value):
        return None
    options = schemas_of(parameter)
    if not any(options):
        return None
    parts = _count_parts(value, MAX_CHECKED_PARTS + 1)
    if parts > MAX_CHECKED_PARTS:  # the process itself looks closer
        options = [{key: option[key] for key in ("type",) if key in option} for option in options]
    elif budget is not None:
        budget.checks -= parts * _count_parts(options)
        if budget.checks < 0:
            raise ApiError("ProcessGraphComplexity", "the arguments are too many to be checked")
    validator = _validator(json.dumps(options, sort_keys=True))
    problem = next(iter(validator.iter_errors(value)), None)
    if problem is None:
        return None
    allowed = sorted({str(kind) for option in options for kind in _kinds(option)})
    shown = json.dumps(value)[:80]
    return f"{shown} does not fit; expected {' or '.join(allowed) or 'something else'}"


def _count_parts(value: object, limit: int = 10_000_000) -> int:
    """Return how many values there are in a value, itself among them; ``limit`` at most."""
    count, waiting = 0, [value]
    while waiting and count < limit:
        item = waiting.pop()
        count += 1
        if isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return count


def _kinds(schema: Mapping[str, Any]) -> list[str]:
    if subtype := schema.get("subtype"):
        return [subtype]
    if enum := schema.get("enum"):
        return [f"one of {enum}"]
    kind = schema.get("type", "any")
    return kind if isinstance(kind, list) else [kind]


@functools.lru_cache(maxsize=2048)
def _validator(options: str) -> Any:  # noqa: ANN401
    from jsonschema import Draft7Validator
    from referencing import Registry

    # The registry is empty: nothing that a schema refers to is fetched.
    return Draft7Validator({"anyOf": _without(json.loads(options), _ENDLESS)}, registry=Registry())


def _callback_parameters(parameter: Mapping[str, Any]) -> frozenset[str]:
    names: set[str] = set()
    for option in schemas_of(parameter):
        names |= _parameter_names(option.get("parameters"))
    return frozenset(names)


def _parameter_names(parameters: object) -> frozenset[str]:
    if not isinstance(parameters, list):
        return frozenset()
    return frozenset(
        str(item["name"]) for item in parameters if isinstance(item, dict) and "name" in item
    )


def _find_references(value: object, key: str) -> Iterator[str]:
    """Yield what a value refers to by ``key``, but not from graphs inside it."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if "process_graph" in item:
                continue
            if len(item) == 1 and isinstance(item.get(key), str):
                yield item[key]
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _has_reference(value: object) -> bool:
    return any(
        True for key in ("from_node", "from_parameter") for _ in _find_references(value, key)
    )


def _inner_graphs(value: object) -> Iterator[object]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if "process_graph" in item:
                yield item["process_graph"]
            else:
                stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _bad_process(process_id: str, reason: str) -> ApiError:
    return ApiError("ProcessInvalid", f"process {process_id!r}: {reason}")


def _invalid(reason: str) -> ApiError:
    return ApiError("ProcessGraphInvalid", f"invalid process graph: {reason}")


def bad_value(process_id: str, name: str, reason: str) -> ApiError:
    """Return the error of a value that does not fit its parameter."""
    return ApiError(
        "ProcessParameterInvalid",
        f"the value passed for parameter {name!r} in process {process_id!r} is invalid: {reason}",
    )
