"""Tiles of web maps (XYZ) whose pixels are those of a whole mask, computed one tile at a time."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import NODATA, ClassScheme
from openeo_cloudmask.digits import whole_number
from openeo_cloudmask.errors import InputError, OptionError
from openeo_cloudmask.grid import Bounds, Grid
from openeo_cloudmask.inference import Cube, Window
from openeo_cloudmask.masking import Masker

TILE_PX = 256
MAX_ZOOM = 24
MAX_SOURCE_PX = 1536
"""Most pixels of the data along a side of a tile: a tile of a small zoom would be a whole scene."""
WEB_MERCATOR = "EPSG:3857"
HALF_M = math.pi * 6378137.0
"""Half of a side of the web map, metres."""

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A tile of the web map.

    Raises:
        OptionError: there is no such tile.
    """

    z: int
    x: int
    y: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0 <= self.z <= MAX_ZOOM or not all(0 <= n < 1 << self.z for n in (self.x, self.y)):
            raise _no_tile(self.z, self.x, self.y)

    @classmethod
    def parse(cls, z: str, x: str, y: str) -> Tile:
        """Return the tile of an address.

        Raises:
            OptionError: there is no such tile.
        """
        texts = (z, x, y)
        found = [n for text in texts if (n := whole_number(text, 1 << MAX_ZOOM)) is not None]
        if len(found) < len(texts):
            raise _no_tile(*texts)
        return cls.of(found)

    @classmethod
    def of(cls, zxy: Sequence[int] | None) -> Tile:
        """Return the tile of zoom, column and row."""
        z, x, y = zxy or (0, 0, 0)
        return cls(z=z, x=x, y=y)

    @property
    def bounds(self) -> Bounds:
        """West, south, east, north in metres of Web Mercator."""
        side = 2 * HALF_M / (1 << self.z)
        west, north = self.x * side - HALF_M, HALF_M - self.y * side
        return west, north - side, west + side, north

    def places(self, grid: Grid) -> tuple[Indices, Indices]:
        """Return row and column of the pixel of ``grid`` under each pixel's centre: (256, 256).

        They may lie outside of the grid.

        Raises:
            InputError: the grid has no georeference.
        """
        from rasterio.warp import transform

        if grid.crs is None or grid.transform is None:
            raise InputError("the data has no georeference, so it has no tiles of a map")
        west, _, east, north = self.bounds
        steps = (np.arange(TILE_PX) + 0.5) * (east - west) / TILE_PX
        xs, ys = np.meshgrid(west + steps, north - steps)
        there = transform(WEB_MERCATOR, grid.crs, xs.ravel(), ys.ravel())
        inverse, (x, y) = ~grid.transform, map(np.asarray, there)
        columns = x * inverse.a + y * inverse.b + inverse.c
        rows = x * inverse.d + y * inverse.e + inverse.f
        shape = (TILE_PX, TILE_PX)
        return tuple(  # type: ignore[return-value]
            np.where(np.isfinite(at), np.floor(at), -1).astype(np.intp).reshape(shape)
            for at in (rows, columns)
        )


