import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from openeo_cloudmask.errors import (
    BandError,
    InputError,
    OptionError,
    ReferenceDataError,
    WeightsError,
)
from openeo_cloudmask.inference import predict
from openeo_cloudmask.models import build_network, get_model, load_detector
from openeo_cloudmask.models.networks.mini import PLANES, MiniNet
from openeo_cloudmask.models.state_dict import read_tensors
from openeo_cloudmask.sensors import Band, Sensor, common_name
from openeo_cloudmask.training.bank import Bank, labelled_bank, simulated_bank, teach
from openeo_cloudmask.training.crops import Chance, Crops, cut, move_clouds, vary
from openeo_cloudmask.training.folds import cross_validate, split_folds
from openeo_cloudmask.training.labelled import LabelledScene, read_labelled
from openeo_cloudmask.training.loss import label_loss
from openeo_cloudmask.training.mini import _State, score, train_mini, write_weights
from openeo_cloudmask.training.options import Scenes, TrainOptions
from openeo_cloudmask.training.scenes import SceneStore, draw_scene

pytestmark = pytest.mark.slow

TINY = TrainOptions(steps=4, tail_steps=2, batch=1, simulated=2, log_every=2)
CPU = torch.device("cpu")


def chance(seed: int) -> Chance:
    """Random numbers."""
    generator = torch.Generator()
    generator.manual_seed(seed)
    return Chance(generator)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A folder of two simulated scenes."""
    folder = tmp_path_factory.mktemp("store")
    SceneStore(folder=folder, seed=1, count=2).layers()
    return folder


def labelled_file(path: Path, *, shadow: bool = True, thin: bool = True) -> Path:
    """Write a small labelled scene: dark ground, thick and thin cloud, shadow, a hole."""
    label = np.zeros((96, 96), np.uint8)
    label[20:50, 20:50], label[20:50, 50:60], label[60:80, 30:50] = 1, 2, 3
    level = np.select([label == 1, label == 2, label == 3], [7000, 4000, 400], 1200)
    counts = np.repeat(level[np.newaxis], 4, axis=0).astype(np.int16)
    counts[:, :10, :10], label[:10, :10] = -32768, 255
    np.savez(
        path,
        counts=counts,
        label=label,
        bands=np.asarray(["B02", "B03", "B04", "B08"]),
        sensor="sentinel-2-l2a",
        level="L2A",
        pixel_m=10,
        shadow_labelled=shadow,
        thin_labelled=thin,
    )
    return path


def shipped() -> MiniNet:
    """The network that comes with the package."""
    path = Path(__file__).parents[2] / "openeo_cloudmask" / "models" / "data" / "mini.safetensors"
    network = MiniNet(PLANES).eval()
    network.load_state_dict({key: value.float() for key, value in read_tensors(path).items()})
    return network


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


@pytest.fixture
def one_thread():
    """Sums of several threads need not be the same each time."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)


@pytest.mark.usefixtures("one_thread")
def test_training_that_was_stopped_ends_with_the_same_weights(tmp_path, store):
    given = Scenes(store=store, labelled=(labelled_file(tmp_path / "town_a.npz"),))
    losses = []
    train_mini(tmp_path / "a", TINY, given, report=lambda _, loss, __: losses.append(loss))
    train_mini(tmp_path / "b", TINY, given, stop_after=3)
    train_mini(tmp_path / "b", TINY, given)
    assert [loss is not None for loss in losses] == [False, True, False, True, True]
    whole, parts = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("a", "b")
    )
    for key, value in whole["average"].items():
        torch.testing.assert_close(parts["average"][key], value, rtol=0, atol=0)
    first, second = (read_tensors(tmp_path / name / "mini.safetensors") for name in ("a", "b"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    log = (tmp_path / "a" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line).get("step") for line in log] == [2, 4, None]
    assert json.loads(log[-1])["tail_step"] == 2
    with pytest.raises(WeightsError, match="was made with"):
        train_mini(tmp_path / "a", replace(TINY, steps=9), given)
    with pytest.raises(WeightsError, match="was made with"):
        train_mini(tmp_path / "a", TINY, Scenes(store=store))
    with pytest.raises(OptionError, match="device is nowhere"):
        train_mini(tmp_path / "c", TINY, given, device="nowhere")


def test_in_the_end_the_layers_at_full_resolution_learn_alone(tmp_path, store, weights):
    given = Scenes(store=store, labelled=(labelled_file(tmp_path / "town_a.npz"),))
    path = train_mini(tmp_path / "run", replace(TINY, steps=0), given, start=weights)
    before, after = read_tensors(weights), read_tensors(path)
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"spectral", "lift", "smooth", "head"}


