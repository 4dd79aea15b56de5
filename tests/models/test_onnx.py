"""ONNX: the same answers from a file that says what it is; clear errors for other files."""

import os
import warnings

import numpy as np
import onnx
import pytest
import torch
import yaml

from openeo_cloudmask.errors import (
    BandError,
    InputError,
    OptionError,
    OutputError,
    SensorError,
    WeightsError,
)
from openeo_cloudmask.models import build_network, get_model, load_detector
from openeo_cloudmask.models.onnx_card import CARD_KEY
from openeo_cloudmask.models.onnx_detector import read_card
from openeo_cloudmask.models.onnx_export import export_onnx
from openeo_cloudmask.models.sensei_hub import parse_config

SENSEI = "SEnSeIv2-SegFormerB2-alldata-ambiguous"
BANDS = ("B02", "B03", "B04", "B08", "B11")
SIDE = 64


@pytest.fixture(scope="module")
def sensei_file(tmp_path_factory, fill):
    """Return a folder in the published shape and the file exported from it for five bands."""
    folder = tmp_path_factory.mktemp("published")
    model = folder / "full-models" / SENSEI
    model.mkdir(parents=True)
    config = {
        "SEnSeIv2": "senseiv2-small.yaml",
        "MODEL_TYPE": "Segformer",
        "CLASSES": 7,
        "SEGFORMER_CONFIG": {
            "depths": [1, 1, 1, 1],
            "hidden_sizes": [8, 16, 24, 32],
            "num_attention_heads": [1, 2, 3, 4],
            "decoder_hidden_size": 32,
        },
    }
    (model / "config.yaml").write_text(yaml.safe_dump(config))
    network = build_network(*parse_config(config, model / "config.yaml"))
    fill.fill_state_dict(network)
    torch.save(network.state_dict(), model / "weights.pt")
    path = folder / "sensei.onnx"
    card = export_onnx("senseiv2", path, bands=("B08", *BANDS[:3], "B11"), sensor="sentinel-2-l1c",
                       weights=folder, window_px=SIDE)  # fmt: skip
    assert card == read_card(path)
    return folder, path


def test_file_carries_its_card(sensei_file):
    _, path = sensei_file
    model = onnx.load(path)
    onnx.checker.check_model(model)
    assert CARD_KEY in {item.key for item in model.metadata_props}
    card = read_card(path)
    assert card.model == SENSEI
    assert card.bands == BANDS
    assert [item["min_wavelength"] for item in card.descriptors] == [446, 537.5, 645.5, 763.5, 1541]
    assert card.classes[3:6] == ("thin-cloud", "thick-cloud", "cloud-shadow")
    assert card.licence == "GPL-3.0-only"
    assert "reflectance 0-1" in card.scaling
    assert card.window.size_px == SIDE
    shapes = {
        item.name: [d.dim_param or d.dim_value for d in item.type.tensor_type.shape.dim]
        for item in model.graph.input
    }
    batch = shapes["windows"][0]
    assert isinstance(batch, str)
    assert shapes == {"windows": [batch, 5, SIDE, SIDE], "valid": [batch, SIDE, SIDE]}
    assert not list(path.parent.glob("*.tmp"))


def test_file_answers_as_the_network_does(sensei_file, fill):
    folder, path = sensei_file
    options = {"sensor": "sentinel-2-l1c", "bands": BANDS}
    torch_detector = load_detector("senseiv2", weights=folder, precision="fp32", **options)
    # A file is told by its name, so a process graph needs no more than `weights`.
    onnx_detector = load_detector("senseiv2", weights=path, **options)
    assert type(onnx_detector).__name__ == "OnnxDetector"
    assert onnx_detector.scheme == torch_detector.scheme
    valid = np.ones((3, SIDE, SIDE), bool)
    valid[1, :, 20:] = False
    windows = np.stack([fill.reflectance(s, (5, SIDE, SIDE)) for s in range(3)]) * valid[:, None]
    given, wanted = (d.predict_windows(windows, valid) for d in (onnx_detector, torch_detector))
    np.testing.assert_allclose(given, wanted, rtol=0, atol=1e-5)
    together = onnx_detector.session.run(None, {"windows": windows, "valid": valid})[0]
    np.testing.assert_allclose(together, given, rtol=0, atol=1e-5)


def test_bands_the_file_does_not_take_are_left_out(sensei_file, fill):
    _, path = sensei_file
    cube = fill.reflectance(1, (6, SIDE, SIDE))[None]
    valid = np.ones((1, SIDE, SIDE), bool)
    more = load_detector(
        "senseiv2", sensor="sentinel-2-l1c", bands=("B01", *BANDS), weights=path, runtime="onnx"
    )
    exact = load_detector("senseiv2", sensor="sentinel-2-l1c", bands=BANDS, weights=path)
    assert more.band_names == ("B01", *BANDS)
    np.testing.assert_array_equal(
        more.predict_windows(cube, valid), exact.predict_windows(cube[:, 1:], valid)
    )


