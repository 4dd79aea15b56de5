"""What a classifier of pixels is told of a scene: spectra, indices, and texture around a pixel."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.errors import InputError
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.inference import Cube
from openeo_cloudmask.sensors import Sensor
from openeo_cloudmask.sensors.common import find_common

Floats = NDArray[np.float32]

MAX_PIXELS = 1_000_000
"""Of a reference, unless finer ones are asked for: their features take about 0.2 GB."""
PIXELS_M = (10.0, 20.0, 30.0, 60.0, 120.0, 240.0)
"""Pixel sizes of references; ALCD's own is 60 m."""
STRIP_PX = 512
NEAR_PX, FAR_PX = 1.5, 8.0
"""Widths of the neighbourhoods that texture is taken from, as sigma of a Gauss."""
RANGES_PX = (5, 15)
"""Sides of the squares that the darkest and the brightest pixel are taken from."""
INDICES = {
    # Name -> two bands by common name, whose normalised difference it is.
    "ndvi": ("nir", "red"),
    "ndwi": ("green", "nir"),
    "ndsi": ("green", "swir16"),
    "swir over nir": ("swir16", "nir"),
    "blue over red": ("blue", "red"),
    "swir16 over swir22": ("swir16", "swir22"),
}
_TINY = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Features:
    """A scene as a classifier sees it."""

    values: Floats
    """(pixel, feature) float32 of the pixels that are ``seen``, row by row."""
    names: tuple[str, ...]
    seen: NDArray[np.bool_]
    """(y, x), where all bands have data."""
    grid: Grid

    @property
    def positions(self) -> NDArray[np.intp]:
        """(pixel,) row * width + column of each row of ``values``."""
        return np.flatnonzero(self.seen)


def choose_pixel_m(grid: Grid) -> float:
    """Return the side of the pixels that a reference of a scene is made with, in metres.

    The finest of ``PIXELS_M`` that is a multiple of the scene's own and keeps the scene within
    ``MAX_PIXELS``; if none does, the coarsest that is.

    Raises:
        InputError: the scene has no pixels in metres.
    """
    sizes = pixel_sizes(grid)
    height, width = grid.shape_yx
    area = height * width * (grid.resolution_m or 1.0) ** 2
    return next((size for size in sizes if area / size**2 <= MAX_PIXELS), sizes[-1])


def pixel_sizes(grid: Grid) -> list[float]:
    """Return the sides that a reference's pixels can have, metres, the finest first.

    Raises:
        InputError: the scene has no pixels in metres.
    """
    own = grid.pixel_m
    if own is None:
        raise InputError(
            "the scene has no pixels in metres; give it a projected reference system (UTM), as "
            "ALCD's references have"
        )
    return [size for size in PIXELS_M if _factor(size, own) is not None] or [max(own)]


def _factor(size_m: float, own: tuple[float, float]) -> int | None:
    factor = round(size_m / own[0])
    whole = all(math.isclose(factor * side, size_m, rel_tol=1e-6) for side in own)
    return factor if factor and whole else None


