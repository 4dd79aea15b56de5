"""Sensors, band labels, and sensors of a user's own."""

import json

import pytest

from openeo_cloudmask.errors import BandError, SensorError
from openeo_cloudmask.sensors import (
    SENSORS,
    Band,
    BandKind,
    get_sensor,
    parse_sensor,
    read_sensor,
    resolve_bands,
    resolve_sensor,
)

S2 = SENSORS["sentinel-2-l1c"]
L8 = SENSORS["landsat-8-9-l1"]


def test_band_counts_and_order():
    assert S2.band_names == (
        *("B01", "B02", "B03", "B04", "B05", "B06", "B07"),
        *("B08", "B8A", "B09", "B10", "B11", "B12"),
    )
    assert len(SENSORS["sentinel-2-l2a"].bands) == 12
    assert len(L8.bands) == 11
    assert [band.name for band in L8.bands if band.kind is BandKind.THERMAL] == ["B10", "B11"]


def test_wavelengths_are_those_of_the_published_descriptors(golden):
    for sensor, case in ((S2, "sensei_medium_b2_s2"), (L8, "sensei_medium_tiny_landsat")):
        described = json.loads((golden / f"{case}.json").read_text())["descriptors"]
        assert [(band.min_nm, band.max_nm) for band in sensor.bands] == [
            (item["min_wavelength"], item["max_wavelength"]) for item in described
        ]


@pytest.mark.parametrize(
    ("label", "name"),
    [
        *(("B1", "B01"), ("B01", "B01"), ("blue", "B02"), ("NIR", "B08"), ("b8a", "B8A")),
        *(("B12", "B12"), ("swir16", "B11"), ("cirrus", "B10"), (" B08 ", "B08")),
    ],
)
def test_labels_of_sentinel_2(label, name):
    assert S2.band(label).name == name


def test_the_same_label_means_another_band_on_landsat():
    assert L8.band("nir").name == "B5"
    assert L8.band("B08").common_name == "pan"
    with pytest.raises(BandError, match="has no band 'B8A'; it has B1, B2"):
        L8.band("B8A")


def test_bands_are_found_in_any_order_and_extra_ones_ignored():
    labels = ["SCL", "B08", "red", "B03", "B2"]
    assert resolve_bands(labels, ["B02", "B03", "B04", "B08"], S2) == [4, 3, 2, 1]


def test_missing_and_double_bands_are_named():
    with pytest.raises(
        BandError, match="missing bands B11, B12 of sentinel-2-l1c; the data has B02"
    ):
        resolve_bands(["B02"], ["B02", "B11", "B12"], S2)
    with pytest.raises(BandError, match=r"given twice: \{'B02': \['B02', 'blue'\]\}"):
        resolve_bands(["B02", "blue"], ["B02"], S2)


def test_centre_and_unknown_sensor():
    assert S2.band("B10").centre_nm == 1375
    with pytest.raises(SensorError, match="unknown sensor 'sentinel-9'; known are sentinel-2-l1c"):
        get_sensor("sentinel-9")


def test_own_sensor_from_a_file(tmp_path):
    path = tmp_path / "camera.yaml"
    path.write_text(
        "id: camera\nresolution_m: 3\nbands:\n"
        "  - {name: blue, min_nm: 455, max_nm: 515}\n"
        "  - {name: tir, kind: thermal, min_nm: 10000, max_nm: 12000, resolution_m: 60}\n"
        "  - {name: height, kind: dem}\n"
    )
    sensor = resolve_sensor(str(path))
    assert sensor.band_names == ("blue", "tir", "height")
    assert sensor.band("tir").kind is BandKind.THERMAL
    assert sensor.band("tir").resolution_m == 60
    assert sensor.band("height").centre_nm is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "expected an object with a list 'bands'"),
        ({"bands": []}, "resolution_m is None; expected a number above 0"),
        ({"resolution_m": 10, "bands": [{"min_nm": 1}]}, "each band needs a 'name'"),
        (
            {"resolution_m": 10, "bands": [{"name": "a"}]},
            "band 'a' is optical but has no wavelengths",
        ),
        (
            {"resolution_m": 10, "bands": [{"name": "a", "min_nm": 500, "max_nm": 400}]},
            "expected 0 < min_nm < max_nm",
        ),
        (
            {"resolution_m": 10, "bands": [{"name": "a", "kind": "x"}]},
            "kind is 'x'; expected one of optical",
        ),
        (
            {"resolution_m": 10, "bands": [{"name": "a", "min": 1}]},
            "unknown keys min; known are aliases",
        ),
        (
            {
                "resolution_m": 10,
                "bands": [{"name": "a", "kind": "dem"}, {"name": "A", "kind": "dem"}],
            },
            "band names are not unique",
        ),
        (
            {
                "resolution_m": 10,
                "bands": [
                    {"name": "a", "kind": "dem"},
                    {"name": "b", "kind": "dem", "aliases": ["a"]},
                ],
            },
            "both answer to 'a'",
        ),
    ],
)
def test_wrong_sensor_descriptions(content, message):
    with pytest.raises(SensorError, match=message):
        parse_sensor(content)


def test_unreadable_sensor_file(tmp_path):
    with pytest.raises(SensorError, match="cannot read the sensor description"):
        read_sensor(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(SensorError, match="cannot read the sensor description"):
        read_sensor(tmp_path / "bad.json")


def test_optical_bands_need_wavelengths():
    with pytest.raises(SensorError, match="give min_nm and max_nm in nanometres"):
        Band(name="a", resolution_m=10)
