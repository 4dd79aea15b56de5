"""Landsat Level-1 products, as folders or tars: Collection 2, 1, and those before collections.

Reflectance is divided by the sine of the sun's elevation; thermal bands become brightness
temperature, normalised to 0-1. All constants come from the MTL file. DN 0 and bit 0 of QA_PIXEL
(BQA before Collection 2) are no-data. The grid is that of the 30 m bands; the panchromatic band
(15 m) is averaged over the area of a 30 m pixel, whose centre is that of a panchromatic pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from openeo_cloudmask.errors import BandError, ProductError
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.products.files import ProductFiles
from openeo_cloudmask.products.mtl import Mtl, parse_mtl
from openeo_cloudmask.products.safe import map_axes
from openeo_cloudmask.products.scene import Floats, Scene
from openeo_cloudmask.products.stack import Fill, Plane, RasterStack, raster_grid
from openeo_cloudmask.products.xml import parse_percent
from openeo_cloudmask.sensors import (
    Band,
    BandDecoder,
    BandKind,
    Sensor,
    brightness_temperature,
    get_sensor,
    landsat_reflectance,
    normalise_temperature,
)

_QUALITY = ("_QA_PIXEL.TIF", "_BQA.TIF")
_SUFFIXES = ("_MTL.TXT", "_MTL.JSON", "_MTL.XML")  # in order of preference
_SENSORS = {
    "LANDSAT_4": "landsat-4-5-l1",
    "LANDSAT_5": "landsat-4-5-l1",
    "LANDSAT_7": "landsat-7-l1",
    "LANDSAT_8": "landsat-8-9-l1",
    "LANDSAT_9": "landsat-8-9-l1",
}
_RESCALING, _THERMAL = "LEVEL1_RADIOMETRIC_RESCALING", "LEVEL1_THERMAL_CONSTANTS"


def find_mtl(files: ProductFiles) -> str | None:
    """Return the name of the product's MTL file, or None if it has none.

    Raises:
        ProductError: there are several products.
    """
    found = [name for name in files.names if name.upper().endswith(_SUFFIXES)]
    products = {name.rsplit("_MTL", 1)[0] for name in found}
    if len(products) > 1:
        raise ProductError(
            f"{files.where} holds {len(products)} products: {', '.join(sorted(products))}; "
            "choose one, e.g. by passing its MTL file's own folder"
        )
    order = {name: _SUFFIXES.index("_MTL." + name.upper().rsplit(".", 1)[-1]) for name in found}
    return min(found, key=order.__getitem__, default=None)


def open_landsat_scene(files: ProductFiles, *, bands: Sequence[str] | None = None) -> Scene:
    """Return a Level-1 product as a scene on its 30 m grid.

    Args:
        files: the product.
        bands: bands to use; None takes all that are there. A product without thermal bands (TIRS)
            or without optical ones (OLI) opens with what it has.

    Raises:
        ProductError: metadata are missing or broken, or the product is not of Level-1.
        BandError: a band asked for is not there.
    """
    name = find_mtl(files)
    if name is None:
        raise ProductError(f"{files.where} has no *_MTL.txt, *_MTL.json or *_MTL.xml")
    mtl = parse_mtl(files.read(name), name)
    spacecraft = mtl.text("IMAGE_ATTRIBUTES", "SPACECRAFT_ID")
    if spacecraft not in _SENSORS:
        raise ProductError(
            f"{name}: SPACECRAFT_ID is {spacecraft!r}; expected one of {', '.join(_SENSORS)}"
        )
    sensor = get_sensor(_SENSORS[spacecraft])
    images = _find_images(files, mtl, sensor)
    chosen = list(images) if bands is None else [sensor.band(label).name for label in bands]
    hint = _missing_hint(mtl)
    if missing := [band for band in chosen if band not in images]:
        raise BandError(
            f"missing bands {', '.join(missing)}; there are {', '.join(images)}. {hint}"
        )
    grids = {band: _read_grid(files.gdal_path(image)) for band, image in images.items()}
    grid = next((grids[band] for band in images if sensor.band(band).resolution_m == 30), None)
    if grid is None:
        raise ProductError(f"{files.where} has no band of 30 m; there are {', '.join(images)}")
    planes = [
        _plane(files.gdal_path(images[band]), sensor.band(band), grids[band], grid, mtl)
        for band in chosen
    ]
    return Scene(
        source=RasterStack(planes, _find_fill(files, images, grid)),
        grid=grid,
        band_labels=tuple(chosen),
        sensor=sensor,
        acquired=_read_time(mtl),
        metadata=_metadata(mtl, spacecraft),
        missing_hint=hint,
    )


def _find_images(files: ProductFiles, mtl: Mtl, sensor: Sensor) -> dict[str, str]:
    """Return band -> name of its image, of those that are there, in the sensor's order."""
    level = mtl.text("PRODUCT_CONTENTS", "PROCESSING_LEVEL")
    # The MTL of a Level-2 product also names the Level-1 images it was made of.
    group = "PRODUCT_CONTENTS" if level.startswith("L1") else "LEVEL1_PROCESSING_RECORD"
    folder = PurePosixPath(mtl.name).parent
    named = mtl.groups.get(group, {})
    stated = {
        band: str(folder / file)
        for band in sensor.band_names
        if (file := named.get(f"FILE_NAME_BAND_{band[1:]}"))
    }
    found = {band: name for band, name in stated.items() if name in files.names}
    if found:
        return found
    if not level.startswith("L1"):
        raise ProductError(
            f"{files.where} is a product of level {level} (surface reflectance); expected Level-1 "
            "(L1TP, L1GT or L1GS), top of atmosphere: download the Level-1 product of the scene"
        )
    raise ProductError(
        f"{files.where} has none of the images that {mtl.name} names: "
        f"{', '.join(stated.values()) or '(it names none)'}. The download may be incomplete"
    )


