"""Networks in int8: blocks stay in fp32 as far as classes need it, and the card says so."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

for name in ("torch", "onnx", "onnxscript"):
    pytest.importorskip(name)

from openeo_cloudmask.errors import OptionError, WeightsError
from openeo_cloudmask.models import get_model, load_detector
from openeo_cloudmask.models import onnx_detector as exported
from openeo_cloudmask.models.onnx_detector import find_onnx, read_card
from openeo_cloudmask.models.processor import Processor
from openeo_cloudmask.models.weights import sha256_of
from openeo_cloudmask.training import int8

pytestmark = pytest.mark.slow
SIDE = 64


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return the fp32 and the int8 file of a tiny network of three blocks, and the blocks."""
    import torch

    from openeo_cloudmask.models.onnx_export import export_onnx

    folder = tmp_path_factory.mktemp("int8")
    torch.manual_seed(1)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(4, 16, 3, padding=1), torch.nn.ReLU(),
        torch.nn.Conv2d(16, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(16, 4, 1),
    )  # fmt: skip
    with torch.no_grad():
        network[4].weight.mul_(8)  # classes that are told apart
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises authors to publish in another format
        script = torch.jit.trace(network, torch.zeros(1, 4, SIDE, SIDE))
        torch.jit.save(script, folder / "dtacs4bands.pt")
    exact = folder / "dtacs4bands.onnx"
    export_onnx("dtacs4bands", exact, weights=folder / "dtacs4bands.pt", window_px=SIDE)
    seeds = int8.CALIBRATION_SEEDS, int8.GUARD_SEEDS
    int8.CALIBRATION_SEEDS, int8.GUARD_SEEDS = (1, 2), (3, 4)
    try:
        blocks = int8.quantise(exact, folder / "dtacs4bands.int8.onnx")
    finally:
        int8.CALIBRATION_SEEDS, int8.GUARD_SEEDS = seeds
    return exact, folder / "dtacs4bands.int8.onnx", blocks


def test_a_network_gets_the_inputs_that_it_takes(files):
    card = replace(read_card(files[0]), percentiles=(0.0, 0.5))
    pixels = np.ones((4, SIDE, SIDE), np.float32)
    pixels[:, :3] = 0
    feed = int8.pick(int8.feed_of(card, pixels), ["windows", "percentiles"])
    assert list(feed) == ["windows", "percentiles"]
    assert feed["percentiles"].tolist() == [[[1.0, 1.0]] * 4]  # of what is valid


def test_the_card_says_what_the_file_is(files):
    exact, quantised, blocks = files
    card, before = read_card(quantised), read_card(exact)
    assert (card.precision, before.precision) == ("int8", "fp32")
    assert card.made_from == sha256_of(exact)
    assert card.equal_classes >= 0.995
    assert (card.model, card.bands, card.window) == (before.model, before.bands, before.window)
    assert len(blocks) == 3
    assert any(block.int8 for block in blocks)
    assert [block.products for block in blocks] == [n * SIDE**2 / 1e6 for n in (576, 2304, 64)]


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_classes_stay_and_batches_and_threads_change_nothing(files, runtime, monkeypatch):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    exact, quantised, _ = files
    options = {"sensor": "sentinel-2-l1c", "device": "cpu", "runtime": runtime}
    windows = np.random.default_rng(0).random((3, 4, SIDE, SIDE), np.float32) * 0.6
    valid = np.ones((3, SIDE, SIDE), bool)
    wanted = load_detector("dtacs4bands", weights=exact, **options).predict_windows(windows, valid)
    found = []
    for threads in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        detector = load_detector("dtacs4bands", weights=quantised, precision="int8", **options)
        found.append(detector.predict_windows(windows, valid))
        found.append(np.stack([detector.predict_windows(w[None], valid[:1])[0] for w in windows]))
    for answer in found:
        np.testing.assert_array_equal(answer, found[0])
    assert (found[0] != wanted).any()  # it is another arithmetic
    assert (found[0].argmax(1) == wanted.argmax(1)).mean() > 0.98


def test_auto_takes_int8_where_processor_and_guard_agree(files, monkeypatch):
    exact, quantised, _ = files
    entry, folder = get_model("dtacs4bands"), exact.parent

    def auto():
        return find_onnx(entry, folder, "auto")

    monkeypatch.setattr(exported, "read_processor", lambda: Processor(vnni=True))
    assert auto() == quantised
    monkeypatch.setattr(exported, "LEAST_EQUAL", 1.1)
    assert auto() == exact
    monkeypatch.undo()
    monkeypatch.setattr(exported, "read_processor", Processor)
    assert auto() == exact


def test_an_int8_file_of_older_weights_is_left_alone(files, monkeypatch, tmp_path):
    exact, quantised, _ = files
    (tmp_path / quantised.name).write_bytes(quantised.read_bytes())
    (tmp_path / exact.name).write_bytes(quantised.read_bytes())  # not what it was made from
    monkeypatch.setattr(exported, "read_processor", lambda: Processor(vnni=True))
    assert find_onnx(get_model("dtacs4bands"), tmp_path, "auto") == tmp_path / exact.name


def test_precisions_that_do_not_fit_the_file_are_refused(files, tmp_path):
    exact, quantised, _ = files
    options = {"sensor": "sentinel-2-l1c", "device": "cpu"}
    with pytest.raises(OptionError, match=r"'int8', but .* computes in fp32"):
        load_detector("dtacs4bands", weights=exact, precision="int8", **options)
    with pytest.raises(OptionError, match=r"'fp32', but .* computes in int8"):
        load_detector("dtacs4bands", weights=quantised, precision="fp32", **options)
    with pytest.raises(WeightsError, match="--precision int8"):
        load_detector("dtacs4bands", weights=tmp_path, precision="int8", **options)
    with pytest.raises(OptionError, match="expected a file in fp32"):
        int8.quantise(quantised, tmp_path / "x.onnx")