def test_file_that_does_not_fit_is_refused(sensei_file, tmp_path):
    _folder, path = sensei_file
    load = {"sensor": "sentinel-2-l1c", "weights": path}
    with pytest.raises(BandError, match="the data lacks B11"):
        load_detector("senseiv2", bands=BANDS[:4], **load)
    with pytest.raises(SensorError, match=r"for the sensor 'sentinel-2-l1c'.*'sentinel-2-l2a'"):
        load_detector("senseiv2", bands=BANDS, sensor="sentinel-2-l2a", weights=path)
    with pytest.raises(WeightsError, match=r"holds model.*'cloudsen12' was asked for"):
        load_detector("cloudsen12", weights=path)
    with pytest.raises(OptionError, match="bf16"):
        load_detector("senseiv2", bands=BANDS, precision="bf16", **load)
    other = tmp_path / "other.onnx"
    other.write_bytes(b"no onnx")
    with pytest.raises(WeightsError, match="cannot be read as ONNX"):
        load_detector("senseiv2", bands=BANDS, sensor="sentinel-2-l1c", weights=other)
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, other)
    os.utime(other, ns=(1, 1))
    with pytest.raises(WeightsError, match="carries no card"):
        load_detector("senseiv2", bands=BANDS, sensor="sentinel-2-l1c", weights=other)
    model.metadata_props.add(key=CARD_KEY, value='{"bands": [], "descriptors": [], "classes": []}')
    onnx.save(model, other)
    with pytest.raises(WeightsError, match=r"card in .* cannot be read"):
        read_card(other)


def test_windows_of_another_size_are_refused(sensei_file):
    _, path = sensei_file
    detector = load_detector("senseiv2", sensor="sentinel-2-l1c", bands=BANDS, weights=path)
    with pytest.raises(InputError, match=r"32 x 32.*64 x 64"):
        detector.predict_windows(np.zeros((1, 5, 32, 32), np.float32), np.ones((1, 32, 32), bool))


def test_missing_file_says_how_to_make_it(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENEO_CLOUDMASK_CACHE", str(tmp_path))
    monkeypatch.delenv("OPENEO_CLOUDMASK_WEIGHTS", raising=False)
    with pytest.raises(WeightsError, match="cloudmask export cloudsen12"):
        load_detector("cloudsen12", runtime="onnx")


def test_what_is_no_network_is_not_exported(tmp_path, sensei_file):
    folder, _ = sensei_file
    with pytest.raises(OptionError, match="'rule', which is not exported"):
        export_onnx("hollstein", tmp_path / "x.onnx")
    with pytest.raises(OptionError, match="multiples of 32 px"):
        export_onnx("senseiv2", tmp_path / "x.onnx", window_px=70)
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        export_onnx("senseiv2", blocker / "x.onnx", weights=folder, bands=BANDS,
                    sensor="sentinel-2-l1c", window_px=32)  # fmt: skip


def test_published_torchscript_is_exported(tmp_path, fill):
    net = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3, padding=1), torch.nn.Conv2d(8, 4, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises authors to publish in another format
        torch.jit.save(torch.jit.trace(net, torch.zeros(1, 4, SIDE, SIDE)), tmp_path / "net.pt")
    path = tmp_path / "dtacs4bands.onnx"
    card = export_onnx("dtacs4bands", path, weights=tmp_path / "net.pt", window_px=SIDE)
    assert card.bands == ("B08", "B04", "B03", "B02")
    cube = fill.reflectance(1, (4, SIDE, SIDE))[None]
    given = load_detector("dtacs4bands", weights=path).predict_windows(
        cube, np.ones((1, SIDE, SIDE), bool)
    )
    with torch.inference_mode():
        wanted = net(torch.from_numpy(cube)).softmax(dim=1).numpy()
    np.testing.assert_allclose(given, wanted, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cloudsen12", "SegFormerB2-S2-unambiguous"])
def test_networks_without_sensei_are_exported(tmp_path, fill, golden_case, name):
    entry = get_model(name)
    case = golden_case("segformer_tiny_s2")
    if entry.kind == "segformer":
        (tmp_path / "config.yaml").write_text(
            yaml.safe_dump(
                {
                    "MODEL_TYPE": "Segformer",
                    "SEGFORMER_CONFIG": case.config["segformer"],
                    "CLASSES": 4,
                    "NUM_CHANNELS": 13,
                }
            )
        )
        network = case.network
    else:
        network = build_network(entry.kind, entry.config)
        fill.fill_state_dict(network)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    path = tmp_path / f"{name}.onnx"
    export_onnx(name, path, weights=tmp_path / "weights.pt", window_px=SIDE)
    options = {"device": "cpu", "precision": "fp32"}
    exported = load_detector(name, weights=tmp_path, runtime="onnx", **options)
    original = load_detector(name, weights=tmp_path / "weights.pt", **options)
    cube = fill.reflectance(1, (13, SIDE, SIDE))[None]
    valid = np.ones((1, SIDE, SIDE), bool)
    np.testing.assert_allclose(
        exported.predict_windows(cube, valid), original.predict_windows(cube, valid), atol=1e-4
    )
