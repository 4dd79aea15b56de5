"""Process graphs as clients may send them."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import pytest

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.graph import execute
from openeo_cloudmask.backend.graph.validate import (
    parse_parameters,
    parse_process,
    run_order,
    schema_problem,
    validate_process,
)
from openeo_cloudmask.backend.processes.plain import PLAIN
from openeo_cloudmask.backend.processes.registry import predefined_processes, predefined_specs
from tests.backend.conftest import mask_graph


def _lookup(process_id: str, namespace: str | None) -> dict[str, Any] | None:
    return predefined_specs().get(process_id) if namespace in (None, "backend") else None


def _codes(graph: dict[str, Any]) -> list[str]:
    found = validate_process({"process_graph": graph}, _lookup, max_nodes=100)
    return [error.code for error in found]


def test_valid_graph() -> None:
    assert _codes(mask_graph()) == []


@pytest.mark.parametrize("body", [None, [], "x", {}, {"process_graph": {}}, {"process_graph": 3}])
def test_no_process(body: object) -> None:
    with pytest.raises(ApiError, match="process"):
        parse_process(body)


def test_schemas_of_users_are_bounded() -> None:
    def parse(schema: dict[str, Any]) -> Any:
        return parse_parameters("mine", {"parameters": [{"name": "x", "schema": schema}]})

    with pytest.raises(ApiError, match="schema of parameter 'x' has more than 500 values"):
        parse({"enum": list(range(600))})
    (unique,) = parse({"type": "array", "uniqueItems": True})
    assert schema_problem(unique, [{"a": 1}, {"a": 1}]) is None
    (listed,) = parse({"type": "array", "items": {"enum": list(range(400))}})

    def lookup(*_: object) -> dict[str, Any]:
        return {"parameters": [listed]}

    nodes = {
        str(number): {"process_id": "mine", "arguments": {"x": [-1] * 1500}} for number in range(90)
    }
    process = {"process_graph": {**nodes, "end": _node("mine", x=[1])}}
    found = validate_process(process, lookup, max_nodes=100)
    assert found[-1].code == "ProcessGraphComplexity"
    assert "too many to be checked" in str(found[-1])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_numbers_that_are_none_stay_so(value: float | None) -> None:
    found = PLAIN["int"](value)
    assert found is value or found == value
    assert PLAIN["int"](-3.7) == -3


def _node(process_id: str, **arguments: Any) -> dict[str, Any]:
    return {"process_id": process_id, "arguments": arguments, "result": True}


@pytest.mark.parametrize(
    ("graph", "code"),
    [
        ({"a": _node("nope")}, "ProcessUnsupported"),
        ({"a": _node("add", x=1)}, "ProcessParameterRequired"),
        ({"a": _node("add", x=1, y=2, z=3)}, "ProcessParameterUnsupported"),
        ({"a": _node("add", x=1, y="two")}, "ProcessParameterInvalid"),
        ({"a": _node("add", x=1, y={"from_parameter": "p"})}, "ProcessParameterInvalid"),
        ({"a": _node("add", x=1, y={"from_node": "b"})}, "ProcessGraphInvalid"),
        ({"a": _node("add", x=1, y={"from_node": "a"})}, "ProcessGraphInvalid"),
        ({"a": _node("pi"), "b": _node("pi")}, "ProcessGraphInvalid"),
        ({"a": {"arguments": {}}}, "ProcessGraphInvalid"),
        ({"a": 3}, "ProcessGraphInvalid"),
        ({"a": {"process_id": "pi", "arguments": []}}, "ProcessGraphInvalid"),
        ({str(i): {"process_id": "pi", "arguments": {}} for i in range(101)},
         "ProcessGraphComplexity"),
        ({"a": _node("array_apply", data=[1], process={"process_graph": {"x": _node("nope")}})},
         "ProcessUnsupported"),
    ],
)  # fmt: skip
def test_wrong_graph(graph: dict[str, Any], code: str) -> None:
    assert code in _codes(graph)


def test_deep_nesting_is_refused() -> None:
    graph: dict[str, Any] = {"a": _node("pi")}
    for _ in range(60):
        graph = {"a": _node("array_apply", data=[1], process={"process_graph": graph})}
    assert _codes(graph) == ["ProcessGraphInvalid"]


def test_order_follows_references() -> None:
    graph = mask_graph()
    assert run_order(graph) == ["load", "mask", "save"]


def mutate(value: Any, rng: random.Random) -> Any:
    """Return a value with one random part replaced, dropped or renamed."""
    strange = [None, -1, 1e300, "", "x" * 50, [], {}, True, [[]], {"from_node": "load"},
               {"from_parameter": "q"}, {"process_graph": {}}]  # fmt: skip
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        changed = dict(value)
        action = rng.random()
        if action < 0.15:
            del changed[key]
        elif action < 0.25:
            changed[key + "x"] = changed.pop(key)
        else:
            changed[key] = mutate(value[key], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.8:
        changed_list = list(value)
        at = rng.randrange(len(value))
        changed_list[at] = mutate(value[at], rng)
        return changed_list
    return copy.deepcopy(rng.choice(strange))


def test_mutated_graphs_give_openeo_errors() -> None:
    rng = random.Random(1)
    graphs = [mask_graph(), {"a": _node("add", x=1, y=2)},
              {"a": _node("array_apply", data=[1, 2], process={"process_graph": {
                  "b": _node("add", x={"from_parameter": "x"}, y=1)}})}]  # fmt: skip
    wrong = 0
    for number in range(500):
        body = {"process_graph": mutate(graphs[number % 3], rng)}
        try:
            errors = validate_process(parse_process(body), _lookup, max_nodes=100)
        except ApiError as err:
            errors = [err]
        wrong += bool(errors)
        assert all(error.code and str(error) for error in errors)
    assert wrong > 300


def test_processes_that_double_each_other_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty of them would run for years."""
    monkeypatch.setattr(execute, "MAX_STORED_CALLS", 100)
    library: dict[str, Any] = {"p0": {"process_graph": {"a": {"process_id": "pi"}}}}
    for number in range(1, 30):
        call = {"process_id": f"p{number - 1}"}
        library[f"p{number}"] = {"process_graph": {"a": call, "b": {**call, "result": True}}}
    executor = execute.Executor(predefined_processes(), library, lambda _: None)
    assert executor.run({"a": {"process_id": "p4"}}, {}) == pytest.approx(math.pi)
    with pytest.raises(ApiError, match="called more than 100 times"):
        executor.run({"a": {"process_id": "p29"}}, {})
