"""Drawing on the map, masks while one pans, and a reference made by hand, in a browser."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openeo_cloudmask.classes import FOUR_CLASS
from tests.browser import steps
from tests.browser.conftest import find_chromium, start_viewer, stop_viewer
from tests.ports import free_port

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WIDTHS = (900, 1280, 1920)


@pytest.fixture(scope="module")
def viewer(tmp_path_factory):
    """A viewer without a back end."""
    pytest.importorskip("sklearn", reason="the extra viewer is not installed")
    if find_chromium() is None:
        pytest.skip("no chromium on this machine")
    data = tmp_path_factory.mktemp("viewer") / "data"
    process, running = start_viewer(data, free_port(), "--no-backend")
    try:
        yield running
    finally:
        stop_viewer(process)


def read_pen(page) -> dict[str, object]:
    return page.locator(steps.MAP).evaluate("root => root.cloudmask.pen()")


def wait_for_shapes(page, count: int) -> None:
    """Wait until Python knows so many shapes, and has answered everything."""
    page.wait_for_function(
        """([map, count]) => {
            const find = node => {
                for (const item of node.querySelectorAll('*')) {
                    if (item.matches(map)) return item;
                    const inner = item.shadowRoot && find(item.shadowRoot);
                    if (inner) return inner;
                }
                return null;
            };
            const pen = find(document)?.cloudmask.pen();
            return pen && pen.shapes === count && pen.waiting === 0;
        }""",
        arg=[steps.MAP, count],
        timeout=steps.WAIT_MS,
    )


def spot(page, across: float, down: float) -> tuple[float, float]:
    """Return x and y in the page of a place on the map, in shares of its sides."""
    box = page.locator(steps.PANEL).first.bounding_box()
    return box["x"] + across * box["width"], box["y"] + down * box["height"]


def drag(page, *way: tuple[float, float]) -> None:
    page.mouse.move(*spot(page, *way[0]))
    page.mouse.down()
    for place in way[1:]:
        page.mouse.move(*spot(page, *place), steps=4)
    page.mouse.up()


def check_area(page) -> None:
    """Areas by mouse and by keyboard; each takes the place of the one before."""
    steps.press(page, "r")
    drag(page, (0.4, 0.4), (0.6, 0.6))
    wait_for_shapes(page, 1)
    page.locator(".pen").get_by_role("button", name="No area").click()
    wait_for_shapes(page, 0)
    steps.press(page, "g Enter")
    for number, key in enumerate(("ArrowRight", "ArrowDown"), start=1):
        steps.wait_until(page, lambda wanted=number: read_pen(page)["corners"] == wanted)
        before = steps.read_map(page)["place"]
        steps.press(page, key)
        steps.wait_for_rest(page, before)
        steps.press(page, "Enter")
    steps.press(page, "Backspace Enter")
    steps.wait_until(page, lambda: read_pen(page)["corners"] == 3)
    steps.press(page, "c")
    wait_for_shapes(page, 1)
    steps.press(page, "a")
    drag(page, (0.3, 0.3), (0.5, 0.3), (0.5, 0.5), (0.3, 0.5))
    wait_for_shapes(page, 1)
    steps.press(page, "x v f")
    wait_for_shapes(page, 0)


def check_live(page, keep) -> None:
    """The live mask asks for tiles once the map is still, and for each of them once."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/live/" in request.url else 0)
    assert not asked
    steps.set_layers(page, {"live hollstein": 100})
    before = steps.read_map(page)["place"]
    steps.press(page, "+ +")
    steps.wait_for_rest(page, before)
    steps.wait_until(page, lambda: len(asked) > 0)
    steps.wait_for_map(page)
    assert len(set(asked)) == len(asked)
    # The tiles in view are drawn in the colours of the classes.
    steps.wait_until(page, lambda: count_drawn(keep(page, "live-mask")) > 50_000)
    before = len(asked)
    page.mouse.move(*spot(page, 0.5, 0.5))
    page.mouse.down()
    for step in range(12):
        page.mouse.move(*spot(page, 0.5 - 0.02 * step, 0.5))
        page.wait_for_timeout(40)
    assert len(asked) == before, "nothing is computed while the map moves"
    page.mouse.up()
    steps.wait_for_map(page)
    drag(page, (0.3, 0.5), (0.52, 0.5))
    page.wait_for_timeout(700)
    steps.wait_for_map(page)
    assert len(set(asked)) == len(asked), "tiles that are there are not asked for again"


