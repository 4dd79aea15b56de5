"""Scenes for people to look at: a small picture file with overviews, and spectra of pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.warp import transform as transform_points
from rasterio.windows import Window

from openeo_cloudmask.errors import InputError, OutputError
from openeo_cloudmask.products import Grid, ReadOptions, Scene, open_product
from openeo_cloudmask.products.drivers import create_raster, open_raster
from openeo_cloudmask.products.scene import SceneCube
from openeo_cloudmask.publish import scratch_beside
from openeo_cloudmask.sensors import SENSORS, Band, Sensor
from openeo_cloudmask.viewer.uploads import check_scene

COMPOSITES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    # Name -> for red, green and blue on the screen: common names of bands, the first there is.
    "True colour": (("red",), ("green",), ("blue",)),
    "Near infrared": (("nir", "nir08"), ("red",), ("green",)),
    "Short-wave infrared": (("swir22", "swir16"), ("nir", "nir08"), ("red",)),
    "Cirrus": (("cirrus",), ("cirrus",), ("cirrus",)),
}
STRIP_PX = 512
PICTURE_BLOCK_PX = 256
"""Side of the blocks of a picture: those of a tile, so that few pixels are read for nothing."""
SAMPLES_A_SIDE = 6
SAMPLE_PX = 128
STRETCH_PERCENT = (1.0, 98.0)
THUMBNAIL_PX = 420
PICTURE_VALUES = 750_000_000
"""Values of a picture, of all bands: those of the composites are drawn always, others as far as
this goes (six bands of a full Sentinel-2 scene, all of a small one)."""

Floats = NDArray[np.float32]
Report = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A scene drawn with 8 bits: 0 is no-data, 1-255 from dark to bright."""

    path: Path
    composites: Mapping[str, tuple[int, int, int]]
    """Name -> bands (1-based) of ``path`` for red, green and blue."""
    bands: tuple[str, ...]
    """What each band of ``path`` is, for people."""
    sensor_id: str | None
    """None: colours made for looking, which are no values of a sensor."""
    grid: Grid


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrum:
    """What one pixel holds."""

    row: int
    column: int
    bands: tuple[Band, ...]
    values: tuple[float, ...]
    """Reflectance 0-1 (thermal: normalised temperature); NaN where no-data."""


def open_scene(path: Path, *, sensor: str | None = None, read: ReadOptions | None = None) -> Scene:
    """Return the scene at ``path``, with its sensor known.

    A raster whose bands are named like all those of a known sensor is taken for that one's.

    Args:
        path: what ``open_product`` takes.
        sensor: id of the sensor, or None where the file says it.
        read: what else the file does not say of itself.

    Raises:
        ProductError: nothing readable is there.
        InputError: the sensor cannot be determined, or it has more pixels than the viewer takes.
    """
    read = read or ReadOptions()
    how: dict[str, Any] = {
        "scale": read.scale, "offset": read.offset, "bands": read.bands, "date": read.date,
    }  # fmt: skip
    scene = open_product(path, sensor=sensor, **how)
    try:
        check_scene(scene, path.name)
    except InputError:
        scene.close()
        raise
    if scene.sensor is not None:
        return scene
    complete = [
        known
        for known in SENSORS.values()
        if {known.find_band(label) for label in scene.band_labels} >= set(known.bands)
    ]
    scene.close()
    if not complete:
        raise InputError(
            f"{path.name} does not say what took it, and its bands "
            f"({', '.join(scene.band_labels)}) are not all those of a known sensor; choose the "
            "sensor in the list"
        )
    best = max(complete, key=lambda known: len(known.bands))
    return open_product(path, sensor=best.id, **how)


