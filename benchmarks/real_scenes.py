"""Masks real scenes with reference labels through the UDF and prints balanced accuracies.

    python benchmarks/real_scenes.py FOLDER [--model ukis-csmask] [--stride 384] [--quicklooks OUT]

FOLDER holds ``sentinel2.npz`` and ``landsat5.npz`` from the tests of ukis-csmask (German Aerospace
Center): ``img`` (512, 512, 6) reflectance of blue, green, red, near infrared and two short-wave
infrared bands, ``msk`` (512, 512, 1) with 0 shadow, 1 water, 2 snow, 3 land, 4 cloud.
The path is the one of a back end: openEO client -> process graph -> apply_neighborhood -> UDF.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import openeo
import xarray as xr

from openeo_cloudmask.classes import FOUR_CLASS, SCHEMES, map_labels
from openeo_cloudmask.evaluation.quicklook import MaskPanel, draw_quicklook, write_quicklook
from openeo_cloudmask.evaluation.summary import balanced_accuracies
from openeo_cloudmask.openeo.client import cloud_mask
from openeo_cloudmask.openeo.local import run_graph

SCENES = {
    "sentinel2": ("sentinel-2-l1c", ("B02", "B03", "B04", "B08", "B11", "B12")),
    "landsat5": ("landsat-4-5-l1", ("B1", "B2", "B3", "B4", "B5", "B7")),
}


def mask_scene(cube: xr.DataArray, model: str, sensor: str, stride: int) -> np.ndarray:
    """Return (y, x) uint8, the four-class mask of a (bands, y, x) cube."""
    scene = openeo.DataCube.load_collection("SCENE", connection=None, fetch_metadata=False)
    mask = cloud_mask(scene, model=model, sensor=sensor, stride=stride)
    return run_graph(mask.save_result("GTiff").flat_graph(), {"SCENE": cube}).to_numpy()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="ukis-csmask")
    parser.add_argument("--stride", type=int, default=384, help="512: one window is the scene")
    parser.add_argument("--quicklooks", type=Path, help="folder for a picture of each scene")
    given = parser.parse_args()
    print(f"model {given.model}, stride {given.stride}; balanced accuracy, reference labels")
    for name, (sensor, bands) in SCENES.items():
        with np.load(given.folder / f"{name}.npz") as scene:
            image, labels = np.moveaxis(scene["img"], -1, 0), scene["msk"][..., 0]
        cube = xr.DataArray(image, dims=("bands", "y", "x"), coords={"bands": list(bands)})
        truth = map_labels(labels, SCHEMES["ukis-5-class"], FOUR_CLASS)
        mask = mask_scene(cube, given.model, sensor, given.stride)
        found = balanced_accuracies(truth, mask)
        line = "   ".join(f"{key} {value:.3f}" for key, value in found.items())
        print(f"{name:<10} {line}")
        if given.quicklooks is not None:
            panels = [
                MaskPanel(caption=f"Mask ({given.model})", labels=mask),
                MaskPanel(caption="Reference", labels=truth),
            ]
            picture = draw_quicklook(image[[2, 1, 0]], panels, FOUR_CLASS, title=name, note=line)
            write_quicklook(given.quicklooks / f"{name}.png", picture)


if __name__ == "__main__":
    main()
