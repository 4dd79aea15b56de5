import csv
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

from openeo_cloudmask.alcd.writer import write_alcd_scene
from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import InputError, OptionError, ReferenceDataError, WeightsError
from openeo_cloudmask.inference import predict
from openeo_cloudmask.models import build_network, load_detector
from openeo_cloudmask.models.networks.patch_cnn import PatchCnn
from openeo_cloudmask.products import open_product
from openeo_cloudmask.simulator.products import make_reference, write_product
from openeo_cloudmask.simulator.scene import simulate_scene
from openeo_cloudmask.training.patch_cnn import (
    PatchTrainOptions,
    confusion,
    pad_scene,
    patch_metrics,
    predict_scene,
    read_history,
    row_patches,
    train_patch_cnn,
    write_patch_weights,
)
from openeo_cloudmask.training.patch_report import draw_curves, write_evaluation
from openeo_cloudmask.training.patch_scenes import (
    BANDS,
    PatchScene,
    find_scenes,
    read_patch_scene,
    simulate_patch_scenes,
    split_scenes,
)

pytestmark = pytest.mark.slow


def make_network(seed=0):
    """A network whose biases are not zero, so that borders count."""
    torch.manual_seed(seed)
    network = PatchCnn().eval()
    for values in network.parameters():
        if values.ndim == 1:
            torch.nn.init.normal_(values, std=0.3)
    return network


@pytest.fixture(scope="module")
def scenes():
    return simulate_patch_scenes(4, size_px=48)


def test_the_published_number_of_parameters():
    network = build_network("kristollari-cnn", {"bands": 13})
    assert sum(values.numel() for values in network.parameters()) == 6363


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (16, 31), (40, 37), (130, 20)])
def test_the_shared_computation_is_the_row_by_row_loop(shape):
    network = make_network()
    cube = np.random.default_rng(1).random((13, *shape), np.float32)
    padded = pad_scene(cube)
    with torch.inference_mode():  # row by row and patch by patch, as published
        rows = [network(row_patches(padded, row))[:, 0] for row in range(cube.shape[1])]
        expected = torch.sigmoid(torch.stack(rows)).numpy()
    assert expected.shape == shape
    assert min(shape) == 1 or expected.std() > 0.005
    np.testing.assert_allclose(predict_scene(network, cube), expected, atol=2e-6)


def test_blocks_do_not_show(monkeypatch):
    network = make_network(1)
    cube = np.random.default_rng(2).random((13, 45, 50), np.float32)
    whole = predict_scene(network, cube)
    monkeypatch.setattr("openeo_cloudmask.models.networks.patch_cnn._BLOCK_YX", (7, 19))
    np.testing.assert_allclose(predict_scene(network, cube), whole, atol=2e-6)


def test_the_label_is_the_pixel_in_row_eight_column_eight():
    network = make_network(2)
    cube = np.random.default_rng(3).random((13, 40, 40), np.float32)
    patch = torch.from_numpy(cube[None, :, 12 - 8 : 12 + 8, 20 - 8 : 20 + 8])
    with torch.inference_mode():
        expected = torch.sigmoid(network(patch)).item()
    assert predict_scene(network, cube)[12, 20] == pytest.approx(expected, abs=2e-6)


def test_the_ordinary_detector_gives_the_same_probabilities(tmp_path):
    network = make_network(3)
    write_patch_weights(network, tmp_path / "kristollari-cnn.safetensors")
    detector = load_detector(
        "kristollari-cnn", weights=tmp_path, bands=[*BANDS], sensor="sentinel-2-l1c"
    )
    cube = np.random.default_rng(4).random((13, 150, 64), np.float32)
    assert detector.band_names == BANDS
    # A small window, so that the scene needs several; the outermost pixels see zeros beyond.
    small = replace(detector, window=replace(detector.window, size_px=80))
    expected = predict_scene(network, cube)
    for stride, origin in ((64, (0, 0)), (40, (13, 7))):
        probabilities = predict(cube, small, stride=stride, origin_yx=origin)
        np.testing.assert_allclose(probabilities[1], expected, atol=1e-5)
    np.testing.assert_allclose(predict(cube, detector)[1], expected, atol=1e-5)
    with pytest.raises(OptionError, match="does not fit a window of 64 px"):
        predict(cube, small, stride=65)
    assert (probabilities[2:] == 0).all()


def test_wrong_patches_and_settings():
    with pytest.raises(InputError, match="expected 16 x 16"):
        PatchCnn()(torch.zeros(1, 13, 16, 15))
    with pytest.raises(OptionError, match="unknown settings"):
        build_network("kristollari-cnn", {"depth": 3})
    with pytest.raises(OptionError, match="steps is 0"):
        PatchTrainOptions(steps=0)
    with pytest.raises(WeightsError, match="cloudmask train kristollari-cnn"):
        load_detector("kristollari-cnn")


def test_training_lowers_the_loss_and_resumes_to_the_same_weights(tmp_path, scenes):
    options = PatchTrainOptions(epochs=3, steps=40)
    training, validation = split_scenes(scenes, 0.25, seed=1)
    whole = train_patch_cnn(tmp_path / "a", training, validation, options)
    train_patch_cnn(tmp_path / "b", training, validation, options, stop_after=1)
    assert len(read_history(tmp_path / "b")) == 1
    parts = train_patch_cnn(tmp_path / "b", training, validation, options)
    assert whole.read_bytes() == parts.read_bytes()
    history = read_history(tmp_path / "a")
    assert history == read_history(tmp_path / "b")
    assert history[-1].loss < history[0].loss
    with pytest.raises(WeightsError, match="was made with"):
        train_patch_cnn(tmp_path / "a", training, validation, PatchTrainOptions(epochs=3, steps=41))


