"""Make the pictures of the guide: ``python tests/browser/make_screenshots.py``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from playwright.sync_api import sync_playwright

from openeo_cloudmask.cli.children import free_port
from tests.browser import steps
from tests.browser.conftest import find_chromium, start_viewer, stop_viewer

IMAGES = ROOT / "docs" / "images"
MODEL = sys.argv[1] if len(sys.argv) > 1 else "hollstein"


def make_pictures(page, url: str) -> None:
    steps.make_demo(page, url)
    steps.choose_model(page, MODEL)
    steps.submit_job(page)
    steps.open_results(page)
    page.get_by_text("Swipe", exact=True).click()
    steps.map_frame(page).wait_for_selector(
        ".leaflet-sbs-range", state="attached", timeout=steps.WAIT_MS
    )
    steps.wait_for_map(page)
    box = page.locator(steps.MAP).bounding_box()
    page.mouse.click(box["x"] + 0.62 * box["width"], box["y"] + 0.4 * box["height"])
    page.get_by_text("Those the mask is made of").wait_for(timeout=steps.WAIT_MS)
    page.get_by_text("The model runs on the window").wait_for(
        state="detached", timeout=steps.WAIT_MS
    )
    page.wait_for_timeout(2500)
    IMAGES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(IMAGES / "viewer-compare.png"))
    page.get_by_role("tab", name="Confusion matrix").click()
    page.wait_for_timeout(1500)
    page.get_by_text("pixels compared").scroll_into_view_if_needed()
    page.wait_for_timeout(1500)
    page.screenshot(path=str(IMAGES / "viewer-scores.png"))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        process, viewer = start_viewer(Path(name) / "data", free_port())
        try:
            with sync_playwright() as driver:
                browser = driver.chromium.launch(
                    executable_path=find_chromium(), args=["--no-sandbox"]
                )
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                make_pictures(page, viewer.url)
                browser.close()
        finally:
            stop_viewer(process)


if __name__ == "__main__":
    main()
