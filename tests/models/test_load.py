from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openeo_cloudmask.errors import (
    BandError,
    OptionError,
    SensorError,
    UnknownModelError,
    WeightsError,
)
from openeo_cloudmask.inference import predict
from openeo_cloudmask.models import (
    ALIASES,
    KINDS,
    MODELS,
    get_model,
    licence_notice,
    load_detector,
    select_input,
)
from openeo_cloudmask.sensors import SENSORS

torch = pytest.importorskip("torch")

CLOUDSEN12 = {
    "cloudsen12",
    "cloudsen12l2a",
    "dtacs4bands",
    "landsat30",
    "UNetMobV2_V1",
    "UNetMobV2_V2",
}
L1C = list(SENSORS["sentinel-2-l1c"].band_names)
L2A = list(SENSORS["sentinel-2-l2a"].band_names)
OLI = [f"B{number:02d}" for number in range(1, 12)]


def test_entries_are_consistent() -> None:
    assert set(MODELS) >= CLOUDSEN12
    for name, entry in MODELS.items():
        assert entry.id == name
        assert KINDS[entry.kind.id].id == entry.kind.id
        for sensor, bands in entry.inputs.items():
            layers = {layer.name for layer in SENSORS[sensor].layers}
            assert set(bands) <= {*SENSORS[sensor].band_names, *layers}
            assert len(set(bands)) == len(bands)
        if "bands" in entry.config:
            assert all(len(bands) == entry.config["bands"] for bands in entry.inputs.values())
        if entry.weights is not None and entry.weights.sha256 is not None:
            assert len(bytes.fromhex(entry.weights.sha256)) == 32
        assert entry.licence.non_commercial == ("-NC-" in entry.licence.spdx)
    assert set(ALIASES.values()) <= set(MODELS)


def test_cloudsen12_is_not_for_commercial_use() -> None:
    for name in CLOUDSEN12:
        notice = licence_notice(get_model(name))
        assert "CC-BY-NC-4.0 (not for commercial use)" in notice


@pytest.mark.parametrize("name", ["cloudsen12", "CLOUDSEN12", " unetmobv2_v2 "])
def test_case_and_blanks_do_not_matter(name: str) -> None:
    assert get_model(name).id.lower() == name.strip().lower()


def test_unknown_model_lists_near_names() -> None:
    with pytest.raises(UnknownModelError, match=r"'cloudsen21'; did you mean .*'cloudsen12'"):
        get_model("cloudsen21")
    with pytest.raises(UnknownModelError, match=r"'xyz'\. Known are: .*hollstein"):
        get_model("xyz")


@pytest.mark.parametrize(
    ("model", "labels", "sensor", "first"),
    [
        ("cloudsen12", [*reversed(L1C), "SCL"], "sentinel-2-l1c", "B01"),
        ("cloudsen12", [name.replace("B0", "B") for name in L1C], "sentinel-2-l1c", "B01"),
        ("dtacs4bands", L1C, "sentinel-2-l1c", "B08"),
        ("landsat30", OLI, "landsat-8-9-l1", "B1"),
        ("landsat30", L1C, "sentinel-2-l1c", "B01"),
        ("landsat30", [name for name in L1C if name != "B05"], "sentinel-2-l1c", "B01"),
        ("ukis-csmask", L1C, "sentinel-2-l1c", "B02"),
        ("ukis-csmask", L2A, "sentinel-2-l2a", "B02"),
        ("ukis-csmask", OLI, "landsat-8-9-l1", "B2"),
        ("ukis-csmask", ["B1", "B2", "B3", "B4", "B5", "B7"], "landsat-7-l1", "B1"),
        (
            "ukis-csmask",
            ["blue", "green", "red", "nir", "swir16", "swir22"],
            "sentinel-2-l1c",
            "B02",
        ),
        ("hollstein", L2A, "sentinel-2-l2a", "B01"),
    ],
)
def test_labels_tell_the_sensor(model: str, labels: list[str], sensor: str, first: str) -> None:
    chosen = select_input(get_model(model), bands=labels)
    assert chosen.sensor.id == sensor
    assert chosen.band_names[0] == first


