"""Rasters that do not say where they lie: what they lack, and how a user's answer gets into them.

Only for copies that belong to a session: the file itself is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import RasterioError

from openeo_cloudmask.errors import OptionError, ProductError
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.products.drivers import change_raster, open_raster
from openeo_cloudmask.products.stack import raster_grid

EXAMPLE_CRS = "EPSG:32631"
SAME_SHAPE = 0.02
"""Two rasters may have the same place if their sides are in the same proportion, up to this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """What a raster does not say of its place."""

    crs: bool
    """Its coordinate reference system."""
    transform: bool
    """Where its corner lies and how large its pixels are."""

    def __bool__(self) -> bool:
        """Return whether anything is lacking."""
        return self.crs or self.transform


def find_lack(path: Path) -> Lack:
    """Return what the raster at ``path`` does not say of its place.

    Raises:
        ProductError: it cannot be read.
    """
    grid = _grid_of(path)
    return Lack(crs=grid.crs is None, transform=grid.transform is None)


def corner(left: float, top: float, side: float) -> Affine:
    """Return the transform of a raster by its upper left corner and the side of its pixels.

    Raises:
        OptionError: the side is not above 0.
    """
    if not side > 0:
        raise OptionError(f"pixels have a side of {side:g}; expected more than 0")
    return Affine(side, 0, left, 0, -side, top)


def covers_like(path: Path, other: Path) -> bool:
    """Return whether a raster could cover exactly what another one covers.

    Raises:
        ProductError: one cannot be read.
    """
    one, two = _grid_of(path).shape_yx, _grid_of(other).shape_yx
    return abs(one[0] * two[1] / (one[1] * two[0]) - 1) <= SAME_SHAPE


def cover(path: Path, other: Path) -> tuple[CRS, Affine]:
    """Return the place of a raster that covers exactly what another one covers.

    Raises:
        ProductError: one cannot be read, or the other has no place itself.
    """
    (height, width), whole = _grid_of(path).shape_yx, _grid_of(other)
    if whole.crs is None or whole.transform is None:
        raise ProductError(f"{other.name} does not say where it lies either")
    rows, columns = whole.shape_yx
    return whole.crs, whole.transform @ Affine.scale(columns / width, rows / height)


def give_place(path: Path, *, crs: CRS, transform: Affine | None = None) -> None:
    """Write a place into a raster; its values stay.

    Args:
        path: a session's own copy.
        crs: its coordinate reference system.
        transform: None leaves what the file says.

    Raises:
        ProductError: the file cannot be changed.
    """
    try:
        with change_raster(path) as dataset:
            dataset.crs = crs
            if transform is not None:
                dataset.transform = transform
    except RasterioError as err:
        raise ProductError(f"no place can be written into {path.name}: {err}") from err


def _grid_of(path: Path) -> Grid:
    with open_raster(path) as source:
        return raster_grid(source)
