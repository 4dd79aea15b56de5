"""The page Label by itself, with what the map would tell it."""

from types import SimpleNamespace

import pytest

from openeo_cloudmask.viewer.drawing import read_events
from openeo_cloudmask.viewer.session import begin_session

pytest.importorskip("sklearn", reason="scikit-learn is not installed")


@pytest.fixture
def tell(monkeypatch):
    """What the map tells the page next, and what it was told last."""
    answer = SimpleNamespace(clicked=None, drawn=None, told={})

    def fake(*, data, **_):
        answer.told = data
        return answer

    monkeypatch.setattr("openeo_cloudmask.viewer.panels._component", lambda: fake)
    return answer


def button(page, label):
    return next(item for item in page.button if item.label == label)


def texts(elements) -> str:
    return "\n".join(str(element.value) for element in elements)


def test_without_a_scene_the_page_says_how_to_begin(app):
    page = app.run().switch_page("screens/label.py").run()
    assert "No scene is open yet" in texts(page.info)


def test_marks_are_learned_and_errors_told(app, demo_session, tell):
    app.run()
    app.session_state.session = demo_session
    page = app.switch_page("screens/label.py").run()
    button(page, "Start").click().run()
    assert not page.exception
    work = demo_session.labellers["Demo scene 3"]
    assert tell.told["layers"][0]["id"] == "image"
    assert [item["key"] for item in tell.told["draw"]["classes"]] == list("123456")
    west, south, east, north = demo_session.scenes["Demo scene 3"].layers["True colour"].bounds
    middle = [[(west + east) / 2, (south + north) / 2]]
    shape = {"kind": "shape", "points": middle, "area": False, "radius_m": 60, "value": 2}
    tell.drawn = {"events": [{"number": 5, **shape}]}
    page.run()
    assert [mark.code for mark in work.marks] == [2]
    assert tell.told["draw"]["heard"] == 5, "and is told once"
    outside = {**shape, "points": [[west - 1, south]]}
    tell.drawn = {"events": [{"number": 6, **outside}]}
    page.run()
    assert "outside the scene" in texts(page.warning)
    tell.drawn = None
    page.run()
    next(item for item in page.button if item.label == "Save the reference").click().run()
    assert "nothing is learned yet" in texts(page.error)
    button(page, "Forget the marks").click().run()
    assert demo_session.labellers == {}


def test_masks_of_the_scene_contradict_the_forest(app, tell, demo_session, tmp_path):
    """A mask that is open for the scene is brought to the grid of the reference, once."""
    from openeo_cloudmask.options import MaskOptions
    from openeo_cloudmask.products import mask_product

    entry = next(iter(demo_session.scenes.values()))
    mask_product(entry.path, tmp_path / "m.tif",
                 MaskOptions(model="hollstein", sensor="sentinel-2-l1c"))  # fmt: skip
    session = begin_session(tmp_path)
    session.scenes[entry.title] = entry
    session.add_mask(tmp_path / "m.tif", title="mine", scene=entry.title)
    session.add_mask(tmp_path / "m.tif", title="elsewhere", scene="another")
    work = session.label(entry, pixel_m=20)
    session.doubt(work)
    assert list(work.models) == ["mine"]
    assert work.models["mine"].shape == work.features.grid.shape_yx
    app.run()
    app.session_state.session = session
    app.switch_page("screens/label.py").run()
    assert [layer["id"] for layer in tell.told["layers"]] == ["image"], "before the first marks"


def test_what_is_marked_while_the_forest_learns_is_saved(app, demo_session, tell, monkeypatch):
    """The mark and the press of Save come in one run; so do a mark and a run broken off."""
    monkeypatch.setattr("openeo_cloudmask.alcd.forest.TREES", 6)
    app.run()
    app.session_state.session = demo_session
    page = app.switch_page("screens/label.py").run()
    button(page, "Start").click().run()
    work = demo_session.labellers["Demo scene 3"]
    west, south, east, north = demo_session.scenes["Demo scene 3"].layers["True colour"].bounds

    def mark(number, across, value):
        place = [west + across * (east - west), (south + north) / 2]
        return {"number": number, "kind": "shape", "points": [place], "area": False,
                "radius_m": 60, "value": value}  # fmt: skip

    first = [mark(1, 0.2, 2), mark(2, 0.5, 5)]
    tell.drawn = {"events": first}
    page.run()
    tell.drawn = {"events": [*first, mark(3, 0.8, 6)]}
    button(page, "Save the reference").click().run()
    assert "is open as a reference" in texts(page.success)
    tell.drawn = None
    work.hear(read_events({"events": [mark(4, 0.6, 7)]}, 3))
    page.run()
    assert not work.is_behind
    button(page, "Forget the marks").click().run()
