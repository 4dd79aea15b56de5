"""What a person does in the viewer, step by step."""

from __future__ import annotations

WAIT_MS = 180_000
MAP = "iframe[title*=st_folium]"


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


def wait_for_map(page) -> None:
    """Wait until every tile that the map asked for is drawn, and faded in."""
    frame = map_frame(page)
    frame.wait_for_function(
        """() => {
            const tiles = [...document.querySelectorAll('.leaflet-tile')];
            return tiles.some(t => t.classList.contains('leaflet-tile-loaded'))
                && tiles.every(t => t.getAttribute('src') === null || t.complete);
        }""",
        timeout=WAIT_MS,
    )
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
    page.wait_for_timeout(1500)
