"""How a network's file is fed and read, said in fields of the MLM extension.

All that a user of the file needs who does not have this package:
``docs/examples/run_from_item.py`` makes masks from nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openeo_cloudmask.errors import WeightsError
from openeo_cloudmask.inference import Window
from openeo_cloudmask.inference.windows import TAPER_PX
from openeo_cloudmask.models.entry import TiledFile
from openeo_cloudmask.options import DEFAULT_STRIDE_PX
from openeo_cloudmask.sensors import Band, BandKind
from openeo_cloudmask.stac import fields

WINDOWS, PRESENT, PERCENTILES = "windows", "present", "percentiles"
"""Inputs of exported files: pixels, which planes there are, what their percentiles are.
The last is also the name in ``mlm:hyperparameters`` that says which percentiles."""
STEPS = ("stride_px", "taper_px")
TILES = ("window_px", "tile_stride_px")
"""Names in ``mlm:hyperparameters`` that say how windows are laid out, and tiles within them."""

_SPARED = (
    "A window is left out where all valid pixels that it counts are counted by the next window "
    "below or to the right, too; and where they all are by the one above, to the left, or above "
    "and to the left, and that one has a valid pixel that no other window counts."
)

Json = dict[str, Any]


def steps(window: Window) -> Json:
    """Return how windows are laid out: their step, and the pixels over which weights rise."""
    if window.pixelwise:
        return {}
    return dict(zip(STEPS, (DEFAULT_STRIDE_PX, TAPER_PX), strict=True))


def percentiles(fractions: Sequence[float]) -> Json:
    """Return which percentiles an exported file takes, if any."""
    return {PERCENTILES: list(fractions)} if fractions else {}


def tile_steps(window: Window, file: TiledFile) -> Json:
    """Return how windows are laid out, and tiles within a window."""
    return steps(window) | dict(zip(TILES, (window.size_px, file.step_px), strict=True))


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


def tiles_input(bands: Sequence[Band], window: Window, file: TiledFile) -> Json:
    """Return the entry of ``mlm:input`` of a file that takes the tiles of a window."""
    found = windows_input(file.input_name, bands, window)
    found["description"] = (
        f"A tile of {file.tile_px} pixels of a window of mlm:hyperparameters.window_px pixels of "
        "one date: reflectance 0-1 with the offset of the product applied, scaled by "
        "value_scaling. "
        "No statistics of the scene are needed."
    )
    found["input"]["shape"][2:] = [file.tile_px, file.tile_px]
    found["value_scaling"] = [
        {"type": "z-score", "mean": mean, "stddev": std}
        for mean, std in zip(file.mean, file.std, strict=True)
    ]
    found["pre_processing_function"]["description"] += (
        " All this, and the 0 where nothing was seen, is done to the reflectance of a whole "
        "window; value_scaling comes after it, and then the window is cut into tiles that begin "
        "mlm:hyperparameters.tile_stride_px apart, the first in its corner."
    )
    return found


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


def further_input(name: str, planes: int, percentiles: Sequence[float] = ()) -> Json:
    """Return the entry of ``mlm:input`` for what an exported file takes beside the pixels.

    Raises:
        WeightsError: it takes what no file does that is exported today.
    """
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
    if name != PERCENTILES:
        raise WeightsError(
            f"the file takes {name!r}; expected {WINDOWS}, {PRESENT} or {PERCENTILES}. Export it "
            "anew"
        )
    return {
        "name": PERCENTILES,
        "description": "Percentiles of each band over the valid pixels of the window, interpolated "
        "linearly between ranks; mlm:hyperparameters.percentiles says which, as fractions. 0 where "
        "no pixel is valid.",
        "bands": [],
        "input": {
            "shape": [-1, planes, len(percentiles)],
            "dim_order": ["batch", "channel", "percentile"],
            "data_type": "float32",
        },
        "pre_processing_function": {
            "format": "numpy",
            "expression": "numpy.quantile(windows[:, valid], percentiles, axis=1).T",
            "description": "For the bands of one window, (band, height, width).",
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


def logits_output(classes: Sequence[Json], window: Window, file: TiledFile) -> Json:
    """Return the entry of ``mlm:output`` of a file that gives the logits of tiles.

    Args:
        classes: those of its planes, in order.
        window: that the tiles are cut from.
        file: what the file takes and gives.
    """
    found = probabilities_output(classes, window)
    found["name"] = "logits"
    found["description"] = "Logits of the classes; their softmax are probabilities."
    found["result"]["shape"][2:] = [file.tile_px, file.tile_px]
    after = found["post_processing_function"]
    after["expression"] = after["expression"].replace("probabilities", "logits")
    after["description"] = (
        "Softmax first. Probabilities of the tiles of a window are averaged, the pixel i of a tile "
        f"counting sin(pi * (i + 0.5) / {file.tile_px}) ** 2 along each axis (of these the "
        f"product); then those of windows. {after['description']}"
    )
    return found


def _averaging(window: Window) -> str:
    meaning = "Values are those of the classes, in order; 255 is no-data."
    if window.pixelwise:
        return meaning
    rim = f" {window.rim_px} pixels at each side of a window do not count." if window.rim_px else ""
    return (
        "Probabilities of overlapping windows are averaged before. Windows begin at multiples of "
        "mlm:hyperparameters.stride_px in absolute pixel indices (position / resolution). A pixel "
        "counts min(d + 1, taper_px) / taper_px for each axis, d its distance to the window's "
        f"nearest edge in pixels.{rim} Of these weights the product is taken. {_SPARED} {meaning}"
    )
