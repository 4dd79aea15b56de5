"""Products fetched by the viewer itself, in the background."""

from __future__ import annotations

from pathlib import Path

from openeo_cloudmask.fetch.archives import (
    bands_for_model,
    describe_product,
    open_archive,
    sensor_of,
)
from openeo_cloudmask.fetch.names import parse_scene_name
from openeo_cloudmask.fetch.products import check_space, fetch_product
from openeo_cloudmask.models import MODELS
from openeo_cloudmask.viewer.local import Task, start_task


def models_for(name: str) -> list[str]:
    """Return the models that compute a mask of a product called ``name``."""
    sensor = sensor_of(name).id
    return [key for key, entry in MODELS.items() if sensor in entry.inputs and not entry.layers]


def start_fetch(name: str, folder: Path, *, archive: str, model: str | None = None) -> Task:
    """Return the task that fetches a product, as ``cloudmask references fetch`` does.

    Args:
        name: of the product.
        folder: where to.
        archive: name of the archive.
        model: only the bands that this model takes; None for all.
    """

    def work(task: Task) -> None:
        wanted = parse_scene_name(name)
        bands = None if model is None else bands_for_model(name, model)
        product = open_archive(archive).find(wanted, bands)
        check_space([product], folder)
        total = max(1, sum(file.size or 0 for file in product.files))
        path = fetch_product(product, folder, progress=lambda done: task.report(done / total))
        told = f"{path.name}: {describe_product(path)}"
        task.message = f"{told}. {product.note}" if product.note else told
        task.product = path

    task = start_task(f"Fetch {name}", work)
    task.classes = False
    return task
