"""Sends odd values to every endpoint; the server may refuse them, but never fail (status 500).

Numbers without bounds, halves of characters, NUL, paths, filters, options: each at random places of
good requests, with and without login::

    python benchmarks/campaigns/odd_values.py --seed 1 --count 500

The exit status is 1 if an answer was 500, or none came.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any
from urllib.parse import quote

import requests
from server import GRAPH, Found, User, send_many

VALUES: tuple[Any, ...] = (
    0, -1, 1, 2**31, 2**63, 10**400, 1.5, -0.0, 1e300, float("inf"), float("nan"), True, None, "",
    " ", "a" * 70, "a" * 30_000, "\ud800", "\udfff\ud800", "a\x00b", "../../etc/passwd", "²", "٣",
    "EPSG:999999", "http://127.0.0.1:1/", "file:///etc/passwd", "/etc/passwd", "%00", "';--", "\\",
    "(" * 50, "NOT " * 600, [], {}, [None], [[[]]], {"from_node": "x"}, {"from_parameter": "x"},
    {"process_graph": {}}, {"$ref": "file:///etc/passwd"}, ["2024-13-45", None], ["x"] * 3,
)  # fmt: skip
QUERIES = {
    "/jobs": ("limit", "offset"),
    "/jobs/{job}/logs": ("limit", "offset", "level"),
    "/results/{job}": ("expires", "signature"),
    "/results/{job}/a.tif": ("expires", "signature"),
    "/collections/S2/items": ("bbox", "datetime", "limit"),
    "/stac/search": ("filter", "filter-lang", "bbox", "datetime", "ids", "collections",
                     "intersects", "limit", "token"),
    "/stac/collections/Hollstein/items": ("filter", "bbox", "datetime", "limit", "token"),
}  # fmt: skip
PATHS = ("/jobs/{}", "/jobs/{}/results", "/collections/{}", "/collections/S2/items/{}",
         "/process_graphs/{}", "/results/{}", "/results/{}/{}", "/stac/collections/{}",
         "/{}")  # fmt: skip
BODIES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("POST", "/jobs", {"title": "a", "description": "b", "plan": "c", "budget": 1,
                       "log_level": "info", "process": {"process_graph": GRAPH},
                       "job_options": {"output_storage": "TEMPORARY", "s3": {"bucket": "b"}}}),
    ("PATCH", "/jobs/{job}", {"title": "a", "plan": "c", "budget": 1, "log_level": "info"}),
    ("POST", "/validation", {"process_graph": GRAPH}),
    ("POST", "/result", {"process": {"process_graph": GRAPH}}),
    ("PUT", "/process_graphs/mine", {"process_graph": GRAPH, "summary": "a", "parameters": [
        {"name": "x", "schema": {"type": "number"}, "optional": True, "default": 1}]}),
    ("POST", "/stac/search", {"limit": 1, "ids": ["a"], "collections": ["Hollstein"],
                              "filter": {"op": "=", "args": [{"property": "id"}, "a"]}}),
)  # fmt: skip


def send_odd(user: User, rng: random.Random, count: int) -> Iterator[Found]:
    job = user.ask("POST", "/jobs", json={"process": {"process_graph": GRAPH}})
    job_id = job.headers["OpenEO-Identifier"]
    for number in range(count):
        method, path, body = odd_request(rng, job_id)
        status = send(user, method, path, body)
        wrong = f"{number}: {status} {method} {path[:200]} {str(body)[:300]}"
        yield [status], wrong if status in (0, 500) else ""
    if user.ask("GET", f"/jobs/{job_id}").status_code != 200:
        yield [], "the job cannot be read any longer"


def odd_request(rng: random.Random, job_id: str) -> tuple[str, str, str | None]:
    """Return method, path and body of a request with an odd value somewhere."""
    kind = rng.choice(("query", "path", "body", "body"))
    if kind == "query":
        path = rng.choice(list(QUERIES))
        names = rng.sample(QUERIES[path], rng.randint(1, min(2, len(QUERIES[path]))))
        query = "&".join(f"{quote(name)}={as_text(rng.choice(VALUES))}" for name in names)
        return "GET", f"{path.format(job=job_id)}?{query}", None
    if kind == "path":
        path = rng.choice(PATHS)
        values = [as_text(rng.choice(VALUES)) for _ in range(path.count("{}"))]
        return rng.choice(("GET", "DELETE", "PUT", "POST")), path.format(*values), "{}"
    method, path, body = rng.choice(BODIES)
    changed = deepcopy(body)
    for _ in range(rng.randint(1, 2)):
        put_somewhere(rng, changed, rng.choice(VALUES))
    return method, path.format(job=job_id), json.dumps(changed)


def put_somewhere(rng: random.Random, content: Any, value: Any) -> None:  # noqa: ANN401
    """Put a copy of a value in a random place of a JSON object."""
    value = deepcopy(value)
    places: list[tuple[Any, Any]] = []
    waiting = [content]
    while waiting:
        part = waiting.pop()
        keys = list(part) if isinstance(part, dict) else range(len(part))
        places += [(part, key) for key in keys]
        waiting += [part[key] for key in keys if isinstance(part[key], dict | list)]
    if not places:
        return
    part, key = rng.choice(places)
    if isinstance(part, dict) and isinstance(value, str) and rng.random() < 0.2:
        part[value] = part.pop(key)
    else:
        part[key] = value


def as_text(value: Any) -> str:  # noqa: ANN401
    text = value if isinstance(value, str) else json.dumps(value)
    return quote(text[:3000].encode("utf-8", "surrogatepass"), safe="")


def send(user: User, method: str, path: str, body: str | None) -> int:
    """Return the status of the answer, 0 where none comes."""
    headers = {**user.headers, "Content-Type": "application/json"}
    data = None if body is None else body.encode("utf-8", "surrogatepass")
    try:
        return requests.request(
            method, user.url + path, data=data, headers=headers, timeout=120
        ).status_code
    except requests.RequestException:
        return 0


if __name__ == "__main__":
    raise SystemExit(send_many(__doc__, send_odd))
