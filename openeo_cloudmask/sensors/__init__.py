"""Sensors: bands, their wavelengths and names, and the radiometry of their products."""

from openeo_cloudmask.sensors.bands import Band, BandKind, Sensor, resolve_bands
from openeo_cloudmask.sensors.common import ANY_SENSOR, CommonBands, common_name, find_common
from openeo_cloudmask.sensors.custom import parse_sensor, read_sensor, resolve_sensor
from openeo_cloudmask.sensors.decode import BandDecoder, Decoder, band_decoder, mark_declared
from openeo_cloudmask.sensors.radiometry import (
    brightness_temperature,
    dn_to_reflectance,
    landsat_reflectance,
    normalise_temperature,
)
from openeo_cloudmask.sensors.tables import SENSORS, find_layer, get_sensor

__all__ = [
    "ANY_SENSOR",
    "SENSORS",
    "Band",
    "BandDecoder",
    "BandKind",
    "CommonBands",
    "Decoder",
    "Sensor",
    "band_decoder",
    "brightness_temperature",
    "common_name",
    "dn_to_reflectance",
    "find_common",
    "find_layer",
    "get_sensor",
    "landsat_reflectance",
    "mark_declared",
    "normalise_temperature",
    "parse_sensor",
    "read_sensor",
    "resolve_bands",
    "resolve_sensor",
]
