"""Real scenes with reference labels, all the way through graph and UDF."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "real_scenes.py"
# What ukis-csmask's own code reaches on these scenes in one call of 512 x 512 pixels.
PUBLISHED = {
    "sentinel2": {"cloud": 0.959, "shadow": 0.959, "valid/invalid": 0.935},
    "landsat5": {"cloud": 0.943, "shadow": 0.901, "valid/invalid": 0.824},
}


@pytest.mark.slow
def test_ukis_is_as_good_as_its_own_code(
    shared: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shared("real")
    pytest.importorskip("ukis_csmask")
    pytest.importorskip("onnxruntime")
    spec = importlib.util.spec_from_file_location("real_scenes", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    arguments = ["real_scenes.py", str(folder), "--stride", "512", "--quicklooks", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    script.main()
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    for scene, published in PUBLISHED.items():
        words = lines[scene]
        found = dict(zip(words[::2], map(float, words[1::2]), strict=True))
        assert found == pytest.approx(published, abs=0.01)
        assert (tmp_path / f"{scene}.png").stat().st_size > 10_000
