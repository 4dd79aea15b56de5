"""Sentinel-2 products in ESA's SAFE layout: L1C and L2A, folders and zips, old names and new.

Reflectance is ``(DN + offset) / quantification``; both numbers come from the product's metadata,
never from its date or name: reprocessed products of old dates have an offset too. DN 0 is no-data
and is found before the offset is added. A saturated pixel (DN 65535) is the brightest there is and
stays seen, with a reflectance above 6, unless all bands hold that number.

The grid is that of the 10 m bands. Bands of 20 m and 60 m are interpolated bilinearly between
pixel centres, which is a choice of this package: it leaves no steps at the edges of coarse pixels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree as ET

from affine import Affine
from rasterio.crs import CRS

from openeo_cloudmask.digits import whole_number
from openeo_cloudmask.errors import BandError, ProductError
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.products.crs import parse_crs
from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.products.files import ProductFiles
from openeo_cloudmask.products.resample import AxisMap
from openeo_cloudmask.products.scene import Scene
from openeo_cloudmask.products.stack import Plane, RasterStack, raster_grid
from openeo_cloudmask.products.xml import find_text, parse_percent, parse_xml
from openeo_cloudmask.sensors import Sensor, band_decoder, get_sensor

_MAIN = re.compile(r"(MTD_MSIL(1C|2A)|S2._(OPER|USER)_MTD_SAFL(1C|2A)_.*)\.xml", re.IGNORECASE)
_GRANULE_METADATA = re.compile(r"(MTD_TL|S2._.*_MTD_L(1C|2A)_TL_.*)\.xml", re.IGNORECASE)
_IMAGE = re.compile(r".*_(B\d[\dA])(?:_(\d\d)m)?\.(?:jp2|tiff?)", re.IGNORECASE)
OUTPUT_M = 10
_DEPTH = 5
"""Folders above a file of a SAFE: R10m, IMG_DATA, the granule, GRANULE, the SAFE itself."""
_QUANTIFICATION = (100.0, 1e6)
"""Counts of reflectance 1 that can be meant; published products have 1000 or 10000."""
_LARGEST_DN = 65535
# RADIO_ADD_OFFSET and BOA_ADD_OFFSET count the bands in this order, B10 included.
_BAND_ORDER = get_sensor("sentinel-2-l1c").band_names
_SENSORS = {"S2MSI1C": "sentinel-2-l1c", "S2MSI2A": "sentinel-2-l2a", "S2MSI2AP": "sentinel-2-l2a"}
_ALTERNATIVE_TAGS = {
    "sentinel-2-l1c": (("QUANTIFICATION_VALUE",), "RADIO_ADD_OFFSET"),
    # The second name is that of products before 2018.
    "sentinel-2-l2a": (
        ("BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE"),
        "BOA_ADD_OFFSET",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Radiometry:
    """Reflectance of a band is ``(DN + offsets[band]) / quantification``."""

    quantification: float
    offsets: Mapping[str, float]
    nodata: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    """One band of the granule."""

    name: str
    resolution_m: int


def find_safe_metadata(files: ProductFiles) -> str | None:
    """Return the name of the product's main metadata file, or None if it has none.

    Raises:
        ProductError: there are several products.
    """
    found = [name for name in files.names if _MAIN.fullmatch(PurePosixPath(name).name)]
    if len(found) > 1:
        folders = ", ".join(str(PurePosixPath(name).parent) for name in found)
        raise ProductError(f"{files.where} holds {len(found)} products: {folders}; choose one")
    return found[0] if found else None


def find_product_around(path: Path) -> Path | None:
    """Return the SAFE that a file or folder of this machine lies in, or None."""
    for folder in list(path.absolute().parents)[:_DEPTH]:
        try:
            if any(_MAIN.fullmatch(item.name) for item in folder.iterdir()):
                return folder
        except OSError:
            return None
    return None


def open_safe_scene(
    files: ProductFiles, *, bands: Sequence[str] | None = None, granule: str | None = None
) -> Scene:
    """Return a SAFE product as a scene on its 10 m grid; module docstring: how pixels are made.

    Args:
        files: the product.
        bands: bands to use; None takes all that are there.
        granule: part of the name of the granule, where the product has several.

    Raises:
        ProductError: metadata are missing or broken, or there is no such granule.
        BandError: a band asked for is not there.
    """
    main = find_safe_metadata(files)
    if main is None:
        raise ProductError(f"{files.where} has no MTD_MSIL1C.xml or MTD_MSIL2A.xml")
    root = parse_xml(files.read(main), main)
    sensor = _find_sensor(root, main)
    radiometry = _read_radiometry(root, sensor, main)
    folder = _find_granule(files, str(PurePosixPath(main).parent), granule)
    images = _find_images(files, folder, sensor)
    chosen = _choose_images(images, bands, sensor, folder)
    tile = _read_tile(files, folder)
    datasets = {name: open_raster(files.gdal_path(image.name)) for name, image in images.items()}
    try:
        grids = {name: raster_grid(dataset) for name, dataset in datasets.items()}
    finally:
        for dataset in datasets.values():
            dataset.close()
    grid = _output_grid(images, grids, tile)
    planes = [_plane(files, name, images[name], grids[name], grid, radiometry) for name in chosen]
    return Scene(
        source=RasterStack(planes),
        grid=grid,
        band_labels=tuple(chosen),
        sensor=sensor,
        acquired=_read_time(root),
        metadata=_metadata(root, radiometry, folder, tile),
        missing_hint=(
            "Bands are searched in " + f"{folder}/IMG_DATA as *_Bxx.jp2 (L2A: *_Bxx_10m.jp2, "
            "_20m, _60m)"
        ),
    )


def _find_sensor(root: ET.Element, main: str) -> Sensor:
    product_type = find_text(root, "PRODUCT_TYPE")
    if product_type not in _SENSORS:
        raise ProductError(
            f"{main}: PRODUCT_TYPE is {product_type!r}; expected one of {', '.join(_SENSORS)}"
        )
    return get_sensor(_SENSORS[product_type])


def _read_radiometry(root: ET.Element, sensor: Sensor, main: str) -> _Radiometry:
    value_tags, offset_tag = _ALTERNATIVE_TAGS[sensor.id]
    texts = [text for tag in value_tags if (text := find_text(root, tag)) is not None]
    if not texts:
        raise ProductError(
            f"{main} has no {value_tags[0]}, so reflectance cannot be computed; "
            "expected it in Product_Image_Characteristics"
        )
    try:
        quantification = float(texts[0])
        listed = {
            int(item.get("band_id", "")): float(item.text or "") for item in root.iter(offset_tag)
        }
    except ValueError as err:
        raise ProductError(f"{main}: a radiometric number is no number: {err}") from err
    if not _QUANTIFICATION[0] <= quantification <= _QUANTIFICATION[1]:
        raise ProductError(f"{main}: {value_tags[0]} is {quantification}; expected 10000 or so")
    if strange := [value for value in listed.values() if not abs(value) <= quantification]:
        raise ProductError(
            f"{main}: {offset_tag} is {strange[0]}; expected -1000 or so, counts of less than "
            f"reflectance 1 ({quantification:g})"
        )
    offsets = {}
    for number, band in enumerate(_BAND_ORDER):
        if listed and number not in listed and band in sensor.band_names:
            raise ProductError(f"{main} lists {offset_tag} but none for band_id {number} ({band})")
        offsets[band] = listed.get(number, 0.0)  # no list at all before baseline 04.00
    nodata = _read_nodata(root, main)
    return _Radiometry(quantification=quantification, offsets=offsets, nodata=nodata)


def _read_nodata(root: ET.Element, main: str) -> float:
    for item in root.iter("Special_Values"):
        if (item.findtext("SPECIAL_VALUE_TEXT") or "").strip() == "NODATA":
            text = (item.findtext("SPECIAL_VALUE_INDEX") or "").strip()
            if whole_number(text, _LARGEST_DN) is None:
                raise ProductError(f"{main}: NODATA is {text!r}; expected a count such as 0")
            return float(text)
    return 0.0


def _find_granule(files: ProductFiles, top: str, wanted: str | None) -> str:
    prefix = "GRANULE/" if top == "." else f"{top}/GRANULE/"
    found = sorted(
        {
            name[len(prefix) :].split("/")[0]
            for name in files.names
            if name.startswith(prefix) and "/" in name[len(prefix) :]
        }
    )
    if not found:
        raise ProductError(
            f"{files.where} has no granule: expected image files in {prefix}<granule>/IMG_DATA/. "
            "The download may be incomplete"
        )
    fitting = [name for name in found if wanted is None or wanted in name]
    if len(fitting) != 1:
        what = "granules" if wanted is None else f"granules, of which {wanted!r} names none or many"
        raise ProductError(
            f"{files.where} has {len(found)} {what}: {', '.join(found)}. "
            "Choose one by a part of its name: --granule (granule=), e.g. its tile"
        )
    return prefix + fitting[0]


def _find_images(files: ProductFiles, folder: str, sensor: Sensor) -> dict[str, _Image]:
    """Return the finest image of each band, in the sensor's order."""
    found: dict[str, _Image] = {}
    for name in files.names:
        match = _IMAGE.fullmatch(PurePosixPath(name).name)
        if not name.startswith(f"{folder}/IMG_DATA/") or match is None:
            continue
        band = match[1].upper()
        if band not in sensor.band_names:
            continue
        resolution = int(match[2]) if match[2] else int(sensor.band(band).resolution_m)
        if band not in found or resolution < found[band].resolution_m:
            found[band] = _Image(name=name, resolution_m=resolution)
    if not found:
        raise ProductError(
            f"{files.where}: the granule has no images: expected {folder}/IMG_DATA/*_B02.jp2 and "
            "so on. The download may be incomplete"
        )
    return {name: found[name] for name in sensor.band_names if name in found}


