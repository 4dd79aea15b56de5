"""From an empty start to a compared mask, in a browser without a network."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.warp import transform as transform_points
from scipy.ndimage import maximum_filter, minimum_filter

from openeo_cloudmask.classes import ALCD, FOUR_CLASS, map_labels
from openeo_cloudmask.simulator.products import make_reference, write_geotiff
from openeo_cloudmask.simulator.scene import simulate_scene
from openeo_cloudmask.viewer.explorer import LIT_COLOR
from tests.browser import steps
from tests.browser.conftest import start_viewer, stop_viewer
from tests.ports import free_port

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ALONE_PX = 15
"""Pixels of this much around a place have its class, so that no edge is near on the screen."""

COLOR_TRIES = 60
NARROW_PX = 1100
"""On narrower screens the pixel that was clicked is below the map."""
NUMBER_UP_PX = 7
"""So far above the middle of a cell of the matrix is its number."""
TURNS, LEFT_NODES = 6, 30
"""Turns of panels and clicks, and the DOM nodes that each may leave: 5 closed panels have 75."""
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
    # In one look: a table that is drawn again meanwhile has no rows of before.
    return table.evaluate(
        "table => [...table.querySelectorAll('tbody tr')].map(row =>"
        " [...row.querySelectorAll('th, td')].map(cell => cell.innerText.trim()))"
    )


def check_colors(page, keep, places: dict[int, tuple[float, float]]) -> tuple[dict, dict]:
    """Class colours are exact at full opacity; opacity changes without a run of Python."""
    wanted = {item.value: item.color for item in FOUR_CLASS.classes if item.value in places}
    steps.set_layers(page, {"image": 100, "mask ": 100})
    colors = wait_for_colors(page, keep, "compare-layers", places, lambda found: found == wanted)
    assert colors == wanted
    steps.set_layers(page, {"image": 100, "mask ": 0})

    def bare(colors: dict[int, str]) -> bool:
        return all(colors[value] != wanted[value] for value in places)

    plain = wait_for_colors(page, keep, "compare-image", places, bare)
    assert bare(plain)
    return plain, wanted


def check_hidden(page, keep, places, plain, wanted) -> None:
    """Clear pixels show the image where they are hidden; of outlines only lines are left."""
    steps.set_layers(page, {"image": 100, "mask ": 100})
    steps.press(page, "h")
    expected = wanted | {0: plain[0]} if 0 in places else wanted
    colors = wait_for_colors(page, keep, "compare-hide", places, lambda found: found == expected)
    assert colors == expected
    steps.press(page, "h o")
    colors = wait_for_colors(page, keep, "compare-outline", places, lambda found: found == plain)
    assert colors == plain
    steps.press(page, "o")


def check_swipe(page, keep, places, plain, wanted) -> None:
    """All is image with the divider on the right, all mask with it on the left."""
    steps.press(page, "s")
    steps.set_layers(page, {"image": 100}, panel=0)
    steps.set_layers(page, {"image": 100, "mask ": 100}, panel=1)
    box = page.locator(steps.PANEL).bounding_box()
    middle, at = box["y"] + box["height"] / 2, box["x"] + box["width"] / 2
    for name, share in (("image", 0.99), ("mask", 0.01)):
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
    steps.press(page, "s")


def check_panels(page, keep, places, wanted) -> None:
    """Panels show one place; each has layers of its own."""
    steps.press(page, "p")
    steps.set_layers(page, {"mask ": 100}, panel=0)
    steps.set_layers(page, {"image": 100}, panel=1)

    def right() -> bool:
        """The mask's colours are on the first panel, and none of them on the second."""
        picture = Image.open(keep(page, "compare-panels")).convert("RGB")
        for value, place in places.items():
            for panel in (0, 1):
                box = page.locator(steps.PANEL).nth(panel).bounding_box()
                x, y = steps.place_on_screen(page, *place, panel)
                if not (0 < x - box["x"] < box["width"] and 0 < y - box["y"] < box["height"]):
                    continue
                found = "".join(f"{channel:02X}" for channel in picture.getpixel((x, y)))
                if (found == wanted[value]) is (panel == 1):
                    return False
        return True

    steps.wait_until(page, right)
    steps.press(page, "p p p p")
    steps.wait_until(page, lambda: steps.read_map(page)["state"]["layout"] == "1")


