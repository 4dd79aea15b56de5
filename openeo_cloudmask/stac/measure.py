"""Scores for the catalog, measured on labelled scenes that lie on disk.

The scenes are those of ukis-csmask's test data (Apache-2.0, not redistributed here): six bands,
512 x 512 pixels and five labels each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask import __version__
from openeo_cloudmask.classes import (
    SCHEMES,
    UKIS_FIVE,
    OutputStyle,
    apply_style,
    map_labels,
)
from openeo_cloudmask.errors import BandError, ReferenceDataError, SensorError
from openeo_cloudmask.models import MODELS, get_model, load_detector, select_input
from openeo_cloudmask.stac.catalog import write_text
from openeo_cloudmask.stac.scores import SCORES_FILE, Row, read_scores


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledScene:
    """A scene with labels, and how its bands are called."""

    file: str
    sensor: str
    bands: tuple[str, ...]
    description: str


SCENES = (
    LabelledScene(
        file="sentinel2.npz",
        sensor="sentinel-2-l1c",
        bands=("B02", "B03", "B04", "B08", "B11", "B12"),
        description="One Sentinel-2 scene of 512 x 512 pixels of about 30 m: fields under cumulus.",
    ),
    LabelledScene(
        file="landsat5.npz",
        sensor="landsat-4-5-l1",
        bands=("B1", "B2", "B3", "B4", "B5", "B7"),
        description="One Landsat 5 scene of 512 x 512 pixels of about 30 m: forest and a river.",
    ),
)
_REFERENCE = "Test data of ukis-csmask (German Aerospace Center)"
_STYLES = (OutputStyle.CLOUD_NONCLOUD, OutputStyle.VALID_INVALID)


def record_scores(
    folder: Path, models: Sequence[str] | None = None, *, target: Path = SCORES_FILE
) -> Iterator[tuple[str, Row]]:
    """Measure models on the scenes in ``folder``, write the rows down, and yield (model, row).

    Rows of the same model, data and style are replaced; all others stay.

    Args:
        folder: holds the files of ``SCENES``.
        models: names of models; None tries all. A model is left out where it was not made for the
            scene's sensor, needs bands the scene lacks, or its weights are not on this machine.
        target: the file to write.

    Raises:
        ReferenceDataError: a scene is missing or has another layout.
        UnknownModelError: a model is unknown.
    """
    from openeo_cloudmask.errors import MissingExtraError, WeightsError

    rows = read_scores(target)
    for name in models or MODELS:
        entry = get_model(name)
        for scene in SCENES:
            try:
                select_input(entry, sensor=scene.sensor, bands=scene.bands)
                measured = measure_scene(entry.id, folder, scene)
            except (BandError, SensorError):
                continue
            except (MissingExtraError, WeightsError):
                if models:
                    raise
                continue
            for row in measured:
                keep = [old for old in rows.get(entry.id, []) if _key(old) != _key(row)]
                rows[entry.id] = [*keep, row]
                yield entry.id, row
    ordered = {key: rows[key] for key in sorted(rows)}
    write_text(target, json.dumps(ordered, indent=2) + "\n")


def measure_scene(model: str, folder: Path, scene: LabelledScene) -> list[Row]:
    """Return a row a style: what the model gets right on one scene.

    Raises:
        ReferenceDataError: the scene is missing or has another layout.
    """
    from openeo_cloudmask.evaluation.scores import count_confusion
    from openeo_cloudmask.inference import predict

    cube, labels = read_scene(folder / scene.file)
    detector = load_detector(
        model, sensor=scene.sensor, bands=scene.bands, device="cpu", precision="fp32"
    )
    planes = [scene.bands.index(name) for name in detector.band_names]
    probabilities = predict(cube[planes], detector)
    rows = []
    for style in _STYLES:
        scheme = SCHEMES[style.value]
        mask = apply_style(probabilities, detector.scheme, style, categorise=True)[0]
        confusion = count_confusion(map_labels(labels, UKIS_FIVE, scheme), mask, scheme)
        scores = confusion.scores()
        found = scores.of(scheme.names[1])
        rows.append(
            {
                "data": f"ukis-csmask test data, {scene.file}",
                "description": scene.description,
                "reference": _REFERENCE,
                "sensor": scene.sensor,
                "style": style.value,
                "pixels": int(scores.compared),
                "command": f"cloudmask catalog scores FOLDER --model {model}",
                "date": datetime.now(UTC).date().isoformat(),
                "software": f"openeo-cloudmask {__version__}",
                "metrics": {
                    "overall_accuracy": round(scores.overall_accuracy, 4),
                    "balanced_accuracy": round(scores.balanced_accuracy, 4),
                    "precision": round(found.precision, 4),
                    "recall": round(found.recall, 4),
                    "f1": round(found.f1, 4),
                },
            }
        )
    return rows


def read_scene(path: Path) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return reflectance (band, y, x) float32 0-1 and labels (y, x) uint8 of ``UKIS_FIVE``.

    Raises:
        ReferenceDataError: the file is missing or has another layout.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            image, labels = content["img"], content["msk"]
    except (OSError, ValueError, KeyError) as err:
        raise ReferenceDataError(f"{path} is no labelled scene: {err!r}") from err
    if image.ndim != 3 or labels.shape != (*image.shape[:2], 1):
        raise ReferenceDataError(
            f"{path} has img {image.shape} and msk {labels.shape}; expected (y, x, band) and "
            "(y, x, 1)"
        )
    cube = np.ascontiguousarray(np.moveaxis(image, -1, 0), dtype=np.float32)
    return cube, labels[..., 0].astype(np.uint8)


def _key(row: Row) -> tuple[str, str]:
    return row["data"], row["style"]
