"""Published folders: settings, strict weights, detectors for any sensor, clear errors."""

import os

import numpy as np
import pytest
import rasterio
import yaml
from rasterio.transform import from_origin
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import (
    BandError,
    CloudMaskError,
    OptionError,
    SensorError,
    WeightsError,
)
from openeo_cloudmask.models import MODELS, get_model, load_detector
from openeo_cloudmask.models.sensei_hub import parse_config, read_settings, read_yaml

NAMES = (
    "SEnSeIv2-SegFormerB2-alldata-ambiguous",
    "SEnSeIv2-SegFormerB2-S2-ambiguous",
    "SEnSeIv2-DeepLabv3-S2-unambiguous",
    "SegFormerB2-S2-unambiguous",
)


@pytest.mark.parametrize("name", NAMES)
def test_published_models_are_in_the_registry(name):
    entry = get_model(name)
    assert entry.licence.spdx.startswith("GPL-3.0")
    assert entry.weights.repo == "aliFrancis/SEnSeIv2"
    assert entry.weights.file == f"full-models/{name}/weights.pt"
    assert entry.window.size_px == 512
    with torch.device("meta"):
        network = entry.kind.build(entry.config)
    assert sum(p.numel() for p in network.parameters()) > 20e6


def test_senseiv2_is_the_default_of_the_published_code():
    assert get_model("senseiv2") is MODELS["SEnSeIv2-SegFormerB2-alldata-ambiguous"]


def test_published_weights_have_the_size_they_are_said_to_have():
    entry = get_model("SEnSeIv2-DeepLabv3-S2-unambiguous")
    with torch.device("meta"):
        network = entry.kind.build(entry.config)
    size = sum(t.numel() * t.element_size() for t in network.state_dict().values())
    assert round(size / 1e6) in range(107, 112)


@pytest.mark.parametrize(
    ("sensor", "bands"), [("sentinel-2-l1c", 13), ("sentinel-2-l2a", 12), ("landsat-8-9-l1", 11)]
)
def test_detector_gives_what_its_network_gives(hub_folder, fill, sensor, bands):
    detector = load_detector("senseiv2", sensor=sensor, weights=hub_folder(), device="cpu")
    assert len(detector.band_names) == bands
    windows = np.stack([fill.reflectance(seed, (bands, 64, 64)) for seed in (1, 2, 3)])
    valid = np.ones((3, 64, 64), bool)
    answer = detector.predict_windows(windows, valid)
    assert answer.shape == (3, 7, 64, 64)
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-5)
    alone = np.concatenate([detector.predict_windows(w[None], valid[:1]) for w in windows])
    np.testing.assert_array_equal(answer, alone)


def test_three_bands_are_enough_and_two_are_not(hub_folder, fill):
    folder = hub_folder()
    for bands in (("B08", "B04", "B03"), tuple(f"B{i:02d}" for i in range(1, 13))):
        detector = load_detector("senseiv2", sensor="sentinel-2-l1c", bands=bands, weights=folder)
        assert set(detector.band_names) == set(bands)
        cube = fill.reflectance(1, (len(bands), 32, 32))[None]
        assert detector.predict_windows(cube, np.ones((1, 32, 32), bool)).shape == (1, 7, 32, 32)
    with pytest.raises(BandError, match="at least 3 bands"):
        load_detector("senseiv2", sensor="sentinel-2-l1c", bands=("B04", "B03"), weights=folder)


def test_bands_given_twice_are_refused(hub_folder):
    with pytest.raises(BandError, match="twice"):
        load_detector(
            "senseiv2",
            sensor="sentinel-2-l1c",
            bands=("B02", "blue", "B03", "B04", "B08"),
            weights=hub_folder(),
        )


def test_landsat_without_thermal_bands_is_a_choice(hub_folder):
    optical = tuple(f"B{i}" for i in range(1, 10))
    detector = load_detector(
        "senseiv2", sensor="landsat-8-9-l1", bands=optical, weights=hub_folder()
    )
    assert detector.band_names == optical


