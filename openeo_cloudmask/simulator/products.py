"""Simulated scenes written as real ones come: GeoTIFF, SAFE, Landsat Level-1, ALCD reference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from openeo_cloudmask.errors import OptionError, OutputError
from openeo_cloudmask.products.drivers import create_raster
from openeo_cloudmask.products.raster import CLOUD_TAG
from openeo_cloudmask.publish import publish_file, publish_folder
from openeo_cloudmask.sensors import Band, BandKind, get_sensor
from openeo_cloudmask.sensors.radiometry import THERMAL_RANGE_K
from openeo_cloudmask.simulator.scene import SimulatedScene

if TYPE_CHECKING:
    from openeo_cloudmask.alcd.types import AlcdScene

ACQUIRED = "20200615T103031"
"""Every simulated scene bears this time."""
ALCD_PIXEL_M = 60

# Radiance a count, radiance of count 0, and K1, K2 of Landsat 8's two thermal bands.
_TIRS = {"B10": (3.342e-4, 0.1, 774.8853, 1321.0789), "B11": (3.342e-4, 0.1, 480.8883, 1201.1442)}
_SPACECRAFT = {
    "landsat-8-9-l1": ("LANDSAT_8", "LC08"),
    "landsat-7-l1": ("LANDSAT_7", "LE07"),
    "landsat-4-5-l1": ("LANDSAT_5", "LT05"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Safe:
    """What tells the two levels of SAFE products apart."""

    level: str
    quantification: str
    """Tags around the counts of reflectance 1."""
    offset: str

    def image(self, band: Band) -> str:
        """Return where in the granule the image of ``band`` lies."""
        if self.level == "1C":
            return f"IMG_DATA/T31SIM_{ACQUIRED}_{band.name}.jp2"
        size = f"{band.resolution_m:.0f}m"
        return f"IMG_DATA/R{size}/T31SIM_{ACQUIRED}_{band.name}_{size}.jp2"


_SAFES = {
    "sentinel-2-l1c": _Safe(
        level="1C",
        quantification="<QUANTIFICATION_VALUE>10000</QUANTIFICATION_VALUE>",
        offset="RADIO_ADD_OFFSET",
    ),
    "sentinel-2-l2a": _Safe(
        level="2A",
        quantification="<QUANTIFICATION_VALUES_LIST><BOA_QUANTIFICATION_VALUE>10000"
        "</BOA_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>",
        offset="BOA_ADD_OFFSET",
    ),
}


def write_geotiff(scene: SimulatedScene, path: Path) -> Path:
    """Write the cube as one float32 GeoTIFF, NaN where no-data, bands described by their names.

    Raises:
        OutputError: it cannot be written.
    """
    _write_raster(path, scene.cube, scene, driver="GTiff", names=scene.band_names, nodata=math.nan)
    return path


def write_truth(scene: SimulatedScene, path: Path) -> Path:
    """Write the truth in the four classes as a uint8 GeoTIFF, 255 where no-data.

    Raises:
        OutputError: it cannot be written.
    """
    _write_raster(
        path, scene.truth[np.newaxis], scene, driver="GTiff", names=("truth",), nodata=255
    )
    return path


def write_product(scene: SimulatedScene, folder: Path) -> Path:
    """Write the scene as a product of its sensor into ``folder``; return the product's folder.

    Sentinel-2 becomes a SAFE of baseline 05.00 (offset -1000), Landsat a Level-1 product with an
    MTL file. Integers are rounded as in real products. A Level-2A has the layout of one; no
    atmosphere is taken off, so it holds the reflectance that the simulator gives.

    Raises:
        OptionError: the sensor's products are not written here, or the size does not fit.
        OutputError: it cannot be written, or is there already.
    """
    if scene.sensor in _SAFES:
        made = _made(scene).strftime("%Y%m%dT%H%M%S")
        level = _SAFES[scene.sensor].level
        name = f"S2A_MSIL{level}_{ACQUIRED}_N0500_R108_T31SIM_{made}.SAFE"
        return publish_folder(folder / name, lambda part: _fill_safe(scene, part, name))
    if scene.sensor in _SPACECRAFT:
        made = f"{_made(scene, days=True):%Y%m%d}"
        name = f"{_SPACECRAFT[scene.sensor][1]}_L1TP_199030_20200615_{made}_02_T1"
        return publish_folder(folder / name, lambda part: _fill_landsat(scene, part, name))
    raise OptionError(
        f"scenes of {scene.sensor!r} are not written as products; expected "
        f"{', '.join((*_SAFES, *_SPACECRAFT))}, or write a GeoTIFF"
    )


def _made(scene: SimulatedScene, *, days: bool = False) -> datetime:
    """Return when a product was "made": its seed, counted from the acquisition.

    Names of products have a place for that time, and so those of different seeds differ.
    """
    seed = int(scene.metadata["seed"])
    step = timedelta(days=seed % 100_000) if days else timedelta(seconds=seed % 10**9)
    return datetime.strptime(ACQUIRED, "%Y%m%dT%H%M%S").replace(tzinfo=UTC) + step


def make_reference(scene: SimulatedScene, name: str) -> AlcdScene:
    """Return the truth as an ALCD reference at 60 m: in each block the class most pixels have.

    Raises:
        OptionError: the pixel size does not divide 60 m.
    """
    from rasterio.crs import CRS

    from openeo_cloudmask.alcd.types import AlcdParameters
    from openeo_cloudmask.alcd.writer import make_alcd_scene
    from openeo_cloudmask.products import Grid

    factor = ALCD_PIXEL_M / scene.transform.a
    if factor != int(factor):
        raise OptionError(f"pixels of {scene.transform.a} m do not fit into {ALCD_PIXEL_M} m")
    labels = _majority(scene.truth_alcd, int(factor))
    return make_alcd_scene(
        name=name,
        labels=labels,
        grid=Grid(
            shape_yx=labels.shape,  # type: ignore[arg-type]
            transform=scene.transform * Affine.scale(factor),
            crs=CRS.from_user_input(scene.crs),
        ),
        parameters=AlcdParameters(
            tile="31SIM",
            location="Simulated",
            cloudy_date=ACQUIRED[:8],
            cloudy_product_name=name,
            clear_date=ACQUIRED[:8],
            clear_product_name=name,
        ),
        seed=int(scene.metadata["seed"]),
    )


def _majority(labels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    height, width = (n // factor * factor for n in labels.shape)
    blocks = labels[:height, :width].reshape(height // factor, factor, width // factor, factor)
    votes = np.stack([(blocks == code).sum(axis=(1, 3)) for code in range(8)])
    winner: NDArray[np.uint8] = votes.argmax(axis=0).astype(np.uint8)
    return winner


def _write_raster(
    path: Path,
    pixels: NDArray[Any],
    scene: SimulatedScene,
    *,
    driver: str,
    names: tuple[str, ...] = (),
    nodata: float | None = None,
) -> None:
    """Write pixels of any resolution whose upper left corner is the scene's, atomically."""
    from rasterio.errors import RasterioError

    step = scene.cube.shape[2] / pixels.shape[2]
    extra = (
        {"QUALITY": "100", "REVERSIBLE": "YES"}
        if driver == "JP2OpenJPEG"
        else {"compress": "deflate", "tiled": True, "blockxsize": 256, "blockysize": 256}
    )
    try:
        with (
            publish_file(path) as part,
            create_raster(
                part,
                driver=driver,
                count=len(pixels),
                height=pixels.shape[1],
                width=pixels.shape[2],
                dtype=pixels.dtype,
                crs=scene.crs,
                transform=scene.transform * Affine.scale(step),
                nodata=nodata,
                **extra,
            ) as dataset,
        ):
            dataset.write(pixels)
            for number, name in enumerate(names, start=1):
                dataset.set_band_description(number, name)
            if names:  # a scene in one file has no other metadata
                dataset.update_tags(**{CLOUD_TAG: scene.cloud_percent})
    except (RasterioError, OSError) as err:
        raise OutputError(f"cannot write {path}: {err}") from err