def test_training_begins_with_given_weights_where_they_fit(weights):
    state = _State(TINY, [], CPU)
    before = state.network.head.weight.detach().clone()
    state.begin_with(weights)
    given = read_tensors(weights)
    assert not torch.equal(state.network.head.weight, before)
    torch.testing.assert_close(state.network.head.weight, given["head.weight"].float())


def test_written_weights_lean_as_asked(tmp_path, weights):
    network = MiniNet(PLANES)
    network.load_state_dict({key: value.float() for key, value in read_tensors(weights).items()})
    options = replace(TINY, lean_cloud=0.5, lean_shadow=-0.25)
    write_weights(network, tmp_path / "leaning.safetensors", options)
    plain, leaning = (read_tensors(p) for p in (weights, tmp_path / "leaning.safetensors"))
    moved = leaning["head.bias"].float() - plain["head.bias"].float()
    torch.testing.assert_close(moved, torch.tensor([0, 0.5, 0.5, -0.25]), atol=2e-3, rtol=0)
    assert torch.equal(leaning["head.weight"], plain["head.weight"])


def test_processes_draw_the_scenes_that_one_draws(tmp_path, store):
    drawn = SceneStore(folder=tmp_path, seed=1, count=2).layers(workers=2)
    np.testing.assert_array_equal(drawn, SceneStore(folder=store, seed=1, count=2).layers())
    planes, truth = draw_scene(1_000_001)
    np.testing.assert_array_equal(drawn[1, ..., :7], np.moveaxis(planes, 0, -1))
    np.testing.assert_array_equal(drawn[1, ..., 7], truth)


def test_crops_depend_on_their_seeds_alone_and_are_flagged_right(store):
    bank = simulated_bank(SceneStore(folder=store, seed=1, count=2))
    first, again = (vary(cut(bank, 3, 256, c, zoom=1.5), c) for c in (chance(3), chance(3)))
    assert torch.equal(first.planes, again.planes)
    assert torch.equal(first.truth, again.truth)
    kinds = set()
    for seed in range(8):
        c = chance(seed)
        items = vary(move_clouds(cut(bank, 4, 128, c, zoom=1.5), c, 0.5), c)
        kinds |= {tuple(row) for row in items.present.tolist()}
        assert items.planes.shape == (4, len(PLANES), 128, 128)
        assert (items.planes[items.present == 0] == 0).all()
        assert np.isin(items.truth, (0, 1, 2, 3, 255)).all()
        assert torch.isfinite(items.planes).all()
        assert (items.truth[(items.planes == 0).all(dim=1)] == 255).all()
    assert len(kinds) > 1


def ramp_bank() -> Bank:
    """One scene whose planes tell where a pixel lies."""
    rows, columns = np.mgrid[0:40, 0:64].astype(np.float32)
    scene = LabelledScene(
        name="ramp_a",
        planes=np.stack([1 + rows, 1 + columns, *np.ones((5, 40, 64), np.float32)]),
        present=np.ones(7, np.float32),
        truth=np.zeros((40, 64), np.uint8),
        corrected=False,
    )
    return labelled_bank([scene])


