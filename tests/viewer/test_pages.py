"""Each page by itself: what it says when nothing is there, and what its controls do."""

import ast
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from openeo_cloudmask import assets
from openeo_cloudmask.errors import CatalogError
from openeo_cloudmask.models.registry import MODELS
from openeo_cloudmask.viewer import backends, catalogs, names
from openeo_cloudmask.viewer.backends import JobRow
from openeo_cloudmask.viewer.session import begin_session
from tests.viewer.conftest import ROOT

outside = pytest.importorskip(
    "openeo_cloudmask.backend.cubes.outside", reason="needs the extra 'server'"
)


@pytest.fixture
def go(app):
    """Return what opens a page of the app."""

    def open_page(name: str, **state):
        app.run()
        for key, value in state.items():
            app.session_state[key] = value
        app.switch_page(f"screens/{name}.py").run()
        assert not app.exception
        return app

    return open_page


def texts(elements) -> str:
    return "\n".join(str(element.value) for element in elements)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "viewer" / "screens").glob("*.py")), ids=lambda path: path.stem
)
def test_no_page_shows_what_is_a_comment(path):
    """A string that stands alone in a page is text of that page to Streamlit."""
    body = ast.parse(path.read_text(encoding="utf-8")).body[1:]
    alone = [node.lineno for node in body if isinstance(node, ast.Expr) and is_text(node.value)]
    assert alone == []


def is_text(node) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_start_says_how_to_begin(app):
    app.run()
    assert not app.exception
    assert app.title[0].value == "Cloud masks"
    assert any(button.label == "Make a demo scene" for button in app.button)


def test_models_are_filtered(go):
    page = go("models")
    every = len(page.dataframe[0].value)
    assert every >= 15
    page.toggle[0].set_value(True).run()
    assert 0 < len(page.dataframe[0].value) < every
    page.selectbox[0].set_value("landsat-8-9-l1").run()
    assert not page.exception


def test_one_model_is_drawn_at_a_time_and_the_table_says_what_runs_here(go):
    page = go("models", chosen_model="hollstein")
    table = page.dataframe[0].value.set_index("model")
    assert table.loc["hollstein", "runs here"] == "yes"
    assert table.loc["mini", "runs here"] == "yes"
    assert table.loc["kristollari-cnn", "runs here"] == "needs weights that you train"
    assert table.loc["s2cloudless", "tells"] == "clear, thick cloud"
    assert len(page.subheader) == 1
    next(box for box in page.selectbox if box.key == "card").set_value("mini").run()
    assert [head.value for head in page.subheader] == [MODELS["mini"].title]


def test_a_catalog_that_is_none_is_told(go, tmp_path, monkeypatch):
    monkeypatch.setenv(names.ALLOW_PATHS_VARIABLE, "1")
    page = go("models")
    page.text_input[0].set_value(str(tmp_path / "nothing.json")).run()
    assert "cannot read the catalog" in texts(page.error)


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("{folder}/catalog.json", "expected an http or https URL"),
        ("file://{folder}/catalog.json", "expected an http or https URL"),
        ("http://example.org/catalog.json", "expected a URL of https"),
        ("https://127.0.0.1:1/catalog.json", "inside the server's network"),
        ("https://169.254.169.254/latest", "inside the server's network"),
    ],
)
def test_visitors_choose_catalogs_of_public_https(go, tmp_path, place, why):
    shutil.copytree(assets.path("catalog"), tmp_path / "copy")
    page = go("models", catalog_href=place.format(folder=tmp_path / "copy"))
    assert why in texts(page.error)
    assert not page.subheader


def test_where_a_public_catalog_leads_is_public_too(go, monkeypatch, tmp_path):
    """Its links may not name files of this machine either."""
    (tmp_path / "item.json").write_text("{}")
    catalog = {
        "type": "Catalog", "id": "a", "stac_version": "1.1.0", "description": "a",
        "links": [{"rel": "item", "href": str(tmp_path / "item.json")}],
    }  # fmt: skip
    monkeypatch.setattr(outside, "find_place", find_some(outside.find_place))
    monkeypatch.setattr(outside, "_request", lambda *_: Answer(catalog))
    page = go("models", catalog_href="https://example.org/catalog.json")
    assert "cannot be read; expected an http or https URL without" in texts(page.error)


