"""The command that makes a scene: the first thing a newcomer sees."""

from __future__ import annotations

import numpy as np
import rasterio
from typer.testing import CliRunner

from openeo_cloudmask.cli import build_app


def simulate(*words: str) -> str:
    done = CliRunner().invoke(build_app(), ["simulate", *words])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_default_scene_has_cloud_of_several_kinds(tmp_path):
    said = simulate(str(tmp_path))
    [path] = tmp_path.glob("truth_*.tif")
    with rasterio.open(path) as source:
        shares = np.bincount(source.read(1).ravel(), minlength=4) / source.width / source.height
    clear, thick, thin, shadow = shares[:4]
    assert 0.3 <= thick + thin <= 0.4
    assert min(thick, thin, shadow) > 0.1
    assert clear > 0.3
    assert "mist, stratocumulus, cirrus" in said
    assert "has no cloud" not in said


def test_a_scene_without_cloud_says_so(tmp_path):
    said = simulate(str(tmp_path), "--size", "48", "--decks", "")
    assert "no cloud: clear 100.0 %" in said
    assert "another --seed, or --decks cumulus,cirrus --cloud-fraction 0.4" in said