def _own_resolution(plane: NDArray[np.float32], band: Band, pixel_m: float) -> NDArray[np.float32]:
    """Return a band's pixels at its own resolution; NaN where any of a block is no-data."""
    factor = band.resolution_m / pixel_m
    if factor < 1:  # the panchromatic band is simulated at the scene's resolution
        times = round(1 / factor)
        return np.repeat(np.repeat(plane, times, 0), times, 1)
    size = round(factor)
    if factor != size or plane.shape[0] % size or plane.shape[1] % size:
        raise OptionError(
            f"a scene of {plane.shape[0]} x {plane.shape[1]} pixels of {pixel_m} m holds no whole "
            f"number of the {band.resolution_m} m pixels of {band.name}; choose a multiple of 6"
        )
    blocks = plane.reshape(plane.shape[0] // size, size, plane.shape[1] // size, size)
    coarse: NDArray[np.float32] = blocks.mean(axis=(1, 3), dtype=np.float32)
    return coarse


def _counts(values: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Return counts from 1 up; 0 where no-data."""
    clipped = np.nan_to_num(np.clip(np.rint(values), 1, 65534), nan=0.0)
    counts: NDArray[np.uint16] = clipped.astype(np.uint16)
    return counts


def _fill_safe(scene: SimulatedScene, folder: Path, name: str) -> None:
    sensor, safe = get_sensor(scene.sensor), _SAFES[scene.sensor]
    granule = folder / "GRANULE" / f"L{safe.level}_T31SIM_A000000_{ACQUIRED}"
    for plane, label in zip(scene.cube, scene.band_names, strict=True):
        own = _own_resolution(plane, sensor.band(label), scene.transform.a)
        image = granule / safe.image(sensor.band(label))
        image.parent.mkdir(parents=True, exist_ok=True)
        _write_raster(
            image, _counts(own.astype(float) * 10_000 + 1000)[np.newaxis], scene,
            driver="JP2OpenJPEG",
        )  # fmt: skip
    offsets = "".join(
        f'<{safe.offset} band_id="{number}">-1000</{safe.offset}>' for number in range(13)
    )
    (folder / f"MTD_MSIL{safe.level}.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Level-{safe.level}_User_Product><General_Info><Product_Info>"
        f"<PRODUCT_START_TIME>{_iso_time()}</PRODUCT_START_TIME>"
        f"<PRODUCT_URI>{name}</PRODUCT_URI>"
        "<PROCESSING_BASELINE>05.00</PROCESSING_BASELINE>"
        f"<PRODUCT_TYPE>S2MSI{safe.level}</PRODUCT_TYPE></Product_Info><Product_Image_Characteristics>"
        "<Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT>"
        "<SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX></Special_Values>"
        f"{safe.quantification}"
        f"<Radiometric_Offset_List>{offsets}</Radiometric_Offset_List>"
        "</Product_Image_Characteristics></General_Info><Quality_Indicators_Info>"
        f"<Cloud_Coverage_Assessment>{scene.cloud_percent}</Cloud_Coverage_Assessment>"
        f"</Quality_Indicators_Info></Level-{safe.level}_User_Product>\n",
        encoding="utf-8",
    )
    (granule / "MTD_TL.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Level-{safe.level}_Tile_ID><Geometric_Info><Tile_Geocoding>"
        f"<HORIZONTAL_CS_CODE>{scene.crs}</HORIZONTAL_CS_CODE>"
        '<Geoposition resolution="10">'
        f"<ULX>{scene.transform.c}</ULX><ULY>{scene.transform.f}</ULY></Geoposition>"
        "</Tile_Geocoding><Tile_Angles><Mean_Sun_Angle>"
        f"<ZENITH_ANGLE>{scene.sun_zenith_deg}</ZENITH_ANGLE>"
        f"<AZIMUTH_ANGLE>{scene.sun_azimuth_deg}</AZIMUTH_ANGLE>"
        f"</Mean_Sun_Angle></Tile_Angles></Geometric_Info></Level-{safe.level}_Tile_ID>\n",
        encoding="utf-8",
    )


def _iso_time() -> str:
    day, clock = ACQUIRED.split("T")
    return f"{day[:4]}-{day[4:6]}-{day[6:]}T{clock[:2]}:{clock[2:4]}:{clock[4:]}.024Z"


def _fill_landsat(scene: SimulatedScene, folder: Path, name: str) -> None:
    sensor = get_sensor(scene.sensor)
    elevation = 90 - scene.sun_zenith_deg
    sine = math.sin(math.radians(elevation))
    contents = {"LANDSAT_PRODUCT_ID": name, "PROCESSING_LEVEL": "L1TP", "COLLECTION_NUMBER": "02"}
    rescaling: dict[str, Any] = {}
    thermal: dict[str, Any] = {}
    for plane, label in zip(scene.cube, scene.band_names, strict=True):
        band, number = sensor.band(label), label[1:]
        own = _own_resolution(plane, band, scene.transform.a).astype(float)
        if band.kind is BandKind.THERMAL:
            mult, add, k1, k2 = _TIRS[label]
            low, high = THERMAL_RANGE_K[label]
            kelvin = low + own * (high - low)
            counts = _counts((k1 / np.expm1(k2 / kelvin) - add) / mult)
            rescaling |= {f"RADIANCE_MULT_BAND_{number}": mult, f"RADIANCE_ADD_BAND_{number}": add}
            thermal |= {f"K1_CONSTANT_BAND_{number}": k1, f"K2_CONSTANT_BAND_{number}": k2}
        else:
            counts = _counts((own * sine + 0.1) / 2e-5)
            rescaling |= {
                f"REFLECTANCE_MULT_BAND_{number}": 2e-5,
                f"REFLECTANCE_ADD_BAND_{number}": -0.1,
            }
        file = f"{name}_{label}.TIF"
        contents[f"FILE_NAME_BAND_{number}"] = file
        _write_raster(folder / file, counts[np.newaxis], scene, driver="GTiff", nodata=0)
    groups: dict[str, dict[str, Any]] = {
        "PRODUCT_CONTENTS": contents,
        "IMAGE_ATTRIBUTES": {
            "SPACECRAFT_ID": _SPACECRAFT[scene.sensor][0],
            "SENSOR_ID": sensor.instrument.upper(),
            "CLOUD_COVER": scene.cloud_percent,
            "DATE_ACQUIRED": _iso_time()[:10],
            "SCENE_CENTER_TIME": _iso_time()[11:],
            "SUN_AZIMUTH": scene.sun_azimuth_deg,
            "SUN_ELEVATION": elevation,
        },
        "LEVEL1_RADIOMETRIC_RESCALING": rescaling,
        "LEVEL1_THERMAL_CONSTANTS": thermal,
    }
    (folder / f"{name}_MTL.txt").write_text(_mtl_text(groups), encoding="ascii")


def _mtl_text(groups: dict[str, dict[str, Any]]) -> str:
    lines = ["GROUP = LANDSAT_METADATA_FILE"]
    for group, values in groups.items():
        lines.append(f"  GROUP = {group}")
        lines += [
            f"    {key} = " + (f'"{value}"' if isinstance(value, str) else repr(float(value)))
            for key, value in values.items()
        ]
        lines.append(f"  END_GROUP = {group}")
    return "\n".join([*lines, "END_GROUP = LANDSAT_METADATA_FILE", "END", ""])
