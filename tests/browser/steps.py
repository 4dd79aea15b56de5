"""What a person does in the viewer, step by step."""

from __future__ import annotations

import time

WAIT_MS = 180_000
MAP = "iframe[title*=st_folium]"

READ_TILES = """() => {
    const tiles = [...document.querySelectorAll('.leaflet-tile')];
    const loaded = tiles.filter(tile => tile.classList.contains('leaflet-tile-loaded'));
    return {
        map: Boolean(window.map),
        size: [window.innerWidth, window.innerHeight],
        asked: tiles.length,
        loaded: loaded.length,
        pending: tiles.filter(t => t.getAttribute('src') !== null && !t.complete).map(t => t.src),
    };
}"""


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
    page.locator(f".st-key-use_{model} button").click(timeout=WAIT_MS)
    page.get_by_role("heading", name="New job", exact=True).wait_for(timeout=WAIT_MS)


def submit_job(page) -> None:
    page.get_by_role("button", name="Submit").click(timeout=WAIT_MS)
    page.get_by_role("heading", name="Jobs", exact=True).wait_for(timeout=WAIT_MS)


def open_results(page) -> None:
    page.get_by_role("button", name="Open in Compare").click(timeout=WAIT_MS)
    page.get_by_role("heading", name="Compare", exact=True).wait_for(timeout=WAIT_MS)
    page.get_by_role("tab", name="Confusion matrix").wait_for(timeout=WAIT_MS)
    wait_for_map(page)


def map_frame(page):
    return page.locator(MAP).element_handle(timeout=WAIT_MS).content_frame()


def read_maps(page) -> list[dict[str, object]]:
    """Return what each map of the page has asked for and drawn; a map may go while it is read."""
    from playwright.sync_api import Error

    found = []
    for frame in page.frames:
        if frame.parent_frame is None:
            continue
        try:
            if "st_folium" in (frame.frame_element().get_attribute("title") or ""):
                found.append(frame.evaluate(READ_TILES))
        except Error as err:
            found.append({"gone": str(err).splitlines()[0]})
    return found


def wait_for_map(page) -> None:
    """Wait until every tile that the map asked for is drawn, and faded in.

    Raises:
        AssertionError: it never is; says what the page and its maps look like.
    """
    deadline = time.monotonic() + WAIT_MS / 1000
    maps = read_maps(page)
    while not (len(maps) == 1 and maps[0].get("loaded") and not maps[0]["pending"]):
        if time.monotonic() > deadline:
            headings = page.get_by_role("heading").all_inner_texts()
            raise AssertionError(
                f"no map was drawn within {WAIT_MS / 1000:.0f} s; maps {maps}, headings {headings}"
            )
        page.wait_for_timeout(200)
        maps = read_maps(page)
    page.wait_for_timeout(700)  # Leaflet fades tiles in over 0.2 s


def place_on_screen(page, latitude: float, longitude: float) -> tuple[float, float]:
    """Return x and y in the page of a place on the map."""
    box = page.locator(MAP).bounding_box()
    point = map_frame(page).evaluate(
        """([lat, lng]) => {
            const p = window.map.latLngToContainerPoint([lat, lng]);
            const box = window.map.getContainer().getBoundingClientRect();
            return [p.x + box.left, p.y + box.top];
        }""",
        [latitude, longitude],
    )
    return box["x"] + point[0], box["y"] + point[1]


def set_slider(page, name: str, key: str) -> None:
    """Press a key (Home or End) on a slider."""
    thumb = page.get_by_role("slider", name=name)
    thumb.focus()
    thumb.press(key)


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