def _no_tile(*given: object) -> OptionError:
    shown = "/".join(str(part)[:20] for part in given)
    return OptionError(
        f"there is no tile {shown}; expected a zoom of 0 to {MAX_ZOOM} and numbers from 0 below "
        "2 to the power of it"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """The pixels of a grid that a tile shows."""

    places: tuple[Indices, Indices]
    """Row and column of each, (256, 256)."""
    inside: NDArray[np.bool_]
    """(256, 256), where the grid has a pixel."""
    rows: slice
    columns: slice

    @classmethod
    def of(cls, grid: Grid, tile: Tile) -> Region | None:
        """Return the region of a tile; None where the grid does not reach it.

        Raises:
            InputError: it is too large.
        """
        rows, columns = places = tile.places(grid)
        height, width = grid.shape_yx
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        if not inside.any():
            return None
        ranges = [slice(int(at[inside].min()), int(at[inside].max()) + 1) for at in places]
        largest = max(part.stop - part.start for part in ranges)
        if largest > MAX_SOURCE_PX:
            raise InputError(
                f"the tile {tile.z}/{tile.x}/{tile.y} shows {largest} pixels of the data along a "
                f"side, more than {MAX_SOURCE_PX}; zoom in"
            )
        return cls(places=places, inside=inside, rows=ranges[0], columns=ranges[1])

    def widened(self, margin: int, shape_yx: tuple[int, int]) -> tuple[slice, slice]:
        """Return rows and columns with ``margin`` more on each side, where the grid has them."""
        rows, columns = (
            slice(max(part.start - margin, 0), min(part.stop + margin, length))
            for part, length in zip((self.rows, self.columns), shape_yx, strict=True)
        )
        return rows, columns

    def pick(self, values: NDArray[Any], fill: float) -> NDArray[Any]:
        """Return (..., 256, 256) of (..., rows, columns) of the region; ``fill`` outside."""
        rows = np.where(self.inside, self.places[0] - self.rows.start, 0)
        columns = np.where(self.inside, self.places[1] - self.columns.start, 0)
        return np.where(self.inside, values[..., rows, columns], values.dtype.type(fill))


def margin_px(window: Window) -> int:
    """Return how far from a pixel the windows reach that cover it."""
    return 0 if window.pixelwise else window.size_px - 1


class _Part:
    """A rectangle of a cube, read when it is indexed."""

    def __init__(self, cube: Cube, rows: slice, columns: slice) -> None:
        self._cube, self._rows, self._columns = cube, rows, columns
        self.shape = (cube.shape[0], rows.stop - rows.start, columns.stop - columns.start)

    @property
    def fills(self) -> Mapping[str, int]:
        """Those of the cube."""
        return getattr(self._cube, "fills", {})

    def __getitem__(self, key: tuple[slice, slice, slice]) -> Any:  # noqa: ANN401
        """Return the part of the part."""
        bands, rows, columns = key
        places = []
        for given, own in zip((rows, columns), (self._rows, self._columns), strict=True):
            start, stop, _ = given.indices(own.stop - own.start)
            places.append(slice(own.start + start, own.start + stop))
        return self._cube[bands, places[0], places[1]]


def mask_region(cube: Cube, masker: Masker, grid: Grid, region: Region) -> NDArray[np.uint8]:
    """Return (band, rows, columns) uint8, the mask of a region: bit for bit that of the whole.

    Args:
        cube: (band, y, x), reflectance 0-1, NaN where no-data; the bands of the masker.
        masker: what to run.
        grid: where the cube lies.
        region: the pixels wanted.
    """
    margin = margin_px(masker.detector.window) + masker.cleaning(grid.pixel_m).margin_px
    rows, columns = region.widened(margin, grid.shape_yx)
    top, left = grid.origin_yx
    return masker.mask(
        _Part(cube, rows, columns),
        origin_yx=(top + rows.start, left + columns.start),
        rows=(region.rows.start - rows.start, region.rows.stop - rows.start),
        columns=(region.columns.start - columns.start, region.columns.stop - columns.start),
        pixel_m=grid.pixel_m,
    )


def mask_tile(cube: Cube, masker: Masker, grid: Grid, tile: Tile) -> NDArray[np.uint8] | None:
    """Return (band, 256, 256) uint8, the mask as a tile shows it; None where there is no data.

    Each pixel is that of the whole mask under its centre, bit for bit; arguments are those of
    ``mask_region``.

    Raises:
        InputError: the tile shows too much of the data, or the data has no georeference.
    """
    region = Region.of(grid, tile)
    if region is None:
        return None
    return region.pick(mask_region(cube, masker, grid, region), NODATA)


def encode_classes(values: NDArray[np.uint8], scheme: ClassScheme) -> bytes:
    """Return a PNG whose pixels are the class values, drawn in the classes' colours.

    Args:
        values: (y, x) uint8; 255, no-data, is transparent.
        scheme: gives the colours.
    """
    from PIL import Image

    image = Image.new("P", values.shape[::-1])
    image.frombytes(np.ascontiguousarray(values).tobytes())
    palette = bytearray(768)
    for item in scheme.classes:
        palette[3 * item.value : 3 * item.value + 3] = bytes.fromhex(item.color)
    image.putpalette(bytes(palette))
    out = io.BytesIO()
    image.save(out, "PNG", transparency=NODATA, compress_level=1)
    return out.getvalue()


def empty_tile() -> bytes:
    """Return a transparent PNG."""
    from openeo_cloudmask.classes import FOUR_CLASS

    return encode_classes(np.full((TILE_PX, TILE_PX), NODATA, np.uint8), FOUR_CLASS)
