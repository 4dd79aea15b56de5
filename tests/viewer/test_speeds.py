"""Speeds of models are those measured here, by this version."""

import json

import pytest

from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.viewer import speeds
from openeo_cloudmask.viewer.local import start_mask
from openeo_cloudmask.viewer.names import DATA_VARIABLE
from openeo_cloudmask.viewer.speeds import measure_speed, note_speed, read_speeds


def test_the_last_speed_of_each_model_is_kept(tmp_path):
    folder = tmp_path / "data"
    assert read_speeds(folder) == {}
    note_speed(folder, "mini", pixels=2_000_000, seconds=4.0)
    note_speed(folder, "hollstein", pixels=2_000_000, seconds=0.5)
    note_speed(folder, "mini", pixels=2_000_000, seconds=2.0)
    note_speed(folder, "mini", pixels=100, seconds=2.0)
    assert read_speeds(folder) == {"mini": 1.0, "hollstein": 4.0}


@pytest.mark.parametrize("text", ["", "[]", '{"0": {"mini": 1}}', '{"%s": {"mini": "fast"}}', "{"])
def test_what_is_no_speed_of_this_version_is_not_shown(tmp_path, text):
    (tmp_path / speeds.FILE).write_text(text.replace("%s", speeds.__version__))
    assert read_speeds(tmp_path) == {}


def test_a_mask_made_here_and_a_measurement_are_written_down(demo_session, tmp_path, monkeypatch):
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    monkeypatch.setattr(speeds, "LEAST_PIXELS", 1000)
    monkeypatch.setattr(speeds, "TRIAL_PX", 128)
    scene = next(iter(demo_session.scenes.values()))
    options = MaskOptions(model="hollstein", sensor="sentinel-2-l1c")
    start_mask(scene.path, tmp_path / "mask.tif", options, pixels=256 * 256).wait(120)
    made = read_speeds(tmp_path)["hollstein"]
    assert made > 0
    assert read_speeds(tmp_path) == {"hollstein": pytest.approx(made)}
    measured = measure_speed(tmp_path, "hollstein")
    assert json.loads((tmp_path / speeds.FILE).read_text()) == {
        speeds.__version__: {"hollstein": measured}
    }
