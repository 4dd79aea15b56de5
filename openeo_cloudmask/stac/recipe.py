"""How a network's file is fed and read, said in fields of the MLM extension.

All that a user of the file needs who does not have this package:
``docs/examples/run_from_item.py`` makes masks from nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openeo_cloudmask.inference import Window
from openeo_cloudmask.inference.windows import TAPER_PX
from openeo_cloudmask.options import DEFAULT_STRIDE_PX
from openeo_cloudmask.sensors import Band, BandKind
from openeo_cloudmask.stac import fields

WINDOWS, VALID, PRESENT = "windows", "valid", "present"
"""Inputs of exported files: pixels, which of them were seen, which planes there are."""
STEPS = ("stride_px", "taper_px")
"""Names in ``mlm:hyperparameters`` that say how windows are laid out."""

Json = dict[str, Any]


def steps(window: Window) -> Json:
    """Return how windows are laid out: their step, and the pixels over which weights rise."""
    if window.pixelwise:
        return {}
    return dict(zip(STEPS, (DEFAULT_STRIDE_PX, TAPER_PX), strict=True))


def windows_input(name: str, bands: Sequence[Band], window: Window) -> Json:
    """Return the entry of ``mlm:input`` for windows of pixels.

    Args:
        name: that of the file's input, or the sensor's where nothing is fed by name.
        bands: its planes, in order.
        window: its size.
    """
    size = window.size_px
    quality = any(band.kind is BandKind.QUALITY for band in bands)
    return {
        "name": name,
        "description": "A window of one date, unit 1: reflectance 0-1 with the offset of the "
        "product applied. 0, never NaN, where a pixel was not seen in every band. No statistics "
        "of the scene are needed."
        + (" Quality layers hold the provider's codes." if quality else ""),
        "bands": [band.name for band in bands],
        "input": {
            "shape": [-1, len(bands), size, size],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "float32",
        },
        "value_scaling": fields.value_scaling(list(bands)),
        "resize_type": None if window.pixelwise else "pad",
        "pre_processing_function": {
            "format": "numpy",
            "expression": "numpy.where(valid, windows, 0).astype('float32')",
            "description": _filling(window),
        },
    }


def _filling(window: Window) -> str:
    seen = "valid (height, width) is True where every band was seen. "
    if window.pixelwise:
        return f"{seen}Each pixel is classified by itself; windows need no overlap."
    beyond = (
        "A window is filled beyond the rectangle around its valid pixels by mirroring about the "
        "edge pixel, which is not repeated."
        if window.mirrored
        else "Beyond the scene a window is 0."
    )
    return f"{seen}{beyond}"


def further_input(name: str, planes: int, window: Window) -> Json:
    """Return the entry of ``mlm:input`` for what an exported file takes beside the pixels."""
    if name == PRESENT:
        return {
            "name": PRESENT,
            "description": "1 for each band that the data has, 0 for one that it lacks, whose "
            "plane is 0 then.",
            "bands": [],
            "input": {
                "shape": [-1, planes],
                "dim_order": ["batch", "channel"],
                "data_type": "float32",
            },
        }
    return {
        "name": VALID,
        "description": "Boolean: True where every band was seen.",
        "bands": [],
        "input": {
            "shape": [-1, window.size_px, window.size_px],
            "dim_order": ["batch", "height", "width"],
            "data_type": "other",
        },
    }


def probabilities_output(classes: Sequence[Json], window: Window) -> Json:
    """Return the entry of ``mlm:output``: probabilities, and how they become a mask."""
    size = window.size_px
    return {
        "name": "probabilities",
        "description": "Probabilities of the classes, which sum to 1.",
        "tasks": ["semantic-segmentation"],
        "result": {
            "shape": [-1, len(classes), size, size],
            "dim_order": ["batch", "class", "height", "width"],
            "data_type": "float32",
        },
        "classification:classes": list(classes),
        "post_processing_function": {
            "format": "numpy",
            "expression": "numpy.where(valid, values[probabilities.argmax(axis=-3)], 255)"
            ".astype('uint8')",
            "description": _averaging(window),
        },
    }


def _averaging(window: Window) -> str:
    meaning = "values are those of the classes, in order; 255 is no-data."
    if window.pixelwise:
        return meaning
    rim = f" {window.rim_px} pixels at each side of a window do not count." if window.rim_px else ""
    return (
        "Probabilities of overlapping windows are averaged before. Windows begin at multiples of "
        "mlm:hyperparameters.stride_px in absolute pixel indices (position / resolution). A pixel "
        "counts min(d + 1, taper_px) / taper_px for each axis, d its distance to the window's "
        f"nearest edge in pixels.{rim} Of these weights the product is taken; {meaning}"
    )
