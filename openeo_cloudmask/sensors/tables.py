"""The sensors this package knows, as tables.

Wavelengths (min and max, nm) of Sentinel-2 and Landsat 8/9 are those the published SEnSeIv2
weights were trained with (its ``constants.py``); those of Landsat 4-7 are the band edges that the
USGS gives for the Thematic Mapper and the Enhanced Thematic Mapper Plus.
"""

from __future__ import annotations

from collections.abc import Mapping

from openeo_cloudmask.errors import SensorError
from openeo_cloudmask.sensors.bands import Band, BandKind, Sensor
from openeo_cloudmask.sensors.layers import (
    HLS_LAYERS,
    LANDSAT_LAYERS,
    SENTINEL_2_L2A_LAYERS,
    SENTINEL_2_LAYERS,
)

_S2_ROWS = (
    # name, min, max, resolution, common name, aliases
    ("B01", 425.0, 461.0, 60, "coastal", ("B1", "aerosol", "coastal_aerosol")),
    ("B02", 446.0, 542.0, 10, "blue", ("B2",)),
    ("B03", 537.5, 582.5, 10, "green", ("B3",)),
    ("B04", 645.5, 684.5, 10, "red", ("B4",)),
    ("B05", 694.0, 714.0, 20, "rededge071", ("B5", "rededge1", "rededge")),
    ("B06", 731.0, 749.0, 20, "rededge075", ("B6", "rededge2")),
    ("B07", 767.0, 795.0, 20, "rededge078", ("B7", "rededge3")),
    ("B08", 763.5, 904.5, 10, "nir", ("B8",)),
    ("B8A", 847.5, 880.5, 20, "nir08", ("B08A", "nir_narrow", "rededge4", "nir2")),
    ("B09", 930.5, 957.5, 60, "nir09", ("B9", "water_vapor", "water_vapour")),
    ("B10", 1337.0, 1413.0, 60, "cirrus", ()),
    ("B11", 1541.0, 1683.0, 20, "swir16", ("swir1",)),
    ("B12", 2074.0, 2314.0, 20, "swir22", ("swir2",)),
)
_OLI_ROWS = (
    ("B1", 435.0, 451.0, 30, "coastal", ("B01", "aerosol", "coastal_aerosol")),
    ("B2", 452.0, 512.0, 30, "blue", ("B02",)),
    ("B3", 533.5, 590.5, 30, "green", ("B03",)),
    ("B4", 636.5, 673.5, 30, "red", ("B04",)),
    ("B5", 851.0, 879.0, 30, "nir08", ("B05", "nir")),
    ("B6", 1566.5, 1651.5, 30, "swir16", ("B06", "swir1")),
    ("B7", 2114.5, 2287.5, 30, "swir22", ("B07", "swir2")),
    ("B8", 496.5, 683.5, 15, "pan", ("B08", "panchromatic")),
    ("B9", 1363.5, 1384.5, 30, "cirrus", ("B09",)),
    ("B10", 10600.0, 11190.0, 30, "lwir11", ("lwir", "TIRS1", "tir1", "thermal1")),
    ("B11", 11500.0, 12510.0, 30, "lwir12", ("TIRS2", "tir2", "thermal2")),
)
_TM_ROWS = (
    ("B1", 450.0, 520.0, 30, "blue", ("B01",)),
    ("B2", 520.0, 600.0, 30, "green", ("B02",)),
    ("B3", 630.0, 690.0, 30, "red", ("B03",)),
    ("B4", 760.0, 900.0, 30, "nir", ("B04", "nir08")),
    ("B5", 1550.0, 1750.0, 30, "swir16", ("B05", "swir1")),
    ("B7", 2080.0, 2350.0, 30, "swir22", ("B07", "swir2")),
)
_ETM_ROWS = (
    ("B1", 450.0, 520.0, 30, "blue", ("B01",)),
    ("B2", 520.0, 600.0, 30, "green", ("B02",)),
    ("B3", 630.0, 690.0, 30, "red", ("B03",)),
    ("B4", 770.0, 900.0, 30, "nir", ("B04", "nir08")),
    ("B5", 1550.0, 1750.0, 30, "swir16", ("B05", "swir1")),
    ("B7", 2090.0, 2350.0, 30, "swir22", ("B07", "swir2")),
)

# How providers call bands of surface reflectance: Earth Engine (SR_B2), Digital Earth Australia.
_DEA_S2 = {
    "B01": "coastal_aerosol", "B02": "blue", "B03": "green", "B04": "red", "B05": "red_edge_1",
    "B06": "red_edge_2", "B07": "red_edge_3", "B08": "nir_1", "B8A": "nir_2", "B11": "swir_2",
    "B12": "swir_3",
}  # fmt: skip
_DEA_OLI = {
    "B1": "coastal_aerosol", "B2": "blue", "B3": "green", "B4": "red", "B5": "nir",
    "B6": "swir_1", "B7": "swir_2",
}  # fmt: skip
_DEA_TM = {"B1": "blue", "B2": "green", "B3": "red", "B4": "nir", "B5": "swir_1", "B7": "swir_2"}

_Row = tuple[str, float, float, float, str, tuple[str, ...]]


