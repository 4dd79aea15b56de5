"""mini in 8 bit integers: the file in the package, and who takes it."""

from __future__ import annotations

import threading

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from openeo_cloudmask.errors import OptionError, WeightsError
from openeo_cloudmask.inference import predict
from openeo_cloudmask.models import get_model, load, load_detector, onnx_detector
from openeo_cloudmask.models.deferred import DeferredDetector
from openeo_cloudmask.models.onnx_detector import INT8_SUFFIX, packaged_onnx, read_card
from openeo_cloudmask.models.onnx_metadata import read_metadata
from openeo_cloudmask.models.processor import Processor
from openeo_cloudmask.models.weights import sha256_of
from openeo_cloudmask.simulator.scene import simulate_scene

MINI = get_model("mini")
INT8 = packaged_onnx(MINI, INT8_SUFFIX)
SENSOR = "sentinel-2-l1c"


def test_the_file_was_made_from_the_one_beside_it():
    card, exact = read_card(INT8), read_card(packaged_onnx(MINI))
    remedy = f"cloudmask export mini {INT8.name} --sensor any --precision int8"
    assert card.made_from == sha256_of(packaged_onnx(MINI)), remedy
    assert (card.precision, exact.precision) == ("int8", "fp32")
    assert card.equal_classes > 0.997
    assert (card.bands, card.window, card.classes) == (exact.bands, exact.window, exact.classes)


def test_metadata_is_that_which_the_runtime_reads(tmp_path):
    import onnxruntime

    session = onnxruntime.InferenceSession(INT8, providers=["CPUExecutionProvider"])
    assert read_metadata(INT8) == session.get_modelmeta().custom_metadata_map
    cut = tmp_path / "cut.onnx"
    for content in (INT8.read_bytes()[:-5], b"no onnx", b"\x72\xff\xff"):
        cut.write_bytes(content)
        with pytest.raises(WeightsError, match=r"cut\.onnx cannot be read as ONNX"):
            read_card(cut)
    with pytest.raises(WeightsError, match="cannot be read as ONNX"):
        read_card(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    ("processor", "runtime", "precision", "taken"),
    [
        (Processor(vnni=True), "openvino", "auto", "mini.int8.onnx"),
        (Processor(amx=True), "openvino", "auto", "mini.int8.onnx"),
        (Processor(avx2=True), "openvino", "auto", "mini.onnx"),
        (Processor(arm_dot=True), "openvino", "auto", "mini.onnx"),
        (Processor(vnni=True), "onnx", "auto", "mini.onnx"),
        (Processor(vnni=True), "openvino", "fp32", "mini.onnx"),
        (Processor(), "onnx", "int8", "mini.int8.onnx"),
    ],
)
def test_auto_takes_it_where_it_pays(monkeypatch, processor, runtime, precision, taken):
    monkeypatch.setattr(onnx_detector, "read_processor", lambda: processor)
    monkeypatch.setattr(load, "_load", lambda kind, request: request)
    request = load_detector(
        "mini", sensor=SENSOR, device="cpu", precision=precision, runtime=runtime
    )
    assert request.weights.name == taken


@pytest.mark.parametrize(
    ("installed", "device", "taken"),
    [(True, "cpu", "mini.int8.onnx"), (False, "cpu", "mini.onnx"), (True, "cuda", "mini.onnx")],
)
def test_a_plain_install_and_gpus_compute_in_fp32(monkeypatch, installed, device, taken):
    processor = Processor(vnni=True, avx512=True)
    monkeypatch.setattr(onnx_detector, "read_processor", lambda: processor)
    monkeypatch.setattr(onnx_detector, "find_spec", lambda name: installed or None)
    monkeypatch.setattr(load, "_needs_no_torch", lambda *_: True)
    monkeypatch.setattr(load, "_load", lambda kind, request: request)
    request = load_detector("mini", sensor=SENSOR, device=device)
    assert request.weights.name == taken


def test_auto_leaves_a_file_alone_that_changes_too_much(monkeypatch):
    monkeypatch.setattr(onnx_detector, "read_processor", lambda: Processor(vnni=True))
    monkeypatch.setattr(onnx_detector, "LEAST_EQUAL", 0.9999)
    assert onnx_detector.find_onnx(MINI, precision="auto") == packaged_onnx(MINI).absolute()


@pytest.mark.parametrize("given", [{"precision": "int8"}, {"weights": "mine.onnx"}])
def test_torch_by_name_is_no_other_runtime(given):
    with pytest.raises(OptionError, match="'torch', which runs neither int8 nor ONNX files"):
        load_detector("mini", sensor=SENSOR, runtime="torch", **given)


def test_classes_stay():
    scene = simulate_scene(6, size=192, sensor=SENSOR)
    options = {"sensor": SENSOR, "device": "cpu", "runtime": "onnx"}
    found = []
    for precision in ("fp32", "int8"):
        detector = load_detector("mini", precision=precision, **options)
        assert detector.precision == precision
        cube = scene.cube[[scene.band_names.index(name) for name in detector.band_names]]
        found.append(predict(cube, detector, stride=256))
    assert (found[0] != found[1]).any()
    assert (found[0].argmax(axis=0) == found[1].argmax(axis=0)).mean() > 0.99


def test_a_network_is_loaded_ahead_and_what_fails_is_raised_later():
    calls, loaded = [], threading.Event()

    def fail():
        calls.append(threading.current_thread())
        loaded.set()
        raise WeightsError("no such file")

    detector = DeferredDetector(MINI, ("B02",), fail)
    detector.prepare()
    assert loaded.wait(10)
    with pytest.raises(WeightsError, match="no such file"):
        detector.predict_windows(np.zeros((1, 1, 8, 8), np.float32), np.ones((1, 8, 8), bool))
    assert calls[0] is not threading.main_thread()
    assert calls[1] is threading.main_thread()