def test_own_sensor_works_and_needs_wavelengths(hub_folder, tmp_path):
    own = tmp_path / "sensor.yaml"
    text = "id: mine\nresolution_m: 5\nbands:\n" + "".join(
        f"  - {{name: X{i}, min_nm: {450 + 100 * i}, max_nm: {500 + 100 * i}}}\n" for i in range(4)
    )
    own.write_text(text)
    detector = load_detector("senseiv2", sensor=str(own), weights=hub_folder())
    assert detector.band_names == ("X0", "X1", "X2", "X3")
    own.write_text(text.replace("min_nm: 450, ", ""))
    with pytest.raises(SensorError, match="min_nm"):
        load_detector("senseiv2", sensor=str(own), weights=hub_folder())


def test_folder_of_the_model_itself_and_a_weights_file_are_found(hub_folder):
    folder = hub_folder() / "full-models" / NAMES[0]
    for weights in (folder, folder / "weights.pt"):
        assert len(load_detector("senseiv2", weights=weights).scheme.classes) == 7


def test_weights_folder_of_the_environment_is_used(hub_folder, monkeypatch):
    monkeypatch.setenv("OPENEO_CLOUDMASK_WEIGHTS", str(hub_folder()))
    assert len(load_detector("senseiv2").band_names) == 13


def test_weights_of_another_architecture_are_refused(hub_folder, golden_case):
    folder = hub_folder()
    path = folder / "full-models" / NAMES[0] / "weights.pt"
    torch.save(golden_case("sensei_deeplab_s2").network.state_dict(), path)
    with pytest.raises(WeightsError, match=r"keys are missing.*keys are not expected"):
        load_detector("senseiv2", weights=folder)