def test_crops_without_zoom_hold_pixels_as_they_are_or_lie_between_them():
    whole = 0
    for seed in range(12):
        crop = cut(ramp_bank(), 1, 32, chance(seed), zoom=1)
        row, column = crop.planes[0, 0], crop.planes[0, 1]
        assert row.min() >= 1 - 1e-3
        assert row.max() <= 40 + 1e-3
        assert column.max() <= 64 + 1e-3
        # One pixel on is one pixel on, whichever way the crop is turned.
        step = (row[1:] - row[:-1]) ** 2 + (column[1:] - column[:-1]) ** 2
        assert step.median() == pytest.approx(1, abs=1e-2)
        whole += bool((row == row.round()).all() and (column == column.round()).all())
    assert whole > 6


def test_labels_that_leave_classes_open_are_met_by_any_of_them():
    sure = 20 * torch.eye(4)[None, :, :, None].expand(1, 4, 4, 1)  # row n is class n
    labels = {code: float(label_loss(sure, torch.full((1, 4, 1), code))) for code in (4, 5, 255)}
    alike = torch.tensor([0, 1, 2, 3])[None, :, None]
    met = float(label_loss(sure, alike))
    assert labels[255] == 0
    for code, rows in ((4, [1, 2]), (5, [0, 3])):
        chosen = sure[:, :, rows]
        assert float(label_loss(chosen, torch.full((1, 2, 1), code))) == pytest.approx(met, abs=0.3)
        others = [row for row in range(4) if row not in rows]
        wrong = sure[:, :, others]
        assert float(label_loss(wrong, torch.full((1, 2, 1), code))) > met + 10


def test_a_labelled_scene_says_what_its_labels_tell_apart(tmp_path):
    plain = read_labelled(labelled_file(tmp_path / "town_a.npz"))
    assert plain.group == "town"
    assert set(np.unique(plain.truth)) == {0, 1, 2, 3, 255}
    np.testing.assert_array_equal(plain.present, [1, 1, 1, 1, 0, 0, 0])
    assert (plain.planes[4:] == 0).all()
    assert (plain.planes[:, plain.truth == 255] == 0).all()
    vague = read_labelled(labelled_file(tmp_path / "town_b.npz", shadow=False, thin=False))
    assert (vague.truth[plain.truth == 0] == 5).all()
    assert (vague.truth[plain.truth == 1] == 4).all()
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(ReferenceDataError, match=r"empty\.npz"):
        read_labelled(tmp_path / "empty.npz")


def test_small_scenes_go_on_mirrored_and_keep_their_labels(tmp_path):
    bank = labelled_bank([read_labelled(labelled_file(tmp_path / "town_a.npz"))])
    crops = cut(bank, 8, 192, chance(1), zoom=1.7)
    assert crops.planes.shape == (8, 7, 192, 192)
    blue = crops.planes[:, 0]
    assert blue[crops.truth == 1].median() > 0.5
    assert blue[crops.truth == 0].median() < 0.2
    assert (crops.taught == 0).all()


def crops_of(level: float, cloud: slice | None) -> Crops:
    """One even crop, with a white square."""
    planes, truth = torch.full((1, 7, 128, 128), level), torch.zeros(1, 128, 128).long()
    if cloud is not None:
        planes[:, :, cloud, cloud], truth[:, cloud, cloud] = 0.8, 1
    return Crops(
        planes, torch.ones(1, 7), truth, torch.zeros(1, 2, 128, 128), torch.zeros(1).bool()
    )


