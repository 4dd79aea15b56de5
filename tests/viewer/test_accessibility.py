"""What can be read by everybody, and named by a screen reader."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from openeo_cloudmask.viewer.charts import DARK_INK, LIGHT_INK, LIGHT_INK_FROM, shade
from openeo_cloudmask.viewer.names import FAINT_TEXT, PRIMARY_COLOR

ROOT = Path(__file__).resolve().parents[2]
AA = 4.5
PAGE, FIELD = "#FFFFFF", "#F0F2F6"


def luminance(color: str) -> float:
    stored = np.array([int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    ("text", "ground"), [(FAINT_TEXT, PAGE), (FAINT_TEXT, FIELD), (PAGE, PRIMARY_COLOR)]
)
def test_text_has_the_contrast_of_aa(text, ground):
    assert contrast(text, ground) >= AA


def test_numbers_of_the_confusion_matrix_can_be_read_on_all_shades():
    for share in np.linspace(0, 1, 101):
        ink = LIGHT_INK if share > LIGHT_INK_FROM else DARK_INK
        assert contrast(shade(float(share)), ink) >= AA, share


def test_captions_have_that_colour(app):
    app.run()
    style = "".join(item.proto.body for item in app.get("html"))
    rule = re.search(r"stCaptionContainer[^{]*[{]([^}]*)[}]", style)
    assert rule is not None
    assert FAINT_TEXT in rule[1]


def test_the_colour_of_buttons_is_the_same_however_the_viewer_is_started():
    config = tomllib.loads((ROOT / "viewer/.streamlit/config.toml").read_text(encoding="utf-8"))
    assert config["theme"]["primaryColor"] == PRIMARY_COLOR


def test_downloads_are_told_apart(write_classes, app, tmp_path):
    from openeo_cloudmask.viewer.local import start_task
    from openeo_cloudmask.viewer.session import begin_session

    session = begin_session(tmp_path)
    for name in ("one", "two"):
        task = start_task(name, lambda _: write_classes(np.zeros((8, 8)), CLASS_SCHEME="4-class"))
        task.wait(30)
        session.tasks.append(task)
    app.run()
    app.session_state.session = session
    app.switch_page("screens/jobs.py").run()
    labels = [item.proto.label for item in app.get("download_button")]
    assert sorted(labels) == ["Download one (GeoTIFF)", "Download two (GeoTIFF)"]