@pytest.mark.parametrize(
    ("labels", "sensor", "band_names"),
    [
        ("SR_B1 SR_B2 SR_B3 SR_B4 SR_B5 SR_B6 SR_B7", "landsat-8-9-l2", "B1 B2 B3 B4 B5 B6 B7"),
        (
            "nbart_blue nbart_green nbart_red nbart_nir nbart_swir_1 nbart_swir_2",
            "landsat-8-9-l2",
            "B2 B3 B4 B5 B6 B7",
        ),
        (
            "nbart_blue nbart_green nbart_red nbart_nir_1 nbart_swir_2 nbart_swir_3",
            "sentinel-2-l2a",
            "B02 B03 B04 B08 B11 B12",
        ),
        ("S2A.B02 S2A.B03 S2A.B04 S2A.B08", "sentinel-2-l1c", "B02 B03 B04 B08"),
        ("coastal blue green red nir08 swir16 swir22", "landsat-8-9-l1", "B2 B3 B4 B5 B6 B7"),
        ("B02 B03 B04 B8A", "sentinel-2-l1c", "B02 B03 B04 B8A"),
        ("B02 B03 B04 B08 B8A", "sentinel-2-l1c", "B02 B03 B04 B08"),
    ],
)
def test_names_of_providers_are_known(labels: str, sensor: str, band_names: str) -> None:
    chosen = select_input(get_model("mini"), bands=labels.split())
    assert (chosen.sensor.id, chosen.band_names) == (sensor, tuple(band_names.split()))
    assert chosen.assumed
    assert not select_input(get_model("mini"), sensor=sensor, bands=labels.split()).assumed


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        # Landsat 4 to 7, where B1 is blue and B6 thermal, or Landsat 8 Level-2
        ("B1 B2 B3 B4 B5 B6 B7", "do not tell which sensor they are from; pass sensor"),
        ("SR_B1 SR_B2 SR_B3 SR_B4 SR_B5", "do not tell which sensor"),
        (
            "coastal_blue blue green_i green yellow red rededge nir",
            r"no known sensor has coastal_blue, green_i, yellow \(PlanetScope does\)",
        ),
    ],
)
@pytest.mark.parametrize("model", ["mini", "senseiv2"])
def test_names_that_mean_something_else_are_asked_for(
    model: str, labels: str, message: str
) -> None:
    with pytest.raises(SensorError, match=message):
        select_input(get_model(model), bands=labels.split())


def test_a_sensor_that_knows_fewer_names_does_not_fit_by_accident() -> None:
    """OmniCloudMask lacks B8A here; B03, B02 and B04 of Landsat 7 would be other bands."""
    with pytest.raises(BandError, match="missing band B8A of sentinel-2-l1c"):
        select_input(get_model("omnicloudmask"), bands=["B02", "B03", "B04", "B08", "B11", "B12"])


def test_all_sensors_that_may_be_meant_are_named() -> None:
    with pytest.raises(SensorError, match=r"pass sensor \(--sensor\), one of .*landsat-8-9-l2"):
        select_input(get_model("mini"), bands=[f"B{number}" for number in range(1, 8)])


def test_labels_that_fit_two_sensors_are_an_error() -> None:
    with pytest.raises(SensorError, match="do not tell which sensor"):
        select_input(get_model("ukis-csmask"), bands=["B02", "B03", "B04", "B05", "B08"])
    chosen = select_input(
        get_model("ukis-csmask"), sensor="landsat-8-9-l1", bands=["B02", "B03", "B04", "B05", "B08"]
    )
    assert chosen.band_names == ("B2", "B3", "B4", "B5")


def test_missing_bands_and_wrong_sensors_are_named() -> None:
    with pytest.raises(BandError, match="B10"):
        select_input(get_model("cloudsen12"), bands=L2A)
    with pytest.raises(SensorError, match="not made for the sensor 'landsat-8-9-l1'"):
        select_input(get_model("cloudsen12"), sensor="landsat-8-9-l1")
    with pytest.raises(SensorError, match="unknown sensor 'spot'"):
        select_input(get_model("cloudsen12"), sensor="spot")


@pytest.fixture
def weights(golden_unet: Callable[[int], Any], tmp_path: Path, cache: Path) -> Path:
    path = tmp_path / "golden.pt"
    torch.save(golden_unet(13).state_dict(), path)
    return path


