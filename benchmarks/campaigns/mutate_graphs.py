"""Spoils process graphs at random and sends them; each is run, or refused with openEO's error.

    python benchmarks/campaigns/mutate_graphs.py --seed 1 --count 500

Every tenth is run, the others are validated. The exit status is 1 if an answer was 500, its error
has no code of its own, or the server does not answer any longer.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from copy import deepcopy

from odd_values import VALUES, put_somewhere, send
from server import GRAPH, Found, User, send_many

SEEDS = (
    GRAPH,
    {"a": {"process_id": "add", "arguments": {"x": 1, "y": {"from_node": "b"}}, "result": True},
     "b": {"process_id": "array_element", "arguments": {"data": [1, 2, 3], "index": 1}}},
    {**{key: GRAPH[key] for key in ("load",)},
     "reduce": {"process_id": "reduce_dimension", "result": True, "arguments": {
         "data": {"from_node": "load"}, "dimension": "t", "reducer": {"process_graph": {
             "m": {"process_id": "mean", "arguments": {"data": {"from_parameter": "data"}},
                   "result": True}}}}}},
    {"load": GRAPH["load"],
     "spatial": {"process_id": "aggregate_spatial", "result": True, "arguments": {
         "data": {"from_node": "load"}, "geometries": {"type": "Polygon", "coordinates": [[
             [16.36, 48.7], [16.37, 48.7], [16.37, 48.71], [16.36, 48.7]]]},
         "reducer": {"process_graph": {"m": {"process_id": "mean", "result": True, "arguments": {
             "data": {"from_parameter": "data"}}}}}}}},
)  # fmt: skip


def send_corrupted(user: User, rng: random.Random, count: int) -> Iterator[Found]:
    for number in range(count):
        graph = deepcopy(rng.choice(SEEDS))
        for _ in range(rng.randint(1, 4)):
            spoil(rng, graph)
        text = json.dumps(graph)
        codes = ask(user, text, run=number % 10 == 0)
        wrong = {"Internal", "no answer", "500"} & set(codes)
        yield codes, f"{number}: {codes} {text[:500]}" if wrong else ""


def spoil(rng: random.Random, graph: dict) -> None:
    """Change something in a graph."""
    kind = rng.choice(("value", "value", "node", "reference"))
    if kind == "node" and len(graph) > 1 and rng.random() < 0.5:
        del graph[rng.choice(list(graph))]
    elif kind == "reference":
        put_somewhere(rng, graph, {"from_node": rng.choice([*graph, "nowhere"])})
    else:
        put_somewhere(rng, graph, rng.choice(VALUES))


def ask(user: User, graph: str, *, run: bool) -> list[str]:
    """Return the codes of the errors of a graph."""
    body = (
        f'{{"process": {{"process_graph": {graph}}}}}' if run else f'{{"process_graph": {graph}}}'
    )
    if send(user, "GET", "/conformance", None) != 200:
        return ["no answer"]
    answer = user.ask(
        "POST", "/result" if run else "/validation", data=body.encode("utf-8", "surrogatepass"),
    )  # fmt: skip
    if answer.status_code == 500:
        return ["500"]
    if run and answer.ok:
        return ["runs"]
    found = answer.json()
    return (
        [error["code"] for error in found["errors"]] or ["valid"] if answer.ok else [found["code"]]
    )


if __name__ == "__main__":
    raise SystemExit(send_many(__doc__, send_corrupted))
