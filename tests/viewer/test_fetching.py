"""The viewer fetches images of references from an archive on this machine."""

from __future__ import annotations

import pytest

from openeo_cloudmask.alcd.scenes import ALCD_SCENES
from openeo_cloudmask.fetch.archives import ARCHIVES
from openeo_cloudmask.fetch.biome import BIOMES
from openeo_cloudmask.fetch.google import GoogleArchive
from openeo_cloudmask.simulator.products import write_product
from openeo_cloudmask.simulator.scene import simulate_scene
from openeo_cloudmask.viewer import names
from openeo_cloudmask.viewer.atlas import wrs_centre
from openeo_cloudmask.viewer.fetching import models_for, start_fetch
from openeo_cloudmask.viewer.local import State
from openeo_cloudmask.viewer.session import begin_session
from tests.fetch.archives import PublicArchive, serve

NAME = ALCD_SCENES[0].product_name


@pytest.fixture
def archive(tmp_path, monkeypatch):
    made = write_product(simulate_scene(2, size=240), tmp_path / "made")
    files = {
        item.relative_to(made).as_posix(): item.read_bytes()
        for item in made.rglob("*")
        if item.is_file()
    }
    state = PublicArchive()
    state.put("gcp-public-data-sentinel-2", f"tiles/32/T/MR/{NAME}.SAFE/", files)
    with serve(state):
        monkeypatch.setitem(ARCHIVES, "google", lambda: GoogleArchive(url=state.url))
        yield state


@pytest.mark.slow
def test_a_product_is_fetched_and_opened(app, archive, tmp_path, monkeypatch):
    monkeypatch.setenv(names.ALLOW_PATHS_VARIABLE, "1")
    session = begin_session(tmp_path / "viewer")
    app.session_state["session"] = session
    page = app.run().switch_page("screens/references.py").run()
    assert not page.exception
    page.text_input[-1].set_value(str(tmp_path / "products"))
    page.run()
    next(box for box in page.selectbox if box.label == "Bands to fetch").set_value("mini")
    next(item for item in page.button if item.label == "Fetch the product").click()
    page.run()
    (task,) = session.tasks
    task.wait(60)
    assert task.state is State.FINISHED, task.message
    page.run()
    next(item for item in page.button if item.label == "Open it").click()
    page.run()
    assert not page.exception
    assert NAME in session.scenes
    assert any("reflectance = (count -1000) / 10000" in item.value for item in page.markdown)


def test_what_cannot_be_fetched_is_told(archive, tmp_path):
    archive.spoiled = {"_B02.jp2"}
    task = start_fetch(NAME, tmp_path / "products", archive="google")
    task.wait(60)
    assert task.state is State.ERROR
    assert "It was removed" in task.message
    assert "mini" in models_for(NAME)
    assert "scl" not in models_for(NAME)


def test_landsat_scenes_lie_where_their_path_and_row_say():
    # San Francisco Bay is on path 44, row 34; row 60 lies on the equator.
    latitude, longitude = wrs_centre(44, 34)
    assert abs(latitude - 37.5) < 0.7
    assert abs(longitude + 122.3) < 0.7
    assert wrs_centre(1, 60) == pytest.approx((0, -64.6))
    assert all(-180 <= wrs_centre(int(n[3:6]), int(n[6:9]))[1] < 180 for n in BIOMES)


def test_the_page_names_the_command_where_paths_are_off(app, no_backend):
    page = app.run().switch_page("screens/references.py").run()
    assert any("cloudmask references fetch SCENE" in item.value for item in page.caption)
    assert any("data set" in table.value.columns for table in page.dataframe)
    assert not [item for item in page.button if item.label == "Fetch the product"]
