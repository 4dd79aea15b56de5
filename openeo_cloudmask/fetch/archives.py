"""The archives by name, what a model needs of a product, and what came."""

from __future__ import annotations

from pathlib import Path

from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.fetch.copernicus import CopernicusArchive
from openeo_cloudmask.fetch.google import GoogleArchive
from openeo_cloudmask.fetch.products import Archive
from openeo_cloudmask.models import get_model
from openeo_cloudmask.products import open_product
from openeo_cloudmask.sensors import Sensor, get_sensor

ARCHIVES = {"google": GoogleArchive, "copernicus": CopernicusArchive}
_SENSORS = {"S2": "sentinel-2-l1c", "LC": "landsat-8-9-l1", "LE": "landsat-7-l1"}
_OTHER = "landsat-4-5-l1"


def open_archive(name: str) -> Archive:
    """Return the archive called ``name``.

    Raises:
        OptionError: no archive has that name.
    """
    if name not in ARCHIVES:
        raise OptionError(f"unknown archive {name!r}; expected one of {', '.join(ARCHIVES)}")
    archive: Archive = ARCHIVES[name]()
    return archive


def sensor_of(name: str) -> Sensor:
    """Return the sensor of a Level-1 product by its name."""
    return get_sensor(_SENSORS.get(name[:2], _OTHER))


def bands_for_model(name: str, model: str) -> tuple[str, ...]:
    """Return the bands that a model takes of a product called ``name``.

    Raises:
        OptionError: the model was not made for its sensor.
    """
    sensor, entry = sensor_of(name), get_model(model)
    if entry.layers:
        return (sensor.band_names[0],)  # it reads a mask of the provider, which comes along
    if sensor.id not in entry.inputs:
        raise OptionError(
            f"model {model!r} was not made for {sensor.id}; it takes {', '.join(entry.inputs)}"
        )
    return entry.inputs[sensor.id]


def describe_product(path: Path) -> str:
    """Return what came: bands, and how counts become reflectance, as the metadata say."""
    with open_product(path) as scene:
        about = scene.metadata
        count = len(scene.band_labels)
    if "add_offset_dn" not in about:
        return f"{count} bands, reflectance as its MTL says"
    offset = about["add_offset_dn"]
    told = f"{offset:+g}" if isinstance(offset, float) else "+ offset of the band"
    return (
        f"{count} bands, baseline {about['processing_baseline']}, reflectance = "
        f"(count {told}) / {about['quantification_value']:g}"
    )
