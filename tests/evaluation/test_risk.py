"""Reliability against scikit-learn, and a threshold whose promise holds on further scenes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss
from typer.testing import CliRunner

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import OptionError, ReferenceDataError, WeightsError
from openeo_cloudmask.evaluation import risk
from openeo_cloudmask.evaluation.labelled import read_labelled
from openeo_cloudmask.models import get_model, load_detector
from openeo_cloudmask.models.calibration import Calibration, parse_calibration
from openeo_cloudmask.models.onnx_detector import packaged_onnx, read_card
from openeo_cloudmask.simulator.scene import simulate_scene


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


def scored(probability: NDArray[np.float64], cloud: NDArray[np.bool_]) -> risk.ScoredScene:
    return risk.ScoredScene(name="s", probability=probability, cloud=cloud)


def test_a_temperature_is_found_again() -> None:
    chance = np.random.default_rng(3)
    true = chance.uniform(0.01, 0.99, 40_000)
    cloud = chance.random(true.size) < true
    too_sure = Calibration(method="temperature", said=(), found=(0.5,), scenes=0, data="")
    sharpened = too_sure.map(true)
    fitted = risk.fit_calibration([risk.tally(scored(sharpened, cloud))], "temperature")
    assert fitted.found[0] == pytest.approx(2, rel=0.05)
    before = risk.measure_reliability(sharpened, cloud).ece
    assert risk.measure_reliability(fitted.map(sharpened), cloud).ece < before / 3


def test_an_isotonic_map_equals_scikit_learn() -> None:
    chance = np.random.default_rng(6)
    said = np.rint(chance.random(20_000) ** 2 * risk.LEVELS) / risk.LEVELS
    cloud = chance.random(said.size) < 0.2 + 0.5 * said**2
    fitted = risk.fit_calibration([risk.tally(scored(said, cloud))], "isotonic")
    oracle = IsotonicRegression(out_of_bounds="clip").fit(said, cloud)
    every = np.unique(said)
    np.testing.assert_allclose(fitted.map(every), oracle.predict(every), atol=1e-12)
    assert len(fitted.said) < every.size / 2  # flat pieces are kept by their ends
    left_out = risk.calibrate_left_out(
        [scored(said[place::4], cloud[place::4]) for place in range(4)], "isotonic"
    )
    assert left_out.ece < risk.measure_reliability(said, cloud).ece / 3


def test_calibrated_classes_sum_to_one_and_keep_their_order() -> None:
    chance = np.random.default_rng(7)
    raw = chance.random((4, 30, 20)).astype(np.float32) ** 3
    raw[:, 0, 0] = (1, 0, 0, 0)
    raw[:, 0, 1] = (0, 1, 0, 0)
    probabilities = raw / raw.sum(axis=0)
    lifted = Calibration(
        method="isotonic", said=(0.0, 0.5, 1.0), found=(0.1, 0.2, 0.8), scenes=3, data="d"
    )
    out = lifted.apply(probabilities, FOUR_CLASS)
    np.testing.assert_allclose(out.sum(axis=0), 1, atol=1e-5)
    cloud = probabilities[1:3].sum(axis=0)
    np.testing.assert_allclose(
        out[1:3].sum(axis=0), np.interp(cloud, (0, 0.5, 1), (0.1, 0.2, 0.8)), atol=1e-5
    )
    known = raw.min(axis=0) > 0
    for one, other in ((0, 3), (1, 2)):
        before = probabilities[one][known] > probabilities[other][known]
        np.testing.assert_array_equal(before, out[one][known] > out[other][known])
    stored = json.loads(json.dumps(asdict(lifted)))
    assert parse_calibration(stored) == lifted
    assert parse_calibration(None) is None
    for change in (
        {"found": [0.5, 0.2, 0.8]}, {"said": [0, 0, 1]}, {"found": [0, 1]}, {"method": "guess"},
        {"method": "temperature"}, {"found": [0, 1, 2]},
    ):  # fmt: skip
        with pytest.raises(WeightsError, match="is no map of probabilities"):
            parse_calibration(stored | change)


def bright_scene(cube: NDArray[np.float32], label: NDArray[np.uint8]) -> risk.ScoredScene:
    """A model of one line: the brighter the blue band, the more likely is cloud."""
    seen = np.isfinite(cube) & (label != 255)
    probability = 1 / (1 + np.exp(-12.0 * (cube[seen].astype(float) - 0.25)))
    return scored(probability, np.isin(label[seen], (1, 2)))


def test_the_promise_holds_on_simulated_scenes_that_were_not_used() -> None:
    scenes = []
    for seed in range(120):
        made = simulate_scene(seed, size=32, bands=("B02", "B03", "B04", "B08"))
        scenes.append(bright_scene(made.cube[0], made.truth))
    cloudy = [scene for scene in scenes if scene.cloud.any()]
    allowed, missed = 0.1, []
    order = np.random.default_rng(8)
    for _ in range(20):
        mixed = [cloudy[place] for place in order.permutation(len(cloudy))]
        half = len(mixed) // 2
        threshold = risk.choose_threshold(mixed[:half], allowed)
        missed += [scene.missed(threshold) for scene in mixed[half:]]
    assert allowed / 3 < float(np.mean(missed)) <= allowed + 0.01


def test_the_promise_holds_by_scene_on_real_scenes() -> None:
    folder = Path(__file__).resolve().parents[3] / "shared" / "scenes"
    if not folder.is_dir():
        pytest.skip("../shared/scenes is not here")
    scenes = []
    for path in sorted(folder.glob("*.npz")):
        scene = read_labelled(path)
        scenes.append(bright_scene(scene.rgb()[2], scene.label))
    cloudy = [scene for scene in scenes if scene.cloud.any()]
    allowed = 0.2
    named = [
        risk.ScoredScene(name=str(place), probability=scene.probability, cloud=scene.cloud)
        for place, scene in enumerate(cloudy)
    ]
    found = risk.check_by_leaving_out(named, allowed)
    assert len(found) >= 10
    assert float(np.mean([missed for _, missed in found.values()])) <= allowed + 0.01


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


@pytest.mark.slow
def test_a_card_holds_its_calibration(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    folder = tmp_path / "scenes"
    folder.mkdir()
    for seed in (1, 2):
        scene = simulate_scene(seed, size=64)
        np.savez(
            folder / f"made_{seed}.npz", counts=np.rint(scene.cube * 10000).astype(np.int16),
            bands=np.array(scene.band_names), label=scene.truth, sensor="sentinel-2-l1c",
            pixel_m=10, shadow_labelled=True, thin_labelled=True,
        )  # fmt: skip
    source, target = packaged_onnx(get_model("mini")), tmp_path / "calibrated.onnx"
    words = ["calibrate", f"mini={source}", str(folder), "--method", "isotonic", "--max-missed"]
    run = CliRunner().invoke(build_app(), [*words, "80%", "--store", str(target)])
    assert run.exit_code == 0, run.output + str(run.exception)
    assert f"the threshold is for mini={source}, not for {target}" in run.output
    assert "isotonic, each scene by the others: Brier score" in run.output
    calibration = read_card(target).calibration
    assert calibration is not None
    assert (calibration.scenes, calibration.data) == (2, "scenes")
    windows = np.full((1, 4, 512, 512), 0.1, np.float32)
    windows[:, :, :256] = 0.6
    bands = ("B02", "B03", "B04", "B08")
    valid = np.ones((1, 512, 512), bool)
    plain, mapped = (
        load_detector("mini", sensor="sentinel-2-l1c", bands=bands, weights=path).predict_windows(
            windows, valid
        )[0]
        for path in (source, target)
    )
    cloud = plain[1:3].sum(axis=0)
    np.testing.assert_allclose(mapped[1:3].sum(axis=0), calibration.map(cloud), atol=1e-4)
    for model, store, message in (
        ("mini", target, "--store needs an exported file"),
        (f"mini={source}", source, "expected another file"),
        (f"mini={target}", tmp_path / "twice.onnx", "is calibrated already"),
    ):
        run = CliRunner().invoke(
            build_app(), ["calibrate", model, str(folder), "--store", str(store)]
        )
        assert run.exit_code == 1
        assert message in str(run.exception)
