"""Which sensor the available bands belong to, and which of them a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from openeo_cloudmask.errors import BandError, SensorError
from openeo_cloudmask.models.entry import ModelEntry, ModelInput
from openeo_cloudmask.sensors import (
    SENSORS,
    Sensor,
    common_name,
    resolve_bands,
    resolve_sensor,
)

_FOREIGN = frozenset({"coastal_blue", "green_i", "greeni", "yellow"})
"""Bands of PlanetScope that no known sensor has; its others bear common names."""
_Fit = tuple[ModelInput, list[int]]
"""What a model is fed with, and where these bands stand in the data."""


def select_input(
    entry: ModelEntry,
    *,
    sensor: str | Sensor | None = None,
    bands: Sequence[str] | None = None,
) -> ModelInput:
    """Return the sensor and the bands that the model is to be fed with.

    The same label means different bands on different sensors (``B05``: red edge on Sentinel-2,
    near infrared on Landsat 8). Without ``sensor`` the labels have to tell which it is, or it is
    an error.

    Args:
        entry: The model.
        sensor: Sensor id, a file that describes one, or a sensor; None finds it from ``bands``,
            or takes the model's first.
        bands: Labels of the bands the data has, any order, extra ones ignored; None if not known.

    Raises:
        SensorError: The sensor is unknown, the model does not take it, or it cannot be determined.
        BandError: The data lacks bands that every variant of the model needs.
    """
    named = resolve_sensor(sensor) if isinstance(sensor, str) else sensor
    if named is not None and not entry.sensor_independent and named.id not in entry.inputs:
        raise SensorError(
            f"model {entry.id!r} was not made for the sensor {named.id!r}; "
            f"it takes {', '.join(entry.inputs)}"
        )
    if bands is None:
        chosen = named or SENSORS[next(iter(entry.inputs))]
        return ModelInput(sensor=chosen, band_names=entry.inputs.get(chosen.id, chosen.band_names))
    if named is None:
        _refuse_foreign(bands)
    return replace(_select(entry, named, bands), assumed=named is None)


def smallest_set(entry: ModelEntry, sensor: Sensor | None = None) -> ModelInput:
    """Return the fewest bands that the model can do with, of ``sensor`` or of its first one."""
    chosen = sensor or SENSORS[next(iter(entry.inputs))]
    sets = [entry.inputs.get(chosen.id, chosen.band_names)]
    sets += entry.alternatives.get(chosen.id, ())
    fewest = min(sets, key=len)
    if entry.sensor_independent and not entry.alternatives:
        fewest = fewest[: entry.min_bands]
    return ModelInput(sensor=chosen, band_names=fewest)


def _select(entry: ModelEntry, named: Sensor | None, bands: Sequence[str]) -> ModelInput:
    if named is None and entry.sensor_independent:
        named = _better_known(entry, bands)
    # A model with stated sets of bands for the sensors it knows takes these; any other sensor's
    # bands are all offered to it.
    if entry.sensor_independent and not (
        entry.alternatives and (named is None or named.id in entry.inputs)
    ):
        return _select_any(entry, named or _tell_sensor(entry, bands), bands)
    return _select_fixed(entry, named, bands)


def _known(sensor: Sensor, labels: Sequence[str]) -> int:
    return sum(sensor.knows(str(label)) for label in labels)


def _is_complete(sensor: Sensor, labels: Sequence[str]) -> bool:
    found = {band.name for label in labels if (band := sensor.find_band(str(label))) is not None}
    return found == set(sensor.band_names)


def _select_fixed(entry: ModelEntry, named: Sensor | None, labels: Sequence[str]) -> ModelInput:
    """The sensor that knows the most labels; a smaller set of bands only where no full one is.

    A set with a band that the full one has not comes last.
    """
    sensors = [SENSORS[name] for name in entry.inputs] if named is None else [named]
    # Sorting is stable: sensors that know as many labels stay in the entry's order.
    sensors.sort(key=lambda item: -_known(item, labels))
    full = [(item, entry.inputs[item.id]) for item in sensors]
    others = [(item, names) for item in sensors for names in entry.alternatives.get(item.id, ())]
    smaller = [(item, names) for item, names in others if set(names) <= set(entry.inputs[item.id])]
    swapped = [each for each in others if each not in smaller]
    first_error: BandError | None = None
    tiers: list[list[_Fit]] = []
    for tier in (full, smaller, swapped):
        fits: list[_Fit] = []
        for item, names in tier:
            if any(fit.sensor is item for fit, _ in fits):
                continue  # a better set of this sensor's bands is there
            try:
                places = resolve_bands(labels, names, item)
            except BandError as err:
                first_error = first_error or err
            else:
                fits.append((ModelInput(sensor=item, band_names=names), places))
        tiers.append(fits)
    every = [fit for fits in tiers for fit in fits]
    most = max((_known(fit.sensor, labels) for fit, _ in every), default=0)
    # A sensor that knows fewer of the labels fits by accident: B03 of one is B02 of another.
    if not every or most < max(_known(item, labels) for item in sensors):
        raise first_error or BandError(f"model {entry.id!r} names no bands")
    known = [[fit for fit in fits if _known(fit[0].sensor, labels) == most] for fits in tiers]
    alike = [fit for fits in known for fit in fits]
    used = sorted({place for _, places in alike for place in places})
    if not _agree([fit.sensor for fit, _ in alike], labels, used):
        # A sensor all of whose bands are there goes before one that lacks some.
        complete = [
            item
            for item in SENSORS.values()
            if _is_complete(item, labels) and _known(item, labels) == most
        ]
        known = [[fit for fit in fits if fit[0].sensor in complete] for fits in known]
        if not any(known) or not _agree(complete, labels, used):
            candidates = [fit.sensor for fit, _ in alike]
            if entry.sensor_independent:
                candidates += [item for item in SENSORS.values() if _known(item, labels) == most]
            raise _untold(labels, list(dict.fromkeys(item.id for item in candidates)))
    return _best_fit([fit for fit, _ in next(fits for fits in known if fits)], labels)


def _best_fit(fits: list[ModelInput], labels: Sequence[str]) -> ModelInput:
    # Level-2A has no B10: where all of its bands are there and B10 is not, Level-2A it is.
    instrument = fits[0].sensor.instrument
    complete = [
        fit
        for fit in fits
        if fit.sensor.instrument == instrument and _is_complete(fit.sensor, labels)
    ]
    return max(complete, key=lambda fit: len(fit.sensor.bands)) if complete else fits[0]


def _better_known(entry: ModelEntry, labels: Sequence[str]) -> Sensor | None:
    """Return the sensor that knows more of the labels than all for which the model states bands."""
    known = {sensor: _known(sensor, labels) for sensor in SENSORS.values()}
    most = max(known.values())
    if most <= max(known[SENSORS[name]] for name in entry.inputs):
        return None
    found = [sensor for sensor, count in known.items() if count == most]
    if not _agree(found, labels, range(len(labels))):
        raise _untold(labels, [item.id for item in found])
    return found[0]


def _agree(sensors: Sequence[Sensor], labels: Sequence[str], used: Sequence[int]) -> bool:
    """Return whether each label in the places ``used`` is one kind of band for all ``sensors``."""
    for place in used:
        bands = [item.find_band(str(labels[place])) for item in sensors]
        if len({common_name(band) for band in bands if band is not None}) > 1:
            return False
    return True


def _select_any(entry: ModelEntry, sensor: Sensor, labels: Sequence[str]) -> ModelInput:
    """Every band of the sensor that the data has, in the sensor's order."""
    found = {band.name for label in labels if (band := sensor.find_band(str(label))) is not None}
    allowed = entry.inputs.get(sensor.id, sensor.band_names)
    names = tuple(name for name in allowed if name in found)
    if len(names) < entry.min_bands:
        raise BandError(
            f"model {entry.id!r} needs at least {entry.min_bands} bands of {sensor.id}; the data "
            f"has {', '.join(map(str, labels)) or 'no bands'}, of which these are known: "
            f"{', '.join(names) or 'none'}"
        )
    resolve_bands(labels, names, sensor)  # a band that is there twice is an error
    return ModelInput(sensor=sensor, band_names=names)


