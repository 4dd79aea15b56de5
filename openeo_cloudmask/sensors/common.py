"""Bands by common name: which band of each sensor is its blue, its red, its near infrared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openeo_cloudmask.errors import BandError
from openeo_cloudmask.sensors.bands import Band, BandKind, Sensor
from openeo_cloudmask.sensors.tables import SENSORS

ANY_SENSOR = "any"
"""Id of the sensor that stands for all."""

# Names of the STAC `eo` extension that serve as another one.
_SAME = {"nir08": "nir"}
# Where a band's centre may lie, nanometres, if its sensor gives it no common name.
_CENTRES_NM = {
    "blue": (450, 520),
    "green": (520, 600),
    "red": (620, 690),
    "nir": (770, 900),
    "cirrus": (1360, 1390),
    "swir16": (1550, 1700),
    "swir22": (2050, 2350),
}


def common_name(band: Band) -> str | None:
    """What an optical band is called on any sensor, by its common name or its wavelengths.

    Landsat's ``nir08`` is ``nir``: it is the only near infrared band there. None where the band
    is not optical or nothing tells.
    """
    if band.kind is not BandKind.OPTICAL:
        return None
    if band.common_name is not None:
        return _SAME.get(band.common_name, band.common_name)
    centre = band.centre_nm or 0.0
    ranges = _CENTRES_NM.items()
    return next((name for name, (low, high) in ranges if low <= centre <= high), None)


def find_common(sensor: Sensor, band_names: Sequence[str]) -> dict[str, int]:
    """Return common name -> place in ``band_names``; of two bands of a name the first counts."""
    places: dict[str, int] = {}
    for place, name in enumerate(band_names):
        common = common_name(sensor.band(name))
        if common is not None:
            places.setdefault(common, place)
    return places


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonBands:
    """The bands of a model by common name, for every sensor of the tables that has them.

    A sensor that is added to the tables is then an input of the model, without another word.
    """

    takes: tuple[str, ...]
    """What it needs, in its order."""
    optional: tuple[tuple[str, ...], ...] = ((),)
    """Sets of what it takes besides, best first; of the first a sensor may lack some."""
    levels: tuple[str, ...] = ("L1C", "L1")
    """Processing levels it was made for."""
    first: str | None = None
    """The sensor that is named first, if it is not the first of the tables."""
    seconds: tuple[str, ...] = ()
    """Of which common names a sensor's second band does where the first is missing: of ``nir``, it
    is B8A of Sentinel-2."""

    @property
    def inputs(self) -> dict[str, tuple[str, ...]]:
        """Sensor id -> all bands it takes, in their order."""
        return {name: sets[0] for name, sets in self._sets().items()}

    @property
    def alternatives(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        """Sensor id -> other sets of bands it can do with, best first."""
        return {name: sets[1:] for name, sets in self._sets().items() if sets[1:]}

    @property
    def any_sensor(self) -> Sensor:
        """A sensor that has all of them under their common names, for files made for any sensor."""
        return Sensor(
            id=ANY_SENSOR,
            title="Any sensor with these bands",
            platforms=(),
            instrument=ANY_SENSOR,
            level=self.levels[0],
            resolution_m=10,
            bands=tuple(
                Band(
                    name=name,
                    min_nm=_CENTRES_NM[name][0],
                    max_nm=_CENTRES_NM[name][1],
                    resolution_m=10,
                    common_name=name,
                )
                for name in (*self.takes, *self.optional[0])
            ),
        )

    def choose(self, sensor: Sensor, band_names: Sequence[str], *, model: str) -> dict[str, int]:
        """Return common name -> place in ``band_names``, of the bands that it makes use of.

        Raises:
            BandError: A band that it needs is missing.
        """
        found = find_common(sensor, band_names)
        if missing := [name for name in self.takes if name not in found]:
            raise BandError(
                f"{model} needs {', '.join(self.takes)}; the bands {', '.join(band_names)} of "
                f"{sensor.id} have no {', '.join(missing)}. Load them, or give the bands of a "
                "custom sensor common names"
            )
        wanted = {*self.takes, *self.optional[0]}
        return {name: place for name, place in found.items() if name in wanted}

    def _sets(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        sensors = sorted(SENSORS.values(), key=lambda sensor: sensor.id != self.first)
        found = {}
        for sensor in sensors:
            bands = _resolve(sensor, sensor.band_names)
            if sensor.level in self.levels and all(name in bands for name in self.takes):
                others = [name for name in sensor.band_names if name not in bands.values()]
                second = _resolve(sensor, others)
                sets = self._sets_of(bands)
                if swapped := {name: second[name] for name in self.seconds if name in second}:
                    sets += self._sets_of(bands | swapped)
                found[sensor.id] = tuple(sets)
        return found

    def _sets_of(self, bands: Mapping[str, str]) -> list[tuple[str, ...]]:
        more = [tuple(name for name in self.optional[0] if name in bands)]
        more += [names for names in self.optional[1:] if all(name in bands for name in names)]
        return [
            tuple(bands[name] for name in (*self.takes, *names)) for names in dict.fromkeys(more)
        ]


def _resolve(sensor: Sensor, names: Sequence[str]) -> dict[str, str]:
    return {common: names[place] for common, place in find_common(sensor, names).items()}