def test_moved_clouds_bring_their_labels_and_their_shadow():
    ground, sky = crops_of(0.15, None), crops_of(0.1, slice(40, 70))
    sky.present[0, 4] = 0
    both = Crops(*(torch.cat([getattr(c, n) for c in (ground, sky)]) for n in Crops.__slots__))
    shaded = moves = 0
    for seed in range(12):
        moved = move_clouds(both, chance(seed), 1.0)
        if torch.equal(moved.truth[0], ground.truth[0]):
            continue  # what was drawn for it was itself
        moves += 1
        assert moved.present[0, 4] == 0
        assert (moved.truth[0, 45:65, 45:65] == 1).all()
        assert moved.planes[0, 0, 45:65, 45:65].numpy() == pytest.approx(0.8, abs=0.01)
        dark, nir = moved.truth[0] == 3, moved.planes[0, 3]
        shaded += int(dark.sum())
        assert (nir[dark] < 0.15 - 0.02).all()
        assert nir[moved.truth[0] == 0].numpy() == pytest.approx(0.15, abs=0.05)
    assert moves > 2
    assert shaded > 300


def test_a_teacher_says_what_labels_leave_open(tmp_path):
    path = labelled_file(tmp_path / "town_a.npz", shadow=False)
    said = teach(path, "mini", tmp_path)
    assert said.shape == (2, 96, 96)
    assert (said[:, :10, :10] == 0).all()
    np.testing.assert_array_equal(teach(path, "mini", tmp_path), said)
    np.savez(
        tmp_path / "bare.npz",
        **{key: np.load(path)[key] for key in ("counts", "bands", "sensor")},
    )
    with pytest.raises(ReferenceDataError, match=r"bare\.npz has no label"):
        read_labelled(tmp_path / "bare.npz")
    bare = read_labelled(tmp_path / "bare.npz", labelled=False)
    assert (bare.truth == 255).all()
    bank = labelled_bank([read_labelled(path), bare], [said, said])
    assert set(np.unique(bank.layers[0, ..., 7])) == {1, 2, 3, 5, 255}
    assert set(np.unique(bank.layers[1, ..., 7])) == {6, 255}
    with pytest.raises(OptionError, match="there is no teacher"):
        Scenes(store=tmp_path, unlabelled=(tmp_path / "bare.npz",)).banks(TINY, workers=1)


def test_what_a_teacher_says_counts_where_labels_leave_it_open():
    sure = 20 * torch.eye(4)[None, :, :, None].expand(1, 4, 4, 1)  # row n is class n
    taught = torch.zeros(1, 2, 4, 1)
    taught[:, 1] = 1  # the teacher sees shadow everywhere

    def loss(row: int, label: int, *, trust: float) -> float:
        one = sure[:, :, row : row + 1]
        return float(label_loss(one, torch.full((1, 1, 1), label), taught[:, :, :1], trust))

    assert loss(3, 5, trust=1) < 1
    assert loss(0, 5, trust=1) > 10
    assert loss(0, 5, trust=0) == pytest.approx(loss(3, 5, trust=0))
    assert loss(3, 6, trust=1) < 1
    assert loss(1, 6, trust=1) > 10
    taught[:, 0], taught[:, 1] = 1, 0  # it sees cloud where the label says clear
    assert loss(0, 5, trust=1) < 1
    assert loss(3, 5, trust=1) > 10
    assert loss(2, 6, trust=1) < 1


def test_cross_validation_masks_each_scene_by_weights_that_never_saw_it(tmp_path, store):
    scenes = [labelled_file(tmp_path / f"town_{name}.npz") for name in "abc"]
    assert split_folds(scenes, 2) == [[scenes[0], scenes[2]], [scenes[1]]]
    given = Scenes(store=store, labelled=tuple(scenes))
    masks = cross_validate(tmp_path / "run", TINY, scenes=given, folds=2)
    for number, held_out in enumerate(split_folds(scenes, 2)):
        content = torch.load(tmp_path / "run" / f"fold-{number}" / "checkpoint.pt")
        expected = {path.stem for path in scenes} - {path.stem for path in held_out}
        assert set(content["options"]["labelled"]) == expected
    for path in scenes:
        mask = np.load(masks / f"{path.stem}.npy")
        assert mask.shape == (96, 96)
        assert np.isin(mask, (0, 1, 2, 3, 255)).all()
    with pytest.raises(OptionError, match="expected 2 to 3"):
        split_folds(scenes, 4)


