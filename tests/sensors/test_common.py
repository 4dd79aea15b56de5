"""Bands by common name."""

import pytest

from openeo_cloudmask.errors import BandError
from openeo_cloudmask.models import MODELS
from openeo_cloudmask.sensors import SENSORS, Band, CommonBands, Sensor, common_name, find_common

FOUR = ("blue", "green", "red", "nir")


def make_sensor(level="L1", **bands):
    return Sensor(
        id="new",
        title="New",
        platforms=("new",),
        instrument="new",
        level=level,
        resolution_m=10,
        bands=tuple(
            Band(name=name, min_nm=low, max_nm=high, resolution_m=10, common_name=common)
            for name, (low, high, common) in bands.items()
        ),
    )


NEW = {
    "X4": (770, 900, "nir08"),
    "X1": (450, 520, "blue"),
    "X2": (520, 600, "green"),
    "X3": (620, 690, "red"),
    "X5": (1550, 1700, "swir16"),
}


def test_a_new_sensor_is_one_row(monkeypatch):
    """The models that say their bands by common name take it without another word."""
    mini = CommonBands(takes=FOUR, optional=(("swir16", "swir22"), ()), levels=("L1",))
    assert "new" not in mini.inputs
    monkeypatch.setitem(SENSORS, "new", make_sensor(**NEW))
    assert mini.inputs["new"] == ("X1", "X2", "X3", "X4", "X5")
    assert mini.alternatives["new"] == (("X1", "X2", "X3", "X4"),)
    monkeypatch.setitem(SENSORS, "new", make_sensor(**{k: NEW[k] for k in ("X1", "X2", "X3")}))
    assert "new" not in mini.inputs
    monkeypatch.setitem(SENSORS, "new", make_sensor("L2", **NEW))
    assert "new" not in mini.inputs


def test_every_sensor_with_the_bands_is_an_input_of_the_models():
    for model in ("mini", "ukis-csmask"):
        for sensor in SENSORS.values():
            has = set(FOUR) <= set(find_common(sensor, sensor.band_names))
            expected = has and sensor.level in ("L1C", "L2A", "L1")
            assert (sensor.id in MODELS[model].inputs) == expected
    landsat30 = MODELS["landsat30"]
    assert list(landsat30.inputs) == ["landsat-8-9-l1", "sentinel-2-l1c"]
    assert landsat30.inputs["landsat-8-9-l1"] == ("B1", "B2", "B3", "B4", "B5", "B9", "B6", "B7")


def test_of_two_near_infrared_bands_the_wide_one_counts():
    sensor = SENSORS["sentinel-2-l1c"]
    assert sensor.band_names[find_common(sensor, sensor.band_names)["nir"]] == "B08"


def test_wavelengths_tell_where_a_sensor_gives_no_name():
    sensor = make_sensor(a=(840, 880, None), b=(10_600, 11_200, None), c=(700, 720, None))
    assert [common_name(band) for band in sensor.bands] == ["nir", None, None]


def test_a_missing_band_is_named():
    bands = CommonBands(takes=FOUR)
    sensor = make_sensor(**NEW)
    assert bands.choose(sensor, ("X1", "X2", "X3", "X4", "X5"), model="it") == {
        "blue": 0,
        "green": 1,
        "red": 2,
        "nir": 3,
    }
    with pytest.raises(BandError, match=r"it needs blue, .* X1, X2 of new have no red, nir"):
        bands.choose(sensor, ("X1", "X2"), model="it")