@pytest.mark.slow
def test_detector_is_loaded_once_until_the_file_changes(weights: Path, golden_unet: Any) -> None:
    first = load_detector("cloudsen12", weights=weights, device="cpu", precision="fp32")
    assert load_detector("CloudSEN12", weights=weights, device="cpu", precision="fp32") is first
    assert load_detector("cloudsen12", weights=weights, device="cpu", precision="bf16") is not first
    state = {key: value.clone() for key, value in golden_unet(13).state_dict().items()}
    state["segmentation_head.0.bias"] += 1
    torch.save({"state_dict": state}, weights)
    again = load_detector("cloudsen12", weights=weights, device="cpu", precision="fp32")
    assert again is not first


@pytest.mark.slow
def test_detector_masks_a_scene(weights: Path, fill: Any) -> None:
    detector = load_detector("UNetMobV2_V1", weights=weights, device="cpu", precision="fp32")
    assert detector.band_names == tuple(L1C)
    cube = fill.reflectance(1, (13, 70, 90))
    cube[4, 5, 6] = np.nan
    answer = predict(cube, detector)
    assert np.isnan(answer[:, 5, 6]).all()
    assert np.isnan(answer).sum() == 4
    np.testing.assert_allclose(np.nansum(answer, axis=0)[10:], 1.0, atol=1e-5)


def test_weights_of_another_model_are_refused(
    tmp_path: Path, golden_unet: Any, cache: Path
) -> None:
    path = tmp_path / "four.pt"
    torch.save(golden_unet(4).state_dict(), path)
    with pytest.raises(WeightsError, match=r"\(32, 4, 3, 3\), expected \(32, 13, 3, 3\)"):
        load_detector("cloudsen12", weights=path)


def test_options_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="runtime is 'tensorflow'"):
        load_detector("hollstein", runtime="tensorflow")
    with pytest.raises(OptionError, match="precision is 'int4'"):
        load_detector("hollstein", precision="int4")
    with pytest.raises(OptionError, match="no weights of its own"):
        load_detector("hollstein", weights=tmp_path)


class Script(torch.nn.Module):
    def __init__(self, bands: int, classes: int, *, softmax: bool) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(bands, classes, 3, padding=1)
        self.softmax = softmax

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.layer(x)
        return torch.softmax(out, dim=1) if self.softmax else out


def write_script(path: Path, bands: int, classes: int, *, softmax: bool = False) -> torch.nn.Module:
    torch.manual_seed(0)
    module = Script(bands, classes, softmax=softmax).eval()
    torch.jit.save(torch.jit.trace(module, torch.rand(1, bands, 32, 32)), str(path))
    return module


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize(
    ("model", "bands"), [("cloudsen12l2a", 12), ("dtacs4bands", 4), ("landsat30", 8)]
)
def test_torchscript_models_run(
    tmp_path: Path, cache: Path, model: str, bands: int, *, softmax: bool
) -> None:
    module = write_script(tmp_path / "model.pt", bands, 4, softmax=softmax)
    detector = load_detector(model, weights=tmp_path / "model.pt", device="cpu")
    window = np.random.default_rng(0).random((2, bands, 64, 64), np.float32)
    answer = detector.predict_windows(window, np.ones((2, 64, 64), bool))
    with torch.inference_mode():
        expected = module(torch.from_numpy(window))
        expected = expected if softmax else expected.softmax(1)
    np.testing.assert_allclose(answer, expected.numpy(), atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript_of_another_model_is_refused(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "model.pt"
    write_script(path, 5, 4)
    with pytest.raises(WeightsError, match="does not take 12 bands"):
        load_detector("cloudsen12l2a", weights=path, device="cpu")
    write_script(path, 12, 3)
    with pytest.raises(WeightsError, match=r"answers with \(1, 3, 64, 64\), expected \(1, 4"):
        load_detector("cloudsen12l2a", weights=path, device="cpu")


def test_registry_is_read_without_torch() -> None:
    code = (
        "import sys; from openeo_cloudmask.models import MODELS, get_model, load_detector; "
        "load_detector('hollstein'); assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
