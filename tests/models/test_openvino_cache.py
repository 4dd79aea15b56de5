"""What OpenVINO compiled is kept, and taken up again only where it is whole and fits."""

from __future__ import annotations

import os

import numpy as np
import pytest

from openeo_cloudmask.models import get_model, openvino_cache
from openeo_cloudmask.models.onnx_detector import INT8_SUFFIX, packaged_onnx
from openeo_cloudmask.models.openvino_session import OpenVinoSession

openvino = pytest.importorskip("openvino")
pytestmark = pytest.mark.slow

FILE = packaged_onnx(get_model("mini"), INT8_SUFFIX)


def _answer(path=FILE):
    pixels = np.random.default_rng(1).random((1, 7, 512, 512), np.float32) * 0.5
    feed = {"windows": pixels, "present": np.ones((1, 7), np.float32)}
    return OpenVinoSession(path).run(None, feed)[0]


@pytest.fixture
def compiled(monkeypatch):
    """Return a list that grows with each network that is compiled anew."""
    found = []
    plain = openvino.Core.compile_model

    def counted(self, *args, **options):
        found.append(args)
        return plain(self, *args, **options)

    monkeypatch.setattr(openvino.Core, "compile_model", counted)
    return found


def test_the_second_start_takes_what_the_first_compiled(cache, compiled, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    wanted = _answer()
    (kept,) = (cache / "openvino").iterdir()
    assert kept.suffix == ".blob"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # threads are not kept
    np.testing.assert_array_equal(_answer(), wanted)
    assert len(compiled) == 1


@pytest.mark.parametrize("place", [3, 100, -1000])
def test_a_damaged_file_is_compiled_anew(cache, compiled, place):
    wanted = _answer()
    (kept,) = (cache / "openvino").iterdir()
    whole = kept.read_bytes()
    damaged = bytearray(whole)
    damaged[place] ^= 1
    for content in (bytes(damaged), whole[:place], b""):
        kept.write_bytes(content)
        np.testing.assert_array_equal(_answer(), wanted)
        assert openvino_cache._read(kept)
    assert len(compiled) == 4


def test_what_another_user_left_is_not_taken(cache, compiled, monkeypatch):
    _answer()
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    _answer()
    assert len(compiled) == 2


def test_other_weights_and_versions_have_files_of_their_own(cache, compiled, monkeypatch, tmp_path):
    import onnx

    _answer()
    model = onnx.load(FILE)
    model.doc_string = "other bytes"
    onnx.save(model, tmp_path / "other.onnx")
    _answer(tmp_path / "other.onnx")
    monkeypatch.setattr(openvino, "get_version", lambda: "next")
    _answer()
    assert len(compiled) == len(list((cache / "openvino").iterdir())) == 3


def test_it_runs_where_nothing_can_be_kept(cache, compiled, monkeypatch):
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text("a file in the way")
    _answer()

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(openvino_cache, "cache_folder", no_home)
    _answer()
    assert len(compiled) == 2


def test_the_oldest_files_go_first(cache, monkeypatch):
    monkeypatch.setattr(openvino_cache, "_MOST_FILES", 2)
    folder = cache / "openvino"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"{number}.blob").write_bytes(b"")
        os.utime(folder / f"{number}.blob", (number, number))
    _answer()
    names = {path.name for path in folder.iterdir()}
    assert len(names) == 2
    assert "2.blob" in names
