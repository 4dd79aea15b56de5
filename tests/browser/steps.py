"""What a person does in the viewer, step by step."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

AXE = Path(__file__).resolve().parents[2] / "webmap" / "node_modules" / "axe-core" / "axe.min.js"
"""Comes with ``npm ci`` in webmap/."""
DOWNLOADS = 5
"""So often is a file asked for."""
WAIT_MS = 180_000
CALM_LOOKS = 4
"""So often in a row no tile is missing before a map counts as drawn."""
MAP = ".cloudmask-map"
PANEL = f"{MAP} .panel"
IDLE = '[data-testid="stApp"][data-test-script-state="notRunning"]'
"""The page while Python does not run for it."""


def open_page(page, name: str) -> None:
    page.get_by_role("link", name=name, exact=True).first.click()
    heading = "Cloud masks" if name == "Start" else name
    page.get_by_role("heading", name=heading, exact=True).wait_for(timeout=WAIT_MS)


def make_demo(page, url: str) -> None:
    page.goto(url)
    page.get_by_role("button", name="Make a demo scene").click(timeout=WAIT_MS)
    page.get_by_text("Opened so far").wait_for(timeout=WAIT_MS)


def choose_model(page, model: str) -> None:
    """Press "Use this model" on its card; leads to the page New job."""
    open_page(page, "Models")
    box = page.locator(".st-key-card input")
    box.click(timeout=WAIT_MS)
    box.press_sequentially(model)
    page.get_by_role("option", name=model, exact=True).click(timeout=WAIT_MS)
    page.locator(f".st-key-use_{model} button").click(timeout=WAIT_MS)
    page.get_by_role("heading", name="New job", exact=True).wait_for(timeout=WAIT_MS)


def submit_job(page) -> None:
    page.get_by_role("button", name="Submit").click(timeout=WAIT_MS)
    page.get_by_role("heading", name="Jobs", exact=True).wait_for(timeout=WAIT_MS)


def open_results(page) -> None:
    page.get_by_role("button", name="Open in Compare").click(timeout=WAIT_MS)
    page.get_by_role("heading", name="Compare", exact=True).wait_for(timeout=WAIT_MS)
    page.get_by_role("radio", name="Confusion matrix").wait_for(timeout=WAIT_MS)
    wait_for_map(page)


def read_map(page) -> dict[str, object]:
    """Return the state of the map, and how many tiles are on their way."""
    return page.locator(MAP).evaluate(
        """root => ({
            state: root.cloudmask.state(), pending: root.cloudmask.pending(),
            place: root.cloudmask.place(), drawn: root.querySelectorAll('.panel canvas').length,
        })""",
        timeout=WAIT_MS,
    )


def wait_for_map(page) -> None:
    """Wait until every tile that the map asked for is drawn.

    Raises:
        AssertionError: it never is; says what the page and its map look like.
    """
    deadline = time.monotonic() + WAIT_MS / 1000
    calm = 0
    while calm < CALM_LOOKS:
        page.wait_for_timeout(100)
        found = read_map(page)
        calm = calm + 1 if found["drawn"] and not found["pending"] else 0
        if time.monotonic() > deadline:
            headings = page.get_by_role("heading").all_inner_texts()
            raise AssertionError(
                f"no map was drawn within {WAIT_MS / 1000:.0f} s: {found}, headings {headings}"
            )


def wait_until(page, good: Callable[[], bool]) -> None:
    """Wait until something holds.

    Raises:
        AssertionError: it never does; says what the map looks like.
    """
    deadline = time.monotonic() + WAIT_MS / 1000
    while not good():
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {WAIT_MS / 1000:.0f} s: {read_map(page)}")
        page.wait_for_timeout(100)


def wait_for_rest(page, before: object = None) -> None:
    """Wait until the map glides no more, and is not at ``before``, where that is given."""
    seen = [before]

    def rests() -> bool:
        seen.append(read_map(page)["place"])
        return seen[-1] != before and seen[-CALM_LOOKS:] == [seen[-1]] * CALM_LOOKS

    wait_until(page, rests)


def place_on_screen(page, latitude: float, longitude: float, panel: int = 0) -> tuple[float, float]:
    """Return x and y in the page of a place on a panel of the map."""
    x, y = page.locator(MAP).evaluate(
        "(root, [lat, lon, at]) => root.cloudmask.pixel(lat, lon, at)",
        [latitude, longitude, panel],
    )
    return x, y


def press(page, keys: str) -> None:
    """Press keys on the map, one after the other."""
    page.locator(PANEL).first.focus()
    for key in keys.split():
        page.keyboard.press(key)


def set_layers(page, shown: dict[str, int], panel: int = 0) -> None:
    """Show these layers alone on a panel: start of the id -> opacity in percent."""
    chooser = page.get_by_label("Panel whose layers are listed")
    if chooser.count():
        chooser.select_option(str(panel))
    # By name: a list that is drawn again has its entries elsewhere.
    names = page.locator(f"{MAP} .entry").evaluate_all("all => all.map(one => one.dataset.layer)")
    for name in names:
        entry = page.locator(f'{MAP} .entry[data-layer="{name}"]')
        entry.get_by_role("checkbox").set_checked(name.startswith(tuple(shown)))
    for start, opacity in shown.items():
        entry = page.locator(f'{MAP} .entry[data-layer^="{start}"]')
        entry.locator('input[name^="opacity"]').fill(str(opacity))
    wait_for_map(page)


SLOW_MESSAGES = """(() => {
    window.cloudmaskLagMs = 0;
    const socket = WebSocket.prototype;
    const known = Object.getOwnPropertyDescriptor(socket, 'onmessage');
    const late = (handle, self) => event => window.cloudmaskLagMs
        ? setTimeout(() => handle.call(self, event), window.cloudmaskLagMs)
        : handle.call(self, event);
    Object.defineProperty(socket, 'onmessage', {
        get() { return known.get.call(this); },
        set(handle) { known.set.call(this, handle && late(handle, this)); },
    });
})()"""
"""Lets ``slow_down`` hold back what the server says; goes into a page before it is opened."""


def slow_down(page, lag_ms: int) -> None:
    """From now on the page hears of everything that much later, as over a slow line."""
    page.evaluate(f"window.cloudmaskLagMs = {lag_ms}")


def check_access(page, name: str) -> None:
    """A page keeps WCAG 2.1 AA as far as axe-core can tell, where axe-core is there."""
    if not AXE.is_file():  # test_axe_core_is_there says so
        return
    page.locator(IDLE).wait_for()  # what a run of Python has not drawn anew yet is paler
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(
        "axe.run(document, {runOnly: {type: 'tag',"
        " values: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']}})"
    )
    said = [
        (item["id"], [node["target"] for node in item["nodes"]]) for item in found["violations"]
    ]
    assert said == [], name


def tab_to(page, name: str, role: str = "", *, back: bool = False) -> None:
    """Press Tab (or Shift and Tab) until what has the focus is called ``name`` and has that role.

    Raises:
        AssertionError: it is out of reach of the keyboard.
    """
    seen = []
    for _ in range(MOST_TABS):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        kind, found = page.evaluate(FOCUSED)
        if name in found and role in kind:
            return
        seen.append(f"{kind} {found[:40]}")
    raise AssertionError(f"{name!r} is not reached by Tab; the focus was on {seen}")


def check_focus_is_seen(page) -> None:
    """What has the focus looks otherwise than without it."""
    box = page.evaluate(HOLD_FOCUSED)
    left, top = max(box["x"] - FOCUS_RIM_PX, 0), max(box["y"] - FOCUS_RIM_PX, 0)
    rim = 2 * FOCUS_RIM_PX
    clip = {"x": left, "y": top, "width": box["width"] + rim, "height": box["height"] + rim}
    pictures = []
    for press in ("focus", "blur"):
        page.evaluate(f"window.cloudmaskHeld.{press}()")
        page.wait_for_timeout(FADE_MS)
        pictures.append(page.screenshot(clip=clip))
    page.evaluate("window.cloudmaskHeld.focus()")
    assert pictures[0] != pictures[1], page.evaluate(FOCUSED)


MOST_TABS = 90
FOCUS_RIM_PX = 8
FADE_MS = 400
"""Longer than the page's transitions of colours."""
HOLD_FOCUSED = """() => {
    let at = document.activeElement;
    while (at && at.shadowRoot && at.shadowRoot.activeElement) at = at.shadowRoot.activeElement;
    window.cloudmaskHeld = at;
    return at.getBoundingClientRect().toJSON();
}"""
FOCUSED = """() => {
    let at = document.activeElement;
    while (at && at.shadowRoot && at.shadowRoot.activeElement) at = at.shadowRoot.activeElement;
    if (!at) return ['', ''];
    const labels = [...(at.labels ?? [])].map(label => label.innerText).join(' ');
    // A part of the page that scrolls has the focus too; its text is no name.
    const own = (at.innerText ?? '').length < 80 ? at.innerText : '';
    const names = [at.getAttribute('aria-label'), labels, own, at.title];
    return [at.getAttribute('role') ?? at.tagName.toLowerCase(), names.join(' ')];
}"""
"""Role of what has the focus, and everything that it is called."""


def download(page, press: Callable[[], None]) -> Path:
    """Press what gives a file, and return where it is.

    Browsers give up a download that has just begun when the page's address changes; a run of Python
    of before the press, which changes it, may still be on its way.
    """
    for _ in range(DOWNLOADS):
        with page.expect_download() as waiting:
            press()
        if waiting.value.failure() is None:
            return Path(waiting.value.path())
    raise AssertionError(f"{waiting.value.url}: {waiting.value.failure()}")
