"""ONNX: the same answers from a file that says what it is; clear errors for other files."""

import json
import os
import warnings
from dataclasses import replace

import numpy as np
import onnx
import pytest
import rasterio
import xarray as xr
import yaml
from openeo.udf import UdfData, XarrayDataCube
from openeo.udf.run_code import run_udf_code
from rasterio.transform import from_origin
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

from openeo_cloudmask import assets
from openeo_cloudmask.cli import build_app
from openeo_cloudmask.datacube import pixel_origin
from openeo_cloudmask.errors import (
    BandError,
    InputError,
    OptionError,
    OutputError,
    SensorError,
    WeightsError,
)
from openeo_cloudmask.inference import Window, predict
from openeo_cloudmask.models import MODELS, build_network, get_model, load_detector
from openeo_cloudmask.models.onnx_card import CARD_KEY
from openeo_cloudmask.models.onnx_detector import read_card
from openeo_cloudmask.models.onnx_export import export_onnx
from openeo_cloudmask.models.sensei_hub import parse_config
from openeo_cloudmask.models.statistics import band_percentiles
from openeo_cloudmask.stac.exported_item import describe_exported

pytestmark = pytest.mark.slow

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
    assert card.percentiles == (0.01, 0.1, 0.5, 0.9, 0.99)
    assert shapes == {"windows": [batch, 5, SIDE, SIDE], "percentiles": [batch, 5, 5]}
    assert not list(path.parent.glob("*.tmp"))


def test_item_says_which_percentiles_the_file_takes_and_how(sensei_file, fill):
    _, path = sensei_file
    item = describe_exported(path).to_dict()["properties"]
    asked = item["mlm:hyperparameters"]["percentiles"]
    _, given = item["mlm:input"]
    assert (given["name"], given["input"]["shape"]) == ("percentiles", [-1, 5, len(asked)])
    windows = fill.reflectance(1, (5, SIDE, SIDE))
    valid = windows[0] > 0.1
    names = {"numpy": np, "windows": windows, "valid": valid, "percentiles": asked}
    told = eval(given["pre_processing_function"]["expression"], names)
    ours = band_percentiles(windows[None], valid[None], read_card(path).percentiles)
    np.testing.assert_allclose(told[None], ours, atol=1e-6)


def test_file_answers_as_the_network_does(sensei_file, fill):
    folder, path = sensei_file
    options = {"sensor": "sentinel-2-l1c", "bands": BANDS}
    torch_detector = load_detector("senseiv2", weights=folder, precision="fp32", **options)
    # A file is told by its name, so a process graph needs no more than `weights`.
    onnx_detector = load_detector("senseiv2", weights=path, **options)
    by_onnx = load_detector("senseiv2", weights=path, runtime="onnx", **options)
    assert type(onnx_detector).__name__ == "OnnxDetector"
    assert onnx_detector.scheme == torch_detector.scheme
    valid = np.ones((3, SIDE, SIDE), bool)
    valid[1, :, 20:] = False
    windows = np.stack([fill.reflectance(s, (5, SIDE, SIDE)) for s in range(3)]) * valid[:, None]
    given, wanted = (d.predict_windows(windows, valid) for d in (onnx_detector, torch_detector))
    np.testing.assert_allclose(given, wanted, rtol=0, atol=1e-5)
    stats = band_percentiles(windows, valid, by_onnx.card.percentiles)
    together = by_onnx.session.run(None, {"windows": windows, "percentiles": stats})[0]
    np.testing.assert_allclose(together, given, rtol=0, atol=1e-5)


def test_bands_the_file_does_not_take_are_left_out(sensei_file, fill):
    _, path = sensei_file
    cube = fill.reflectance(1, (6, SIDE, SIDE))[None]
    valid = np.ones((1, SIDE, SIDE), bool)
    more = load_detector(
        "senseiv2", sensor="sentinel-2-l1c", bands=("B01", *BANDS), weights=path, runtime="onnx"
    )
    exact = load_detector(
        "senseiv2", sensor="sentinel-2-l1c", bands=BANDS, weights=path, runtime="onnx"
    )
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
    with pytest.raises(OutputError, match=r"'x.bin'; expected a name that ends in .onnx"):
        export_onnx("mini", tmp_path / "x.bin")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        export_onnx("mini", tmp_path / "folder.onnx")
    with pytest.raises(OptionError, match="'rule', which is not exported"):
        export_onnx("hollstein", tmp_path / "x.onnx")
    with pytest.raises(OptionError, match="70 px is no positive multiple of 32 px"):
        export_onnx("senseiv2", tmp_path / "x.onnx", window_px=70)
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(OutputError, match=r"folder .*file is not there; create it first"):
        export_onnx("senseiv2", blocker / "x.onnx", weights=folder, bands=BANDS,
                    sensor="sentinel-2-l1c", window_px=32)  # fmt: skip


def test_published_torchscript_is_exported(tmp_path, fill):
    net = tiny_script(4, tmp_path / "net.pt")
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


