"""Reliability against scikit-learn, and a threshold whose promise holds on further scenes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from typer.testing import CliRunner

from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import OptionError, ReferenceDataError
from openeo_cloudmask.evaluation import risk


def draw_scene(chance: np.random.Generator, pixels: int = 200) -> risk.ScoredScene:
    """A scene of which some clouds are hard to see, as a whole."""
    cloud = chance.random(pixels) < 0.5
    hard = chance.uniform(0.5, 4)
    logits = np.where(cloud, hard, -2) + chance.normal(0, 1.5, pixels)
    return risk.ScoredScene(name="s", probability=1 / (1 + np.exp(-logits)), cloud=cloud)


def pooled(count: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    chance = np.random.default_rng(2)
    scenes = [draw_scene(chance) for _ in range(count)]
    return (
        np.concatenate([scene.probability for scene in scenes]),
        np.concatenate([scene.cloud for scene in scenes]),
    )


def test_reliability_equals_scikit_learn() -> None:
    probability, cloud = pooled(20)
    found = risk.measure_reliability(probability, cloud)
    assert found.brier == pytest.approx(brier_score_loss(cloud, probability), abs=1e-12)
    shares, means = calibration_curve(cloud, probability, n_bins=10)
    np.testing.assert_allclose([row[0] for row in found.bins], means, atol=1e-12)
    np.testing.assert_allclose([row[1] for row in found.bins], shares, atol=1e-12)
    counts = np.array([row[2] for row in found.bins])
    ece = (np.abs(shares - means) * counts).sum() / counts.sum()
    assert found.ece == pytest.approx(ece, abs=1e-12)
    edges = risk.measure_reliability(np.array([0.0, 1.0]), np.array([False, True]))
    assert (edges.brier, edges.ece) == (0, 0)
    with pytest.raises(ReferenceDataError, match="expected one or more, each 0 to 1"):
        risk.measure_reliability(np.array([1.2]), np.array([True]))


def test_a_temperature_is_found_again() -> None:
    chance = np.random.default_rng(3)
    true = chance.uniform(0.01, 0.99, 40_000)
    cloud = chance.random(true.size) < true
    sharpened = risk.apply_temperature(true, 0.5)  # too sure of itself
    temperature = risk.fit_temperature(sharpened, cloud)
    assert temperature == pytest.approx(2, rel=0.05)
    before = risk.measure_reliability(sharpened, cloud).ece
    after = risk.measure_reliability(risk.apply_temperature(sharpened, temperature), cloud).ece
    assert after < before / 3


def test_the_promise_holds_on_scenes_that_were_not_used() -> None:
    chance = np.random.default_rng(4)
    allowed = 0.05
    missed = []
    for _ in range(60):
        threshold = risk.choose_threshold([draw_scene(chance) for _ in range(60)], allowed)
        missed += [draw_scene(chance).missed(threshold) for _ in range(20)]
    mean = float(np.mean(missed))
    assert mean <= allowed + 0.01
    assert mean > allowed / 3  # not kept by calling everything cloud


def test_threshold_is_the_largest_that_keeps_the_bound() -> None:
    chance = np.random.default_rng(5)
    scenes = [draw_scene(chance) for _ in range(30)]
    threshold = risk.choose_threshold(scenes, 0.1)

    def bound(value: float) -> float:
        return (sum(scene.missed(value) for scene in scenes) + 1) / 31

    assert bound(threshold) <= 0.1 < bound(threshold + 0.001)
    apart = risk.check_by_leaving_out([*scenes, *scenes[:1]], 0.1)
    assert all(0 <= share <= 1 for _, share in apart.values())


def test_what_cannot_be_promised_is_refused() -> None:
    chance = np.random.default_rng(6)
    scenes = [draw_scene(chance) for _ in range(30)]
    with pytest.raises(ReferenceDataError, match=r"that 1.00% is missed at most; expected 99 scen"):
        risk.choose_threshold(scenes, 0.01)
    with pytest.raises(OptionError, match="max-missed is 1; expected above 0"):
        risk.choose_threshold(scenes, 1.0)
    blind = [
        risk.ScoredScene(name="b", probability=np.zeros(9), cloud=np.ones(9, bool)) for _ in scenes
    ]
    with pytest.raises(ReferenceDataError, match=r"no threshold keeps missed cloud at 10\.00%"):
        risk.choose_threshold(blind, 0.1)


def test_command(tmp_path: Path) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir()
    for seed in range(4):
        chance = np.random.default_rng(seed)
        label = (chance.random((30, 30)) < 0.5).astype(np.uint8)
        percent = np.clip(70 * label + chance.integers(0, 40, label.shape), 0, 100)
        np.savez(
            folder / f"made_{seed}.npz", counts=np.full((1, 30, 30), 900, np.int16),
            bands=np.array(["B02"]), label=label, sensor="sentinel-2-l1c", pixel_m=10,
            shadow_labelled=False, thin_labelled=False, S2CLOUDLESS=percent.astype(np.uint8),
        )  # fmt: skip
    words = ["calibrate", "s2cloudless-raster", str(folder), "--max-missed", "30%", "--output"]
    run = CliRunner().invoke(build_app(), [*words, str(tmp_path / "risk.json")])
    assert run.exit_code == 0, run.output
    content = json.loads((tmp_path / "risk.json").read_text())
    assert 0.7 <= content["threshold"] <= 0.9
    assert len(content["left_out"]) == 4
    assert f"--threshold cloud={content['threshold']:g}" in run.output
