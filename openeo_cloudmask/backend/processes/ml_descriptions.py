"""Descriptions of processes that others name: cloud detection, and prediction by models."""

from __future__ import annotations

from typing import Any

from openeo_cloudmask.models import MODELS, other_models
from openeo_cloudmask.options import default_context, option_fields

_CUBE = {
    "type": "object",
    "subtype": "datacube",
    "dimensions": [{"type": "spatial", "axis": ["x", "y"]}, {"type": "bands"}],
}
_MODEL = {"type": "object", "subtype": "ml-model"}
_MLM = {
    "rel": "about",
    "href": "https://github.com/stac-extensions/mlm",
    "title": "STAC extension for machine learning models",
}

Json = dict[str, Any]

_OLD_NAME: Json = {
    "name": "id",
    "description": "As `uri`, by its name in the first draft of this process, which "
    "`connection.load_ml_model` of the openEO client sends.",
    "schema": {"type": ["string", "null"], "minLength": 1},
    "default": None,
    "optional": True,
    "deprecated": True,
}


def ml_specs() -> dict[str, Json]:
    """Return the descriptions by process id; all are experimental, as openEO has them."""
    listed = [
        _cloud_detection(),
        _load("load_ml_model", [_OLD_NAME], optional=True),
        _load("load_stac_ml", [_index("input"), _index("output")]),
        _ml_predict(),
        _predict_onnx(),
    ]
    return {spec["id"]: {**spec, "experimental": True} for spec in listed}


def _data(text: str) -> Json:
    return {"name": "data", "description": text, "schema": _CUBE}


def _cloud_detection() -> Json:
    names = [name for name in default_context() if name != "model"]
    schemas = {item.name: item.metadata["schema"] for item in option_fields()}
    return {
        "id": "cloud_detection",
        "summary": "Probabilities of cloud and shadow",
        "description": (
            "Detects clouds and cloud shadows in optical images. The result has the bands `cloud` "
            "and `shadow` with probabilities from 0 (clear) to 1, and no data where nothing was "
            "seen. A model that knows no shadow has 0 there. With `categorise` or `output_style` "
            "among the options it is what `cloud_mask` returns."
        ),
        "categories": ["cubes", "optical"],
        "parameters": [
            _data("Bands of one sensor, as for `cloud_mask`."),
            {
                "name": "method",
                "description": "A model of `cloud_mask`; null takes the default. Fmask and "
                "Sen2Cor are not offered.",
                "schema": [
                    {"type": "string", "enum": [*MODELS, *other_models()]},
                    {"type": "null"},
                ],
                "default": None,
                "optional": True,
            },
            {
                "name": "options",
                "description": "The other options of `cloud_mask`.",
                "schema": {
                    "type": "object",
                    "properties": {name: schemas[name] for name in names},
                    "additionalProperties": False,
                },
                "default": {},
                "optional": True,
            },
        ],
        "returns": {
            "description": "The bands `cloud` and `shadow`; other dimensions as in the data.",
            "schema": _CUBE,
        },
        "links": [],
    }


def _load(name: str, more: list[Json], *, optional: bool = False) -> Json:
    uri: Json = {
        "name": "uri",
        "description": "Address of the item, or the name of a model.",
        "schema": {"type": "string", "minLength": 1},
    }
    if optional:
        uri["schema"]["type"] = ["string", "null"]
        uri |= {"default": None, "optional": True}
    return {
        "id": name,
        "summary": "A model by its STAC item",
        "description": (
            "Loads a model that is described by a STAC item with the MLM extension. The item has "
            "to be of a model of this back end: one of its catalog, or one that whoever runs it "
            "has added; models of others are not downloaded."
        ),
        "categories": ["machine learning", "import"],
        "parameters": [
            uri,
            {
                "name": "model_asset",
                "description": "Name of the item's asset with the role `mlm:model`.",
                "schema": {"type": ["string", "null"]},
                "default": None,
                "optional": True,
            },
            *more,
        ],
        "returns": {"description": "A model for `ml_predict`.", "schema": _MODEL},
        "links": [_MLM],
    }


def _index(what: str) -> Json:
    return {
        "name": f"{what}_index",
        "description": f"Which entry of `mlm:{what}` is meant; models here have one.",
        "schema": {"type": "integer", "minimum": 0},
        "default": 0,
        "optional": True,
    }


def _ml_predict() -> Json:
    return {
        "id": "ml_predict",
        "summary": "The mask by a loaded model",
        "description": (
            "Applies a model to a data cube. Without `dimensions` the result is that of "
            "`cloud_mask`; with them it has the dimension `predictions`, with the label `0`, in "
            "the place of the bands."
        ),
        "categories": ["machine learning"],
        "parameters": [
            _data("The cube to mask."),
            {
                "name": "model",
                "description": "What `load_ml_model` or `load_stac_ml` returns.",
                "schema": _MODEL,
            },
            {
                "name": "dimensions",
                "description": "Dimensions that the model reduces: the bands, or none.",
                "schema": {"type": ["array", "null"], "items": {"type": "string"}},
                "default": None,
                "optional": True,
            },
        ],
        "returns": {
            "description": "The mask.",
            "schema": {"type": "object", "subtype": "datacube"},
        },
        "links": [_MLM],
    }


def _predict_onnx() -> Json:
    return {
        "id": "predict_onnx",
        "summary": "Class percentages by an ONNX file",
        "description": (
            "Applies a network in an ONNX file that this back end has: `mini.onnx`, one that "
            "whoever runs it has put among its weights, or the file at an address that is the "
            "same, byte for byte. The result is that of `cloud_mask` with `categorise` false and "
            "the network's own classes."
        ),
        "categories": ["machine learning"],
        "parameters": [
            _data("The cube to mask."),
            {
                "name": "model",
                "description": "Address or name of the file.",
                "schema": {"type": "string", "minLength": 1},
            },
        ],
        "returns": {"description": "A band with percentages for each class.", "schema": _CUBE},
        "links": [],
    }
