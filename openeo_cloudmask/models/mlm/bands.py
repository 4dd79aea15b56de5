"""Which bands of which sensors a third-party item means."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from openeo_cloudmask.errors import BandError, CatalogError
from openeo_cloudmask.models.mlm.assumed import Assumed, ask
from openeo_cloudmask.sensors import SENSORS, Band, BandKind, Sensor

_SLACK_NM = 25.0
"""Centres of a band in the tables of two publishers differ by this much at most."""
_MICROMETRE_NM = 1000.0
_COMMON = {band.common_name for sensor in SENSORS.values() for band in sensor.bands}

Json = Mapping[str, Any]


def parse_bands(item: Json, given: Json, place: str, assumed: Assumed) -> list[Json]:
    """Return what the item says of each plane of its input, in order.

    Raises:
        CatalogError: it names no bands, or one that has to be computed from others.
    """
    if assumed.bands is not None:
        return [{"name": name} for name in assumed.bands]
    listed = given.get("bands")
    if not isinstance(listed, Sequence) or isinstance(listed, str) or not listed:
        raise ask(f"{place}.bands", f"is {listed!r}", "bands=B04,B03,B02")
    known = {str(band["name"]): band for band in _described(item)}
    found: list[Json] = []
    for index, band in enumerate(listed):
        if isinstance(band, Mapping) and band.get("expression") is not None:
            raise CatalogError(
                f"{place}.bands[{index}] is computed ({band['expression']!r}); only bands as the "
                "sensor gives them are fed here"
            )
        name = str(band.get("name") if isinstance(band, Mapping) else band)
        told = band if isinstance(band, Mapping) else {}
        found.append({**known.get(name, {}), **told, "name": name})
    names = [band["name"] for band in found]
    if double := sorted({name for name in names if names.count(name) > 1}):
        raise CatalogError(
            f"{place}.bands has {', '.join(double)} more than once; models of several dates are "
            "not run here"
        )
    return found


def _described(item: Json) -> Iterator[Json]:
    """Yield all that the item says of bands anywhere, the most general first."""
    places = [item.get("properties", {}), *item.get("assets", {}).values()]
    for place in places:
        for field in ("bands", "eo:bands", "raster:bands"):
            for band in place.get(field) or ():
                if isinstance(band, Mapping) and "name" in band:
                    yield band


def find_inputs(
    item: Json, bands: Sequence[Json], place: str, assumed: Assumed
) -> dict[str, tuple[str, ...]]:
    """Return sensor id -> the bands meant, as the sensor calls them.

    Raises:
        CatalogError: no sensor of the tables has all of them, or several instruments have bands
            of these names, which are not the same there.
    """
    named = _named_sensors(item, assumed)
    found = {}
    for sensor in named or SENSORS.values():
        matched = [_match(sensor, band) for band in bands]
        if all(band is not None and band.kind is BandKind.OPTICAL for band in matched):
            found[sensor.id] = tuple(band.name for band in matched if band is not None)
    if not found:
        raise CatalogError(
            f"{place}.bands are {', '.join(str(band['name']) for band in bands)}; expected optical "
            f"bands of one of {', '.join(sensor.id for sensor in named or SENSORS.values())}"
        )
    return found if named else _tell_instrument(found, bands, place)


def _tell_instrument(
    found: dict[str, tuple[str, ...]], bands: Sequence[Json], place: str
) -> dict[str, tuple[str, ...]]:
    """Return the sensors meant where the item names none: ``B8`` is one band here, another there.

    Common names mean the same on each, and only Sentinel-2 has a zero in ``B02``, and a ``B8A``.
    """
    instruments = {SENSORS[name].instrument for name in found}
    labels = [str(band["name"]) for band in bands]
    common = all(
        "eo:common_name" in band or label in _COMMON
        for band, label in zip(bands, labels, strict=True)
    )
    if len(instruments) == 1 or common:
        return found
    if any(re.fullmatch("B0[1-9]|B8A", label, re.IGNORECASE) for label in labels):
        return {name: names for name, names in found.items() if name.startswith("sentinel-2")}
    raise ask(
        f"{place}.bands",
        f"are {', '.join(labels)}, other bands on each of {', '.join(sorted(instruments))}, and "
        "no platform is said",
        "platform=sentinel-2",
    )


def _named_sensors(item: Json, assumed: Assumed) -> list[Sensor]:
    """Return the sensors that the item's platform, constellation or instrument leaves."""
    properties = item.get("properties", {})
    words = [assumed.platform]
    if assumed.platform is None:
        words += [properties.get("platform"), properties.get("constellation")]
        words += list(properties.get("instruments") or ())
    told = {str(word).lower() for word in words if word}
    return [
        sensor
        for sensor in SENSORS.values()
        if told & {sensor.instrument, *sensor.platforms}
        or any(name.startswith(word) for word in told for name in sensor.platforms)
    ]


def _match(sensor: Sensor, told: Json) -> Band | None:
    common = told.get("eo:common_name", told.get("common_name"))
    band = sensor.find_band(str(told["name"]))
    if band is None and common is not None:
        band = sensor.find_band(str(common))
    centre = told.get("eo:center_wavelength", told.get("center_wavelength"))
    if band is None or not isinstance(centre, int | float):
        return band
    own = band.centre_nm
    return band if own is not None and abs(own - centre * _MICROMETRE_NM) <= _SLACK_NM else None


def find_counts(
    bands: Sequence[Json], inputs: Mapping[str, object], *, counted: bool, place: str
) -> tuple[float, float]:
    """Return what reflectance 1 and 0 are for the model: a factor, and what is added.

    Args:
        bands: what the item says of them; a ``scale`` there tells how counts become reflectance.
        inputs: the sensors that are meant.
        counted: whether its scaling or data type can only be of counts.
        place: where to say what is missing.

    Raises:
        CatalogError: counts are meant, and nothing tells how many a reflectance of 1 is.
    """
    told = {
        (_number(band, "scale", 1.0), _number(band, "offset", 0.0))
        for band in bands
        if "scale" in band or "raster:scale" in band
    }
    if len(told) > 1:
        raise BandError(f"{place}.bands have several scales, {sorted(told)}; expected one for all")
    if told:
        scale, offset = told.pop()
        return 1 / scale, -offset / scale
    if not counted:
        return 1.0, 0.0
    if all(name.startswith("sentinel-2") for name in inputs):
        return 10000.0, 0.0  # the quantification value of every Sentinel-2 product
    raise ask(place, "takes counts, and what reflectance 1 is in them is not said", "counts=10000")


def _number(band: Json, name: str, default: float) -> float:
    return float(band.get(f"raster:{name}", band.get(name, default)))
