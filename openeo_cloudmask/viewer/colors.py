"""Pictures in 8-bit colours, made for looking: they are shown as they are, and nothing is computed.

Their contrast was chosen for the eye, so they are neither reflectance nor counts of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.errors import InputError
from openeo_cloudmask.products import open_product
from openeo_cloudmask.viewer.scenes import (
    Floats,
    Picture,
    Report,
    choose_composites,
    write_picture,
)
from openeo_cloudmask.viewer.uploads import check_scene

ALPHA = "alpha"
"""Name of a band that says where a picture is transparent."""
COLORS = ("red", "green", "blue")
NEEDED = (
    "open the product it was made of (SAFE, Landsat Level-1), or a GeoTIFF of reflectance or "
    "counts with blue, green, red and near infrared at least"
)
"""What to do for a mask."""


def copy_colors(
    path: Path, names: Sequence[str], folder: Path, *, report: Report | None = None
) -> Picture:
    """Return the picture at ``path``, its colours as they are; 0 in all bands is no-data.

    Args:
        path: a raster of bytes.
        names: what each of its bands is: ``red``, ``green`` and ``blue``, and besides ``nir`` or
            ``alpha``.
        folder: where the viewer's own file goes; has to be there.
        report: called with the share done, 0-1.

    Raises:
        ProductError: it cannot be read.
        InputError: it lacks a colour, or has more pixels than the viewer takes.
        OutputError: the file cannot be written.
    """
    if not set(COLORS) <= set(names):
        raise InputError(
            f"the picture's bands are called {', '.join(names)}; expected red, green and blue "
            "among them"
        )
    bands = [name for name in names if name != ALPHA]
    with open_product(path, bands=bands) as scene:
        check_scene(scene, path.name)
        shown, composites = choose_composites({name: name for name in bands})
        return Picture(
            path=write_picture(scene.cube(shown), scene.grid, folder, _copy, report=report),
            composites=composites,
            bands=shown,
            sensor_id=None,
            grid=scene.grid,
        )


def _copy(strip: Floats) -> NDArray[np.uint8]:
    """Return the values as they are, but 1 for 0: that is no-data in a picture."""
    seen = np.isfinite(strip)
    return np.where(seen, np.clip(np.where(seen, strip, 0), 1, 255), 0).astype(np.uint8)