def count_drawn(path: Path) -> int:
    """Return how many pixels of a picture have the colour of a class."""
    picture = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    return sum(int((picture == item.rgba[:3]).all(axis=1).sum()) for item in FOUR_CLASS.classes)


def press_button(page, name: str) -> None:
    """Press a button with the keyboard."""
    page.get_by_role("button", name=name).press("Enter")


def paint(page, number: int) -> None:
    """Mark a place of the class with that key, one after the other over the map."""
    across, down = 0.25 + 0.06 * (number % 8), 0.2 + 0.12 * (number // 8)
    steps.press(page, str((1, 3, 4, 5)[number % 4]))
    drag(page, (across, down), (across + 0.02, down))
    wait_for_shapes(page, number + 1)


def check_marks(page) -> None:
    """Marks with class keys; the forest's map; the next place; undo."""
    for number in range(3):
        paint(page, number)
    page.locator(f'{steps.MAP} .entry[data-layer="labels"]').wait_for()
    steps.wait_for_map(page)
    before = steps.read_map(page)["place"]
    steps.press(page, "n")
    page.get_by_text(re.compile("^Place 1 of")).wait_for()
    steps.wait_for_rest(page, before)
    steps.wait_for_map(page)
    steps.press(page, "4 Enter")  # a dot in the middle, without a mouse
    wait_for_shapes(page, 4)
    steps.press(page, "z")
    wait_for_shapes(page, 3)
    steps.press(page, "f")
    for number in range(3, 10):
        paint(page, number)
    page.get_by_text(re.compile("After 10 marks: accuracy")).wait_for()


def check_saved(page) -> dict[str, object]:
    """The marks and the reference are saved; returns the file of the marks."""
    save = page.get_by_role("button", name="Save the marks")
    steps.press(page, "4 Enter")  # at once, while Python still hears and learns
    path = steps.download(page, save.click)
    assert len(json.loads(path.read_text(encoding="utf-8"))["features"]) == 11
    steps.press(page, "z")
    path = steps.download(page, save.click)
    marks = json.loads(path.read_text(encoding="utf-8"))
    assert len(marks["features"]) == 10
    press_button(page, "Save the reference")
    page.get_by_text("is open as a reference").wait_for()
    button = page.get_by_role("button", name="Download it (ALCD's layout)")
    with zipfile.ZipFile(steps.download(page, button.click)) as archive:
        names = archive.namelist()
    assert "Demo-scene-3/Statistics/k_fold_summary.json" in names
    return marks


def check_reload(page) -> None:
    """A mark that never reached Python is not lost when the page is loaded anew."""
    page.evaluate("WebSocket.prototype.send = () => {}")
    steps.press(page, "4 Enter")
    state = page.locator(steps.MAP).evaluate("map => map.cloudmask.pen()")
    assert state["waiting"] == 1
    page.reload()
    wait_for_shapes(page, 11)
    steps.press(page, "z")
    wait_for_shapes(page, 10)


def check_loaded(page, marks: dict[str, object]) -> None:
    """Marks are taken up again after all were forgotten."""
    press_button(page, "Begin anew")
    press_button(page, "Forget the marks")
    press_button(page, "Start")
    steps.wait_for_map(page)
    wait_for_shapes(page, 0)
    page.locator("input[type=file]").set_input_files(
        {
            "name": "marks.geojson",
            "mimeType": "application/json",
            "buffer": json.dumps(marks).encode(),
        }
    )
    page.get_by_role("button", name="Take these marks").click()
    wait_for_shapes(page, 10)


def test_areas_live_masks_and_a_reference(new_page, viewer, keep):
    page, watch = new_page()
    steps.make_demo(page, viewer.url)
    steps.open_page(page, "Compare")
    steps.wait_for_map(page)
    check_area(page)
    check_live(page, keep)
    steps.open_page(page, "Label")
    steps.check_access(page, "Label, before")
    press_button(page, "Start")
    steps.wait_for_map(page)
    check_marks(page)
    marks = check_saved(page)
    steps.check_access(page, "Label")
    check_reload(page)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        page.locator("h1").scroll_into_view_if_needed()
        fits = "() => document.scrollingElement.scrollWidth <= window.innerWidth"
        page.wait_for_function(fits)
        steps.wait_for_map(page)
        keep(page, f"label-{width}")
        assert page.evaluate(fits), f"the page is wider than {width} pixels"
    check_loaded(page, marks)
    assert watch.foreign == []
    assert watch.errors == []
