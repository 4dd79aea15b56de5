"""All predefined processes: openEO's descriptions, and the functions that do them."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import json
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from openeo_cloudmask.backend.graph.process import Process
from openeo_cloudmask.backend.processes.descriptions import own_specs
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

_OWN: Mapping[str, tuple[str, ...]] = {
    "apply": ("apply", "apply_dimension", "apply_kernel", "reduce_dimension", "reduce_spatial"),
    "combine": ("mask", "merge_cubes"),
    "geometries": ("load_geojson",),
    "indices": ("create_data_cube", "ndvi"),
    "labels": ("add_dimension", "dimension_labels", "drop_dimension", "filter_bands",
               "filter_bbox", "filter_labels", "filter_temporal", "rename_dimension",
               "rename_labels", "trim_cube"),
    "load": ("load_collection",),
    "mask": ("cloud_mask",),
    "neighborhood": ("apply_neighborhood",),
    "periods": ("aggregate_temporal", "aggregate_temporal_period"),
    "plain": ("text_find",),
    "resample": ("resample_cube_spatial", "resample_cube_temporal", "resample_spatial"),
    "results": ("save_result",),
    "stac": ("load_stac",),
    "udf": ("run_udf",),
    "zonal": ("aggregate_spatial", "apply_polygon", "filter_spatial", "mask_polygon"),
}  # fmt: skip
"""Module -> our functions in it, each named as its process."""

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
    processes: dict[str, Process] = {}
    for name, function in {**_library_functions(), **_own_functions()}.items():
        if name in specs:
            processes[name] = Process.of(specs[name], function)
    return processes


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
    described |= own_specs(described)
    described["cloud_mask"] = _cloud_mask_spec()
    names = {*_library_functions(), *_own_functions()}
    return {name: described[name] for name in sorted(names) if name in described}


def _narrow(spec: dict[str, Any], limits: Mapping[str, Mapping[str, Any]]) -> None:
    """Add limits to the types of parameters, and of the result (``returns``)."""
    places = {item["name"]: item for item in spec["parameters"]} | {"returns": spec["returns"]}
    for name, limit in limits.items():
        places[name]["schema"] |= limit


def _own_functions() -> dict[str, Callable[..., Any]]:
    """Return our functions; those that the library has as well do not work there as openEO says."""
    folder = "openeo_cloudmask.backend.processes"
    return {
        name: getattr(importlib.import_module(f"{folder}.{module}"), name)
        for module, names in _OWN.items()
        for name in names
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


def _cloud_mask_spec() -> dict[str, Any]:
    from openeo_cloudmask.openeo.udp import build_udp

    spec = build_udp()
    del spec["process_graph"]
    return {**spec, "experimental": False, "links": []}