def test_catalogs_that_hold_each_other_end(monkeypatch):
    catalog = {
        "type": "Catalog", "id": "a", "stac_version": "1.1.0", "description": "a",
        "links": [{"rel": "child", "href": name} for name in ("./catalog.json", "./b.json")],
    }  # fmt: skip
    monkeypatch.setattr(outside, "find_place", find_some(outside.find_place))
    monkeypatch.setattr(outside, "_request", lambda *_: Answer(catalog))
    assert catalogs.read_items("https://example.org/catalog.json", public=True) == []
    endless = {**catalog, "links": [{"rel": "child", "href": "./a/c.json"}]}
    monkeypatch.setattr(outside, "_request", lambda *_: Answer(endless))
    monkeypatch.setattr(catalogs, "MAX_DOCUMENTS", 20)
    with pytest.raises(CatalogError, match="more than 20 documents"):
        catalogs.read_items("https://example.org/catalog.json", public=True)
    monkeypatch.setattr(catalogs, "MAX_BYTES", 1 << 20)
    monkeypatch.setattr(outside, "_request", lambda *_: Answer({**endless, "title": "x" * 10**5}))
    with pytest.raises(CatalogError, match="more than 1 MB"):
        catalogs.read_items("https://example.org/catalog.json", public=True)


def find_some(find):
    """Stand in for the name server: example.org is there and public, other URLs are as ever."""
    place = outside.Place(
        scheme="https", host="example.org", port=443, address="93.184.216.34", target="/"
    )
    return lambda url, *more: place if url.startswith("https://example.org/") else find(url, *more)


class Answer:
    """What an address answers."""

    status, headers = 200, {}

    def __init__(self, content):
        self._left = [json.dumps(content).encode(), b""]

    def read1(self, _size):
        return self._left.pop(0)

    def release_conn(self):
        pass


def test_a_model_chosen_is_the_one_of_the_next_job(go, demo_session):
    page = go("new_job", session=demo_session, chosen_model="hollstein")
    model = next(box for box in page.selectbox if box.label == "Model")
    assert model.value == "hollstein"


def test_new_job_without_a_scene_says_how_to_begin(go):
    assert "No scene is open yet" in texts(go("new_job").info)


def test_a_mask_is_made_here(go, demo_session):
    page = go("new_job", session=demo_session, chosen_model="hollstein")
    before = len(demo_session.tasks)
    next(button for button in page.button if button.label == "Make the mask").click().run()
    task = demo_session.tasks[before]
    task.wait(120)
    assert task.state.value == "finished", task.message
    page.run()
    assert not page.exception
    assert any(entry.path == task.output for entry in demo_session.masks.values())


def test_compare_without_anything_says_how_to_begin(go):
    assert "Nothing is open yet" in texts(go("compare").info)


@pytest.fixture
def map_answers(monkeypatch):
    """What the map tells the page, and what it was told."""
    answer = SimpleNamespace(clicked=None)
    told = {}

    def fake(*, data, **_):
        told.update(data)
        return answer

    monkeypatch.setattr("openeo_cloudmask.viewer.panels._component", lambda: fake)
    return answer, told


def test_compare_shows_scores_and_the_clicked_pixel(go, demo_session, map_answers, tmp_path):
    from openeo_cloudmask.options import MaskOptions
    from openeo_cloudmask.products import mask_product

    entry = next(iter(demo_session.scenes.values()))
    mask = tmp_path / "mask.tif"
    mask_product(entry.path, mask, MaskOptions(model="hollstein", sensor="sentinel-2-l1c"))
    name = demo_session.add_mask(mask, title="of the page", scene=entry.title).title
    answer, told = map_answers
    west, south, east, north = demo_session.masks[name].layer.bounds
    answer.clicked = {"latitude": (south + north) / 2, "longitude": (west + east) / 2}
    page = go("compare", session=demo_session, compare_part="Confusion matrix")
    assert page.session_state["point"] == ((south + north) / 2, (west + east) / 2)
    assert demo_session.masks[name].layer.tile_url in [layer["url"] for layer in told["layers"]]
    assert told["point"] == [(south + north) / 2, (west + east) / 2]
    tables = [table.value for table in page.table]
    assert any("verdict" in table.columns for table in tables)
    confusion = next(table for table in tables if table.index.name == "reference")
    reference = entry.title
    selected = next(box for box in page.selectbox if box.key == "confusion_mask").value
    counts = demo_session.findings.compare(selected, reference).case(
        next(box for box in page.selectbox if box.key == "confusion_view").value, dilated=False
    )
    assert np.array_equal(confusion.to_numpy(), counts.confusion.counts)


