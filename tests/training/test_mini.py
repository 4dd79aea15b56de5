import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from openeo_cloudmask.errors import BandError, InputError, OptionError, WeightsError
from openeo_cloudmask.inference import predict
from openeo_cloudmask.models import build_network, get_model, load_detector
from openeo_cloudmask.models.networks.mini import PLANES, MiniNet
from openeo_cloudmask.models.state_dict import read_tensors
from openeo_cloudmask.sensors import Band, Sensor, common_name
from openeo_cloudmask.training.mini import (
    TrainOptions,
    _State,
    train_mini,
    validate,
    write_weights,
)
from openeo_cloudmask.training.scenes import cut_example, draw_scene

TINY = TrainOptions(
    cycles=(3, 1), batch=2, chunk_scenes=2, reuse=2, validate_every=2, validation_scenes=2
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of a network that was not trained: what a training run writes."""
    path = tmp_path_factory.mktemp("mini") / "mini.safetensors"
    torch.manual_seed(1)
    write_weights(MiniNet(PLANES), path)
    return path


def test_the_weights_file_is_under_two_megabytes(weights):
    assert weights.stat().st_size < 2_000_000


def test_a_plane_that_is_left_out_is_the_same_as_one_flagged_missing():
    torch.manual_seed(2)
    full = build_network("mini", {})
    part = build_network("mini", {"planes": ("red", "nir", "blue", "green", "swir16")})
    part.load_state_dict(full.state_dict(), strict=True)
    pixels = torch.rand(1, len(PLANES), 64, 64)
    present = torch.tensor([[1.0, 1, 1, 1, 0, 1, 0]])
    with torch.inference_mode():
        expected = full.classify(pixels * present[:, :, None, None], present)
        given = part(pixels[:, [2, 3, 0, 1, 5]])
    assert given.shape == (1, 4, 64, 64)
    torch.testing.assert_close(given, expected)


@pytest.mark.parametrize(
    ("sensor", "bands"),
    [
        ("sentinel-2-l1c", ["B02", "B03", "B04", "B08"]),
        ("sentinel-2-l1c", ["B12", "B11", "B10", "B08", "B04", "B03", "B02", "B01"]),
        ("sentinel-2-l2a", ["B02", "B03", "B04", "B08", "B11", "B12"]),
        ("landsat-8-9-l1", ["B2", "B3", "B4", "B5", "B6", "B7", "B9"]),
        ("landsat-4-5-l1", ["B1", "B2", "B3", "B4"]),
    ],
)
def test_any_sensor_with_four_bands_is_taken(weights, sensor, bands):
    detector = load_detector("mini", sensor=sensor, bands=bands, weights=weights, precision="fp32")
    assert set(detector.band_names) <= set(bands)
    assert len(detector.band_names) >= 4
    rng = np.random.default_rng(1)
    cube = rng.random((len(detector.band_names), 64, 96), np.float32)
    cube[:, :10, :10] = np.nan
    answer = predict(cube, detector)
    assert answer.shape == (4, 64, 96)
    assert np.isnan(answer[:, :10, :10]).all()
    np.testing.assert_allclose(np.nansum(answer, axis=0)[10:], 1, atol=1e-5)


def test_a_sensor_of_ones_own_is_understood_by_wavelength(weights):
    rows = (("a", 840.0, 880.0), ("b", 630.0, 690.0), ("c", 520.0, 590.0), ("d", 450.0, 510.0))
    own = Sensor(
        id="mine",
        title="Mine",
        platforms=("mine",),
        instrument="mine",
        level="L1",
        resolution_m=5,
        bands=tuple(Band(name=n, min_nm=low, max_nm=high, resolution_m=5) for n, low, high in rows),
    )
    assert [common_name(band) for band in own.bands] == ["nir", "red", "green", "blue"]
    detector = load_detector("mini", sensor=own, bands=["d", "c", "b", "a"], weights=weights)
    assert detector.band_names == ("a", "b", "c", "d")
    lacking = Sensor(
        id="lacking",
        title="Lacking",
        platforms=("x",),
        instrument="x",
        level="L1",
        resolution_m=5,
        bands=(*own.bands[:3], Band(name="d", min_nm=2100, max_nm=2200, resolution_m=5)),
    )
    with pytest.raises(BandError, match="have no blue"):
        load_detector("mini", sensor=lacking, bands=["a", "b", "c", "d"], weights=weights)


def test_what_the_network_does_not_take():
    with pytest.raises(BandError, match="missing planes nir"):
        build_network("mini", {"planes": ("blue", "green", "red")})
    with pytest.raises(BandError, match="unknown planes"):
        build_network("mini", {"planes": (*PLANES, "pan")})
    with pytest.raises(OptionError, match="unknown settings"):
        build_network("mini", {"depth": 3})
    with pytest.raises(InputError, match="31 x 64 pixels; mini takes multiples of 32"):
        build_network("mini", {})(torch.zeros(1, len(PLANES), 31, 64))
    with pytest.raises(WeightsError, match="is not there"):
        load_detector("mini", weights="/nowhere/mini.safetensors")


def test_training_that_was_stopped_ends_with_the_same_weights(tmp_path):
    torch.set_num_threads(1)
    losses = []
    train_mini(tmp_path / "a", TINY, report=lambda _, loss, __: losses.append(loss))
    train_mini(tmp_path / "b", TINY, stop_after=3)
    train_mini(tmp_path / "b", TINY)
    assert len(losses) == TINY.steps
    whole, parts = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("a", "b")
    )
    for key, value in whole["average"].items():
        torch.testing.assert_close(parts["average"][key], value, rtol=0, atol=0)
    first, second = (read_tensors(tmp_path / name / "mini.safetensors") for name in ("a", "b"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    log = (tmp_path / "a" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [2, 4]
    with pytest.raises(WeightsError, match="was made with"):
        train_mini(tmp_path / "a", TrainOptions(cycles=(5,), batch=2, chunk_scenes=2, reuse=2))


def test_examples_depend_on_their_seeds_alone_and_are_flagged_right():
    scene = draw_scene(7)
    assert scene[0].shape[0] == len(PLANES)
    first, again = (cut_example(scene, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first.planes, again.planes)
    kinds = set()
    for seed in range(30):
        item = cut_example(scene, np.random.default_rng(seed))
        kinds.add(tuple(item.present))
        assert item.planes.shape == (len(PLANES), 256, 256)
        assert (item.planes[item.present == 0] == 0).all()
        assert np.isin(item.truth, (0, 1, 2, 3, 255)).all()
        assert np.isfinite(item.planes).all()
        hidden = (item.planes == 0).all(axis=0)
        assert (item.truth[hidden] == 255).all()
    assert len(kinds) > 1


def test_validation_is_balanced_accuracy():
    class Oracle(torch.nn.Module):
        def __init__(self, truth):
            super().__init__()
            self.truth = truth

        def classify(self, planes, present):
            return torch.nn.functional.one_hot(self.truth.long(), 4).permute(2, 0, 1)[None].float()

    cube, truth = draw_scene(900_000_001, 64, plain_truth=True)
    scores = validate(Oracle(torch.from_numpy(truth)), [(cube, truth)])
    assert scores["mean"] == 1
    wrong = validate(Oracle(torch.from_numpy((truth + 1) % 4)), [(cube, truth)])
    assert wrong["mean"] < 0.6


def test_bad_options():
    with pytest.raises(OptionError, match="multiple of batch"):
        TrainOptions(batch=7)
    with pytest.raises(OptionError, match="cycles is"):
        TrainOptions(cycles=(4, 0))
    with pytest.raises(OptionError, match="reuse is 0"):
        TrainOptions(reuse=0)


def test_each_cycle_begins_at_half_the_rate_of_the_one_before():
    state = _State(TrainOptions(cycles=(1000, 500)))
    rates = []
    for step in range(1500):
        state.step = step
        rates.append(state._rate())
    assert rates[0] == pytest.approx(2e-3 / 200, rel=1e-3)
    assert max(rates[:1000]) < 2e-3
    assert rates[999] < 1e-4
    assert max(rates[1000:]) / max(rates[:1000]) == pytest.approx(0.5, rel=0.4)
    assert rates[1499] < 1e-4


def test_the_shipped_weights_find_clouds_they_have_never_seen():
    path = Path(__file__).parents[2] / "openeo_cloudmask" / "models" / "data" / "mini.safetensors"
    assert path.stat().st_size < 2_000_000
    assert get_model("mini").licence.spdx == "Apache-2.0"
    network = MiniNet(PLANES).eval()
    network.load_state_dict(read_tensors(path), strict=True)
    scenes = [draw_scene(900_000_100 + n, 256, plain_truth=True) for n in range(8)]
    scores = validate(network, scenes)
    assert scores["cloud"] > 0.85
    assert scores["shadow"] > 0.75
