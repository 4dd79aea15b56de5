"""The page New job on a back end: every archive's dates, areas as typed, models for bands."""

import datetime as dt
import gzip
import http.server
import io
import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
import urllib3

from openeo_cloudmask.errors import BackendError, OptionError
from openeo_cloudmask.viewer import backends, public_web
from openeo_cloudmask.viewer.areas import check_area
from openeo_cloudmask.viewer.cards import read_cards
from openeo_cloudmask.viewer.public_web import public_session
from openeo_cloudmask.viewer.session import begin_session

ROOT = Path(__file__).resolve().parents[2]
BOX = [5.0, 45.0, 6.0, 46.0]


class Archive:
    """A back end with two collections of one title, since 2015 and without an end."""

    def __init__(self, scenes=({"id": "one", "properties": {"datetime": "2015-07-06T10:00:00Z"}},)):
        self.scenes = scenes
        self.asked = []
        self.offered = ()

    def list_collections(self):
        return [{"id": "A", "title": "Sentinel-2"}, {"id": "B", "title": "Sentinel-2"}]

    def describe_collection(self, name):
        self.asked.append(name)
        return {
            "extent": {
                "spatial": {"bbox": [BOX]},
                "temporal": {"interval": [["2015-07-04T00:00:00Z", None]]},
            },
            "summaries": {
                "bands": [
                    {"name": "B01"},
                    {"name": "B04", "eo:common_name": "red"},
                    {"name": "B02", "eo:common_name": "blue"},
                ]
            },
        }

    def list_file_formats(self):
        return {"output": {"GTiff": {"parameters": {key: {} for key in self.offered}}}}

    def get(self, *_, **__):
        return SimpleNamespace(json=lambda: {"features": list(self.scenes)})


@pytest.fixture
def new_job(app, tmp_path, monkeypatch):
    """Return what opens the page with a back end; what the map tells can be set."""
    clicks = {}
    drawn = {}

    def fake(view, **options):
        drawn["group"] = options["feature_group_to_add"]
        return dict(clicks)

    monkeypatch.setattr("streamlit_folium.st_folium", fake)

    def open_page(connection):
        session = begin_session(tmp_path)
        session.connection, session.backend_url = connection, "http://backend.example"
        app.run()
        app.session_state.session = session
        app.session_state.job_where = "On an openEO back end"
        app.switch_page("screens/new_job.py").run()
        assert not app.exception
        return app

    return SimpleNamespace(open=open_page, clicks=clicks, drawn=drawn)


def field(elements, label):
    return next(item for item in elements if item.label == label)


def test_any_day_of_an_archive_can_be_asked_for(new_job):
    page = new_job.open(Archive())
    assert field(page.date_input, "From").value == dt.date(2015, 7, 4)
    today = dt.datetime.now(dt.UTC).date()
    for day in (dt.date(2015, 7, 4), today - dt.timedelta(days=1), dt.date(1984, 1, 1)):
        field(page.date_input, "From").set_value(day).run()
        assert not page.exception
        assert field(page.date_input, "From").value == day


def test_an_end_before_the_start_is_told(new_job):
    page = new_job.open(Archive())
    field(page.date_input, "To (not included)").set_value(dt.date(2014, 1, 1)).run()
    assert any("there is no day" in error.value for error in page.error)


def test_collections_of_one_title_are_told_apart(new_job):
    archive = Archive()
    page = new_job.open(archive)
    box = field(page.selectbox, "Collection")
    assert box.options == ["Sentinel-2 (A)", "Sentinel-2 (B)"]
    box.set_value("B").run()
    field(page.selectbox, "Model").set_value("hollstein").run()
    assert field(page.selectbox, "Collection").value == "B"
    assert archive.asked[-1] == "B"


