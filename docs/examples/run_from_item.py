# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy", "onnxruntime", "rasterio"]
# ///
"""Run a network on a GeoTIFF from what its STAC item says: run_from_item.py ITEM SCENE MASK."""

import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import rasterio

item_path, scene_path, mask_path = map(Path, sys.argv[1:])
item = json.loads(item_path.read_text(encoding="utf-8"))
inputs, (output,) = (item["properties"][f"mlm:{name}"] for name in ("input", "output"))
steps, size = item["properties"]["mlm:hyperparameters"], inputs[0]["input"]["shape"][-1]
session = onnxruntime.InferenceSession(item_path.parent / item["assets"]["model"]["href"])
with rasterio.open(scene_path) as scene:
    layers = [scene.descriptions.index(name) + 1 for name in inputs[0]["bands"]]
    scales = np.array([(scene.scales[at - 1], scene.offsets[at - 1]) for at in layers], "f4")
    pixels = scene.read(layers) * scales[:, :1, None] + scales[:, 1:, None]
    valid = (scene.read_masks(layers) > 0).all(0) & np.isfinite(pixels).all(0)
    at, profile = scene.transform, scene.profile
first = math.floor(at.f / at.e + 0.501), math.floor(at.c / at.a + 0.501)  # absolute indices
stride, shared = steps["stride_px"], size - steps["stride_px"]
rise = np.minimum(np.minimum(np.arange(size), np.arange(size)[::-1]) + 1, steps["taper_px"])
weight = np.outer(rise, rise) / steps["taper_px"] ** 2


def mirror(seen: np.ndarray, start: int) -> np.ndarray:
    """Return the pixels that fill a window, mirrored about the edges of what was seen."""
    used = np.flatnonzero(seen) + max(start, 0)
    beyond = (np.arange(size) + start - used[0]) % max(2 * (used[-1] - used[0]), 1)
    return used[0] + np.minimum(beyond, 2 * (used[-1] - used[0]) - beyond)


def is_needed(top: int, left: int) -> bool:
    """Return whether a window sees valid pixels that no better placed neighbour sees."""
    seen = valid[max(top, 0) : top + size, max(left, 0) : left + size]
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not seen.any() or max(rows[0] - min(top, 0), columns[0] - min(left, 0)) >= stride:
        return False  # all that it sees, the next one below or to the right sees, too
    above, before = rows[-1] - min(top, 0) < shared, columns[-1] - min(left, 0) < shared
    ways = ((above, True, False), (before, False, True), (above and before, True, True))
    return not any(
        way and sees_alone(top - up * stride, left - on * stride) for way, up, on in ways
    )


def sees_alone(top: int, left: int) -> bool:
    """Return whether a window sees valid pixels that no other window sees."""
    rows, columns = (slice(max(at + shared, 0), max(at + stride, 0)) for at in (top, left))
    return bool(valid[rows, columns].any())


total = np.zeros((output["result"]["shape"][1], *valid.shape), "f4")
tops, lefts = (
    [k for k in range(1 - size, length) if (k + at) % stride == 0]
    for length, at in zip(valid.shape, first, strict=True)
)
for top, left in itertools.product(tops, lefts):
    place = slice(max(top, 0), top + size), slice(max(left, 0), left + size)
    if is_needed(top, left):
        grid = np.ix_(mirror(valid[place].any(1), top), mirror(valid[place].any(0), left))
        feed = {"windows": np.where(valid[grid], pixels[:, *grid], 0)[None]}
        feed["present"] = np.ones((1, len(layers)), "f4")
        if "percentiles" in steps:  # of each band of the window
            seen = feed["windows"][0][:, valid[grid]]
            feed["percentiles"] = np.quantile(seen, steps["percentiles"], axis=1).T[None]
        taken = {given["name"]: feed[given["name"]].astype("f4") for given in inputs}
        found = session.run(None, taken)[0][0]
        height, width = valid[place].shape
        total[:, *place] += (found * weight)[:, max(-top, 0) :, max(-left, 0) :][:, :height, :width]
values = np.array([each["value"] for each in output["classification:classes"]], "u1")
with rasterio.open(
    mask_path, "w", **{**profile, "count": 1, "dtype": "uint8", "nodata": 255}
) as mask:
    mask.write(np.where(valid, values[total.argmax(0)], 255).astype("u1"), 1)