def read_features(
    cube: Cube,
    grid: Grid,
    band_names: tuple[str, ...],
    sensor: Sensor,
    *,
    pixel_m: float,
    report: Callable[[float], None] | None = None,
) -> Features:
    """Return the features of a scene on pixels of ``pixel_m``; memory by those, not the scene's.

    Args:
        cube: (band, y, x) float32, reflectance 0-1, NaN where no-data.
        grid: where the cube lies.
        band_names: names of the bands of ``cube``.
        sensor: whose bands they are.
        pixel_m: side of the pixels wanted, a multiple of the cube's.
        report: called with the share done, 0-1.

    Raises:
        InputError: the sizes do not fit, or the scene has no pixel with data.
    """
    factor = None if grid.pixel_m is None else _factor(pixel_m, grid.pixel_m)
    if factor is None or grid.transform is None:
        raise InputError(
            f"pixels of {pixel_m:g} m cannot be made of pixels of {grid.pixel_m} m; expected a "
            "multiple of their size"
        )
    height, width = (length // factor for length in grid.shape_yx)
    coarse = np.empty((cube.shape[0], height, width), np.float32)
    rows = max(STRIP_PX // factor, 1)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = cube[:, top * factor : bottom * factor, : width * factor]
        coarse[:, top:bottom] = _average(np.asarray(strip, np.float32), factor)
        if report is not None:
            report(bottom / height)
    affine = grid.transform * grid.transform.scale(factor)
    own = Grid(shape_yx=(height, width), transform=affine, crs=grid.crs)
    return make_features(coarse, own, band_names, sensor)


def make_features(
    cube: Floats, grid: Grid, band_names: tuple[str, ...], sensor: Sensor
) -> Features:
    """Return the features of pixels as they are.

    Args:
        cube: (band, y, x) float32, reflectance 0-1, NaN where no-data.
        grid: where the cube lies.
        band_names: names of the bands of ``cube``.
        sensor: whose bands they are.

    Raises:
        InputError: no pixel has data in all bands.
    """
    seen: NDArray[np.bool_] = np.asarray(np.isfinite(cube).all(axis=0))
    if not seen.any():
        raise InputError("the scene has no pixel with data in all bands; nothing can be labelled")
    filled = np.where(seen, cube, np.float32(0))
    planes = dict(zip(band_names, filled, strict=True))
    at = find_common(sensor, band_names)
    for name, (one, other) in INDICES.items():
        if one in at and other in at:
            first, second = filled[at[one]], filled[at[other]]
            planes[name] = (first - second) / np.maximum(first + second, _TINY)
    planes |= _texture(planes, filled, seen, [at[name] for name in _TEXTURED if name in at])
    values = np.stack([plane[seen] for plane in planes.values()], axis=1)
    return Features(
        values=np.ascontiguousarray(values, np.float32), names=tuple(planes), seen=seen, grid=grid
    )


_TEXTURED = ("blue", "nir", "swir16", "cirrus")


def _texture(
    planes: dict[str, Floats], filled: Floats, seen: NDArray[np.bool_], places: list[int]
) -> dict[str, Floats]:
    """Return means and spreads around each pixel, and how it stands out of its surroundings."""
    names = list(planes)
    weights: dict[float, Floats] = {
        size: np.maximum(_blur(seen.astype(np.float32), size), np.float32(_TINY))
        for size in (NEAR_PX, FAR_PX)
    }
    found: dict[str, Floats] = {}
    for place in places or range(min(len(filled), 1)):
        plane, name = filled[place], names[place]
        for word, size in (("near", NEAR_PX), ("far", FAR_PX)):
            mean = _blur(plane, size) / weights[size]
            square = _blur(plane * plane, size) / weights[size]
            found[f"{name} {word}"] = mean
            variance = np.maximum(square - mean * mean, 0)
            found[f"{name} spread {word}"] = np.sqrt(variance).astype(np.float32)
        found[f"{name} stands out"] = plane / np.maximum(found[f"{name} far"], _TINY)
        for size in RANGES_PX:
            found[f"{name} darkest {size}"] = _least(plane, seen, size)
            found[f"{name} brightest {size}"] = -_least(-plane, seen, size)
    return found


def _least(plane: Floats, seen: NDArray[np.bool_], size_px: int) -> Floats:
    """Return the least of what was seen in a square around each pixel; 0 where nothing was."""
    from scipy.ndimage import minimum_filter

    least: Floats = minimum_filter(np.where(seen, plane, np.float32(np.inf)), size_px)
    return np.where(np.isfinite(least), least, np.float32(0))


def _blur(plane: Floats, sigma_px: float) -> Floats:
    from scipy.ndimage import gaussian_filter

    blurred: Floats = gaussian_filter(plane, sigma_px, mode="nearest", truncate=2.5)
    return blurred


def _average(strip: Floats, factor: int) -> Floats:
    bands, height, width = strip.shape
    blocks = strip.reshape(bands, height // factor, factor, width // factor, factor)
    mean: Floats = blocks.mean(axis=(2, 4))
    return mean