def _missing_hint(mtl: Mtl) -> str:
    instrument = mtl.groups.get("IMAGE_ATTRIBUTES", {}).get("SENSOR_ID", "")
    lacking = {
        "OLI": "thermal bands (TIRS: B10, B11)",
        "TIRS": "optical bands (OLI: B1 to B9)",
    }.get(instrument)
    if lacking is None:
        return "Images are searched under the names that the MTL file gives"
    return (
        f"SENSOR_ID is {instrument}: the scene was taken without {lacking}; "
        "use a product that has both (LC08, LC09)"
    )


def _read_grid(path: str) -> Grid:
    dataset = open_raster(path)
    try:
        return raster_grid(dataset)
    finally:
        dataset.close()


def _plane(path: str, band: Band, own: Grid, grid: Grid, mtl: Mtl) -> Plane:
    rows, columns = map_axes(own, grid, step=30 / band.resolution_m, name=path)
    return Plane(path=path, decode=_decoder(band, mtl), nodata=0, rows=rows, columns=columns)


def _decoder(band: Band, mtl: Mtl) -> BandDecoder:
    number = band.name[1:]
    if band.kind is BandKind.THERMAL:
        constants = (
            mtl.positive(_RESCALING, f"RADIANCE_MULT_BAND_{number}", most=1),
            mtl.number(_RESCALING, f"RADIANCE_ADD_BAND_{number}", most=1000),
            mtl.positive(_THERMAL, f"K1_CONSTANT_BAND_{number}", most=1e5),
            mtl.positive(_THERMAL, f"K2_CONSTANT_BAND_{number}", most=1e5),
        )

        def decode_thermal(dn: Floats) -> Floats:
            return normalise_temperature(brightness_temperature(dn, *constants), band.name)

        return BandDecoder(convert=decode_thermal, optical=False)
    mult = mtl.positive(_RESCALING, f"REFLECTANCE_MULT_BAND_{number}", most=1)
    add = mtl.number(_RESCALING, f"REFLECTANCE_ADD_BAND_{number}", most=1)
    elevation = mtl.number("IMAGE_ATTRIBUTES", "SUN_ELEVATION")
    return BandDecoder(convert=lambda dn: landsat_reflectance(dn, mult, add, elevation))


def _find_fill(files: ProductFiles, images: dict[str, str], grid: Grid) -> Fill:
    folder = str(PurePosixPath(next(iter(images.values()))).parent)
    for name in files.names:
        if str(PurePosixPath(name).parent) == folder and name.upper().endswith(_QUALITY):
            if _read_grid(files.gdal_path(name)).shape_yx != grid.shape_yx:
                raise ProductError(
                    f"{name} is not of the size of the bands, {grid.shape_yx} (y, x)"
                )
            return Fill(flag_path=files.gdal_path(name))
    return Fill()


def _read_time(mtl: Mtl) -> datetime | None:
    attributes = mtl.groups.get("IMAGE_ATTRIBUTES", {})
    day, clock = attributes.get("DATE_ACQUIRED", ""), attributes.get("SCENE_CENTER_TIME", "")
    try:
        return datetime.fromisoformat(f"{day}T{clock.rstrip('Z')[:15]}").replace(tzinfo=UTC)
    except ValueError:
        return None


def _metadata(mtl: Mtl, spacecraft: str) -> dict[str, Any]:
    contents = mtl.groups.get("PRODUCT_CONTENTS", {})
    return {
        "id": contents.get("LANDSAT_PRODUCT_ID"),
        "product_type": contents.get("PROCESSING_LEVEL"),
        "platform": spacecraft.lower().replace("_", "-"),
        "instrument": mtl.groups.get("IMAGE_ATTRIBUTES", {}).get("SENSOR_ID"),
        "cloud_cover": parse_percent(mtl.groups.get("IMAGE_ATTRIBUTES", {}).get("CLOUD_COVER")),
        "sun_elevation_deg": mtl.number("IMAGE_ATTRIBUTES", "SUN_ELEVATION"),
        "sun_azimuth_deg": mtl.number("IMAGE_ATTRIBUTES", "SUN_AZIMUTH"),
    }
