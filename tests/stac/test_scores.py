"""Scores in the catalog are measured ones, with how they were measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, recall_score
from typer.testing import CliRunner

from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import CatalogError
from openeo_cloudmask.models import MODELS
from openeo_cloudmask.stac.measure import record_scores
from openeo_cloudmask.stac.scores import read_scores

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B09", "B10", "B11")


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    """Return the folder of an evaluation of the decision tree on a scene of noise."""
    numbers = np.random.default_rng(11)
    (tmp_path / "scenes").mkdir()
    np.savez(
        tmp_path / "scenes" / "noise_1.npz",
        counts=numbers.integers(0, 7000, (len(BANDS), 64, 64)).astype(np.int16),
        bands=np.array(BANDS),
        label=numbers.choice(np.array([0, 1, 2, 3, 255], np.uint8), (64, 64)),
        sensor="sentinel-2-l1c",
        pixel_m=20,
        shadow_labelled=True,
        thin_labelled=True,
    )
    out = tmp_path / "out"
    arguments = ["evaluate", str(tmp_path / "scenes"), "--model", "hollstein", "--title", "Noise"]
    answer = CliRunner().invoke(build_app(), [*arguments, "--output", str(out)])
    assert answer.exit_code == 0, answer.output
    return out


def test_rows_of_the_catalog_are_complete_and_of_known_models() -> None:
    rows = read_scores()
    assert set(rows) <= set(MODELS)
    for model, given in rows.items():
        assert given
        for row in given:
            assert f"--model {model}" in row["command"]
            assert row["pixels"] > 0
            assert all(0 <= value <= 1 for value in row["metrics"].values())


def test_numbers_are_those_of_scikit_learn(evaluation: Path) -> None:
    target = evaluation / "scores.json"
    target.write_text("{}", encoding="utf-8")
    rows = [row for _, row in record_scores(evaluation / "evaluation.json", target=target)]
    (cloud,) = (row for row in rows if row["data"] == "Noise" and row["style"] == "cloud-noncloud")
    with np.load(evaluation.parent / "scenes" / "noise_1.npz") as content:
        label = content["label"]
    mask = np.load(evaluation / "hollstein" / "noise_1.npy")
    truth, found = (np.isin(each[label != 255], (1, 2)) for each in (label, mask))
    assert cloud["pixels"] == truth.size
    assert cloud["metrics"]["recall"] == pytest.approx(recall_score(truth, found), abs=1e-4)
    assert cloud["metrics"]["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(truth, found), abs=1e-4
    )
    assert {row["style"] for row in rows} == {"cloud-noncloud", "valid-invalid", "4-class"}


def test_rows_are_recorded_and_replaced_not_doubled(evaluation: Path) -> None:
    target = evaluation / "scores.json"
    old: dict[str, list[dict[str, Any]]] = {
        "ukis-csmask": [{"data": "elsewhere"}],
        "hollstein": [{"data": "elsewhere"}, {"data": "Noise", "style": "gone"}],
    }
    target.write_text(json.dumps(old), encoding="utf-8")
    for _ in range(2):
        rows = record_scores(evaluation / "evaluation.json", target=target)
        assert {model for model, _ in rows} == {"hollstein"}
    written = read_scores(target)
    assert written["ukis-csmask"] == old["ukis-csmask"]
    assert written["hollstein"] == [{"data": "elsewhere"}, *(row for _, row in rows)]


def test_what_is_no_evaluation_is_refused(evaluation: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("[1]", encoding="utf-8")
    with pytest.raises(CatalogError, match="holds no scores"):
        read_scores(broken)
    with pytest.raises(CatalogError, match="holds no evaluation"):
        record_scores(broken)
    with pytest.raises(CatalogError, match="cannot read the scores"):
        read_scores(tmp_path / "none.json")
    content = json.loads((evaluation / "evaluation.json").read_text(encoding="utf-8"))
    content["masks"][0]["label"] = "hollstein=mine"
    broken.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CatalogError, match="no figures of a model of the catalog"):
        record_scores(broken)


def test_the_command_prints_what_it_recorded(
    evaluation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = evaluation / "scores.json"
    target.write_text("{}", encoding="utf-8")
    kept = (record_scores.__kwdefaults__ or {}) | {"target": target}
    monkeypatch.setattr(record_scores, "__kwdefaults__", kept)
    arguments = ["catalog", "scores", str(evaluation / "evaluation.json")]
    answer = CliRunner().invoke(build_app(), arguments)
    assert answer.exit_code == 0
    assert answer.output.startswith("hollstein on Noise, cloud-noncloud: recall 0.")
    assert list(read_scores(target)) == ["hollstein"]
