"""Scores in the catalog are measured ones, with how they were measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support
from typer.testing import CliRunner

from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import CatalogError, MissingExtraError, ReferenceDataError
from openeo_cloudmask.models import MODELS
from openeo_cloudmask.stac import measure
from openeo_cloudmask.stac.measure import SCENES, LabelledScene, measure_scene, record_scores
from openeo_cloudmask.stac.scores import read_scores

ALL_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B09", "B10", "B11")


@pytest.fixture
def scene_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with one labelled scene that the Hollstein tree can take."""
    numbers = np.random.default_rng(11)
    image = numbers.uniform(0, 0.7, (64, 64, len(ALL_BANDS))).astype(np.float32)
    labels = numbers.integers(0, 5, (64, 64, 1)).astype(np.uint8)
    np.savez(tmp_path / "made.npz", img=image, msk=labels)
    scene = LabelledScene(
        file="made.npz", sensor="sentinel-2-l1c", bands=ALL_BANDS, description="Noise."
    )
    monkeypatch.setattr(measure, "SCENES", (scene,))
    return tmp_path


def test_rows_of_the_catalog_are_complete_and_of_known_models() -> None:
    rows = read_scores()
    assert set(rows) <= set(MODELS)
    for model, given in rows.items():
        assert given
        for row in given:
            assert f"--model {model}" in row["command"]
            assert row["pixels"] > 0
            assert all(0 <= value <= 1 for value in row["metrics"].values())


def _mask(model: str, image: NDArray[np.float32]) -> NDArray[np.uint8]:
    from openeo_cloudmask.classes import OutputStyle, apply_style
    from openeo_cloudmask.inference import predict
    from openeo_cloudmask.models import load_detector

    detector = load_detector(model, sensor="sentinel-2-l1c")
    cube = np.moveaxis(image, -1, 0)[[ALL_BANDS.index(name) for name in detector.band_names]]
    probabilities = predict(cube, detector)
    style = OutputStyle.CLOUD_NONCLOUD
    return apply_style(probabilities, detector.scheme, style, categorise=True)[0]


def test_numbers_are_those_of_scikit_learn(scene_folder: Path) -> None:
    cloud, _ = measure_scene("hollstein", scene_folder, measure.SCENES[0])
    with np.load(scene_folder / "made.npz") as content:
        mask = _mask("hollstein", content["img"])
        truth = content["msk"][..., 0] == 4  # the label of cloud
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth.ravel(), mask.ravel() == 1, average="binary"
    )
    found = cloud["metrics"]
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx(
        (precision, recall, f1), abs=1e-4
    )
    assert cloud["pixels"] == truth.size


def test_rows_are_recorded_and_replaced_not_doubled(scene_folder: Path) -> None:
    target = scene_folder / "scores.json"
    old = {"ukis-csmask": [{"data": "elsewhere", "style": "4-class"}]}
    target.write_text(json.dumps(old), encoding="utf-8")
    for _ in range(2):
        rows = list(record_scores(scene_folder, ["hollstein"], target=target))
        assert [model for model, _ in rows] == ["hollstein", "hollstein"]
    written = read_scores(target)
    assert written["ukis-csmask"] == old["ukis-csmask"]
    assert written["hollstein"] == [row for _, row in rows]


def test_models_that_cannot_take_the_scene_are_passed_over(
    scene_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = LabelledScene(
        file="made.npz", sensor="landsat-7-l1", bands=("B1", "B2"), description="Two bands."
    )
    monkeypatch.setattr(measure, "SCENES", (narrow,))
    target = scene_folder / "scores.json"
    target.write_text("{}", encoding="utf-8")
    assert list(record_scores(scene_folder, ["hollstein", "s2cloudless"], target=target)) == []
    assert read_scores(target) == {}


def test_bad_files_are_refused(scene_folder: Path) -> None:
    broken = scene_folder / "scores.json"
    broken.write_text("[1]", encoding="utf-8")
    with pytest.raises(CatalogError, match="holds no scores"):
        read_scores(broken)
    with pytest.raises(CatalogError, match="cannot read the scores"):
        read_scores(scene_folder / "none.json")
    np.savez(scene_folder / "made.npz", img=np.zeros((4, 4, 2)), msk=np.zeros((4, 4)))
    with pytest.raises(ReferenceDataError, match=r"expected \(y, x, band\)"):
        measure_scene("hollstein", scene_folder, measure.SCENES[0])
    (scene_folder / "made.npz").unlink()
    with pytest.raises(ReferenceDataError, match="is no labelled scene"):
        measure_scene("hollstein", scene_folder, measure.SCENES[0])


def test_the_command_prints_what_it_measured(
    scene_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = scene_folder / "scores.json"
    target.write_text("{}", encoding="utf-8")
    kept = record_scores.__kwdefaults__ | {"target": target}
    monkeypatch.setattr(record_scores, "__kwdefaults__", kept)
    arguments = ["catalog", "scores", str(scene_folder), "--model", "hollstein"]
    answer = CliRunner().invoke(build_app(), arguments)
    assert answer.exit_code == 0
    assert answer.output.startswith("hollstein on ukis-csmask test data, made.npz: overall_accur")
    assert list(read_scores(target)) == ["hollstein"]


@pytest.mark.slow
@pytest.mark.parametrize("model", read_scores())
def test_recorded_scores_can_be_measured_again(model: str, shared: Callable[[str], Path]) -> None:
    scene = SCENES[0]
    recorded = {row["style"]: row for row in read_scores()[model] if scene.file in row["data"]}
    try:
        measured = measure_scene(model, shared("real"), scene)
    except MissingExtraError as err:
        pytest.skip(str(err))
    for row in measured:
        found, known = row["metrics"], recorded[row["style"]]["metrics"]
        assert found == pytest.approx(known, abs=0.002), "run `cloudmask catalog scores`"