def test_what_lies_beside_a_mask_is_asked_for_where_the_back_end_offers_it(new_job):
    archive = Archive()
    page = new_job.open(archive)
    assert not [box for box in page.multiselect if "image" in box.label]
    assert '"percentages"' not in page.code[0].value
    archive.offered = ("percentages", "image")
    page.run()
    bands = next(box for box in page.multiselect if "image" in box.label)
    assert bands.value == ["B04", "B02"]
    bands.set_value(["B04", "B01"]).run()
    assert not page.exception
    saved = json.loads(page.code[0].value)["saveresult1"]["arguments"]
    assert saved["options"] == {"image": ["B04", "B01"], "percentages": True}
    assert "options={'image': ['B04', 'B01'], 'percentages': True}" in page.code[1].value
    field(page.toggle, "categorise").set_value(False).run()
    assert '"percentages"' not in page.code[0].value


def test_a_typed_area_is_drawn_and_checked(new_job):
    page = new_job.open(Archive())
    field(page.number_input, "west").set_value(5.25).run()
    assert field(page.number_input, "west").value == 5.25
    page.run()
    assert "5.25" in repr([child.locations for child in new_job.drawn["group"]._children.values()])
    field(page.number_input, "west").set_value(7.0).run()
    assert any("expected west below east" in error.value for error in page.error)
    assert not [button for button in page.button if button.label == "Submit"]


def test_two_clicks_are_the_area(new_job):
    page = new_job.open(Archive())
    for latitude, longitude in ((45.2, 5.3), (45.8, 5.1)):
        new_job.clicks["last_clicked"] = {"lat": latitude, "lng": longitude}
        page.run()
    sides = {name: field(page.number_input, name).value for name in ("west", "south", "east")}
    assert sides == {"west": 5.1, "south": 45.2, "east": 5.3}
    field(page.number_input, "west").set_value(5.2).run()
    assert field(page.number_input, "west").value == 5.2, "a typed number outlives an old click"


@pytest.mark.parametrize(("scenes", "active"), [((), False), (None, True)])
def test_submit_needs_a_scene(new_job, scenes, active):
    archive = Archive(scenes) if scenes is not None else Archive()
    page = new_job.open(archive)
    assert field(page.button, "Submit").disabled is not active


def test_a_buffer_goes_into_the_graph(new_job):
    page = new_job.open(Archive())
    field(page.text_input, "buffer").set_value("cloud=120m,shadow=60m").run()
    assert not page.exception
    assert any('"buffer": "cloud=120m,shadow=60m"' in item.value for item in page.code)
    field(page.text_input, "buffer").set_value("wide").run()
    assert any("expected an amount in m, km, px" in error.value for error in page.error)
    assert not [button for button in page.button if button.label == "Submit"]


def test_the_chosen_model_outlives_the_page(new_job):
    page = new_job.open(Archive())
    field(page.selectbox, "Model").set_value("hollstein").run()
    page.switch_page("screens/start.py").run()
    page.switch_page("screens/new_job.py").run()
    assert field(page.selectbox, "Model").value == "hollstein"


@pytest.mark.parametrize(
    "area",
    [(6, 45, 5, 46), (5, 46, 6, 45), (5, 45, 5, 46), (-900, 45, 6, 46), (5, 45, 6, 91)],
)
def test_areas_that_are_none_are_refused(area):
    with pytest.raises(OptionError, match=r"expected (longitudes|west below east)"):
        check_area(area)
    assert check_area((5, 45, 6, 46)) == (5, 45, 6, 46)


def test_pages_are_in_no_folder_that_streamlit_lists():
    assert not (ROOT / "viewer" / "pages").exists()


@pytest.mark.parametrize("near_infrared", ["nir", "nir08"])
def test_models_that_four_bands_are_enough_for(near_infrared):
    found = {
        card.id for card in read_cards() if card.takes(["blue", "green", "red", near_infrared])
    }
    assert {"mini", "dtacs4bands", "ukis-csmask"} <= found
    assert "SEnSeIv2-SegFormerB2-alldata-ambiguous" in found
    assert not found & {"cloudsen12", "hollstein", "s2cloudless", "SegFormerB2-S2-unambiguous"}


def test_too_few_bands_are_too_few():
    found = {card.id for card in read_cards() if card.takes(["red", "green"])}
    assert not found & {"mini", "SEnSeIv2-SegFormerB2-alldata-ambiguous"}