def test_a_broken_checkpoint_is_refused(tmp_path, scenes):
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match="cannot read the checkpoint"):
        train_patch_cnn(tmp_path, scenes[:1], scenes[1:2], PatchTrainOptions(epochs=1, steps=1))


def test_nodata_pixels_are_neither_learned_nor_scored(tmp_path, scenes):
    scene = scenes[0]
    blind = PatchScene(
        name="blind", cube=scene.cube, cloud=scene.cloud, seen=np.zeros_like(scene.seen)
    )
    options = PatchTrainOptions(epochs=1, steps=3)
    train_patch_cnn(tmp_path, [blind], [blind], options)
    row = read_history(tmp_path)[0]
    assert np.isnan(row.loss)
    assert row.validation_loss == 0


def test_metrics_are_those_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(5)
    truth, guess = rng.random(500) < 0.4, rng.random(500) < 0.5
    counts = confusion(truth, guess)
    np.testing.assert_array_equal(counts, sklearn.confusion_matrix(truth, guess))
    numbers = patch_metrics(counts)
    assert numbers["accuracy"] == pytest.approx(sklearn.accuracy_score(truth, guess), abs=1e-12)
    assert numbers["precision"] == pytest.approx(sklearn.precision_score(truth, guess), abs=1e-12)
    assert numbers["recall"] == pytest.approx(sklearn.recall_score(truth, guess), abs=1e-12)
    assert numbers["f1"] == pytest.approx(sklearn.f1_score(truth, guess), abs=1e-12)


def test_evaluation_writes_masks_metrics_and_confusion(tmp_path, scenes):
    network = make_network(4)
    weights = tmp_path / "w.safetensors"
    write_patch_weights(network, weights)
    folder = write_evaluation(weights, scenes[:2], tmp_path / "out")
    with (folder / "confusion.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    guess = predict_scene(network, scenes[0].cube) > 0.5
    assert int(rows[0]["true_positive"]) == int((guess & scenes[0].cloud).sum())
    assert int(rows[2]["true_positive"]) == sum(int(row["true_positive"]) for row in rows[:2])
    assert (folder / f"{scenes[0].name}.png").exists()
    assert (folder / "metrics.csv").exists()


def test_a_product_processed_again_is_that_of_its_reference(tmp_path):
    first = "S2B_MSIL1C_20171009T102009_N0205_R065_T32TMR_20171009T102008"
    scene = simulate_scene(2, size=240)
    product = write_product(scene, tmp_path / "products")
    product.rename(
        product.with_name("S2B_MSIL1C_20171009T102009_N0500_R065_T32TMR_20230901T010203.SAFE")
    )
    write_alcd_scene(tmp_path / "archive", make_reference(scene, first))
    assert [item.name for item in find_scenes(tmp_path / "products", tmp_path / "archive")] == [
        first
    ]


def test_products_and_references_become_scenes_at_sixty_metres(tmp_path):
    scene = simulate_scene(2, size=240, decks=("cumulus",), cloud_fraction=0.4)
    product = write_product(scene, tmp_path / "products")
    reference = make_reference(scene, product.name.removesuffix(".SAFE"))
    write_alcd_scene(tmp_path / "archive", reference)
    (read,) = find_scenes(tmp_path / "products", tmp_path / "archive")
    assert read.cube.shape == (13, 40, 40)
    np.testing.assert_array_equal(read.cloud, np.isin(reference.labels, (2, 3)))
    # 10 m bands: the pixel nearest the middle of each 60 m pixel.
    red = scene.cube[scene.band_names.index("B04"), 3::6, 3::6]
    np.testing.assert_allclose(read.cube[BANDS.index("B04")], red, atol=6e-5)
    with pytest.raises(ReferenceDataError, match=r"has its product in.*references fetch --all"):
        list(find_scenes(tmp_path / "archive", tmp_path / "archive"))
    other = make_reference(simulate_scene(3, size=240, decks=()), "elsewhere")
    with open_product(product) as opened, pytest.raises(ReferenceDataError, match="another grid"):
        read_patch_scene(opened, other)


def test_scenes_are_split_whole(scenes):
    training, validation = split_scenes(scenes, 0.25, seed=1)
    names = [scene.name for scene in (*training, *validation)]
    assert sorted(names) == sorted(scene.name for scene in scenes)
    assert len(validation) == 1
    with pytest.raises(ReferenceDataError, match="two or more"):
        split_scenes(scenes[:1], 0.5, seed=1)


def test_curves_are_drawn(tmp_path, scenes):
    train_patch_cnn(tmp_path, scenes[:1], scenes[1:2], PatchTrainOptions(epochs=2, steps=2))
    path = draw_curves(read_history(tmp_path), tmp_path / "curves.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_command(tmp_path):
    arguments = ["train", "kristollari-cnn", str(tmp_path / "run")]
    result = CliRunner().invoke(
        build_app(), [*arguments, "--simulate", "2", "--epochs", "1", "--steps", "2"]
    )
    assert result.exit_code == 0, result.output
    assert "epoch 1: loss" in result.output
    assert (tmp_path / "run" / "validation" / "metrics.csv").exists()
    result = CliRunner().invoke(build_app(), arguments)
    assert isinstance(result.exception, OptionError)