def _bands(
    rows: tuple[_Row, ...],
    *,
    without: tuple[str, ...] = (),
    forms: tuple[str, ...] = (),
    dea: Mapping[str, str] | None = None,
) -> tuple[Band, ...]:
    """Return the bands; ``forms`` are aliases with ``{}`` for the band's name."""
    nbart = dea or {}
    return tuple(
        Band(
            name=name,
            kind=BandKind.THERMAL if low >= 3000 else BandKind.OPTICAL,
            min_nm=low,
            max_nm=high,
            resolution_m=resolution,
            common_name=common,
            aliases=(
                *aliases,
                *(form.format(name) for form in forms),
                *(f"{kind}_{nbart[name]}" for kind in ("nbart", "nbar") if name in nbart),
            ),
        )
        for name, low, high, resolution, common, aliases in rows
        if name not in without
    )


_S2_FORMS = ("S2A.{}", "S2B.{}", "S2C.{}")
_SR_FORMS = ("SR_{}",)
_S2_PLATFORMS = ("sentinel-2a", "sentinel-2b", "sentinel-2c")

SENSORS: dict[str, Sensor] = {
    sensor.id: sensor
    for sensor in (
        Sensor(
            id="sentinel-2-l1c",
            title="Sentinel-2 MSI Level-1C (top of atmosphere)",
            platforms=_S2_PLATFORMS,
            instrument="msi",
            level="L1C",
            resolution_m=10,
            bands=_bands(_S2_ROWS, forms=_S2_FORMS),
            layers=SENTINEL_2_LAYERS,
        ),
        Sensor(
            id="sentinel-2-l2a",
            title="Sentinel-2 MSI Level-2A (bottom of atmosphere, no B10)",
            platforms=_S2_PLATFORMS,
            instrument="msi",
            level="L2A",
            resolution_m=10,
            bands=_bands(_S2_ROWS, without=("B10",), forms=_S2_FORMS, dea=_DEA_S2),
            layers=(*SENTINEL_2_LAYERS, *SENTINEL_2_L2A_LAYERS, *HLS_LAYERS),
        ),
        Sensor(
            id="landsat-8-9-l1",
            title="Landsat 8 and 9 OLI and TIRS Level-1 (top of atmosphere)",
            platforms=("landsat-8", "landsat-9"),
            instrument="oli_tirs",
            level="L1",
            resolution_m=30,
            bands=_bands(_OLI_ROWS),
            layers=LANDSAT_LAYERS,
        ),
        Sensor(
            id="landsat-8-9-l2",
            title="Landsat 8 and 9 OLI Level-2 (surface reflectance)",
            platforms=("landsat-8", "landsat-9"),
            instrument="oli_tirs",
            level="L2",
            resolution_m=30,
            bands=_bands(
                _OLI_ROWS, without=("B8", "B9", "B10", "B11"), forms=_SR_FORMS, dea=_DEA_OLI
            ),
            layers=(*LANDSAT_LAYERS, *HLS_LAYERS),
        ),
        Sensor(
            id="landsat-7-l1",
            title="Landsat 7 ETM+ Level-1, optical bands (top of atmosphere)",
            platforms=("landsat-7",),
            instrument="etm",
            level="L1",
            resolution_m=30,
            bands=_bands(_ETM_ROWS),
            unread=("B6", "B06", "B6_VCID_1", "B6_VCID_2", "B8", "B08"),
            layers=LANDSAT_LAYERS,
        ),
        Sensor(
            id="landsat-7-l2",
            title="Landsat 7 ETM+ Level-2 (surface reflectance)",
            platforms=("landsat-7",),
            instrument="etm",
            level="L2",
            resolution_m=30,
            bands=_bands(_ETM_ROWS, forms=_SR_FORMS, dea=_DEA_TM),
            unread=("B6", "B06", "ST_B6"),
            layers=LANDSAT_LAYERS,
        ),
        Sensor(
            id="landsat-4-5-l1",
            title="Landsat 4 and 5 TM Level-1, optical bands (top of atmosphere)",
            platforms=("landsat-4", "landsat-5"),
            instrument="tm",
            level="L1",
            resolution_m=30,
            bands=_bands(_TM_ROWS),
            unread=("B6", "B06"),
            layers=LANDSAT_LAYERS,
        ),
        Sensor(
            id="landsat-4-5-l2",
            title="Landsat 4 and 5 TM Level-2 (surface reflectance)",
            platforms=("landsat-4", "landsat-5"),
            instrument="tm",
            level="L2",
            resolution_m=30,
            bands=_bands(_TM_ROWS, forms=_SR_FORMS, dea=_DEA_TM),
            unread=("B6", "B06", "ST_B6"),
            layers=LANDSAT_LAYERS,
        ),
    )
}


def get_sensor(sensor_id: str) -> Sensor:
    """Return the sensor called ``sensor_id``.

    Raises:
        SensorError: no sensor has that name.
    """
    try:
        return SENSORS[sensor_id]
    except KeyError:
        raise SensorError(
            f"unknown sensor {sensor_id!r}; known are {', '.join(SENSORS)}, or give the path of "
            "a YAML or JSON file with the wavelengths of its bands"
        ) from None


def find_layer(label: str) -> Band | None:
    """Return the quality layer that ``label`` names, whichever sensor's products it comes with."""
    found = (sensor.find_layer(label) for sensor in SENSORS.values())
    return next((layer for layer in found if layer is not None), None)
