"""What a trained patch CNN does on scenes: masks, metrics, confusion; curves of its training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from openeo_cloudmask.publish import publish_file
from openeo_cloudmask.training.patch_cnn import (
    THRESHOLD,
    Epoch,
    confusion,
    patch_metrics,
    predict_scene,
    write_rows,
)
from openeo_cloudmask.training.patch_scenes import PatchScene

CLOUD_VALUE = 255
"""The published masks: 255 cloud, 0 other."""

_SIZE_XY = (760, 420)
_FRAME = (70, 30, 740, 370)
_COLORS = {"loss": "#0072B2", "validation_loss": "#D55E00"}


def write_evaluation(weights: Path, scenes: Sequence[PatchScene], folder: Path) -> Path:
    """Write a mask for each scene, ``metrics.csv`` and ``confusion.csv``; return the folder.

    Raises:
        WeightsError: the weights are damaged or of another network.
    """
    from PIL import Image

    from openeo_cloudmask.models.networks.patch_cnn import PatchCnn
    from openeo_cloudmask.models.state_dict import load_state_dict_strict

    network = PatchCnn().eval()
    load_state_dict_strict(network, weights)
    folder.mkdir(parents=True, exist_ok=True)
    metrics, matrices = [], []
    total = np.zeros((2, 2), np.int64)
    for scene in scenes:
        guess = predict_scene(network, scene.cube) > THRESHOLD
        Image.fromarray(np.where(guess, CLOUD_VALUE, 0).astype(np.uint8)).save(
            folder / f"{scene.name}.png"
        )
        counts = confusion(scene.cloud[scene.seen], guess[scene.seen])
        total += counts
        metrics.append({"scene": scene.name, **patch_metrics(counts)})
        matrices.append(_matrix_row(scene.name, counts))
    metrics.append({"scene": "all", **patch_metrics(total)})
    matrices.append(_matrix_row("all", total))
    write_rows(metrics, folder / "metrics.csv")
    write_rows(matrices, folder / "confusion.csv")
    return folder


def _matrix_row(
    name: str, counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
) -> dict[str, object]:
    (kept, false), (missed, hit) = counts.tolist()
    return {
        "scene": name,
        "true_negative": kept,
        "false_positive": false,
        "false_negative": missed,
        "true_positive": hit,
    }


def draw_curves(history: Sequence[Epoch], path: Path) -> Path:
    """Draw training and validation loss over the epochs as a PNG."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", _SIZE_XY, "white")
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = _FRAME
    draw.rectangle(_FRAME, outline="#888888")
    series = {name: [getattr(item, name) for item in history] for name in _COLORS}
    values = [value for line in series.values() for value in line if np.isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    span = max(high - low, 1e-9)
    width = max(len(history) - 1, 1)
    for line, (name, color) in enumerate(_COLORS.items()):
        points = [
            (left + (right - left) * place / width, bottom - (bottom - top) * (value - low) / span)
            for place, value in enumerate(series[name])
            if np.isfinite(value)
        ]
        if len(points) > 1:
            draw.line(points, fill=color, width=2)
        for x, y in points:
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=color)
        draw.text((left + 10 + 180 * line, 8), name.replace("_", " "), fill=color)
    draw.text((8, top), f"{high:.3f}", fill="black")
    draw.text((8, bottom - 10), f"{low:.3f}", fill="black")
    draw.text((left, bottom + 10), "epoch 1", fill="black")
    draw.text((right - 60, bottom + 10), f"epoch {len(history)}", fill="black")
    with publish_file(path) as part:
        picture.save(part, format="PNG")
    return path
