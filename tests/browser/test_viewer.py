"""From an empty start to a compared mask, in a browser without a network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.warp import transform as transform_points
from scipy.ndimage import maximum_filter, minimum_filter

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.viewer.launch import free_port
from tests.browser import steps
from tests.browser.conftest import start_viewer, stop_viewer

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ALONE_PX = 15
"""Pixels of this much around a place have its class, so that no edge is near on the screen."""

COLOR_TRIES = 60
LAG_MS = 1500
"""Longer than the timers of the page Jobs wait."""


def find_places(path: Path) -> dict[int, tuple[float, float]]:
    """Return class value -> latitude and longitude of a pixel amid others of its class."""
    with rasterio.open(path) as source:
        labels, transform, crs = source.read(1), source.transform, source.crs
    calm = minimum_filter(labels, ALONE_PX) == maximum_filter(labels, ALONE_PX)
    places = {}
    for value in FOUR_CLASS.values:
        rows, columns = np.nonzero(calm & (labels == value))
        if rows.size:
            middle = rows.size // 2
            x, y = transform @ (columns[middle] + 0.5, rows[middle] + 0.5)
            longitudes, latitudes = transform_points(crs, "EPSG:4326", [x], [y])
            places[value] = (latitudes[0], longitudes[0])
    return places


def read_colors(page, path: Path, places: dict[int, tuple[float, float]]) -> dict[int, str]:
    picture = Image.open(path).convert("RGB")
    colors = {}
    for value, place in places.items():
        x, y = steps.place_on_screen(page, *place)
        colors[value] = "".join(f"{channel:02X}" for channel in picture.getpixel((x, y)))
    return colors


def wait_for_colors(page, keep, name: str, places, good) -> dict[int, str]:
    """Return the colours at ``places`` once they are ``good`` and stay, or those of the last look.

    Args:
        page: the page.
        keep: what saves its picture.
        name: of the picture.
        places: class value -> latitude and longitude.
        good: says of class value -> colour whether it is what was waited for.
    """
    before: dict[int, str] = {}
    for _ in range(COLOR_TRIES):
        colors = read_colors(page, keep(page, name), places)
        if colors == before and good(colors):
            break
        before = colors
        page.wait_for_timeout(500)
    return colors


def read_table(page, header: str) -> list[list[str]]:
    table = page.locator("table").filter(has_text=header).last
    table.wait_for()
    return [row.locator("th, td").all_inner_texts() for row in table.locator("tbody tr").all()]


def check_colors(page, keep, places: dict[int, tuple[float, float]]) -> tuple[dict, dict]:
    """Class colours are exact at full opacity; opacity changes without loading the map again."""
    wanted = {item.value: item.color for item in FOUR_CLASS.classes if item.value in places}
    steps.set_slider(page, "Opacity, %", "End")
    steps.wait_for_map(page)
    colors = wait_for_colors(page, keep, "compare-layers", places, lambda found: found == wanted)
    assert colors == wanted
    steps.map_frame(page).evaluate("window.cloudmaskMark = 1")  # a new map would not have it
    steps.set_slider(page, "Opacity, %", "Home")

    def bare(colors: dict[int, str]) -> bool:
        return all(colors[value] != wanted[value] for value in places)

    plain = wait_for_colors(page, keep, "compare-image", places, bare)
    assert bare(plain)
    return plain, wanted


def check_swipe(page, keep, places, plain, wanted) -> None:
    """All is image with the divider on the right, all mask with it on the left."""
    page.get_by_text("Swipe", exact=True).click()
    frame = steps.map_frame(page)
    handle = frame.wait_for_selector(".leaflet-sbs-range", state="attached")
    steps.wait_for_map(page)
    box, track = page.locator(steps.MAP).bounding_box(), handle.bounding_box()
    middle, at = track["y"] + track["height"] / 2, box["x"] + box["width"] / 2
    for name, share in (("image", 0.97), ("mask", 0.03)):
        page.mouse.move(at, middle)
        page.mouse.down()
        at = box["x"] + box["width"] * share
        page.mouse.move(at, middle, steps=8)
        page.mouse.up()
        expected = plain if name == "image" else wanted
        colors = wait_for_colors(
            page, keep, f"compare-swipe-{name}", places, lambda found, want=expected: found == want
        )
        assert colors == expected
    assert page.get_by_text("Click the map to see").is_visible()  # dragging is no click
    assert frame.evaluate("window.cloudmaskMark") == 1


def check_pixel(page, keep, places) -> None:
    """A click shows what the pixel is."""
    value, place = max(places.items())
    x, y = steps.place_on_screen(page, *place)
    page.mouse.click(x, y)
    page.get_by_text("(latitude, longitude)").wait_for()
    rows = read_table(page, "verdict")
    assert rows[0][1] == next(item.title for item in FOUR_CLASS.classes if item.value == value)
    assert rows[1][0] == "Reference"
    page.get_by_text("Those the mask is made of").wait_for()
    page.get_by_text("The model runs on the window").wait_for(state="detached")
    page.wait_for_timeout(1000)
    keep(page, "compare-pixel")


def check_confusion(page, keep, mask: Path, reference: Path) -> None:
    """The confusion matrix is that of the command line."""
    page.get_by_role("tab", name="Confusion matrix").click()
    shown = [[int(cell.replace(",", "")) for cell in row[1:]] for row in read_table(page, "Clear")]
    page.get_by_text("pixels compared").scroll_into_view_if_needed()
    page.wait_for_timeout(1000)
    keep(page, "compare-confusion")
    command = [sys.executable, "-c", "from openeo_cloudmask.cli import main; main()", "score"]
    out = subprocess.run(
        [*command, str(mask), str(reference), "--json"], capture_output=True, check=True
    )
    pooled = json.loads(out.stdout)["pooled"]
    assert shown == next(item for item in pooled if item["case"] == "4-class")["confusion"]


def check_slow_line(page) -> None:
    """A page stays though timers of the page before it went off while it was on its way."""
    steps.open_page(page, "Jobs")
    page.get_by_role("button", name="Open in Compare").wait_for()
    steps.slow_down(page, LAG_MS)
    steps.open_results(page)
    page.wait_for_timeout(3 * LAG_MS)
    assert page.get_by_role("heading", name="Compare", exact=True).is_visible()
    assert len(steps.read_maps(page)) == 1


def test_from_an_empty_start_to_a_comparison(new_page, viewer, keep):
    page, watch = new_page()
    page.goto(viewer.url)
    for name in ("Models", "Jobs", "Compare", "References"):
        steps.open_page(page, name)
        page.wait_for_timeout(500)
        keep(page, f"empty-{name.lower()}")
    steps.make_demo(page, viewer.url)
    page.wait_for_timeout(1000)
    keep(page, "start")
    # The decision tree: fast wherever the tests run.
    steps.choose_model(page, "hollstein")
    page.get_by_role("button", name="Submit").wait_for()
    page.wait_for_timeout(1500)
    keep(page, "new-job")
    steps.submit_job(page)
    keep(page, "jobs")
    page.reload()  # the job lives on the back end, what was opened in the session
    page.get_by_role("button", name="Open in Compare").wait_for()
    keep(page, "jobs-finished")
    steps.open_results(page)
    mask = next(viewer.data.glob("sessions/*/j-*/*.tif"))
    reference = next(viewer.data.glob("sessions/*/demo-*/Reference_dataset/*"))
    places = find_places(mask)
    assert len(places) >= 2
    plain, wanted = check_colors(page, keep, places)
    check_swipe(page, keep, places, plain, wanted)
    check_pixel(page, keep, places)
    check_confusion(page, keep, mask, reference)
    for name in ("References", "Models"):
        steps.open_page(page, name)
        page.wait_for_timeout(2500)
        keep(page, name.lower().replace(" ", "-"))
    check_slow_line(page)
    assert watch.foreign == []
    assert watch.errors == []


def test_two_browsers_see_nothing_of_each_other(new_page, viewer):
    one, _ = new_page()
    other, watch = new_page()
    steps.make_demo(one, viewer.url)
    other.goto(viewer.url)
    steps.open_page(other, "Compare")
    other.get_by_text("Nothing is open yet").wait_for()
    cookies = [
        next(item for item in page.context.cookies() if item["name"] == "cloudmask_session")
        for page in (one, other)
    ]
    assert cookies[0]["value"] != cookies[1]["value"]
    assert all(item["httpOnly"] for item in cookies)
    assert watch.foreign == []


def test_nothing_secret_is_in_the_log_or_the_address(new_page, viewer):
    login = (viewer.data / "backend" / "viewer-login").read_text(encoding="utf-8").split()
    page, _ = new_page()
    page.goto(viewer.url)
    steps.open_page(page, "Jobs")
    page.get_by_text("Connected to").wait_for()
    assert login[1] not in viewer.log.read_text(encoding="utf-8")
    assert login[1] not in page.url
    assert login[1] not in page.content()
    assert (viewer.data / "backend" / "viewer-login").stat().st_mode & 0o077 == 0


def test_a_job_outlives_the_viewer(new_page, tmp_path):
    process, viewer = start_viewer(tmp_path / "data", free_port())
    try:
        page, _ = new_page(viewer)
        steps.make_demo(page, viewer.url)
        steps.choose_model(page, "hollstein")
        steps.submit_job(page)
        page.locator("strong", has_text="hollstein on").first.wait_for()
        page.close()
    finally:
        stop_viewer(process)
    process, viewer = start_viewer(tmp_path / "data", free_port())
    try:
        page, _ = new_page(viewer)
        page.goto(viewer.url)
        steps.open_page(page, "Jobs")  # logged in again by itself
        page.locator("strong", has_text="hollstein on").first.wait_for()
        page.get_by_role("button", name="Open in Compare").wait_for()
        page.close()
    finally:
        stop_viewer(process)