def check_address(page, keep) -> None:
    """A reload finds layers, opacity and place again, and nothing secret is in the address."""
    steps.set_layers(page, {"image": 90, "mask ": 40})
    before = steps.read_map(page)["place"]
    address = page.url
    steps.press(page, "+ ArrowLeft")
    steps.wait_for_rest(page, before)
    steps.wait_until(page, lambda: page.url != address)

    def kept() -> bool:
        found = steps.read_map(page)
        return np.allclose(found["state"]["view"], found["place"], atol=1e-3)

    steps.wait_until(page, kept)
    before = steps.read_map(page)
    tokens = page.evaluate("performance.getEntriesByType('resource').map(e => e.name)")
    secret = {url.split("/tiles/")[1].split("/")[0] for url in tokens if "/tiles/" in url}
    assert secret
    assert not any(token in page.url for token in secret)
    page.reload()
    steps.wait_for_map(page)
    after = steps.read_map(page)
    assert after["state"]["panels"][0] == before["state"]["panels"][0]
    assert np.allclose(after["place"], before["place"], atol=1e-3)
    keep(page, "compare-reloaded")
    steps.press(page, "f")


def check_export(page, tmp_path: Path) -> None:
    """The picture has the map with its scale bar, and below it the legend."""
    with page.expect_download() as waiting:
        steps.press(page, "e")
    path = tmp_path / "export.png"
    waiting.value.save_as(path)
    picture = Image.open(path).convert("RGB")
    box = page.locator(f"{steps.MAP} .stage").bounding_box()
    assert picture.width == round(box["width"])
    pixels = np.asarray(picture)
    bar = page.locator(f"{steps.MAP} .ol-scale-line-inner").bounding_box()
    left, bottom = round(bar["x"] - box["x"]), round(box["height"])
    dark = (pixels[bottom - 30 : bottom, : left + round(bar["width"]) + 12] < 60).all(axis=2)
    assert dark.sum(axis=1).max() >= 0.9 * bar["width"]  # a row of it is the bar
    below = pixels[round(box["height"]) :].reshape(-1, 3)
    for item in FOUR_CLASS.classes:
        assert (below == item.rgba[:3]).all(axis=1).any(), item.title


def check_pixel(page, keep, places) -> None:
    """A click shows what the pixel is."""
    value, place = max(places.items())
    x, y = steps.place_on_screen(page, *place)
    page.mouse.click(x, y)
    page.get_by_text("(latitude, longitude)").wait_for()
    rows = read_table(page, "verdict")
    title = next(item.title for item in FOUR_CLASS.classes if item.value == value)
    assert rows[0][1] == f"{title} (10 m)"
    assert rows[1][0] == "Reference"
    page.get_by_text("Kept when the mask was made").wait_for()
    assert page.get_by_text("The model runs on the window").count() == 0
    page.wait_for_timeout(1000)
    keep(page, "compare-pixel")


def check_panels_after_a_click(page) -> None:
    """Panels can be chosen after Python ran again for a click, too."""
    page.locator(f"{steps.MAP} .bar select").select_option("4")
    steps.wait_until(page, lambda: page.locator(steps.PANEL).count() == 4)
    assert steps.read_map(page)["state"]["layout"] == "4"
    steps.press(page, "p p")
    steps.wait_until(page, lambda: steps.read_map(page)["state"]["layout"] == "1")