def test_part_that_served_training_alone_is_left_out(hub_folder):
    folder = hub_folder()
    path = folder / "full-models" / NAMES[0] / "weights.pt"
    state = torch.load(path, weights_only=True)
    torch.save(state | {"recovery_module.preconcatenation_layers.1.bias": torch.zeros(2)}, path)
    assert len(load_detector("senseiv2", weights=folder).scheme.classes) == 7
    torch.save(state | {"recovered": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match="1 keys are not expected: recovered"):
        load_detector("senseiv2", weights=folder)


def test_unknown_block_is_named(hub_folder):
    blocks = [{"type": "MAGIC"}, {"type": "BAND_MULTIPLICATION"}]
    with pytest.raises(OptionError, match=r"block 0.*'MAGIC'"):
        load_detector("senseiv2", weights=hub_folder(blocks=blocks))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"CLASSES": 4}, "4 classes.*has 7"),
        ({"MODEL_TYPE": "NN"}, "MODEL_TYPE 'NN'"),
        ({"SEGFORMER_CONFIG": "nvidia/mit-b9"}, "'nvidia/mit-b9'; expected one of"),
        ({"SEnSeIv2": "x/other.yaml"}, "'other.yaml'.*put the file there"),
        ({"CLASSES": "seven"}, "CLASSES 'seven'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(hub_folder, changes, message):
    folder = hub_folder()
    path = folder / "full-models" / NAMES[0] / "config.yaml"
    path.write_text(yaml.safe_dump(read_yaml(path) | changes))
    with pytest.raises(WeightsError, match=message):
        load_detector("senseiv2", weights=folder)


def test_broken_yaml_is_named(hub_folder):
    folder = hub_folder()
    path = folder / "full-models" / NAMES[0] / "config.yaml"
    path.write_text("a: [1")
    with pytest.raises(WeightsError, match=r"config\.yaml cannot be read"):
        load_detector("senseiv2", weights=folder)
    path.write_text("[1]")
    with pytest.raises(WeightsError, match="hold a list"):
        load_detector("senseiv2", weights=folder)


def test_published_settings_are_the_ones_in_the_registry(tmp_path):
    published = {
        "CLASSES": 7,
        "SEnSeIv2": "hf_models/sensei-configs/senseiv2-medium.yaml",
        "MODEL_TYPE": "Segformer",
        "SEGFORMER_CONFIG": "nvidia/mit-b2",
        "NUM_CHANNELS": None,
    }
    entry = get_model("senseiv2")
    path = tmp_path / "config.yaml"
    assert parse_config(published, path) == (entry.kind.id, entry.config)
    deeplab = {
        "CLASSES": 4,
        "SEnSeIv2": "models/sensei-configs/senseiv2-medium.yaml",
        "MODEL_TYPE": "DeepLabv3+",
        "DEEPLAB_CONFIG": "resnet50",
    }
    entry = get_model("SEnSeIv2-DeepLabv3-S2-unambiguous")
    assert parse_config(deeplab, path) == (entry.kind.id, entry.config)
    plain = {
        "CLASSES": 4,
        "MODEL_TYPE": "Segformer",
        "SEGFORMER_CONFIG": "nvidia/mit-b2",
        "NUM_CHANNELS": 13,
    }
    entry = get_model("SegFormerB2-S2-unambiguous")
    assert parse_config(plain, path) == (entry.kind.id, entry.config)
    assert read_settings(entry, tmp_path / "weights.pt") == (entry.kind.id, entry.config)


def test_auto_is_exact_where_bf16_would_change_classes(hub_folder, fill, monkeypatch):
    from openeo_cloudmask.models import sensei_detector

    folder = hub_folder()
    monkeypatch.setattr(sensei_detector, "resolve_precision", lambda *_: "bf16")
    monkeypatch.setattr(sensei_detector, "_CALIBRATION_LIMIT", 0.0)
    exact = load_detector("senseiv2", weights=folder, device="cpu", precision="auto")
    assert exact.precision == "fp32"
    monkeypatch.setattr(sensei_detector, "_CALIBRATION_LIMIT", 1.0)
    path = folder / "full-models" / NAMES[0] / "weights.pt"
    torch.save(torch.load(path, weights_only=True) | {}, path)  # a new file is loaded anew
    os.utime(path, ns=(1, 1))
    rounded = load_detector("senseiv2", weights=folder, device="cpu", precision="auto")
    assert rounded.precision == "bf16"


@pytest.fixture
def refused(tmp_path, fill):
    """Return a function that masks a raster of layers with senseiv2 and returns the message."""

    def run(folder, bands, sensor="sentinel-2-l1c"):
        output = tmp_path / "mask.tif"
        pixels = fill.reflectance(1, (len(bands), 40, 40))
        with rasterio.open(
            tmp_path / "scene.tif", "w", driver="GTiff", count=len(bands), height=40, width=40,
            dtype="float32", crs="EPSG:32632", transform=from_origin(300_000, 5_000_000, 10, 10),
        ) as dataset:  # fmt: skip
            dataset.write(pixels)
        line = ["run", tmp_path / "scene.tif", output, "--model", "senseiv2", "--weights", folder]
        line += ["--sensor", sensor, "--bands", ",".join(bands)]
        result = CliRunner().invoke(build_app(), list(map(str, line)))
        assert isinstance(result.exception, CloudMaskError), result.output
        assert "\n" not in str(result.exception)
        assert not output.exists()
        return str(result.exception)

    return run


def test_the_command_says_what_does_not_fit_in_one_line(refused, hub_folder, golden_case, tmp_path):
    folder = hub_folder()
    assert "needs at least 3 bands" in refused(folder, ("B02", "B03"))
    assert "given twice" in refused(folder, ("B02", "B02", "B03", "B04"))
    own = tmp_path / "sensor.yaml"
    own.write_text("id: mine\nresolution_m: 10\nbands: [{name: X1}, {name: X2}, {name: X3}]\n")
    message = refused(folder, ("X1", "X2", "X3"), sensor=own)
    assert "give min_nm and max_nm in nanometres" in message
    path = folder / "full-models" / NAMES[0] / "weights.pt"
    torch.save(golden_case("sensei_deeplab_s2").network.state_dict(), path)
    assert "keys are not expected" in refused(folder, ("B02", "B03", "B04"))
    blocks = [{"type": "MAGIC"}, {"type": "BAND_MULTIPLICATION"}]
    message = refused(hub_folder(blocks=blocks), ("B02", "B03", "B04"))
    assert "block 0 of the SEnSeI configuration has the type 'MAGIC'" in message