def test_log_lines_come_in_the_order_of_their_times():
    lines = [
        {"level": "info", "message": "second", "time": "2025-01-01T00:00:02Z"},
        {"level": "info", "message": "first", "time": "2025-01-01T00:00:01Z"},
        {"level": "info", "message": "third", "time": "2025-01-01T00:00:02Z"},
    ]
    connection = SimpleNamespace(job=lambda _: SimpleNamespace(logs=lambda: lines))
    assert [message for _, message in backends.read_logs(connection, "j")] == [
        "first", "second", "third",
    ]  # fmt: skip


def test_a_refused_connection_is_told_at_once():
    start = time.monotonic()
    with pytest.raises(BackendError, match=r"does not answer.*cloudmask serve"):
        backends.connect("http://127.0.0.1:9/")
    assert time.monotonic() - start < 2 * backends.CONNECT_S


@pytest.mark.parametrize("url", ["", "http://", "http://x:99999999/"])
def test_an_address_that_is_none_is_told(url):
    with pytest.raises(BackendError, match="is not an address; expected"):
        backends.connect(url)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8080", "http://example.org", "https://10.0.0.1", "https://a@127.0.0.1/"]
)
def test_visitors_reach_public_back_ends_alone(url):
    pytest.importorskip("fastapi", reason="needs the extra 'server'")
    with pytest.raises(BackendError, match="Visitors of this viewer reach public https addresses"):
        backends.connect(url, public=True)


def test_a_public_back_end_leads_to_public_addresses_alone(monkeypatch):
    """A redirect, and what answers under the name, are checked like the address itself."""
    outside = pytest.importorskip(
        "openeo_cloudmask.backend.cubes.outside", reason="needs the extra 'server'"
    )
    asked = []

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.headers["Host"], self.path))
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/secret")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            return

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        find, here = outside.find_place, ("example.org", server.server_port, "127.0.0.1", "/")
        place = outside.Place(**dict(zip(("host", "port", "address", "target"), here, strict=True)),
                              scheme="http")  # fmt: skip
        monkeypatch.setattr(
            outside, "find_place",
            lambda url, *more: place if "example.org" in url else find(url, *more),
        )  # fmt: skip
        with pytest.raises(requests.ConnectionError, match="expected a URL of https"):
            public_session().get("https://example.org/openeo", timeout=10)
        server.shutdown()
        thread.join()
    assert asked == [(f"example.org:{here[1]}", "/openeo")]


@pytest.mark.parametrize("stream", [False, True])
def test_answers_of_public_back_ends_are_limited(monkeypatch, stream):
    """One of a visitor's own could fill memory, or the disk, with a few packed kB."""
    pytest.importorskip("fastapi", reason="needs the extra 'server'")
    monkeypatch.setattr(public_web, "MAX_DOCUMENT_BYTES", 2 << 20)
    monkeypatch.setattr(public_web, "MAX_FILE_BYTES", 4 << 20)

    def send(adapter, request, *_, **__):
        packed = io.BytesIO(gzip.compress(bytes(5 << 20)))
        raw = urllib3.HTTPResponse(
            packed, {"content-encoding": "gzip"}, 200, preload_content=False
        )  # fmt: skip
        return adapter.build_response(request, raw)

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    answer = public_web.public_session()
    with pytest.raises(requests.ConnectionError, match=f"more than {4 if stream else 2} MB"):
        len(answer.get("https://example.org/", stream=stream).content)


def test_what_speaks_no_openeo_is_told_without_jargon():
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_):
            return

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with pytest.raises(BackendError, match="no openEO back end answers") as caught:
            backends.connect(f"http://127.0.0.1:{server.server_address[1]}/")
        server.shutdown()
        thread.join()
    assert "JSONDecodeError" not in str(caught.value)


def test_a_lost_back_end_is_told_at_once(monkeypatch):
    """No page waits for it; one that answers but is busy is asked again."""
    slept = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", slept.append)

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(503 if len(asked) == 1 else 200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            return

    asked: list[str] = []
    session = backends.own_session()
    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        assert session.get(address, timeout=30).json() == {}
        server.shutdown()
        thread.join()
    assert len(asked) == 2
    with pytest.raises(BackendError, match="does not answer"), backends.as_backend_error("asking"):
        session.get(address, timeout=30)
    assert slept == []