def check_nothing_is_kept(page, places) -> None:
    """Panels that were closed, and charts of pixels looked at before, leave nothing in the page."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable")

    def count() -> int:
        devtools.send("HeapProfiler.collectGarbage")
        metrics = devtools.send("Performance.getMetrics")["metrics"]
        return next(int(item["value"]) for item in metrics if item["name"] == "Nodes")

    def use(times: int) -> None:
        chooser = page.locator(f"{steps.MAP} .bar select")
        for turn in range(times):
            for panels in ("6", "1"):
                chooser.select_option(panels)
                steps.wait_until(page, lambda n=int(panels): page.locator(steps.PANEL).count() == n)
            before = page.get_by_text("(latitude, longitude)").inner_text()
            place = list(places.values())[turn % 2]
            page.mouse.click(*steps.place_on_screen(page, *place))
            steps.wait_until(
                page,
                lambda old=before: page.get_by_text("(latitude, longitude)").inner_text() != old,
            )
            steps.wait_for_map(page)

    use(2)
    page.wait_for_timeout(1000)
    before = count()
    use(TURNS)
    steps.wait_until(page, lambda: count() < before + TURNS * LEFT_NODES)


def check_confusion(page, keep, mask: Path, reference: Path) -> None:
    """The confusion matrix is that of the command line."""
    page.get_by_role("radio", name="Confusion matrix").click()
    page.get_by_text("pixels compared").wait_for()  # a tab is drawn when it is opened
    shown = [
        [int(cell.replace(",", "")) for cell in row[1:]] for row in read_table(page, "Thick cloud")
    ]
    page.get_by_text("pixels compared").scroll_into_view_if_needed()
    page.wait_for_timeout(1000)
    keep(page, "compare-confusion")
    command = [sys.executable, "-c", "from openeo_cloudmask.cli import main; main()", "score"]
    out = subprocess.run(
        [*command, str(mask), str(reference), "--json"], capture_output=True, check=True
    )
    pooled = json.loads(out.stdout)["pooled"]
    assert shown == next(item for item in pooled if item["case"] == "4-class")["confusion"]


def check_errors(page, keep) -> None:
    """The map goes to the largest error, and the pixel there is one."""
    before = steps.read_map(page)["place"]
    page.get_by_role("radio", name="Largest errors").click()
    page.get_by_role("button", name="Next error").click()
    page.get_by_text(re.compile("^1 of [0-9]+: (omission|commission)")).wait_for()
    steps.wait_for_rest(page, before)
    steps.wait_for_map(page)
    # The table of the pixel before may stand a moment longer.
    steps.wait_until(
        page,
        lambda: any(
            re.match("Omission|Commission", row[-1]) for row in read_table(page, "verdict")[:1]
        ),
    )
    keep(page, "compare-error")


def check_chart(page) -> None:
    """A cell of the matrix's chart that is clicked, on its number, lights up on the map."""
    drawn = page.locator('[class*="st-key-matrix_"] svg .mark-rect.role-mark path')
    drawn.first.wait_for()
    told = [read_label(cell) for cell in drawn.all()]
    wrong = [
        at for at, cell in enumerate(told)
        if cell["reference"] != cell["mask"] and cell["count"] != "0"
    ]  # fmt: skip
    entry = page.locator(f'{steps.MAP} .entry[data-layer="cells"]')
    for at in (wrong[0], wrong[-1]):
        drawn.nth(at).scroll_into_view_if_needed()
        box = drawn.nth(at).bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2 - NUMBER_UP_PX)
        cell = told[at]
        title = f"Reference {cell['reference'].lower()}, mask {cell['mask'].lower()}"
        entry.get_by_text(title).wait_for()
        # The list below the chart says the same.
        page.locator(f'input[value="{title}: {cell["count"]} pixels"]').wait_for()


def read_label(mark) -> dict[str, str]:
    """Return what a mark of a chart says of itself to screen readers."""
    parts = mark.get_attribute("aria-label").split("; ")
    return dict(part.split(": ", 1) for part in parts)


def check_cell(page, keep) -> None:
    """A cell of the confusion matrix lights up on the map."""
    page.get_by_role("radio", name="Confusion matrix").click()
    check_chart(page)
    cell = page.locator("[role=listbox] [role=option]").nth(1)
    for _ in range(COLOR_TRIES):  # the tab is still being drawn, which closes the list
        page.get_by_role("combobox", name="Light up on the map").click()
        page.wait_for_timeout(700)
        if cell.is_visible():
            break
    cell.click()
    page.locator(f'{steps.MAP} .entry[data-layer="cells"]').wait_for()
    steps.set_layers(page, {"cells": 100})
    page.locator("h1").scroll_into_view_if_needed()
    picture = np.asarray(Image.open(keep(page, "compare-cell")).convert("RGB")).reshape(-1, 3)
    lit = (picture == tuple(bytes.fromhex(LIT_COLOR))).all(axis=1)
    assert lit.sum() > 100


def check_slow_line(page) -> None:
    """A page stays though timers of the page before it went off while it was on its way."""
    steps.open_page(page, "Jobs")
    page.get_by_role("button", name="Open in Compare").wait_for()
    steps.slow_down(page, LAG_MS)
    steps.open_results(page)
    page.wait_for_timeout(3 * LAG_MS)
    assert page.get_by_role("heading", name="Compare", exact=True).is_visible()
    assert page.locator(steps.MAP).count() == 1


