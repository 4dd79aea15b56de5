"""Draw the pictures of real scenes that the documentation shows.

    python docs/tools/real_pictures.py SCENES [--masks CV/masks] [--folder docs/images]

SCENES holds labelled scenes as ``cloudmask evaluate`` reads them (``.npz``); those named in
``PICTURES`` are crops of USGS L8 Biome, which is in the public domain. ``--masks`` are those that
``cloudmask train mini ... --folds`` left: of each scene one by weights that had not seen it.
Without them the picture shows ``mini`` as it is in the package, which was trained on these scenes,
and says so. Masks are made here; nothing is drawn from memory.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import openeo_cloudmask as cm
from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.evaluation.labelled import LabelledScene, read_labelled
from openeo_cloudmask.evaluation.quicklook import MaskPanel, draw_quicklook
from openeo_cloudmask.publish import publish_file

SOURCE = "Landsat 8, 30 m; USGS L8 Biome (Foga et al. 2017), public domain"
PICTURES = {
    "real-scenes.webp": {
        "biome_Forest_01_2715": "Forest",
        "biome_GrassCrops_02_0608": "Grass and crops",
        "biome_SnowIce_00_1415": "Snow and ice, no cloud",
    },
    "real-limits.webp": {
        "biome_Water_11_0728": "Water",
        "biome_Shrubland_00_0614": "Shrubland",
        "biome_Forest_03_0209": "Haze over forest",
        "biome_Wetlands_00_1426": "Wetlands",
    },
}
"""File -> scene -> what stands above it."""
OTHER = "ukis-csmask"
WIDTH_PX = 1100


def main() -> None:
    """Draw them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scenes", type=Path)
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parents[1] / "images")
    given = parser.parse_args()
    for name, scenes in PICTURES.items():
        rows = [
            draw_row(read_labelled(given.scenes / f"{scene}.npz"), title, given.masks)
            for scene, title in scenes.items()
        ]
        with publish_file(given.folder / name) as part:
            stack(rows).save(part, "WEBP", quality=80, method=6)
        print(given.folder / name)


def draw_row(scene: LabelledScene, title: str, masks: Path | None) -> Image.Image:
    """Return image, label and masks of a scene side by side."""
    own = "mini (trained on this scene)" if masks is None else "mini (had not seen this scene)"
    pixels = mask(scene, "mini") if masks is None else np.load(masks / f"{scene.name}.npy")
    panels = [
        MaskPanel(caption="Label by people", labels=scene.label),
        MaskPanel(caption=own, labels=pixels),
        MaskPanel(caption=OTHER, labels=mask(scene, OTHER)),
    ]
    drawn = draw_quicklook(scene.rgb(), panels, FOUR_CLASS, title=title, note=SOURCE)
    return drawn.resize((WIDTH_PX, round(drawn.height * WIDTH_PX / drawn.width)), 1)


def mask(scene: LabelledScene, model: str) -> NDArray[np.uint8]:
    """Return (y, x) uint8, the four classes, 255 no-data."""
    found: NDArray[np.uint8] = cm.mask(
        scene.cube, bands=scene.bands, sensor=scene.sensor, model=model
    )
    return found


def stack(rows: list[Image.Image]) -> Image.Image:
    """Return the rows below each other."""
    sheet = Image.new("RGB", (WIDTH_PX, sum(row.height for row in rows)))
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


if __name__ == "__main__":
    main()