def test_bad_options():
    with pytest.raises(OptionError, match="steps is -1"):
        TrainOptions(steps=-1)
    with pytest.raises(OptionError, match="batch is 0"):
        TrainOptions(batch=0)
    with pytest.raises(OptionError, match="real_share is 2"):
        TrainOptions(real_share=2)


def test_the_learning_rate_warms_up_and_falls():
    state = _State(TrainOptions(steps=1000), [], CPU)
    rates = []
    for step in range(1000):
        state.step = step
        rates.append(state._rate())
    assert rates[0] == pytest.approx(2e-3 / 300, rel=1e-3)
    assert 1.2e-3 < max(rates) < 2e-3
    assert rates[-1] == pytest.approx(2e-5, rel=0.05)


@pytest.mark.parametrize("size", [256, 512])
def test_what_a_place_is_called_does_not_hang_on_where_the_window_ends(size):
    """An even sky is one class right through, however large the window."""
    network = shipped()
    cloud = (0.8, 0.78, 0.8, 0.83, 0.01, 0.6, 0.45)
    grass = (0.09, 0.09, 0.07, 0.32, 0.002, 0.2, 0.1)
    for spectrum, expected in ((cloud, {1, 2}), (grass, {0})):
        planes = torch.tensor(spectrum)[None, :, None, None].expand(1, 7, size, size)
        with torch.inference_mode():
            guess = network.classify(planes, torch.ones(1, 7)).argmax(1)
        assert set(np.unique(guess)) <= expected


def test_the_shipped_weights_find_simulated_clouds_they_have_never_seen():
    path = Path(__file__).parents[2] / "openeo_cloudmask" / "models" / "data" / "mini.safetensors"
    assert path.stat().st_size < 2_000_000
    assert get_model("mini").licence.spdx == "Apache-2.0"
    scenes = []
    for number in range(12):
        planes, truth = draw_scene(900_000_100 + number, 256)
        present = np.asarray([1, 1, 1, 1, planes[4].any(), 1, 1], np.float32)
        scenes.append(
            LabelledScene(
                name="drawn",
                planes=planes.astype(np.float32),
                present=present,
                truth=truth,
                corrected=not planes[4].any(),
            )
        )
    found = score(shipped(), scenes)
    assert (found["found"] + found["kept"]) / 2 > 0.85
    assert found["shadow"] > 0.75


def test_the_shipped_weights_know_an_overcast_sky_and_stay_off_clear_land(shared):
    """Scenes that were trained on: a check that the file holds what was trained."""
    scenes = [read_labelled(path) for path in sorted(shared("scenes").glob("*.npz"))]
    found = score(shipped(), scenes)
    assert found["overcast"] > 0.97
    assert found["kept"] > 0.95
    assert found["shadow"] > 0.9


def test_last_stage_takes_dark_pixels_in_labels_wider_than_the_cloud_for_shadow(tmp_path):
    from openeo_cloudmask.training.tail import _views

    path = labelled_file(tmp_path / "town_a.npz", thin=False)
    with np.load(path) as file:
        content = dict(file)
    content["counts"][:, 20:50, 45:50] = 500  # the rim of what is called cloud
    np.savez(path, **content)
    scene = read_labelled(path)
    network = MiniNet(PLANES).eval()
    with torch.no_grad():
        view = next(iter(_views(network, labelled_bank([scene]), labelled_bank([scene]))))
    rim = view.truth[0, 20:50, 45:50]
    rest = view.truth[0].numpy().copy()
    rest[20:50, 45:50] = 4
    assert (rim == 3).all()
    np.testing.assert_array_equal(rest, scene.truth)