def test_references_without_anything_says_how_to_begin(go):
    page = go("references")
    assert "None is open" in texts(page.info)
    assert "Paths are turned off" in texts(page.caption)


def test_references_shows_classes_and_a_way_on(go, demo_session):
    page = go("references", session=demo_session)
    button = next(item for item in page.button if item.label == "Start from this scene")
    assert button is not None
    assert "mean confidence" in texts(page.caption)


class Connection:
    """A back end that is logged in."""


@pytest.fixture
def jobs(monkeypatch):
    rows = [
        JobRow(id="j-1", title="older", status="finished", created="2025-01-01", progress=100.0),
        JobRow(id="j-2", title="newer", status="running", created="2025-01-02", progress=40.0),
    ]
    called = []
    monkeypatch.setattr(backends, "list_jobs", lambda _: list(reversed(rows)))
    monkeypatch.setattr(backends, "read_logs", lambda *_: [("info", "half-way")])
    monkeypatch.setattr(backends, "cancel_job", lambda _, job: called.append(("cancel", job)))
    monkeypatch.setattr(backends, "delete_job", lambda _, job: called.append(("delete", job)))
    return called


@pytest.fixture
def connected(tmp_path):
    session = begin_session(tmp_path)
    session.connection, session.backend_url = Connection(), "http://backend.example"
    return session


def test_jobs_are_listed_followed_and_canceled(go, jobs, connected):
    page = go("jobs", session=connected)
    assert list(page.dataframe[0].value["job"]) == ["newer", "older"]
    assert "half-way" in texts(page.code)
    next(button for button in page.button if button.label == "Cancel").click().run()
    assert jobs == [("cancel", "j-2")]
    next(button for button in page.button if button.label == "Delete it").click().run()
    assert jobs[-1] == ("delete", "j-2")


def test_jobs_without_a_connection_asks_for_one(go):
    page = go("jobs")
    assert any(field.label == "Address of the back end" for field in page.text_input)


def test_visitors_reach_public_back_ends(go):
    page = go("jobs")
    page.text_input[0].set_value("http://127.0.0.1:9/")
    next(button for button in page.button if button.label == "Connect").click().run()
    assert "with --backend, or allow every address with --allow-paths" in texts(page.error)


def test_a_back_end_that_does_not_answer_is_told(go, monkeypatch):
    monkeypatch.setenv(names.ALLOW_PATHS_VARIABLE, "1")
    page = go("jobs")
    page.text_input[0].set_value("http://127.0.0.1:9/")
    next(button for button in page.button if button.label == "Connect").click().run()
    assert "does not answer" in texts(page.error)
    assert not page.exception


def test_percentages_are_offered_for_download_only(go, connected, write_classes):
    from openeo_cloudmask.viewer.local import start_task

    path = write_classes(np.full((8, 8), 50))
    task = start_task("percent", lambda _: path)
    task.wait(10)
    task.classes = False
    connected.tasks.append(task)
    connected.open_task(task)
    assert not connected.masks


def test_a_task_that_fails_says_why_and_one_that_is_canceled_stops():
    import threading

    from openeo_cloudmask.errors import InputError
    from openeo_cloudmask.viewer.local import start_task

    def fail(_):
        raise InputError("the scene lacks bands")

    task = start_task("fails", fail)
    task.wait(10)
    assert (task.state.value, task.message) == ("error", "the scene lacks bands")
    go_on = threading.Event()

    def work(task):
        go_on.wait(10)
        task.report(0.5)

    stopped = start_task("stops", work)
    stopped.cancel()
    go_on.set()
    stopped.wait(10)
    assert stopped.state.value == "canceled"


def test_tasks_of_the_viewer_are_listed(go, connected, write_classes, jobs):
    from openeo_cloudmask.viewer.local import start_task

    path = write_classes(np.zeros((8, 8)))
    task = start_task("made here", lambda _: path)
    task.wait(10)
    connected.tasks.append(task)
    page = go("jobs", session=connected)
    assert "made here, finished" in texts(page.markdown)
