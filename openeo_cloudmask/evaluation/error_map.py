"""Maps of right and wrong pixels, in colours that all eyes tell apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import NODATA, ClassScheme, MaskClass
from openeo_cloudmask.grid import Grid

ERROR_CLASSES = ClassScheme(
    name="error-map",
    title="Where a mask agrees with its reference",
    classes=(
        MaskClass(value=0, name="true-negative", title="Right: valid in both", color="929292"),
        MaskClass(value=1, name="true-positive", title="Right: invalid in both", color="0072B2"),
        MaskClass(
            value=2,
            name="false-positive",
            title="Commission: invalid only in the mask",
            color="F0B000",
        ),
        MaskClass(
            value=3,
            name="false-negative",
            title="Omission: invalid only in the reference",
            color="882255",
        ),
    ),
)
"""Invalid pixels found are blue, valid ones grey, omitted ones dark red, falsely found ones orange.

All differ from each other and from no-data for all eyes, and in lightness, so in grey print too.
Baetens et al. (2019) draw them blue, green, red and purple, of which protanopes see two as one.
"""


def map_errors(reference: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the error class of each pixel.

    Args:
        reference: (y, x) uint8, 0 valid (or no cloud), 1 invalid (or cloud), 255 no-data.
        mask: same.

    Returns:
        (y, x) uint8, values of ``ERROR_CLASSES``; 255 where either is no-data.
    """
    codes = np.asarray([[0, 2], [3, 1]], np.uint8)  # [reference][mask]
    seen = (reference != NODATA) & (mask != NODATA)
    errors: NDArray[np.uint8] = np.full(reference.shape, NODATA, np.uint8)
    errors[seen] = codes[reference[seen].clip(0, 1), mask[seen].clip(0, 1)]
    return errors


def write_error_map(path: Path, errors: NDArray[np.uint8], grid: Grid) -> Path:
    """Write an error map as a COG with its colours and class names, and return ``path``.

    Raises:
        OutputError: it cannot be written.
    """
    from openeo_cloudmask.products.cog import write_cog

    return write_cog(path, [(0, errors[np.newaxis])], grid=grid, scheme=ERROR_CLASSES)
