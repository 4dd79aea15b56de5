"""Rasters of any sensor: GeoTIFF (COG) and JPEG 2000 with bands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.enums import MaskFlags

from openeo_cloudmask.errors import BandError, ProductError
from openeo_cloudmask.products.acquired import read_acquired
from openeo_cloudmask.products.addresses import Address, Source
from openeo_cloudmask.products.band_files import band_of_file
from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.products.layers import layer_of_file
from openeo_cloudmask.products.resample import AxisMap
from openeo_cloudmask.products.safe import find_product_around
from openeo_cloudmask.products.scene import Scene
from openeo_cloudmask.products.stack import Fill, Plane, RasterStack, raster_grid
from openeo_cloudmask.products.xml import parse_percent
from openeo_cloudmask.sensors import SENSORS, Band, Sensor, band_decoder, find_layer

CLOUD_TAG = "CLOUD_COVER"
"""Tag of a file that says how much of it clouds cover, in percent."""
NAMELESS_HINT = "Name the layers of the file in their order, e.g. --bands B02,B03,B04,B08"


def open_raster_scene(
    path: Source,
    *,
    sensor: Sensor | None = None,
    scale: float | None = None,
    offset: float | None = None,
    bands: Sequence[str] | None = None,
) -> Scene:
    """Return a raster file as a scene.

    Bands are named by the file's band descriptions, or by ``bands``; a file of one band may be
    named like the file of a quality layer (``..._SCL_20m.jp2``). Reflectance is
    ``value * scale + offset``, from the arguments or else from the file's own tags. Thermal bands
    of ``sensor`` hold kelvin or normalised temperature, by the file's own tags. No-data are pixels
    outside the file's mask or alpha band, and those of ``sensors.decode``. When it was taken is
    read from its tags, see ``acquired``.

    Args:
        path: the file, or its address.
        sensor: what took it, where known.
        scale: reflectance a count; None takes what the file says.
        offset: reflectance of count 0; None takes what the file says.
        bands: a name for each of the file's bands, in their order.

    Raises:
        ProductError: the file cannot be opened, or does not hold numbers.
        BandError: the names do not fit the bands.
    """
    opened = path.gdal_path if isinstance(path, Address) else str(path)
    dataset = open_raster(opened)
    try:
        if not dataset.count:
            raise ProductError(
                f"{path} holds no pixels of its own; it lists {len(dataset.subdatasets)} "
                "sub-datasets. Pass one of them, or a file with bands"
            )
        kind = np.dtype(dataset.dtypes[0]).kind
        if kind not in "fiu":
            raise ProductError(
                f"{path} holds values of type {dataset.dtypes[0]}; expected bands of whole or "
                "floating-point numbers"
            )
        alpha = _find_alpha(dataset, bands)
        numbers = [number for number in range(1, dataset.count + 1) if number != alpha]
        labels = _name_bands(path, [dataset.descriptions[n - 1] for n in numbers], bands)
        planes = [
            _plane(dataset, opened, number, scale=scale, offset=offset, band=_find(sensor, label))
            for number, label in zip(numbers, labels, strict=True)
        ]
        masked = any(
            MaskFlags.per_dataset in flags and (alpha is not None or MaskFlags.alpha not in flags)
            for flags in dataset.mask_flag_enums
        )
        return Scene(
            source=RasterStack(planes, Fill(mask_path=opened if masked else None)),
            grid=raster_grid(dataset),
            band_labels=labels,
            sensor=sensor,
            acquired=read_acquired(dataset),
            metadata={
                "id": path.stem,
                "format": dataset.driver,
                "cloud_cover": parse_percent(dataset.tags().get(CLOUD_TAG)),
            },
            missing_hint=_hint(path, named=bool(bands or any(dataset.descriptions))),
        )
    finally:
        dataset.close()


def _hint(path: Source, *, named: bool) -> str:
    """Return what is said where a band is missing."""
    product = None if isinstance(path, Address) else find_product_around(path)
    if product is not None:
        return f"It is one file of the product {product}: mask that"
    if isinstance(path, Path) and not named and (band := band_of_file(path.name)) is not None:
        return f"By its name it is the band {band} alone: pass the folder of all, {path.parent}"
    return "" if named else NAMELESS_HINT


def _find_alpha(
    dataset: Any,  # noqa: ANN401 - rasterio has no types
    bands: Sequence[str] | None,
) -> int | None:
    """Return the number of the alpha band, or None.

    GDAL calls the fourth band of 8 bits alpha, whatever it holds: one that is named is a band.
    """
    for number, colour in enumerate(dataset.colorinterp, start=1):
        if colour.name == "alpha":
            name = dataset.descriptions[number - 1]
            named = name and any(sensor.knows(name) for sensor in SENSORS.values())
            return None if named or len(bands or ()) == dataset.count else number
    return None


def _name_bands(
    path: Source, descriptions: Sequence[str | None], bands: Sequence[str] | None
) -> tuple[str, ...]:
    if bands is None and len(descriptions) == 1 and not descriptions[0]:
        layer = layer_of_file(path.name)
        return (layer.name if layer is not None else "1",)
    if bands is None:
        return tuple(text or str(number) for number, text in enumerate(descriptions, start=1))
    if len(bands) != len(descriptions):
        raise BandError(
            f"{len(bands)} band names are given ({', '.join(bands)}), but {path} has "
            f"{len(descriptions)} bands; name each of them, in order"
        )
    return tuple(bands)


def _plane(
    dataset: Any,  # noqa: ANN401 - rasterio has no types
    path: str,
    number: int,
    *,
    scale: float | None,
    offset: float | None,
    band: Band | None,
) -> Plane:
    return Plane(
        path=path,
        index=number,
        decode=band_decoder(
            band,
            scale,
            offset,
            own_scale=dataset.scales[number - 1],
            own_offset=dataset.offsets[number - 1],
        ),
        rows=AxisMap(step=1.0, length=dataset.height),
        columns=AxisMap(step=1.0, length=dataset.width),
    )


def _find(sensor: Sensor | None, label: str) -> Band | None:
    if sensor is None:
        return find_layer(label)
    return sensor.find_band(label) or sensor.find_layer(label)
