"""Where masks are judged: a job over several dates, areas, live thresholds."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote_plus

import pytest
import rasterio

from openeo_cloudmask.backend.cubes.collections import CollectionStore
from openeo_cloudmask.backend.cubes.ingest import ingest_product
from openeo_cloudmask.backend.settings import Settings
from openeo_cloudmask.simulator.products import write_geotiff
from openeo_cloudmask.simulator.scene import simulate_scene
from tests.browser import steps

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DAYS = {"2024-05-01": 2, "2024-05-11": 5, "2024-05-21": 9}
"""Day -> seed of its scene."""


@pytest.fixture(scope="module")
def collection(viewer, tmp_path_factory):
    """A collection of one place on three days, on the back end beside the viewer."""
    folder = tmp_path_factory.mktemp("dates")
    store = CollectionStore(Settings(data_dir=viewer.data / "backend").prepare().collections_dir)
    place = simulate_scene(1, size=64)
    for day, seed in DAYS.items():
        scene = simulate_scene(seed, size=256)
        here = replace(scene, transform=place.transform, crs=place.crs)
        path = write_geotiff(here, folder / f"{day}.tif")
        when = datetime.fromisoformat(day).replace(tzinfo=UTC)
        ingest_product(
            path, store, collection_id="z-dates", sensor="sentinel-2-l1c", acquired=when
        )  # fmt: skip


def open_series(page, viewer) -> None:
    """Submit a job over all dates and open it in Compare."""
    page.goto(viewer.url)
    steps.choose_model(page, "hollstein")
    page.get_by_role("combobox", name="Collection").wait_for()  # the only one there is
    page.get_by_text("Scenes there and then: 3").wait_for()
    steps.submit_job(page)
    page.get_by_role("button", name="Open in Compare").click(timeout=steps.WAIT_MS)
    page.get_by_role("heading", name="Compare", exact=True).wait_for()
    page.locator(".stSlider").get_by_role("slider", name="Date").wait_for()
    steps.wait_for_map(page)


@pytest.mark.usefixtures("collection")
def test_a_job_over_several_dates_is_a_series_with_its_images(new_page, viewer, keep):
    page, watch = new_page()
    open_series(page, viewer)
    entry = page.locator(f'{steps.MAP} .entry[data-layer="image"]')
    entry.get_by_role("combobox", name="Bands of Image").wait_for()
    bands = entry.get_by_label("Band shown red").locator("option").all_inner_texts()
    assert bands == ["B04 red", "B03 green", "B02 blue", "B08 nir", "B11 swir16", "B10 cirrus"]
    keep(page, "series-first")
    # Opacity stays from date to date.
    steps.set_layers(page, {"image": 100, "mask ": 35})
    slider = page.locator(".stSlider").get_by_role("slider", name="Date")
    slider.focus()
    slider.press("ArrowRight")
    page.wait_for_function("() => location.search.includes('date=2024-05-11')")
    steps.wait_for_map(page)
    opacity = {e["id"]: e["opacity"] for e in steps.read_map(page)["state"]["panels"][0]}
    assert [value for name, value in opacity.items() if name.startswith("mask ")] == [0.35]
    # A click is read from what the job kept: nothing is computed.
    box = page.locator(steps.PANEL).first.bounding_box()
    page.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    page.get_by_text("Kept when the mask was made").wait_for()
    # An area is typed, and the curve has a second line.
    page.get_by_role("radio", name="Cloud over time").click()
    page.get_by_text("Draw an area on the map").wait_for()
    with rasterio.open(next(viewer.data.glob("sessions/*/job-*/*2024-05-01.tif"))) as source:
        west, south, east, north = rasterio.warp.transform_bounds(
            source.crs, "EPSG:4326", *source.bounds
        )
    page.get_by_text("Type an area").click()
    middle = (west + east) / 2
    for name, value in (("west", west), ("south", south), ("east", middle), ("north", north)):
        field = page.locator(f".st-key-area_{name} input")
        field.fill(f"{value:.5f}")
        field.press("Tab")
    page.get_by_role("button", name="Use this area").click()
    page.get_by_text("Draw an area on the map").wait_for(state="detached")
    page.wait_for_timeout(1500)  # the curve of before goes
    page.get_by_text("Table of the curve").click()
    page.wait_for_timeout(1000)
    page.get_by_role("radio", name="Cloud over time").scroll_into_view_if_needed()
    keep(page, "series-curve")
    steps.check_access(page, "Compare with a series")
    for width in (900, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 1000})
        page.locator("h1").scroll_into_view_if_needed()
        steps.wait_for_map(page)
        keep(page, f"series-{width}")
    # A reload finds date, tab and masks again.
    page.reload()
    steps.wait_for_map(page)
    slider = page.locator(".stSlider").get_by_role("slider", name="Date")
    assert slider.get_attribute("aria-valuetext").startswith("2024-05-11")
    assert page.get_by_role("radio", name="Cloud over time").is_checked()
    assert watch.foreign == []
    assert watch.errors == []


def test_by_keyboard_alone_to_a_scored_mask_and_what_is_told_of_it(new_page, viewer, keep):
    page, watch = new_page()
    page.goto(viewer.url)
    page.get_by_role("button", name="Make a demo scene").wait_for()
    steps.tab_to(page, "Make a demo scene")
    page.keyboard.press("Enter")
    page.get_by_text("Opened so far").wait_for()
    steps.tab_to(page, "New job", "a", back=True)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="New job", exact=True).wait_for()
    page.get_by_role("combobox", name="Model").wait_for()  # its program is fetched after the page
    steps.tab_to(page, "Model", "combobox", back=True)
    page.keyboard.type("hollstein")
    page.keyboard.press("Enter")
    page.get_by_role("textbox", name="Title").wait_for()
    page.wait_for_timeout(1000)
    steps.tab_to(page, "Submit", "button")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Open in Compare").wait_for()
    steps.tab_to(page, "Open in Compare", "button", back=True)
    page.keyboard.press("Enter")
    page.get_by_role("radio", name="Confusion matrix").wait_for()
    steps.wait_for_map(page)
    move_map_by_keyboard(page)
    change_layers_by_keyboard(page)
    light_up_by_keyboard(page)
    jump_by_keyboard(page, keep)
    check_trial(page, keep)
    save_report_by_keyboard(page)
    # The map's state is in the address whatever else was chosen last.
    page.wait_for_function("() => location.search.includes('tab=Report')")
    page.wait_for_function("() => location.hash.startsWith('#map=')")
    assert watch.foreign == []
    assert watch.errors == []


def open_part(page, name: str) -> None:
    """Go to the row of parts by Tab, there to the one called so by arrow keys, and open it.

    No key is lost, and the focus stays, whatever is being drawn meanwhile.
    """
    row = page.get_by_role("radiogroup", name="Told of the masks")
    if "radio" not in page.evaluate(steps.FOCUSED)[0]:
        steps.tab_to(page, "", "radio", back=page.evaluate(INSIDE_PART))
    steps.check_focus_is_seen(page)
    names = row.get_by_role("radio").all_inner_texts()
    at, wanted = names.index(page.evaluate(steps.FOCUSED)[1].strip()), names.index(name)
    step = 1 if wanted > at else -1
    for place in range(at, wanted, step):
        page.keyboard.press("ArrowRight" if step > 0 else "ArrowLeft")
        assert page.evaluate(steps.FOCUSED)[1].strip() == names[place + step]
    page.keyboard.press("Enter")
    row.get_by_role("radio", name=name, exact=True, checked=True).wait_for()
    page.wait_for_function("name => location.search.includes(`tab=${name}`)", arg=quote_plus(name))
    assert page.evaluate(steps.FOCUSED)[1].strip() == name


INSIDE_PART = "() => document.activeElement.closest('.st-key-told') !== null"


def place_of(page) -> tuple[float, float, float]:
    """Return longitude, latitude and zoom of the map."""
    longitude, latitude, zoom = steps.read_map(page)["place"]
    return longitude, latitude, zoom


def move_map_by_keyboard(page) -> None:
    """Arrows move the map, + zooms, Enter looks at its middle, and the map keeps the focus."""
    steps.tab_to(page, "Map 1;", "application")
    steps.check_focus_is_seen(page)
    longitude, latitude, zoom = place_of(page)
    page.keyboard.press("ArrowRight")
    steps.wait_until(page, lambda: place_of(page)[0] > longitude)
    page.keyboard.press("ArrowUp")
    steps.wait_until(page, lambda: place_of(page)[1] > latitude)
    page.keyboard.press("+")
    steps.wait_until(page, lambda: place_of(page)[2] > zoom)
    page.keyboard.press("Enter")
    page.get_by_text("(latitude, longitude)").wait_for()
    page.get_by_text("Kept when the mask was made").wait_for()
    assert "Map 1;" in page.evaluate(steps.FOCUSED)[1]
    page.keyboard.press("f")


def change_layers_by_keyboard(page) -> None:
    """The list of layers switches, moves and fades the mask; the divider of the swipe moves."""

    def top() -> dict:
        return steps.read_map(page)["state"]["panels"][0][-1]

    before = top()
    assert before["id"].startswith("mask ")
    steps.tab_to(page, "hollstein on", "input")
    steps.check_focus_is_seen(page)
    page.keyboard.press("Space")
    steps.wait_until(page, lambda: top()["on"] is False)
    page.keyboard.press("Space")
    steps.wait_until(page, lambda: top()["on"] is True)
    steps.tab_to(page, "Opacity, % of hollstein", "input")
    steps.check_focus_is_seen(page)
    steps.wait_for_rest(page)
    place = place_of(page)
    page.keyboard.press("ArrowRight")
    steps.wait_until(page, lambda: top()["opacity"] > before["opacity"])
    assert place_of(page) == place  # what has the focus is the slider, not the map
    steps.tab_to(page, "Move hollstein", "button", back=True)
    steps.check_focus_is_seen(page)
    page.keyboard.press("Enter")
    steps.wait_until(page, lambda: top()["id"] != before["id"])
    steps.tab_to(page, "Move hollstein", "button", back=True)
    page.keyboard.press("Enter")
    steps.wait_until(page, lambda: top()["id"] == before["id"])
    page.keyboard.press("s")
    steps.tab_to(page, "Divider", "slider", back=True)
    steps.check_focus_is_seen(page)
    page.keyboard.press("ArrowLeft")
    steps.wait_until(page, lambda: steps.read_map(page)["state"]["divider"] < 0.5)
    page.keyboard.press("s")


def light_up_by_keyboard(page) -> None:
    """A cell of the confusion matrix is chosen in the list below the chart."""
    open_part(page, "Confusion matrix")
    page.get_by_text("pixels compared").wait_for()
    steps.tab_to(page, "Light up on the map", "combobox")
    steps.check_focus_is_seen(page)
    page.keyboard.press("ArrowDown")
    page.get_by_role("option").first.wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator(f'{steps.MAP} .entry[data-layer="cells"]').wait_for()


def jump_by_keyboard(page, keep) -> None:
    """The map goes from error to error."""
    before = place_of(page)
    open_part(page, "Largest errors")
    page.get_by_role("button", name="Next error").wait_for()
    steps.tab_to(page, "Next error", "button")
    steps.check_focus_is_seen(page)
    page.keyboard.press("Enter")
    page.get_by_text(re.compile("^1 of [0-9]+: (omission|commission)")).wait_for()
    steps.wait_until(page, lambda: place_of(page) != before)
    keep(page, "judge-keyboard")


def check_trial(page, keep) -> None:
    """The mask on the map and the scores follow the sliders."""
    open_part(page, "Threshold and buffer")
    page.get_by_role("slider", name="Buffer around cloud").wait_for()
    steps.tab_to(page, "Buffer around cloud", "input")
    page.keyboard.press("ArrowRight")
    entry = page.locator(f'{steps.MAP} .entry[data-layer="mask trial"]')
    entry.get_by_text("--buffer 20m").wait_for()
    # The table's cells are for screen readers: a canvas shows them.
    cells = page.locator('[role="gridcell"]', has_text="with --buffer 20m")
    cells.first.wait_for(state="attached")
    steps.wait_for_map(page)
    keep(page, "judge-trial")
    page.keyboard.press("ArrowLeft")  # the focus is where it was
    entry.wait_for(state="detached")


def save_report_by_keyboard(page) -> None:
    """The report is saved as a page."""
    open_part(page, "Report")
    page.get_by_role("button", name="Page (HTML)").wait_for()
    steps.tab_to(page, "Page (HTML)", "button")
    steps.check_focus_is_seen(page)
    path = steps.download(page, lambda: page.keyboard.press("Enter"))
    text = path.read_text(encoding="utf-8")
    assert "hollstein on" in text
    assert "Balanced accuracy" in text


def test_axe_core_is_there():
    if not steps.AXE.is_file():
        pytest.skip("pages are not checked for WCAG: run npm ci in webmap/, which brings axe-core")