def _choose_images(
    images: Mapping[str, _Image], bands: Sequence[str] | None, sensor: Sensor, folder: str
) -> list[str]:
    if bands is None:
        return list(images)
    names = [sensor.band(label).name for label in bands]
    if missing := [name for name in names if name not in images]:
        raise BandError(
            f"missing bands {', '.join(missing)}: expected "
            f"{folder}/IMG_DATA/**/*_{missing[0]}*.jp2; there are {', '.join(images)}"
        )
    return names


def _read_tile(files: ProductFiles, folder: str) -> ET.Element | None:
    for name in files.names:
        path = PurePosixPath(name)
        if str(path.parent) == folder and _GRANULE_METADATA.fullmatch(path.name):
            return parse_xml(files.read(name), name)
    return None


def _output_grid(
    images: Mapping[str, _Image], grids: Mapping[str, Grid], tile: ET.Element | None
) -> Grid:
    finest = min(images, key=lambda name: images[name].resolution_m)
    factor = images[finest].resolution_m // OUTPUT_M
    height, width = grids[finest].shape_yx
    transform, crs = grids[finest].transform, grids[finest].crs
    if transform is None:
        transform, stated = _tile_georeference(tile)
        crs = crs or stated
    else:
        transform = Affine(
            transform.a / factor, 0, transform.c, 0, transform.e / factor, transform.f
        )
    return Grid(shape_yx=(height * factor, width * factor), transform=transform, crs=crs)