def test_from_an_empty_start_to_a_comparison(new_page, viewer, keep, tmp_path):
    page, watch = new_page()
    page.goto(viewer.url)
    for name in ("Models", "Jobs", "Compare", "References"):
        steps.open_page(page, name)
        page.wait_for_timeout(500)
        keep(page, f"empty-{name.lower()}")
    steps.make_demo(page, viewer.url)
    page.wait_for_timeout(1000)
    keep(page, "start")
    steps.check_access(page, "Start")
    # The decision tree: fast wherever the tests run.
    steps.choose_model(page, "hollstein")
    page.get_by_role("button", name="Submit").wait_for()
    page.wait_for_timeout(1500)
    keep(page, "new-job")
    steps.check_access(page, "New job")
    steps.submit_job(page)
    keep(page, "jobs")
    page.reload()  # the job lives on the back end, what was opened in the session
    page.get_by_role("button", name="Open in Compare").wait_for()
    keep(page, "jobs-finished")
    steps.check_access(page, "Jobs")
    steps.open_results(page)
    masks = viewer.data.glob("sessions/*/job-*/*.tif")
    mask = next(path for path in masks if "percent" not in path.name)
    reference = next(viewer.data.glob("sessions/*/demo-*/Reference_dataset/*"))
    places = find_places(mask)
    assert len(places) >= 2
    plain, wanted = check_colors(page, keep, places)
    check_hidden(page, keep, places, plain, wanted)
    check_swipe(page, keep, places, plain, wanted)
    check_panels(page, keep, places, wanted)
    check_address(page, keep)
    check_export(page, tmp_path)
    check_pixel(page, keep, places)
    check_panels_after_a_click(page)
    check_nothing_is_kept(page, places)
    check_confusion(page, keep, mask, reference)
    steps.check_access(page, "Compare")
    check_errors(page, keep)
    check_cell(page, keep)
    for name in ("References", "Models"):
        steps.open_page(page, name)
        page.wait_for_timeout(2500)
        keep(page, name.lower().replace(" ", "-"))
        steps.check_access(page, name)
    check_slow_line(page)
    assert watch.foreign == []
    assert watch.errors == []


@pytest.fixture
def own_files(tmp_path):
    """An image of counts that names no band, and a reference that does not say its classes."""
    scene = simulate_scene(5, size=256)
    named = write_geotiff(scene, tmp_path / "named.tif")
    image, reference = tmp_path / "image.tif", tmp_path / "reference.tif"
    profile = {"driver": "GTiff", "height": 256, "width": 256}
    with rasterio.open(named) as source:
        profile |= {"crs": source.crs, "transform": source.transform}
        counts = np.rint(source.read() * 10_000 + 1000).astype(np.uint16)
        with rasterio.open(image, "w", count=len(counts), dtype="uint16", **profile) as out:
            out.write(counts)
    truth = make_reference(scene, "own")
    labels = map_labels(truth.labels, ALCD, FOUR_CLASS)
    profile |= {"height": labels.shape[0], "width": labels.shape[1], "crs": truth.grid.crs}
    profile["transform"] = truth.grid.transform
    with rasterio.open(reference, "w", count=1, dtype="uint8", nodata=255, **profile) as out:
        out.write(labels, 1)
    return image, reference


def test_own_image_and_reference_come_to_a_score_in_three_steps(new_page, viewer, keep, own_files):
    page, watch = new_page()
    page.goto(viewer.url)
    steps.open_page(page, "Import")
    page.locator("input[type=file]").first.set_input_files(own_files[0])
    page.get_by_text("counts of Sentinel-2 since baseline 04.00").wait_for()
    page.locator("input[type=file]").last.set_input_files(own_files[1])
    page.get_by_text("A guess; correct what is wrong").wait_for()
    steps.check_access(page, "Import")
    for width in (900, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(300)
        keep(page, f"import-{width}")
    page.get_by_role("button", name="Mask and score").click()
    page.get_by_role("heading", name="Compare", exact=True).wait_for()
    steps.wait_for_map(page)
    page.get_by_role("radio", name="Confusion matrix").click()
    shown = np.asarray([[int(cell) for cell in row[1:]] for row in read_table(page, "Thick cloud")])
    with rasterio.open(own_files[1]) as source:
        assert shown.sum() == (source.read(1) != 255).sum()
    for width in (900, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 1000})
        page.locator("h1").scroll_into_view_if_needed()
        steps.wait_for_map(page)
        keep(page, f"compare-{width}")
        drawn = page.locator(steps.PANEL).first.bounding_box()
        beside = page.get_by_role("heading", name="Pixel", exact=True).bounding_box()
        assert (beside["y"] >= drawn["y"] + drawn["height"]) is (width < NARROW_PX)
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
