"""Third-party models run from their items; what these do not say is asked for by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import CatalogError, InputError, OptionError, WeightsError
from openeo_cloudmask.front import mask
from openeo_cloudmask.models import load_detector, registry
from openeo_cloudmask.models.mlm import read_model
from openeo_cloudmask.models.mlm.scaling import parse_scaling
from openeo_cloudmask.sensors import SENSORS
from openeo_cloudmask.stac.foreign import adopt_model
from tests.models import mlm_items as mlm

SIZE = 96
BY_NAME = {made.name: made for made in mlm.NINE}
Edit = Callable[[dict[str, Any]], None]


def adopt_item(*given: Any, **more: Any) -> Any:
    return registry.adopt(read_model(*given, **more))


@pytest.fixture(autouse=True)
def _nothing_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_ADOPTED", {})


@pytest.fixture(autouse=True)
def _onnx() -> None:
    pytest.importorskip("onnx")


def _cube(made: mlm.Made) -> np.ndarray:
    numbers = np.random.default_rng(5)
    coarse = numbers.uniform(0.02, 0.6, (len(made.sensor_bands), SIZE // 8, SIZE // 8))
    return np.kron(coarse, np.ones((8, 8))).astype(np.float32)


def _scene(made: mlm.Made, folder: Path, *, hole: bool = False) -> tuple[Path, np.ndarray]:
    cube, path = _cube(made), folder / "scene.tif"
    cube[:, :10, :10] = np.nan if hole else cube[:, :10, :10]
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=SIZE,
        height=SIZE,
        count=len(cube),
        dtype="float32",
        nodata=np.nan,
        crs="EPSG:32631",
        transform=rasterio.Affine(10, 0, 600000, 0, -10, 5000000),
    ) as file:
        file.write(cube)
        file.descriptions = made.sensor_bands
    return path, cube


def _run(scene: Path, item: Path, *more: str, sensor: str = "sentinel-2-l1c") -> np.ndarray:
    target = scene.with_name("mask.tif")
    command = ["run", str(scene), str(target), "--model", str(item), "--sensor", sensor, *more]
    done = CliRunner().invoke(build_app(), [*command, "--overwrite"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    with rasterio.open(target) as file:
        return file.read(1)


def test_there_are_ten_items_of_four_formats(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    tenth = json.loads(mlm.unet_item(tmp_path).read_text())
    assert len({made.name for made in mlm.NINE} | {tenth["id"]}) == 10
    assert {made.format for made in mlm.NINE} == {"onnx", "torchscript", "exported"}
    assert all(asset["href"].endswith(".safetensors") for asset in tenth["assets"].values())


@pytest.mark.parametrize("made", mlm.NINE, ids=lambda made: made.name)
def test_items_of_others_run_unchanged(made: mlm.Made, tmp_path: Path) -> None:
    if made.format != "onnx":
        pytest.importorskip("torch")
    scene, cube = _scene(made, tmp_path)
    trust = [] if made.format == "onnx" else ["--trust"]
    found = _run(scene, mlm.write_item(made, tmp_path), *trust, sensor=made.sensor)
    expected = mlm.expected_mask(made, cube)
    assert len(np.unique(expected)) >= 2
    assert (found == expected).mean() > 0.999  # ties of float32 may fall to either side


def test_a_unet_of_safetensors_runs_as_its_network_does(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    item = mlm.unet_item(tmp_path)
    entry = adopt_item(item)
    detector = load_detector(entry, sensor="sentinel-2-l1c", bands=mlm.S2, device="cpu")
    pixels = np.random.default_rng(1).random((1, 4, 512, 512), np.float32)
    found = detector.predict_windows(pixels, np.ones((1, 512, 512), bool))
    torch.manual_seed(3)
    network = registry.build_network("unet-mobilenet-v2", {"bands": 4, "classes": 4})
    with torch.no_grad():
        corner = torch.softmax(network(torch.from_numpy(pixels[:, :, :256, :256])), 1)[0]
    np.testing.assert_allclose(found[0, :, :32, :32], corner[:, :32, :32], atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_it_is_named_like_a_model_of_the_registry(tmp_path: Path) -> None:
    made = BY_NAME["bands-as-objects"]
    item = mlm.write_item(made, tmp_path)
    found = mask(_cube(made), bands=mlm.S2, model=str(item), sensor="sentinel-2-l2a")
    assert (found == mlm.expected_mask(made, _cube(made))).mean() > 0.999
    assert registry.get_model("bands-as-objects").inputs["sentinel-2-l2a"] == tuple(mlm.S2)
    assert set(registry.get_model("bands-as-objects").inputs) == {
        name for name in SENSORS if name.startswith("sentinel-2")
    }


def test_no_data_is_asked_for_where_there_is_some(tmp_path: Path) -> None:
    made = BY_NAME["bands-as-objects"]
    scene, cube = _scene(made, tmp_path, hole=True)
    item = mlm.write_item(made, tmp_path)
    with pytest.raises(InputError, match=r"what stands for no-data.*--assume no-data=0"):
        _run(scene, item)
    found = _run(scene, item, "--assume", "no-data=0")
    assert (found[:10, :10] == 255).all()
    assert (found == mlm.expected_mask(made, cube))[20:].all()


def _edit(made: mlm.Made, folder: Path, edit: Edit) -> Path:
    path = mlm.write_item(made, folder)
    item = json.loads(path.read_text(encoding="utf-8"))
    edit(item)
    path.write_text(json.dumps(item), encoding="utf-8")
    return path


def _given(item: dict[str, Any]) -> dict[str, Any]:
    return item["properties"]["mlm:input"][0]


def _output(item: dict[str, Any]) -> dict[str, Any]:
    return item["properties"]["mlm:output"][0]


ASKED: dict[str, tuple[Edit, str, str]] = {
    "a class": (
        lambda item: _output(item)["classification:classes"][1].update(name="smoke"),
        r"classes\[1\] is 'smoke' \(1\).*--assume 'class:smoke=clear'",
        "class:smoke=thick-cloud",
    ),
    "bands": (
        lambda item: _given(item).pop("bands"),
        r"mlm:input\[0\]\.bands is None.*--assume 'bands=B04,B03,B02'",
        "bands=B02,B03,B04,B08",
    ),
    "the platform": (
        lambda item: _given(item).update(bands=["B2", "B3", "B4", "B8"]),
        r"other bands on each of msi, oli_tirs, and no platform.*'platform=sentinel-2'",
        "platform=sentinel-2",
    ),
    "a function before": (
        lambda item: _given(item).update(pre_processing_function={"expression": "mine.prepare"}),
        "pre_processing_function is .*'preprocessing=ignore'",
        "preprocessing=ignore",
    ),
    "a function after": (
        lambda item: _output(item).update(post_processing_function={"expression": "mine.sieve"}),
        "post_processing_function is .*'postprocessing=ignore'",
        "postprocessing=ignore",
    ),
}


@pytest.mark.parametrize(("edit", "message", "answer"), ASKED.values(), ids=ASKED)
def test_what_is_missing_is_asked_for_by_name(
    edit: Edit, message: str, answer: str, tmp_path: Path
) -> None:
    made = mlm.Made(name="asked")
    path = _edit(made, tmp_path, edit)
    with pytest.raises(CatalogError, match=message):
        adopt_item(path)
    assert adopt_item(path, assume=[answer]).id == "asked"


def test_counts_of_landsat_are_asked_for(tmp_path: Path) -> None:
    made = mlm.Made(
        name="landsat", bands=["B2", "B3"], dtype="uint16", properties={"platform": "landsat-8"}
    )
    item = mlm.write_item(made, tmp_path)
    with pytest.raises(CatalogError, match=r"reflectance 1 is in them is not said.*counts=10000"):
        adopt_item(item)
    assert adopt_item(item, assume=["counts=50000"]).config["recipe"].scaling.counts == 50000


REFUSED: dict[str, tuple[Edit, str]] = {
    "a class for a whole image": (
        lambda item: _output(item).update(
            result={"shape": [-1, 4], "dim_order": ["batch", "class"], "data_type": "float32"}
        ),
        r"mlm:output\[0\]\.result\.dim_order is \['batch', 'class'\]",
    ),
    "several dates": (
        lambda item: _given(item).update(bands=["B02", "B03", "B02", "B03"]),
        "B02, B03 more than once; models of several dates",
    ),
    "a computed band": (
        lambda item: _given(item)["bands"].__setitem__(
            0, {"name": "NDVI", "expression": "(B08 - B04) / (B08 + B04)"}
        ),
        r"bands\[0\] is computed",
    ),
    "no cloud": (
        lambda item: _output(item).update(
            {"classification:classes": [{"name": "land", "value": 0}, {"name": "ice", "value": 1}]}
        ),
        "none of them is a cloud",
    ),
    "a pickle": (
        lambda item: item["assets"]["weights"].update(
            {"href": "./weights.pth", "mlm:artifact_type": "torch.save"}
        ),
        "of the type 'torch.save'; expected one of onnx",
    ),
    "another size": (
        lambda item: _output(item)["result"].update(shape=[-1, 4, 32, 32]),
        "as many rows and columns as the input has, 64",
    ),
    "an invalid scaling": (
        lambda item: _given(item).update(value_scaling=[{"type": "z-score", "mean": 1}]),
        r"value_scaling\[0\]\.stddev is None; expected a number",
    ),
    "bands of no sensor": (
        lambda item: _given(item).update(bands=["Q1", "Q2", "Q3", "Q4"]),
        "bands are Q1, Q2, Q3, Q4; expected optical bands of one of",
    ),
    "no model": (
        lambda item: item["assets"]["weights"].update(roles=["data"]),
        "none has the role 'mlm:model'",
    ),
    "no MLM": (lambda item: item.update(stac_extensions=[]), "expected the MLM extension"),
}


@pytest.mark.parametrize(("edit", "message"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_mask_is_refused(edit: Edit, message: str, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=message):
        adopt_item(_edit(mlm.Made(name="refused"), tmp_path, edit))


@pytest.mark.parametrize(
    "href",
    ["../evil.pt", "..\\evil.pt", "%2e%2e/evil.pt", "/etc/passwd", "http://a.example/m.onnx",
     "file:///etc/passwd", "https://a.example/x/../m.onnx", "https://a.example/%2e%2e/m.onnx"],
)  # fmt: skip
def test_files_lie_beside_the_item_or_at_an_https_address(href: str, tmp_path: Path) -> None:
    path = _edit(
        mlm.Made(name="elsewhere"),
        tmp_path,
        lambda item: item["assets"]["weights"].update(href=href),
    )
    with pytest.raises(CatalogError, match=r"assets\.weights\.href is"):
        adopt_item(path)


@pytest.mark.parametrize("name", ["resnet-like-s2-all", "unet-effb3-like"])
def test_programs_need_a_digest_and_the_users_word(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = mlm.write_item(BY_NAME[name], tmp_path)
    with pytest.raises(CatalogError, match=r"a program that would run with your rights.*--trust"):
        adopt_model(path)
    with pytest.raises(CatalogError, match="only ONNX and safetensors are run here"):
        adopt_model(path, trust=True, programs=False)
    item = json.loads(path.read_text(encoding="utf-8"))
    item["assets"]["weights"].pop("file:checksum")
    with pytest.raises(CatalogError, match="has no file:checksum"):
        adopt_item(item, base=str(path), trust=True)


def test_another_file_than_the_item_means_is_refused(tmp_path: Path) -> None:
    path = mlm.write_item(mlm.Made(name="other"), tmp_path)
    (tmp_path / "other.onnx").write_bytes(b"something else")
    with pytest.raises(WeightsError, match="is not the file the item means"):
        adopt_item(path)


def test_a_file_that_changes_later_is_refused(tmp_path: Path) -> None:
    path = mlm.write_item(mlm.Made(name="changing"), tmp_path)
    entry = adopt_item(path)
    (tmp_path / "changing.onnx").write_bytes(b"something else")
    with pytest.raises(WeightsError, match="has changed since its item was read"):
        load_detector(entry, sensor="sentinel-2-l1c", bands=mlm.S2)


def test_a_network_that_is_not_as_its_item_says_is_told(tmp_path: Path) -> None:
    path = _edit(
        mlm.Made(name="five"),
        tmp_path,
        lambda item: (
            _output(item)["classification:classes"].append({"name": "snow", "value": 4}),
            _output(item)["result"].update(shape=[-1, 5, 64, 64]),
        ),
    )
    with pytest.raises(WeightsError, match=r"answers with \(4, 64, 64\); expected 5 planes"):
        load_detector(adopt_item(path), sensor="sentinel-2-l1c", bands=mlm.S2)


def test_a_name_of_the_registry_is_not_taken_over(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="'mini', the name of a model of this package"):
        adopt_item(mlm.write_item(mlm.Made(name="mini"), tmp_path))


def test_items_of_this_package_are_the_registrys(tmp_path: Path) -> None:
    path = Path(__file__).resolve().parents[2] / "catalog/openeo-cloudmask/mini/mini.json"
    assert adopt_model(path) is registry.MODELS["mini"]


def test_no_data_that_the_model_finds_is_no_data(tmp_path: Path) -> None:
    made = BY_NAME["terradue-scl-like"]
    detector = load_detector(
        adopt_item(mlm.write_item(made, tmp_path)), sensor="sentinel-2-l1c", bands=mlm.S2
    )
    weights, biases = mlm.layer_of(made)
    steep = np.float32(weights[0] - weights[1:].mean(axis=0))
    pixels = np.broadcast_to(200 * steep[:, None, None], (1, 4, 512, 512)).astype(np.float32)
    planes = weights @ pixels[0, :, 0, 0] + biases
    assert planes.argmax() == 0
    assert np.isnan(detector.predict_windows(pixels, np.ones((1, 512, 512), bool))).all()


SCALINGS: list[tuple[Any, float, float]] = [
    ({"type": "min-max", "minimum": 2, "maximum": 4}, 3.0, 0.5),
    ({"type": "z-score", "mean": 2, "stddev": 4}, 4.0, 0.5),
    ({"type": "clip", "minimum": 0, "maximum": 1}, 4.0, 1.0),
    ({"type": "clip-min", "minimum": 1}, 0.5, 1.0),
    ({"type": "clip-max", "maximum": 1}, 4.0, 1.0),
    ({"type": "offset", "value": 1}, 4.0, 3.0),
    ({"type": "scale", "value": 4}, 4.0, 1.0),
    (None, 4.0, 4.0),
]


@pytest.mark.parametrize(("given", "value", "expected"), SCALINGS)
def test_scalings_are_those_of_the_extension(given: Any, value: float, expected: float) -> None:
    from openeo_cloudmask.models.mlm.scaling import Scaling

    scaling = Scaling(steps=parse_scaling([given], 1, "value_scaling"))
    pixels = np.full((1, 1, 1), value, np.float32)
    assert scaling.apply(pixels, np.ones((1, 1), bool), "x").item() == pytest.approx(expected)


@pytest.mark.parametrize("answer", ["no-data", "class:x=fog", "counts=-1", "sea=1", "no-data=none"])
def test_answers_that_are_none_are_refused(answer: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="expected"):
        adopt_item(mlm.write_item(mlm.Made(name="answers"), tmp_path), assume=[answer])


def test_trust_without_an_item_is_an_error(tmp_path: Path) -> None:
    done = CliRunner().invoke(build_app(), ["run", "a.tif", "b.tif", "--trust"])
    assert done.exit_code != 0
    assert "for a model given as a STAC item" in str(done.exception or done.output)