def _tile_georeference(tile: ET.Element | None) -> tuple[Affine | None, CRS | None]:
    """Return what MTD_TL.xml says, for images that carry no georeference of their own."""
    if tile is None:
        return None, None
    texts = [find_text(tile, tag) for tag in ("HORIZONTAL_CS_CODE", "ULX", "ULY")]
    code, left, top = texts
    try:
        if code is None or left is None or top is None:
            return None, None
        transform = Affine(OUTPUT_M, 0, float(left), 0, -OUTPUT_M, float(top))
        return transform, parse_crs(code)
    except ValueError as err:
        raise ProductError(f"MTD_TL.xml: the tile's position cannot be read: {err}") from err


def _plane(
    files: ProductFiles,
    band: str,
    image: _Image,
    own: Grid,
    grid: Grid,
    radiometry: _Radiometry,
) -> Plane:
    rows, columns = map_axes(own, grid, step=OUTPUT_M / image.resolution_m, name=image.name)
    return Plane(
        path=files.gdal_path(image.name),
        decode=band_decoder(
            None,
            1 / radiometry.quantification,
            radiometry.offsets[band] / radiometry.quantification,
        ),
        nodata=radiometry.nodata,
        rows=rows,
        columns=columns,
    )


def map_axes(own: Grid, grid: Grid, *, step: float, name: str) -> tuple[AxisMap, AxisMap]:
    """Return how the rows and columns of ``grid`` lie on a raster with the grid ``own``.

    Args:
        own: grid of the raster that is read.
        grid: grid of the output.
        step: source pixels per output pixel, used where one of them has no georeference.
        name: of the raster, for the error.

    Raises:
        ProductError: the raster does not cover the grid.
    """
    height, width = own.shape_yx
    shift_y = shift_x = 0.0
    step_y = step_x = step
    source, target = own.transform, grid.transform
    if source is not None and target is not None:
        step_y, step_x = _exact(target.e / source.e), _exact(target.a / source.a)
        # Six digits drop the rounding noise of coordinates, so that whole pixels stay whole.
        shift_y, shift_x = (round(shift, 6) for shift in own.offset_yx(grid))
    axes = (
        AxisMap(step=step_y, shift=shift_y, length=height),
        AxisMap(step=step_x, shift=shift_x, length=width),
    )
    if not all(map(_covers, axes, grid.shape_yx)):
        raise ProductError(
            f"{name} has {height} x {width} pixels (y, x), which do not cover the "
            f"{grid.shape_yx[0]} x {grid.shape_yx[1]} pixels of the product's grid; it may be cut "
            "off, or of another product"
        )
    return axes


