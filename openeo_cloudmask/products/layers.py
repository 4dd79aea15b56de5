"""Quality layers of a product, on the grid of its bands.

They are read only where they are asked for by name. Codes are never interpolated: a pixel of the
grid gets the code of the layer's pixel under its centre.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from openeo_cloudmask.errors import BandError, ProductError
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.products.files import ProductFiles
from openeo_cloudmask.products.safe import map_axes
from openeo_cloudmask.products.scene import Scene
from openeo_cloudmask.products.stack import Plane, RasterStack, raster_grid
from openeo_cloudmask.sensors import SENSORS, Band, Sensor, band_decoder

_SUFFIX = re.compile(r"\.(?:jp2|tiff?)", re.IGNORECASE)


def add_layers(
    scene: Scene, files: ProductFiles, names: Sequence[str], *, within: str = ""
) -> Scene:
    """Return the scene with the quality layers ``names`` after its bands.

    Args:
        scene: the product's bands.
        files: the product.
        names: layers, by name or alias.
        within: folder that the layers lie in or below; that of the granule, in a SAFE.

    Raises:
        BandError: the sensor has no such layer, or the product lacks its file.
        ProductError: a file cannot be read, or does not cover the scene.
    """
    if not isinstance(scene.source, RasterStack):
        raise ProductError(
            f"{files.where}: quality layers ({', '.join(names)}) are read from files of their own; "
            "expected a product that is a folder or archive of rasters"
        )
    planes = [
        _plane(files, _find_file(files, layer, within), layer, scene.grid)
        for layer in (_find_layer(scene.sensor, name) for name in names)
    ]
    labels = tuple(_find_layer(scene.sensor, name).name for name in names)
    return replace(
        scene, source=scene.source.extended(planes), band_labels=(*scene.band_labels, *labels)
    )


def layer_of_file(name: str) -> Band | None:
    """Return the quality layer that a file of this name holds alone, or None."""
    found = (
        layer
        for sensor in SENSORS.values()
        for layer in sensor.layers
        if _is_file(layer, name) and not _shares_file(sensor.layers, layer)
    )
    return next(found, None)


def _find_layer(sensor: Sensor | None, name: str) -> Band:
    layer = None if sensor is None else sensor.find_layer(name)
    if layer is not None:
        return layer
    whose = "a product whose sensor is not known" if sensor is None else sensor.id
    there = [] if sensor is None else [item.name for item in sensor.layers]
    raise BandError(
        f"no quality layer {name!r} of {whose}; expected one of {', '.join(there) or '(none)'}"
    )


def _find_file(files: ProductFiles, layer: Band, within: str) -> str:
    inside = f"{within}/" if within else ""
    found = [
        name
        for name in files.names
        if name.startswith(inside) and _is_file(layer, PurePosixPath(name).name)
    ]
    if not found:
        raise BandError(
            f"{files.where} has no quality layer {layer.name}; expected a file called "
            f"{layer.file_pattern} (.jp2, .tif)"
        )
    return min(found, key=_fineness)


def _is_file(layer: Band, name: str) -> bool:
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
    pattern = layer.file_pattern or ""
    return bool(_SUFFIX.fullmatch(suffix) and re.fullmatch(pattern, stem, re.IGNORECASE))


def _shares_file(layers: Iterable[Band], layer: Band) -> bool:
    return sum(other.file_pattern == layer.file_pattern for other in layers) > 1


def _fineness(name: str) -> tuple[int, str]:
    """Sort by pixel size, as far as the name tells it: 20 m before 60 m, MAJA's R1 before R2."""
    found = re.search(r"_(?:([126]0)m|R([12]))\.", name)
    size = 0 if found is None else int(found[1]) if found[1] else 10 * int(found[2])
    return size, name


def _plane(files: ProductFiles, name: str, layer: Band, grid: Grid) -> Plane:
    path = files.gdal_path(name)
    with open_raster(path) as dataset:
        own, count = raster_grid(dataset), dataset.count
    if count < layer.file_index:
        raise ProductError(
            f"{name} has {count} band(s); expected {layer.name} in band {layer.file_index}"
        )
    if own.crs is not None and grid.crs is not None and own.crs != grid.crs:
        raise ProductError(f"{name} is in {own.crs}, the bands are in {grid.crs}; expected one")
    rows, columns = map_axes(own, grid, step=own.shape_yx[0] / grid.shape_yx[0], name=name)
    return Plane(
        path=path,
        index=layer.file_index,
        decode=band_decoder(layer),
        rows=replace(rows, nearest=True),
        columns=replace(columns, nearest=True),
    )
