"""All predefined processes: openEO's descriptions, and the functions that do them."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import json
import logging
import pkgutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from openeo_cloudmask.backend import processes
from openeo_cloudmask.backend.graph.process import Process
from openeo_cloudmask.errors import MissingExtraError

_LIBRARY = "openeo_processes_dask"
_LEFT_OUT = frozenset(
    {
        "load_url",  # reads any URL, inside the server's network too
        "apply_neighborhood_intertwin",  # experimental
        "ddmc",  # experimental, writes files
        "save_ml_model",
        "load_ml_model",
    }
)

_BOOLEAN = frozenset(
    {
        "all",
        "and",
        "any",
        "array_contains",
        "between",
        "date_between",
        "eq",
        "gt",
        "gte",
        "is_infinite",
        "is_nan",
        "is_nodata",
        "is_valid",
        "lt",
        "lte",
        "neq",
        "not",
        "or",
        "text_begins",
        "text_contains",
        "text_ends",
        "xor",
    }
)
"""Processes that openEO has return true, false or null."""

_LIMITS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "aggregate_temporal": {"labels": {"uniqueItems": True}},
    "arccos": {"x": {"minimum": -1, "maximum": 1}, "returns": {"minimum": 0}},
    "arcosh": {"returns": {"minimum": 0}},
    "arcsin": {"x": {"minimum": -1, "maximum": 1}},
    "artanh": {"x": {"minimumExclusive": -1, "maximumExclusive": 1}},
    "cos": {"returns": {"minimum": -1, "maximum": 1}},
    "cosh": {"returns": {"minimum": 1}},
    "eq": {"delta": {"minimumExclusive": 0}},
    "exp": {"returns": {"minimumExclusive": 0}},
    "ln": {"x": {"minimum": 0}},
    "log": {"x": {"minimum": 0}},
    "neq": {"delta": {"minimumExclusive": 0}},
    "rename_labels": {"target": {"uniqueItems": True}, "source": {"uniqueItems": True}},
    "sgn": {"returns": {"enum": [-1, 0, 1, None]}},
    "sin": {"returns": {"minimum": -1, "maximum": 1}},
    "tanh": {"returns": {"minimumExclusive": -1, "maximumExclusive": 1}},
}
"""What openEO says of values and the library's descriptions leave out, in openEO's words."""


@functools.cache
def predefined_processes() -> Mapping[str, Process]:
    """Return the processes by id: those of openeo-processes-dask, and ours in place of some.

    Raises:
        MissingExtraError: the extra ``server`` is not installed.
    """
    specs = predefined_specs()
    functions = {**_library_functions(), **_own_functions()}
    return {name: Process.of(specs[name], functions[name]) for name in specs}


@functools.cache
def predefined_specs() -> Mapping[str, dict[str, Any]]:
    """Return the openEO description of every process that has an implementation."""
    described: dict[str, dict[str, Any]] = {}
    for folder in (_specs_folder() / "missing-processes", _specs_folder()):
        for path in sorted(folder.glob("*.json")):
            text = path.read_text(encoding="utf-8")
            spec = json.loads(text) if text.strip() else None  # some files are empty
            if isinstance(spec, dict) and "id" in spec:
                described[spec["id"]] = spec
    for name, limits in _LIMITS.items():
        _narrow(described[name], limits)
    own = _own_functions()
    for name, function in own.items():
        described[name] = function.describe(described.get(name, {}))  # type: ignore[attr-defined]
    return {
        name: described[name] for name in sorted({*_library_functions(), *own} & set(described))
    }


def _narrow(spec: dict[str, Any], limits: Mapping[str, Mapping[str, Any]]) -> None:
    """Add limits to the types of parameters, and of the result (``returns``)."""
    places = {item["name"]: item for item in spec["parameters"]} | {"returns": spec["returns"]}
    for name, limit in limits.items():
        places[name]["schema"] |= limit


@functools.cache
def _own_functions() -> dict[str, Callable[..., Any]]:
    """Return the functions in this folder that are marked as processes, by name.

    Those that the library has as well do not work there as openEO says.
    """
    modules = (
        importlib.import_module(f"{processes.__name__}.{item.name}")
        for item in pkgutil.iter_modules(processes.__path__)
    )
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if hasattr(value, "describe") and value.__module__ == module.__name__
    }


@functools.cache
def _library_functions() -> dict[str, Callable[..., Any]]:
    from openeo_cloudmask.backend.processes.standard import adapt

    _specs_folder()
    # It says that its optional parts are not there; they are not wanted.
    logging.getLogger(f"{_LIBRARY}.process_implementations").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module(f"{_LIBRARY}.process_implementations")
        dates = importlib.import_module(f"{_LIBRARY}.process_implementations.dates")
        constants = importlib.import_module(f"{_LIBRARY}.process_implementations.math")
    found: dict[str, Callable[..., Any]] = {}
    for source, names in (
        (module, None),
        (dates, dates.__all__),
        (constants, ["e"]),
    ):
        for name, function in inspect.getmembers(source, inspect.isfunction):
            process_id = name.strip("_")
            if (names is None or name in names) and process_id not in _LEFT_OUT:
                found[process_id] = adapt(process_id, function, boolean=process_id in _BOOLEAN)
    return found


@functools.cache
def _specs_folder() -> Path:
    found = importlib.util.find_spec(_LIBRARY)
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError.for_extra("server", "the openEO back end")
    return Path(next(iter(found.submodule_search_locations))) / "specs" / "openeo-processes"