def draw_picture(scene: Scene, folder: Path, *, report: Report | None = None) -> Picture:
    """Return a picture of ``scene``, written to ``folder``; bounded memory, strip by strip.

    Args:
        scene: an open scene whose sensor is known.
        folder: where the file goes; has to be there.
        report: called with the share done, 0-1.

    Raises:
        InputError: the scene has no bands to draw.
        OutputError: the file cannot be written.
    """
    sensor = scene.sensor
    if sensor is None:
        raise InputError("the scene's sensor is not known, so its bands cannot be drawn")
    names, composites = plan_composites(scene, sensor)
    height, width = scene.grid.shape_yx
    room = max(PICTURE_VALUES // (height * width) - len(names), 0)
    names += _other_bands(scene, sensor, names)[:room]
    cube = scene.cube(names)
    limits = [_limits(plane) for plane in _sample(cube, height, width)]

    def draw(strip: Floats) -> NDArray[np.uint8]:
        return np.stack([_draw(*pair) for pair in zip(strip, limits, strict=True)])

    return Picture(
        path=write_picture(cube, scene.grid, folder, draw, report=report),
        composites=composites,
        bands=tuple(_band_title(sensor.band(name)) for name in names),
        sensor_id=sensor.id,
        grid=scene.grid,
    )


def write_picture(
    cube: SceneCube,
    grid: Grid,
    folder: Path,
    draw: Callable[[Floats], NDArray[np.uint8]],
    *,
    report: Report | None = None,
) -> Path:
    """Return the file of a picture in ``folder``; bounded memory, strip by strip.

    Args:
        cube: what is drawn.
        grid: where it lies.
        folder: has to be there.
        draw: from (band, y, x) float32, NaN where no-data, to uint8, 0 where no-data.
        report: called with the share done, 0-1.

    Raises:
        OutputError: the file cannot be written.
    """
    count, height, width = cube.shape
    target = folder / f"picture-{count}.tif"
    profile = {
        "driver": "GTiff",
        **grid.profile(),
        "count": count,
        "dtype": "uint8",
        "nodata": 0,
        "tiled": True,
        "blockxsize": PICTURE_BLOCK_PX,
        "blockysize": PICTURE_BLOCK_PX,
        "compress": "ZSTD",
        "zstd_level": 1,
        "interleave": "band",
        "photometric": "MINISBLACK",  # of four bands the last would be taken for transparency
    }
    try:
        with _publish_picture(target, profile) as out:
            for row in range(0, height, STRIP_PX):
                rows = min(STRIP_PX, height - row)
                strip = draw(cube[:, row : row + rows, :])
                out.write(strip, window=Window(0, row, width, rows))
                if report is not None:
                    report(0.9 * (row + rows) / height)
    except (RasterioError, OSError) as err:
        raise OutputError(f"cannot write the picture of the scene to {folder}: {err}") from err
    if report is not None:
        report(1.0)
    return target


@contextmanager
def _publish_picture(path: Path, profile: Mapping[str, Any]) -> Iterator[Any]:
    """Yield a GeoTIFF to write, which gets overviews and becomes ``path`` in one step.

    No COG: GDAL before 3.11 writes those with the bands of a pixel side by side, and a tile of
    three bands would have to unpack all of them.
    """
    height, width = profile["height"], profile["width"]
    halvings = max(math.ceil(math.log2(max(height, width) / PICTURE_BLOCK_PX)), 0)
    with (
        scratch_beside(path.parent) as scratch,
        rasterio.Env(GDAL_TIFF_OVR_BLOCKSIZE=PICTURE_BLOCK_PX, GDAL_NUM_THREADS="ALL_CPUS"),
    ):
        with create_raster(scratch / path.name, **profile) as out:
            yield out
            out.build_overviews([2**step for step in range(1, halvings + 1)], Resampling.average)
        (scratch / path.name).replace(path)


def thumbnail(picture: Picture) -> NDArray[np.uint8]:
    """Return (y, x, 3) uint8: the first composite of a picture, small.

    Raises:
        ProductError: its file is not there any longer.
    """
    bands = next(iter(picture.composites.values()))
    with open_raster(picture.path) as source:
        step = max(1, -(-max(source.height, source.width) // THUMBNAIL_PX))
        shape = (3, max(source.height // step, 1), max(source.width // step, 1))
        values: NDArray[np.uint8] = source.read(list(bands), out_shape=shape)
    return np.moveaxis(values, 0, -1)


def plan_composites(
    scene: Scene, sensor: Sensor
) -> tuple[tuple[str, ...], dict[str, tuple[int, int, int]]]:
    """Return the bands to draw, and for each composite the positions (1-based) of its three."""
    there = {
        band.common_name: band.name
        for label in scene.band_labels
        if (band := sensor.find_band(label)) and band.common_name
    }
    names, composites = choose_composites(there)
    if not composites:
        raise InputError(
            f"the scene has bands {', '.join(scene.band_labels)}; expected at least red, green and "
            "blue to draw a picture"
        )
    return names, composites


def choose_composites(
    there: Mapping[str, str],
) -> tuple[tuple[str, ...], dict[str, tuple[int, int, int]]]:
    """Return the bands that composites are made of, and for each the positions of its three.

    Args:
        there: common name of a band -> its name.
    """
    names: list[str] = []
    composites: dict[str, tuple[int, int, int]] = {}
    for title, channels in COMPOSITES.items():
        chosen = [next((there[key] for key in keys if key in there), None) for keys in channels]
        found = [name for name in chosen if name is not None]
        if len(found) < len(channels):
            continue
        names += [name for name in dict.fromkeys(found) if name not in names]
        red, green, blue = (names.index(name) + 1 for name in found)
        composites[title] = (red, green, blue)
    return tuple(names), composites


def _other_bands(scene: Scene, sensor: Sensor, names: tuple[str, ...]) -> tuple[str, ...]:
    known = [band for label in scene.band_labels if (band := sensor.find_band(label))]
    known.sort(key=lambda band: band.centre_nm or 0.0)
    return tuple(band.name for band in known if band.name not in names)


def _band_title(band: Band) -> str:
    return f"{band.name} {band.common_name}" if band.common_name else band.name


def pixel_at(grid: Grid, longitude: float, latitude: float) -> tuple[int, int] | None:
    """Return row and column of the pixel at a place, or None where the grid does not reach it."""
    if grid.crs is None or grid.transform is None:
        return None
    xs, ys = transform_points("EPSG:4326", grid.crs, [longitude], [latitude])
    row, column = grid.to_pixel(xs[0], ys[0])
    height, width = grid.shape_yx
    if not (0 <= row < height and 0 <= column < width):
        return None
    return math.floor(row), math.floor(column)


def read_spectrum(scene: Scene, longitude: float, latitude: float) -> Spectrum | None:
    """Return what the pixel at a place holds, or None outside the scene."""
    place = pixel_at(scene.grid, longitude, latitude)
    if place is None or scene.sensor is None:
        return None
    row, column = place
    known = [label for label in scene.band_labels if scene.sensor.find_band(label)]
    values = scene.cube(known)[:, row : row + 1, column : column + 1].ravel()
    bands = [scene.sensor.band(label) for label in known]
    order = sorted(range(len(bands)), key=lambda index: bands[index].centre_nm or 0.0)
    return Spectrum(
        row=row,
        column=column,
        bands=tuple(bands[index] for index in order),
        values=tuple(float(values[index]) for index in order),
    )


def _sample(cube: object, height: int, width: int) -> Floats:
    """Return (band, pixel) float32 from small windows spread over the scene."""
    rows = np.unique(np.linspace(0, max(height - SAMPLE_PX, 0), SAMPLES_A_SIDE).astype(int))
    columns = np.unique(np.linspace(0, max(width - SAMPLE_PX, 0), SAMPLES_A_SIDE).astype(int))
    parts = [
        cube[:, row : row + SAMPLE_PX, column : column + SAMPLE_PX]  # type: ignore[index]
        for row in map(int, rows)
        for column in map(int, columns)
    ]
    return np.concatenate([part.reshape(part.shape[0], -1) for part in parts], axis=1)


def _limits(plane: Floats) -> tuple[float, float]:
    seen = plane[np.isfinite(plane)]
    if not seen.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(seen, STRETCH_PERCENT))
    return low, max(high, low + 1e-3)


def _draw(plane: Floats, limits: tuple[float, float]) -> NDArray[np.uint8]:
    low, high = limits
    share = np.clip((plane - np.float32(low)) / np.float32(high - low), 0, 1)
    # A gamma of 1.5 shows shadows beside clouds.
    bright = 1 + 254 * np.power(share, np.float32(1 / 1.5))
    drawn: NDArray[np.uint8] = np.where(np.isfinite(plane), np.rint(bright), 0).astype(np.uint8)
    return drawn
