"""Where masks are judged: a job over several dates, areas, live thresholds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

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
    page.get_by_role("tab", name="Cloud over time").click()
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
    page.get_by_role("tab", name="Cloud over time").scroll_into_view_if_needed()
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
    assert page.get_by_role("tab", name="Cloud over time").get_attribute("aria-selected") == "true"
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
    page.get_by_role("tab", name="Confusion matrix").wait_for()
    steps.wait_for_map(page)
    check_trial(page, keep)
    assert watch.foreign == []
    assert watch.errors == []


def check_trial(page, keep) -> None:
    """The mask on the map and the scores follow the sliders."""
    page.get_by_role("tab", name="Threshold and buffer").click()
    slider = page.get_by_role("slider", name="Buffer around cloud")
    slider.focus()
    slider.press("ArrowRight")
    entry = page.locator(f'{steps.MAP} .entry[data-layer="mask trial"]')
    entry.get_by_text("--buffer 20m").wait_for()
    # The table's cells are for screen readers: a canvas shows them.
    cells = page.locator('[role="gridcell"]', has_text="with --buffer 20m")
    cells.first.wait_for(state="attached")
    steps.wait_for_map(page)
    page.locator("h1").scroll_into_view_if_needed()
    keep(page, "judge-trial")
    slider.focus()
    slider.press("ArrowLeft")
    entry.wait_for(state="detached")


def test_axe_core_is_there():
    if not steps.AXE.is_file():
        pytest.skip("pages are not checked for WCAG: run npm ci in webmap/, which brings axe-core")
