"""Descriptions of processes that openeo-processes-dask lacks, or has of an older openEO."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from openeo_cloudmask.backend.processes.resample import ALIGNMENTS, METHODS

_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_VECTOR = {"type": "object", "subtype": "datacube", "dimensions": [{"type": "geometry"}]}
_GEOJSON = {"type": "object", "subtype": "geojson"}


def own_specs(described: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return our descriptions by process id; those of ``described`` amended, not changed."""
    found = {name: copy.deepcopy(described[name]) for name in _AMENDED}
    for name, amend in _AMENDED.items():
        amend({item["name"]: item for item in found[name]["parameters"]}, found[name])
    return found | {"load_geojson": _load_geojson(), "text_find": _text_find()}


def _apply_polygon(parameters: dict[str, dict[str, Any]], spec: dict[str, Any]) -> None:
    """Name the polygons ``geometries``, as openEO 1.2 and its clients do."""
    schema = [_VECTOR, _GEOJSON]
    old = copy.deepcopy(parameters["polygons"])
    parameters["polygons"] |= {"name": "geometries", "schema": schema, "optional": True}
    old |= {"schema": schema, "optional": True, "deprecated": True}
    old["description"] = "The former name of `geometries`; one of the two has to be given."
    spec["parameters"].append(old)


def _resample_spatial(parameters: dict[str, dict[str, Any]], spec: dict[str, Any]) -> None:
    parameters["method"]["schema"] = {"type": "string", "enum": sorted(METHODS)}
    spec["parameters"].append(
        {
            "name": "align",
            "description": "Corner of the cube's extent at which a new pixel begins.",
            "schema": {"type": "string", "enum": list(ALIGNMENTS)},
            "default": "upper-left",
            "optional": True,
        }
    )


def _resample_cube_spatial(parameters: dict[str, dict[str, Any]], spec: dict[str, Any]) -> None:
    del spec
    parameters["method"]["schema"] = {"type": "string", "enum": sorted(METHODS)}


_AMENDED = {
    "apply_polygon": _apply_polygon,
    "resample_cube_spatial": _resample_cube_spatial,
    "resample_spatial": _resample_spatial,
}


def _load_geojson() -> dict[str, Any]:
    return {
        "id": "load_geojson",
        "summary": "GeoJSON as a vector data cube",
        "description": (
            "Makes a vector data cube of GeoJSON. Coordinates are longitude and latitude (WGS 84) "
            "unless a member `crs` names another reference system. The features' properties are "
            "kept beside the cube, and come back as columns in CSV, Parquet and GeoJSON."
        ),
        "categories": ["import", "vector"],
        "parameters": [
            {"name": "data", "description": "The GeoJSON.", "schema": _GEOJSON},
            {
                "name": "properties",
                "description": (
                    "Names of properties that become values of the cube, along a dimension "
                    "`properties`; a feature that lacks one has no data there."
                ),
                "schema": {"type": "array", "items": _TEXT, "uniqueItems": True},
                "default": [],
                "optional": True,
            },
        ],
        "returns": {"description": "A vector data cube.", "schema": _VECTOR},
        "links": [],
    }


def _text_find(
) -> dict[str, Any]:  # fmt: skip
    return {
        "id": "text_find",
        "summary": "Place of a text in another",
        "description": "Finds where a text holds another one for the first time.",
        "categories": ["texts"],
        "parameters": [
            {"name": "data", "description": "Text to search in.",
             "schema": {"type": ["string", "null"]}},
            {"name": "pattern", "description": "Text to look for.", "schema": _TEXT},
            {"name": "case_sensitive", "description": "Whether A and a differ.",
             "schema": _FLAG, "default": True, "optional": True},
        ],
        "returns": {
            "description": "The place of its first character, from 0; null if it is not there.",
            "schema": {"type": ["integer", "null"], "minimum": 0},
        },
        "links": [],
    }  # fmt: skip
