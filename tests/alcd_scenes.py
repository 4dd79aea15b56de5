"""ALCD scenes made in memory, as fixtures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from openeo_cloudmask.alcd.types import AlcdParameters, AlcdScene
from openeo_cloudmask.alcd.writer import make_alcd_scene, write_alcd_scene
from openeo_cloudmask.grid import Grid

FIRST = "S2B_MSIL1C_20171009T102009_N0205_R065_T32TMR_20171009T102008"
OLD = "S2A_OPER_PRD_MSIL1C_PDMC_20160417T203056_R137_V20160417T111159_20160417T111159"

SceneFactory = Callable[..., AlcdScene]


@pytest.fixture
def make_scene() -> SceneFactory:
    """Return a factory of small scenes with all classes."""

    def make(
        name: str = FIRST, group: str = "Reference_dataset", *, seed: int = 0, size: int = 40
    ) -> AlcdScene:
        rng = np.random.default_rng(seed)
        # Blocks of 5 x 5 pixels, so that classes have edges and insides.
        blocks = rng.choice(np.array([0, 2, 3, 4, 5, 6, 7], np.uint8), (size // 5, size // 5))
        blocks[0, :4] = (2, 4, 5, 0)
        labels = np.repeat(np.repeat(blocks, 5, axis=0), 5, axis=1)
        confidence = rng.integers(0, 256, labels.shape, dtype=np.uint8)
        parameters = AlcdParameters(
            tile="32TMR",
            location="Ispra",
            cloudy_date="20171009",
            cloudy_product_name=name,
            clear_date="20171014",
            clear_product_name="S2A_MSIL1C_20171014T102021_N0205_R065_T32TMR_20171014T102235",
        )
        grid = Grid(
            shape_yx=(size, size),
            transform=Affine(60, 0, 399_960, 0, -60, 5_100_000),
            crs=CRS.from_epsg(32632),
        )
        return make_alcd_scene(
            name=name,
            group=group,
            labels=labels,
            grid=grid,
            parameters=parameters,
            confidence=confidence,
            seed=seed,
        )

    return make


@pytest.fixture
def archive(tmp_path: Path, make_scene: SceneFactory) -> Path:
    """Return the folder of an archive of three folders for two scenes."""
    root = tmp_path / "SENTINEL_2_reference_cloud_masks_Baetens_Hagolle"
    write_alcd_scene(root, make_scene())
    write_alcd_scene(root, make_scene(OLD, seed=1))
    write_alcd_scene(root, make_scene(OLD, "Hollstein", seed=1))
    return root
