"""From a file that ``cloudmask export`` wrote to a STAC item that anybody can run it from."""

from __future__ import annotations

from pathlib import Path

import pystac
from pystac.extensions.mlm import (
    Hyperparameters,
    MLMExtension,
    ModelInput,
    ModelOutput,
    TaskType,
)

from openeo_cloudmask.models.onnx_detector import open_exported
from openeo_cloudmask.models.registry import get_model
from openeo_cloudmask.models.weights import sha256_of
from openeo_cloudmask.sensors import ANY_SENSOR, Sensor, get_sensor
from openeo_cloudmask.stac import fields, recipe
from openeo_cloudmask.stac.model_item import (
    BBOX,
    END,
    START,
    WORLD,
    apply_publication,
    class_objects,
    file_asset,
)


def describe_exported(path: Path, *, sensor: Sensor | None = None) -> pystac.Item:
    """Return the item of an exported file: plain MLM, with nothing of this package's extension.

    Args:
        path: the file; the item refers to it by its name, so it lies beside it.
        sensor: the one it was exported for, where the package does not know it.

    Raises:
        WeightsError: the file cannot be read, carries no card, or takes what files took that were
            exported before.
        UnknownModelError: its model is not in the registry.
    """
    session, card = open_exported(path)
    entry = get_model(card.model)
    if sensor is None:
        any_bands = entry.kind.any_bands if card.sensor == ANY_SENSOR else None
        sensor = any_bands.any_sensor if any_bands else get_sensor(card.sensor)
    bands = [sensor.band(name) for name in card.bands]
    item = pystac.Item(
        id=path.stem,
        geometry=WORLD,
        bbox=BBOX,
        datetime=None,
        properties={
            "title": f"{entry.title}, as ONNX",
            "description": entry.summary,
            "start_datetime": START,
            "end_datetime": END,
            "license": entry.licence.spdx,
            "gsd": sensor.resolution_m,
            "bands": [fields.stac_band(band) for band in bands],
        },
        stac_extensions=[
            fields.MLM_URI,
            fields.EO_URI,
            fields.FILE_URI,
            fields.SCIENTIFIC_URI,
            fields.CLASSIFICATION_URI,
        ],
    )
    window = card.window
    names = [given.name for given in session.get_inputs() if given.name != recipe.WINDOWS]
    inputs = [
        recipe.windows_input(recipe.WINDOWS, bands, window),
        *(recipe.further_input(name, len(bands), card.percentiles) for name in names),
    ]
    MLMExtension.ext(item).apply(
        name=entry.id,
        architecture=entry.kind.architecture,
        tasks=[TaskType.SEMANTIC_SEGMENTATION],
        input=[ModelInput(given) for given in inputs],
        output=[ModelOutput(recipe.probabilities_output(class_objects(entry.scheme), window))],
        framework="ONNX",
        hyperparameters=Hyperparameters.create(
            model=entry.id, **recipe.steps(window), **recipe.percentiles(card.percentiles)
        ),
    )
    del item.properties["mlm:pretrained_source"]  # null would say "trained from scratch"
    apply_publication(item, entry)
    asset = file_asset(
        path.name,
        "onnx",
        title="Network with its weights, for onnxruntime",
        sha256=sha256_of(path),
        size_bytes=path.stat().st_size,
    )
    asset.extra_fields["bands"] = [{"name": band.name} for band in bands]
    item.add_asset("model", asset)
    return item
