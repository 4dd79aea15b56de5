"""Make the pictures of the guide: ``python tests/browser/make_screenshots.py``."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np
from playwright.sync_api import sync_playwright
from rasterio.warp import transform as transform_points
from scipy.ndimage import distance_transform_edt

from openeo_cloudmask.alcd.marks import MARK_CODES
from openeo_cloudmask.simulator.scene import simulate_scene
from openeo_cloudmask.viewer.session import DEMO_SEED, DEMO_SIZE_PX
from tests.browser import steps
from tests.browser.conftest import find_chromium, start_viewer, stop_viewer
from tests.ports import free_port

IMAGES = ROOT / "docs" / "images"
MODEL = sys.argv[1] if len(sys.argv) > 1 else "hollstein"

MARKS_OF_A_CLASS = 4
STROKE_PX = 10


def find_strokes() -> list[tuple[str, float, float]]:
    """Return key of a class, latitude and longitude of places well inside areas of each class."""
    scene = simulate_scene(DEMO_SEED, size=DEMO_SIZE_PX)
    strokes = []
    for key, code in enumerate(MARK_CODES, start=1):
        inside = distance_transform_edt(scene.truth_alcd == code)
        for _ in range(MARKS_OF_A_CLASS):
            row, column = np.unravel_index(inside.argmax(), inside.shape)
            if inside[row, column] < STROKE_PX:
                break
            x, y = scene.transform @ (column + 0.5, row + 0.5)
            (longitude,), (latitude,) = transform_points(scene.crs, "EPSG:4326", [x], [y])
            strokes.append((str(key), latitude, longitude))
            inside[max(row - 90, 0) : row + 90, max(column - 90, 0) : column + 90] = 0
    return strokes


def make_pictures(page, url: str) -> None:
    steps.make_demo(page, url)
    steps.choose_model(page, MODEL)
    page.get_by_text("Here, without a back end").click()
    page.get_by_role("button", name="Make the mask").click(timeout=steps.WAIT_MS)
    page.get_by_role("link", name="Look at it").click(timeout=steps.WAIT_MS)
    page.get_by_role("heading", name="Compare", exact=True).wait_for(timeout=steps.WAIT_MS)
    steps.wait_for_map(page)
    steps.press(page, "s")
    steps.set_layers(page, {"image": 100}, panel=0)
    steps.set_layers(page, {"image": 100, "mask ": 70}, panel=1)
    box = page.locator(steps.PANEL).bounding_box()
    page.mouse.click(box["x"] + 0.62 * box["width"], box["y"] + 0.4 * box["height"])
    page.get_by_text(re.compile("Those the mask is made of|Kept when the mask")).first.wait_for()
    page.wait_for_timeout(2500)
    page.locator("h1").scroll_into_view_if_needed()
    page.wait_for_timeout(1000)
    IMAGES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(IMAGES / "viewer-compare.png"))
    page.locator(f"{steps.MAP} .bar select").select_option("4")
    steps.wait_for_map(page)
    steps.set_layers(page, {"image": 100, "reference": 70}, panel=3)
    page.screenshot(path=str(IMAGES / "viewer-panels.png"))
    page.get_by_role("radio", name="Confusion matrix").click()
    page.wait_for_timeout(1500)
    page.get_by_text("pixels compared").scroll_into_view_if_needed()
    page.wait_for_timeout(1500)
    page.screenshot(path=str(IMAGES / "viewer-scores.png"))


def make_label_picture(page) -> None:
    """Mark a few places where the page says, as someone would who knows the scene's reference."""
    steps.open_page(page, "Label")
    page.get_by_role("button", name="Start").click()
    steps.wait_for_map(page)
    for number, (key, latitude, longitude) in enumerate(find_strokes(), start=1):
        steps.press(page, key)
        x, y = steps.place_on_screen(page, latitude, longitude)
        page.mouse.move(x - STROKE_PX / 2, y)
        page.mouse.down()
        page.mouse.move(x + STROKE_PX / 2, y, steps=5)
        page.mouse.up()
        page.get_by_text(re.compile(f"^{number} marks")).wait_for(timeout=steps.WAIT_MS)
    steps.wait_for_map(page)
    page.locator("h1").scroll_into_view_if_needed()
    page.wait_for_timeout(1500)
    page.screenshot(path=str(IMAGES / "viewer-label.png"))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        process, viewer = start_viewer(Path(name) / "data", free_port())
        try:
            with sync_playwright() as driver:
                browser = driver.chromium.launch(
                    executable_path=find_chromium(), args=["--no-sandbox"]
                )
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                if MODEL == "label":  # no model: the picture of the page Label alone
                    steps.make_demo(page, viewer.url)
                else:
                    make_pictures(page, viewer.url)
                make_label_picture(page)
                browser.close()
        finally:
            stop_viewer(process)


if __name__ == "__main__":
    main()
