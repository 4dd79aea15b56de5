"""Maps of areas and references: leafmap on Leaflet, whose scripts the viewer serves itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import folium
    import leafmap.foliumap as leafmap

VENDOR_JS = ("/vendor/leaflet/leaflet.js",)
VENDOR_CSS = ("/vendor/leaflet/leaflet.css",)

_SCALE_STYLE = "<style>.leaflet-control-scale-line {font-size: 11px}</style>"
"""Folium's letters are larger than Leaflet's: five figures would not fit above a short bar."""

BASEMAPS: Mapping[str, tuple[str, str]] = {
    "OpenStreetMap": (
        "https://tile.openstreetmap.org/{z}/{x}/{y}.png",
        "&copy; OpenStreetMap contributors",
    ),
}
"""Name -> tile address and attribution; used only when the user turns one on."""


def plain_map(*, center: tuple[float, float], zoom: int) -> leafmap.Map:
    """Return a map without any layer or control but zoom and scale."""
    import leafmap.foliumap as leafmap
    from branca.element import Element

    view = leafmap.Map(
        center=list(center),
        zoom=zoom,
        tiles=None,
        fullscreen_control=False,
        layers_control=False,
        draw_control=False,
        measure_control=False,
        locate_control=False,
        minimap_control=False,
    )
    view.get_root().header.add_child(Element(_SCALE_STYLE), name="scale")
    return view


def localize(view: folium.Map) -> None:
    """Make ``view`` and all its parts take scripts and styles from the viewer alone.

    Scripts and styles share one table of names in the page, so no two may be called the same.
    """
    from folium.elements import JSCSSMixin

    def visit(part: object) -> None:
        if isinstance(part, JSCSSMixin):
            # Class-level lists are shared by all maps: new lists on the instance.
            part.default_js, part.default_css = [], []
        for child in getattr(part, "_children", {}).values():
            visit(child)

    visit(view)
    view.default_js = [(f"leaflet_js_{index}", url) for index, url in enumerate(VENDOR_JS)]
    view.default_css = [(f"leaflet_css_{index}", url) for index, url in enumerate(VENDOR_CSS)]
