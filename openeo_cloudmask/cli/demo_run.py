"""From nothing to a scored mask: a simulated scene, an openEO process graph, a COG, a picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.errors import OptionError, OutputError
from openeo_cloudmask.evaluation.quicklook import MaskPanel, draw_quicklook, write_quicklook
from openeo_cloudmask.evaluation.scores import Scores
from openeo_cloudmask.evaluation.summary import balanced_accuracies, four_classes
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.models.registry import get_model
from openeo_cloudmask.openeo.client import cloud_mask
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products.cog import write_cog
from openeo_cloudmask.publish import publish_text
from openeo_cloudmask.simulator.scene import SimulatedScene, simulate_scene

COLLECTION = "SENTINEL2_L1C"
SENSOR = "sentinel-2-l1c"
DEFAULT_SEED = 10
DEFAULT_SIZE_PX = 1024
NEIGHBORHOOD_PX = 512
"""Small enough that the demo's scene is cut, as a back end cuts it."""

Execute = Callable[[dict[str, Any], SimulatedScene, Path], NDArray[np.uint8]]
"""Runs a process graph on a scene, with a folder for files; returns the mask (y, x) uint8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What the demo made."""

    model: str
    graph: Path
    mask: Path
    quicklook: Path
    scores: Scores
    balanced_accuracies: dict[str, float]


def run_demo(
    folder: Path,
    *,
    model: str | None = None,
    seed: int = DEFAULT_SEED,
    size_px: int = DEFAULT_SIZE_PX,
    execute: Execute | None = None,
) -> DemoResult:
    """Simulate a Sentinel-2 scene, mask it through openEO, write the results and score them.

    Writes ``process_graph.json``, ``mask.tif`` and ``quicklook.png``.

    Args:
        folder: where to; made if its parent is there.
        model: what masks; None for a model that needs no download.
        seed: of the scene.
        size_px: of the scene, along x and y.
        execute: what runs the graph; None runs it in this process.

    Raises:
        OutputError: the folder cannot be made.
        OptionError: the model has no input for Sentinel-2 Level-1C.
    """
    name = model or MaskOptions().model
    if SENSOR not in get_model(name).inputs:
        raise OptionError(
            f"model {name!r} is not made for {SENSOR}, which the demo simulates; it is made for "
            f"{', '.join(get_model(name).inputs)}"
        )
    try:
        folder.mkdir(exist_ok=True)
    except OSError as err:
        raise OutputError(f"cannot make the folder {folder}: {err}") from err
    scene = simulate_scene(
        seed,
        sensor=SENSOR,
        size=size_px,
        biome="cropland",
        decks=("cumulus", "cirrus"),
        cloud_fraction=0.3,
        nodata_fraction=0.05,
    )
    graph = _build_graph(name)
    labels = (execute or _run_here)(graph, scene, folder)
    text = json.dumps({"process_graph": graph}, indent=2) + "\n"
    graph_path = publish_text(folder / "process_graph.json", text)
    mask_path = _write_mask(folder / "mask.tif", labels, scene, name)
    found = balanced_accuracies(scene.truth, labels)
    quicklook = _write_picture(folder / "quicklook.png", labels, scene, name, found)
    return DemoResult(
        model=name,
        graph=graph_path,
        mask=mask_path,
        quicklook=quicklook,
        scores=four_classes(scene.truth, labels).scores(),
        balanced_accuracies=found,
    )


def _build_graph(model: str) -> dict[str, Any]:
    """Return the flat graph, built with the openEO client as for any back end."""
    import openeo

    cube = openeo.DataCube.load_collection(COLLECTION, connection=None, fetch_metadata=False)
    mask = cloud_mask(cube, model=model, sensor=SENSOR, size_px=NEIGHBORHOOD_PX)
    return mask.save_result(format="GTiff").flat_graph()


def _run_here(graph: dict[str, Any], scene: SimulatedScene, folder: Path) -> NDArray[np.uint8]:
    """Return the mask of the scene, passed as back ends pass cubes: (t, bands, y, x)."""
    import xarray as xr

    from openeo_cloudmask.backend import run_local

    del folder
    cube = xr.DataArray(
        scene.cube[np.newaxis],
        dims=("t", "bands", "y", "x"),
        coords={
            "t": np.array(["2026-06-01"], "datetime64[ns]"),
            "bands": list(scene.band_names),
            **_grid(scene).coordinates(),
        },
    )
    masked = run_local(graph, {COLLECTION: cube})
    labels: NDArray[np.uint8] = masked.isel(t=0).sel(bands="mask").to_numpy()
    return labels


def _grid(scene: SimulatedScene) -> Grid:
    from rasterio.crs import CRS

    _, height, width = scene.cube.shape
    return Grid(
        shape_yx=(height, width), transform=scene.transform, crs=CRS.from_user_input(scene.crs)
    )


def _write_mask(path: Path, labels: NDArray[np.uint8], scene: SimulatedScene, model: str) -> Path:
    grid = _grid(scene)
    tags = {"MODEL": model, "SOURCE": f"simulated scene, seed {scene.metadata['seed']}"}
    return write_cog(path, [(0, labels[np.newaxis])], grid=grid, scheme=FOUR_CLASS, metadata=tags)


def _write_picture(
    path: Path,
    labels: NDArray[np.uint8],
    scene: SimulatedScene,
    model: str,
    found: dict[str, float],
) -> Path:
    rgb = scene.cube[[scene.band_names.index(name) for name in ("B04", "B03", "B02")]]
    panels = [
        MaskPanel(caption=f"Mask ({model})", labels=labels),
        MaskPanel(caption="Truth", labels=scene.truth),
    ]
    numbers = ", ".join(f"{key} {value:.2f}" for key, value in found.items())
    picture = draw_quicklook(
        rgb,
        panels,
        FOUR_CLASS,
        title=f"Simulated Sentinel-2 L1C scene, seed {scene.metadata['seed']}",
        note=f"balanced accuracy: {numbers}",
    )
    return write_quicklook(path, picture)