def _covers(axis: AxisMap, length: int) -> bool:
    # Of a coarser or finer band, the last pixel may lie partly beyond the grid or fall short of it.
    slack = 0.0 if axis.whole else max(1.0, axis.step)
    return -slack <= axis.shift and axis.shift + length * axis.step <= axis.length + slack


def _exact(step: float) -> float:
    """Return 1 / 6 for 0.16666667: a step is a whole number or one divided by it."""
    whole = round(step) if step >= 1 else 1 / round(1 / step)
    return whole if abs(step - whole) < 1e-6 else step


def _read_time(root: ET.Element) -> datetime | None:
    text = find_text(root, "PRODUCT_START_TIME")
    try:
        return None if text is None else datetime.fromisoformat(text)
    except ValueError:
        return None


def _metadata(
    root: ET.Element,
    radiometry: _Radiometry,
    folder: str,
    tile: ET.Element | None,
) -> dict[str, Any]:
    sun = None if tile is None else next(iter(tile.iter("Mean_Sun_Angle")), None)
    zenith = None if sun is None else find_text(sun, "ZENITH_ANGLE")
    azimuth = None if sun is None else find_text(sun, "AZIMUTH_ANGLE")
    offsets = sorted(set(radiometry.offsets.values()))
    return {
        "id": (find_text(root, "PRODUCT_URI") or PurePosixPath(folder).name).removesuffix(".SAFE"),
        "product_type": find_text(root, "PRODUCT_TYPE"),
        "platform": find_text(root, "SPACECRAFT_NAME"),
        "processing_baseline": find_text(root, "PROCESSING_BASELINE"),
        "granule": PurePosixPath(folder).name,
        "cloud_cover": parse_percent(find_text(root, "Cloud_Coverage_Assessment")),
        "quantification_value": radiometry.quantification,
        "add_offset_dn": offsets[0] if len(offsets) == 1 else offsets,
        "sun_elevation_deg": None if zenith is None else 90 - float(zenith),
        "sun_azimuth_deg": None if azimuth is None else float(azimuth),
    }
