"""Draw each kind of simulated sky and ground beside a real scene of the same kind.

    python docs/make_simulator_pictures.py SCENES [FOLDER]     # default: docs/images

SCENES is a folder of labelled scenes (``.npz`` with ``counts`` and ``bands``); a kind that has no
real scene there stands alone. Red, green and blue share one stretch in each picture.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from openeo_cloudmask.simulator.scene import simulate_scene

SIZE = 200
BANDS = ("B04", "B03", "B02")
_RED_GREEN_BLUE = (("B4", "B3", "B2"), ("B04", "B03", "B02"))

KINDS: dict[str, list[tuple[str, dict[str, Any], str | None]]] = {
    "clouds": [
        ("stratocumulus, overcast", {"seed": 3, "decks": ["stratocumulus"], "cloud_fraction": 1},
         "biome_Barren_01_0213"),
        ("stratus, overcast, 10 m", {"seed": 5, "decks": ["stratus"], "cloud_fraction": 1,
         "pixel_m": 10}, "overcast_adxp"),
        ("nimbostratus, overcast", {"seed": 9, "decks": ["nimbostratus"], "cloud_fraction": 1},
         "biome_Forest_06_0515"),
        ("anvil (ice), overcast", {"seed": 4, "decks": ["anvil"], "cloud_fraction": 1},
         "biome_GrassCrops_00_1014"),
        ("tower", {"seed": 6, "decks": ["tower"], "cloud_fraction": 0.5, "biome": "savanna"},
         "biome_Shrubland_00_0614"),
        ("cumulus", {"seed": 12, "decks": ["cumulus"], "cloud_fraction": 0.2, "biome": "cropland"},
         "biome_Urban_11_1326"),
        ("cumulus, 10 m", {"seed": 2, "decks": ["cumulus"], "cloud_fraction": 0.5,
         "biome": "savanna", "pixel_m": 10}, "oncloudn_chip_id_2"),
        ("saturated at 0.4", {"seed": 8, "decks": ["cumulus"], "cloud_fraction": 0.2,
         "biome": "cropland", "saturation": 0.4}, "layton_2020-07-05"),
        ("altocumulus over desert", {"seed": 5, "decks": ["altocumulus"], "cloud_fraction": 0.4,
         "biome": "desert"}, "biome_Barren_03_0207"),
        ("haze over forest", {"seed": 3, "decks": ["mist"], "cloud_fraction": 0.6,
         "biome": "forest"}, "biome_Forest_03_0209"),
        ("thin cloud over water", {"seed": 7, "decks": ["stratus", "cirrus"],
         "cloud_fraction": 0.6, "biome": "ocean"}, "biome_Water_11_0728"),
        ("cirrus over cloud", {"seed": 14, "decks": ["cumulus", "cirrus"], "cloud_fraction": 0.6,
         "biome": "wetland"}, "biome_Wetlands_00_1426"),
        ("thin cloud over snow", {"seed": 5, "decks": ["cirrus"], "cloud_fraction": 0.6,
         "biome": "ice-sheet"}, None),
    ],
    "surfaces": [
        ("bright desert", {"seed": 2, "biome": "desert"}, "biome_Barren_08_0207"),
        ("dry land", {"seed": 15, "biome": "savanna"}, "biome_Shrubland_01_0508"),
        ("ice sheet", {"seed": 1, "biome": "ice-sheet"}, "biome_SnowIce_00_1415"),
        ("fields and few clouds", {"seed": 31, "biome": "cropland", "decks": ["cumulus"],
         "cloud_fraction": 0.03}, "layton_2020-06-25"),
        ("glinting sea, few clouds", {"seed": 13, "biome": "ocean", "decks": ["cumulus"],
         "cloud_fraction": 0.05}, "biome_Barren_07_2524"),
        ("salt", {"seed": 3, "biome": "salt"}, None),
        ("snow in sun and shadow", {"seed": 3, "biome": "mountain"}, None),
        ("snow with trees", {"seed": 2, "biome": "taiga-winter"}, None),
        ("turbid water", {"seed": 22, "biome": "wetland"}, None),
        ("city, 10 m", {"seed": 4, "biome": "city", "pixel_m": 10}, None),
        ("smoke", {"seed": 7, "biome": "forest", "smoke": 3.0}, None),
    ],
}  # fmt: skip
"""Name of a picture -> title, arguments of ``simulate_scene``, and the real scene."""


def simulated(arguments: dict[str, Any]) -> NDArray[np.float32]:
    """Return (3, y, x) float32, red, green and blue of a scene; clear unless decks are named."""
    given = {"pixel_m": 30, "smoke": 0.0, "saturation": 9.0, **arguments}
    if "decks" not in given:
        given["cloud_fraction"] = 0
    return simulate_scene(given.pop("seed"), size=SIZE, bands=BANDS, **given).cube


def real(path: Path) -> NDArray[np.float32]:
    """Return (3, y, x) float32, red, green and blue of the middle of a labelled scene."""
    with np.load(path) as scene:
        counts, bands = scene["counts"].astype(np.float32) / 10_000, scene["bands"].tolist()
    names = next(names for names in _RED_GREEN_BLUE if names[0] in bands)
    rgb = counts[[bands.index(name) for name in names]]
    if rgb.shape[1] >= 2 * SIZE:
        rgb = rgb[:, : 2 * SIZE, : 2 * SIZE].reshape(3, SIZE, 2, SIZE, 2).mean(axis=(2, 4))
    return rgb[:, :SIZE, :SIZE]


def stretched(rgb: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (y, x, 3) uint8, all bands stretched alike, from 0 to their brightest hundredth."""
    limit = max(float(np.percentile(rgb, 99)), 0.2)
    return (np.clip(np.moveaxis(rgb, 0, -1) / limit, 0, 1) ** 0.7 * 255).astype(np.uint8)


def draw(scenes: Path, kinds: list[tuple[str, dict[str, Any], str | None]]) -> Image.Image:
    """Return pairs of pictures, simulated left, real right, two pairs per row."""
    pair = 2 * SIZE + 16
    rows = -(-len(kinds) // 2)
    sheet = Image.new("RGB", (2 * pair, rows * (SIZE + 22)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (title, arguments, name) in enumerate(kinds):
        left, top = (number % 2) * pair, (number // 2) * (SIZE + 22)
        pen.text(
            (left + 2, top + 4), f"{title}  |  {name or 'no real scene available'}", fill="black"
        )
        sheet.paste(Image.fromarray(stretched(simulated(arguments))), (left, top + 20))
        if name is not None:
            picture = Image.fromarray(stretched(real(scenes / f"{name}.npz")))
            sheet.paste(picture, (left + SIZE + 4, top + 20))
    return sheet


def main() -> None:
    """Draw both pictures."""
    scenes = Path(sys.argv[1])
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent / "images"
    for name, kinds in KINDS.items():
        path = folder / f"simulated-{name}.jpg"
        draw(scenes, kinds).save(path, quality=78, optimize=True)


if __name__ == "__main__":
    main()