def tiny_script(bands, path):
    net = torch.nn.Sequential(torch.nn.Conv2d(bands, 8, 3, padding=1), torch.nn.Conv2d(8, 4, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises authors to publish in another format
        torch.jit.save(torch.jit.trace(net, torch.zeros(1, bands, SIDE, SIDE)), path)
    return net


@pytest.fixture
def made_weights(tmp_path, fill, hub_folder):
    """Return the factory of synthetic weights for a model of the registry, as `weights` takes them.

    Networks are the published ones, but SegFormers and TorchScripts are tiny.
    """

    def make(entry):
        if entry.kind.id == "mini":
            return None  # in the package
        if entry.family == "SEnSeIv2":
            if entry.kind.id == "sensei-deeplab":
                changes = {"MODEL_TYPE": "DeepLabv3+", "DEEPLAB_CONFIG": "resnet50"}
            elif entry.kind.id == "segformer":
                changes = {"SEnSeIv2": None, "NUM_CHANNELS": 13}
            else:
                changes = {}
            return hub_folder(entry.id, CLASSES=len(entry.scheme.classes), **changes)
        path = tmp_path / "weights.pt"
        if entry.kind.id == "torchscript":
            tiny_script(len(next(iter(entry.inputs.values()))), path)
        else:
            network = entry.kind.build(entry.config)
            fill.fill_state_dict(network)
            torch.save(network.state_dict(), path)
        return path

    return make


NETWORKS = [entry for entry in MODELS.values() if entry.kind.export is not None]
PATCH_CNN = get_model("kristollari-cnn")
"""Has tests of its own below: its window is not like the others'."""


def distinct_networks():
    """Return a model for each network: those that differ by their weights are exported alike."""
    found = {}
    for entry in NETWORKS:
        key = entry.kind.id, repr(entry.config), len(next(iter(entry.inputs.values())))
        found.setdefault(key, entry)
    return [entry for entry in found.values() if entry is not PATCH_CNN]


@pytest.mark.parametrize("entry", distinct_networks(), ids=lambda entry: entry.id)
def test_every_network_of_the_registry_is_exported(tmp_path, fill, made_weights, entry):
    weights, path = made_weights(entry), tmp_path / f"{entry.id}.onnx"
    card = export_onnx(entry, path, weights=weights, window_px=SIDE)
    assert (card.model, card.licence) == (entry.id, entry.licence.spdx)
    assert card.window == replace(entry.window, size_px=SIDE)
    options = {"sensor": card.sensor, "bands": card.bands, "device": "cpu", "precision": "fp32"}
    original = load_detector(entry.id, weights=weights, runtime="torch", **options)
    original = replace(original, window=replace(original.window, size_px=SIDE))
    exported = load_detector(entry.id, weights=tmp_path, runtime="onnx", **options)
    cube = fill.reflectance(1, (len(card.bands), 70, 90))
    cube[:, 20:40, :30] = np.nan
    given, wanted = (predict(cube, d, stride=48) for d in (exported, original))
    # DeepLab's synthetic weights give scores of about 1000, more than float32 resolves to 1e-4.
    atol = 1e-3 if "DeepLab" in entry.id else 1e-4
    np.testing.assert_allclose(given, wanted, rtol=0, atol=atol)
    assert np.nanstd(wanted, axis=(1, 2)).max() > 1e-3


def test_every_network_of_this_package_can_be_exported():
    networks = [entry for entry in MODELS.values() if entry.kind.network is not None]
    assert networks
    assert [entry.id for entry in networks if entry not in NETWORKS] == []


@pytest.fixture(scope="module")
def patch_file(tmp_path_factory):
    """Return the weights of a patch CNN and the file exported from them."""
    folder = tmp_path_factory.mktemp("patch")
    torch.manual_seed(0)
    network = build_network("kristollari-cnn", {"bands": 13})
    for values in network.parameters():
        if values.ndim == 1:  # biases that are not zero, so that borders count
            torch.nn.init.normal_(values, std=0.3)
    torch.save(network.state_dict(), folder / "weights.pt")
    path = folder / "kristollari-cnn.onnx"
    card = export_onnx(PATCH_CNN, path, weights=folder / "weights.pt", window_px=80)
    assert card == read_card(path)
    assert card.window == replace(PATCH_CNN.window, size_px=80)
    return folder / "weights.pt", path


@pytest.fixture
def scene(fill):
    cube = fill.reflectance(2, (13, 90, 150))
    cube[:, :5] = np.nan
    return xr.DataArray(
        cube,
        dims=("bands", "y", "x"),
        coords={
            "bands": list(PATCH_CNN.inputs["sentinel-2-l1c"]),
            "y": 5_000_030.0 - 60 * np.arange(90),
            "x": 300_030.0 + 60 * np.arange(150),
        },
    )


def test_rim_and_zeros_of_the_patch_cnn_survive(patch_file, scene):
    weights, path = patch_file
    options = {"device": "cpu", "precision": "fp32"}
    original = load_detector("kristollari-cnn", weights=weights, **options)  # 512 pixels at once
    exported = load_detector("kristollari-cnn", weights=path, **options)
    cube = scene.to_numpy()
    wanted = predict(cube, original)
    assert np.nanstd(wanted[1]) > 1e-3
    for stride, origin in ((64, (0, 0)), (40, (13, 7))):
        given = predict(cube, exported, stride=stride, origin_yx=origin)
        np.testing.assert_allclose(given, wanted, rtol=0, atol=1e-4)


def run_udf(cube, context):
    """Return what a back end's worker gets, as signed integers."""
    code = assets.path("udf/cloud_mask.py").read_text(encoding="utf-8")
    data = UdfData(datacube_list=[XarrayDataCube(cube)], user_context=context)
    mask = run_udf_code(code, data).get_datacube_list()[0].get_array()
    return mask.to_numpy().astype(int)


def test_file_through_the_user_defined_function(patch_file, scene):
    weights, path = patch_file
    given, wanted = (
        run_udf(
            scene,
            {"model": "kristollari-cnn", "categorise": False, "weights": str(file), "stride": step},
        )
        for file, step in ((path, 64), (weights, 384))
    )
    assert abs(given - wanted).max() <= 1  # percent, rounded
    assert (given == wanted).mean() > 0.999
    assert (given[:, :5] == 255).all()


def test_file_through_the_command(patch_file, scene, tmp_path):
    weights, path = patch_file
    with rasterio.open(
        tmp_path / "scene.tif", "w", driver="GTiff", count=13, height=90, width=150,
        dtype="float32", nodata=np.nan, crs="EPSG:32632",
        transform=from_origin(300_000, 5_000_060, 60, 60),
    ) as dataset:  # fmt: skip
        dataset.write(scene.to_numpy())
    masks = []
    for file, *options in ((path, "64", "--runtime", "onnx"), (weights, "384")):
        output = tmp_path / f"{file.stem}.tif"
        arguments = ["run", tmp_path / "scene.tif", output, "--model", "kristollari-cnn",
                     "--bands", ",".join(scene.bands.values), "--sensor", "sentinel-2-l1c",
                     "--probabilities", "--weights", file, "--stride", *options]  # fmt: skip
        result = CliRunner().invoke(build_app(), list(map(str, arguments)))
        assert result.exit_code == 0, result.output
        with rasterio.open(output) as dataset:
            masks.append(dataset.read().astype(int))
    given, wanted = masks
    assert len(np.unique(wanted)) > 3
    assert abs(given - wanted).max() <= 1  # percent, rounded
    assert (given == wanted).mean() > 0.999


def test_sensei_in_chunks_is_sensei_on_the_whole(sensei_file, fill):
    _, path = sensei_file
    cube = fill.reflectance(3, (5, 150, 170))
    cube[:, 40:60, 100:] = np.nan
    scene = xr.DataArray(
        cube,
        dims=("bands", "y", "x"),
        coords={
            "bands": list(BANDS),
            "y": 5_000_005.0 - 10 * np.arange(150),
            "x": 300_005.0 + 10 * np.arange(170),
        },
    )
    rows, columns = slice(70, 150), slice(20, 170)  # up to the edge of the scene, and not
    inner = np.s_[:, SIDE - 1 :, SIDE - 1 :]
    options = {"sensor": "sentinel-2-l1c", "bands": BANDS, "weights": path}
    detector = load_detector("senseiv2", **options)
    origin = pixel_origin(scene, "y"), pixel_origin(scene, "x")
    whole = predict(cube, detector, stride=SIDE, origin_yx=origin)
    corner = (origin[0] + rows.start, origin[1] + columns.start)
    part = predict(cube[:, rows, columns], detector, stride=SIDE, origin_yx=corner)
    np.testing.assert_allclose(part[inner], whole[:, rows, columns][inner], rtol=0, atol=1e-5)

    context = {"model": "senseiv2", "stride": SIDE, "sensor": "sentinel-2-l1c"}
    context |= {"weights": str(path), "categorise": False}
    given = run_udf(scene[:, rows, columns], context)[inner]
    wanted = run_udf(scene, context)[:, rows, columns][inner]
    assert abs(given - wanted).max() <= 1  # percent, rounded
    assert (given == wanted).mean() > 0.999


def test_an_older_card_has_the_usual_window(patch_file, tmp_path):
    model = onnx.load(patch_file[1])
    content = json.loads(model.metadata_props[0].value)
    for name in ("pixelwise", "rim_px", "mirrored"):
        del content[name]
    onnx.helper.set_model_props(model, {CARD_KEY: json.dumps(content)})
    onnx.save(model, tmp_path / "old.onnx")
    assert read_card(tmp_path / "old.onnx").window == Window(size_px=80, multiple_px=1)
