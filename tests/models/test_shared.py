"""Detectors are shared: several threads may ask for one, and use it, at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import numpy as np
import pytest

from openeo_cloudmask.models import get_model, load_detector

pytestmark = pytest.mark.slow

THREADS = 4


@pytest.mark.parametrize(
    ("model", "package", "options"),
    [
        ("hollstein", "numpy", {}),
        ("mini", "torch", {"runtime": "torch", "precision": "fp32"}),
        ("mini", "onnxruntime", {"runtime": "onnx"}),
        ("s2cloudless", "lightgbm", {}),
    ],
)
def test_threads_get_what_one_thread_gets(model, package, options):
    pytest.importorskip(package)
    detector = load_detector(model, device="cpu", **options)
    size = detector.window.size_px if options.get("runtime") == "onnx" else 128
    rng = np.random.default_rng(1)
    windows = rng.random((THREADS, 1, len(detector.band_names), size, size), np.float32)
    valid = np.ones((1, size, size), bool)
    wanted = [detector.predict_windows(window, valid) for window in windows]
    together = Barrier(THREADS)

    def predict(window):
        together.wait()
        return detector.predict_windows(window, valid)

    with ThreadPoolExecutor(THREADS) as pool:
        for given, one in zip(pool.map(predict, windows), wanted, strict=True):
            np.testing.assert_array_equal(given, one)


def test_a_model_is_loaded_once_for_threads_that_ask_at_once():
    entry = get_model("hollstein")
    calls = []

    def load(request):
        calls.append(request)
        time.sleep(0.05)  # long enough for the others to ask
        return entry.kind.load(request)

    slow = replace(entry, kind=replace(entry.kind, load=load))
    together = Barrier(THREADS)

    def ask(_):
        together.wait()
        return load_detector(slow, device="cpu")

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(ask, range(THREADS)))
    assert len(calls) == 1
    assert all(detector is found[0] for detector in found)


def test_tf32_stays_off_until_the_last_thread_leaves():
    torch = pytest.importorskip("torch")
    from openeo_cloudmask.models.networks.prepare import exact_arithmetic

    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    try:
        exact_arithmetic.__enter__()
        with exact_arithmetic:
            assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cudnn.allow_tf32
        exact_arithmetic.__exit__(None, None, None)
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before
