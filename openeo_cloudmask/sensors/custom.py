"""A user's own sensor, described in a small YAML or JSON file.

Example::

    id: my-camera
    resolution_m: 3
    bands:
      - {name: blue, min_nm: 455, max_nm: 515}
      - {name: green, min_nm: 500, max_nm: 590}
      - {name: red, min_nm: 590, max_nm: 670}
      - {name: nir, min_nm: 780, max_nm: 860, aliases: [B4]}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openeo_cloudmask.errors import SensorError
from openeo_cloudmask.sensors.bands import Band, BandKind, Sensor
from openeo_cloudmask.sensors.tables import get_sensor

_BAND_KEYS = {"name", "kind", "min_nm", "max_nm", "resolution_m", "common_name", "aliases"}
_SENSOR_KEYS = {"id", "title", "platforms", "instrument", "level", "resolution_m", "bands"}


def resolve_sensor(name_or_path: str) -> Sensor:
    """Return a known sensor by its id, or one read from a ``.yaml``, ``.yml`` or ``.json`` file.

    Raises:
        SensorError: the name is unknown, or the file is no sensor description.
    """
    if Path(name_or_path).suffix.lower() in (".yaml", ".yml", ".json"):
        return read_sensor(Path(name_or_path))
    return get_sensor(name_or_path)


def read_sensor(path: Path) -> Sensor:
    """Return the sensor described in a YAML or JSON file.

    Raises:
        SensorError: the file cannot be read or does not describe a sensor.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise SensorError(f"cannot read the sensor description {path}: {err}") from err
    return parse_sensor(content, where=str(path))


def parse_sensor(content: object, *, where: str = "the sensor description") -> Sensor:
    """Return the sensor that ``content`` (as read from YAML or JSON) describes.

    Raises:
        SensorError: a key is unknown or missing, or a value is not allowed.
    """
    if not isinstance(content, Mapping) or not isinstance(content.get("bands"), list):
        raise SensorError(f"{where}: expected an object with a list 'bands'")
    _check_keys(content, _SENSOR_KEYS, where)
    resolution = _number(content.get("resolution_m"), "resolution_m", where)
    bands = tuple(_parse_band(item, resolution, where) for item in content["bands"])
    if len({band.name.lower() for band in bands}) != len(bands):
        raise SensorError(f"{where}: band names are not unique: {[band.name for band in bands]}")
    return Sensor(
        id=str(content.get("id", "custom")),
        title=str(content.get("title", content.get("id", "A user's own sensor"))),
        platforms=tuple(map(str, content.get("platforms", ()))),
        instrument=str(content.get("instrument", "")),
        level=str(content.get("level", "")),
        resolution_m=resolution,
        bands=bands,
    )


def _parse_band(item: object, resolution_m: float, where: str) -> Band:
    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
        raise SensorError(f"{where}: each band needs a 'name', given was {item!r}")
    label = f"{where}, band {item['name']!r}"
    _check_keys(item, _BAND_KEYS, label)
    try:
        kind = BandKind(item.get("kind", "optical"))
    except ValueError:
        raise SensorError(
            f"{label}: kind is {item['kind']!r}; expected one of {', '.join(BandKind)}"
        ) from None
    limits = {
        key: _number(item[key], key, label)
        for key in ("min_nm", "max_nm")
        if item.get(key) is not None
    }
    aliases = item.get("aliases", [])
    if not isinstance(aliases, list):
        raise SensorError(f"{label}: aliases is {aliases!r}; expected a list of texts")
    return Band(
        name=item["name"],
        kind=kind,
        min_nm=limits.get("min_nm"),
        max_nm=limits.get("max_nm"),
        resolution_m=_number(item.get("resolution_m", resolution_m), "resolution_m", label),
        common_name=item.get("common_name"),
        aliases=tuple(map(str, aliases)),
    )


def _number(value: Any, key: str, where: str) -> float:  # noqa: ANN401 - untrusted input
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise SensorError(f"{where}: {key} is {value!r}; expected a number above 0")
    return float(value)


def _check_keys(item: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := sorted(set(map(str, item)) - known):
        raise SensorError(
            f"{where}: unknown keys {', '.join(unknown)}; known are {', '.join(sorted(known))}"
        )