def _tell_sensor(entry: ModelEntry, labels: Sequence[str]) -> Sensor:
    """The sensor all of whose bands are in the data, if no other one knows more of the labels."""
    most = max(_known(sensor, labels) for sensor in SENSORS.values())
    complete = [
        SENSORS[name]
        for name in entry.inputs
        if _is_complete(SENSORS[name], labels) and _known(SENSORS[name], labels) == most
    ]
    if not complete:
        raise _untold(labels, list(SENSORS))
    if not _agree(complete, labels, range(len(labels))):
        raise _untold(labels, [item.id for item in complete])
    return max(complete, key=lambda sensor: len(sensor.bands))


def _refuse_foreign(labels: Sequence[str]) -> None:
    if foreign := [str(label) for label in labels if str(label).strip().lower() in _FOREIGN]:
        raise SensorError(
            f"of the bands {', '.join(map(str, labels))} no known sensor has {', '.join(foreign)} "
            "(PlanetScope does): pass sensor, a file that describes your own, or the one to take "
            f"it for, of {', '.join(SENSORS)}"
        )


def _untold(labels: Sequence[str], sensors: list[str]) -> SensorError:
    return SensorError(
        f"the bands {', '.join(map(str, labels)) or '(none)'} do not tell which sensor they are "
        f"from; pass sensor (--sensor), one of {', '.join(sensors)}, or a file that describes "
        "your own"
    )
