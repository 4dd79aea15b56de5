"""The map: leafmap on Leaflet, with every script and style served by the viewer itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.grid import Bounds
from openeo_cloudmask.viewer.layers import Layer

if TYPE_CHECKING:
    import folium
    import leafmap.foliumap as leafmap

VENDOR_JS = (
    "/vendor/leaflet/leaflet.js",
    "/vendor/leaflet-side-by-side/leaflet-side-by-side.js",
)
VENDOR_CSS = (
    "/vendor/leaflet/leaflet.css",
    "/vendor/leaflet-side-by-side/leaflet-side-by-side.css",
)
MAP_HEIGHT_PX = 480

_SCALE_STYLE = "<style>.leaflet-control-scale-line {font-size: 11px}</style>"
"""Folium's letters are larger than Leaflet's: five figures would not fit above a short bar."""

BASEMAPS: Mapping[str, tuple[str, str]] = {
    "OpenStreetMap": (
        "https://tile.openstreetmap.org/{z}/{x}/{y}.png",
        "&copy; OpenStreetMap contributors",
    ),
}
"""Name -> tile address and attribution; used only when the user turns one on."""

_STACK = """
{% macro script(this, kwargs) %}
(function () {
  var map = {{ this._parent.get_name() }};
  var table = {{ this.table }};
  var key = {{ this.key }};
  var made = {}, swipe = null, sides = "", labels = [];
  map.getContainer().setAttribute("role", "application");
  map.getContainer().setAttribute(
    "aria-label", "Map of the scene; arrow keys move it, + and - zoom");

  // A map that is built anew, because a layer was added, opens where the last one was.
  var kept = sessionStorage.getItem(key);
  if (kept) {
    var view = JSON.parse(kept);
    map.setView(view.center, view.zoom, {animate: false});
  }
  map.on("moveend", function () {
    sessionStorage.setItem(key, JSON.stringify({center: map.getCenter(), zoom: map.getZoom()}));
  });

  // Leaflet asks once for a tile; a server that was busy just then would leave a hole for ever.
  function askAgain(event) {
    var tile = event.tile, url = tile.src, tries = tile.cloudmaskTries || 0;
    if (tries >= 3) { return; }
    tile.cloudmaskTries = tries + 1;
    setTimeout(function () {
      if (tile.isConnected) { tile.src = url; }
    }, 500 * Math.pow(2, tries));
  }
  function layer(token) {
    if (!made[token]) {
      var entry = table[token];
      made[token] = L.tileLayer(entry.url, {
        bounds: entry.bounds, maxNativeZoom: 18, maxZoom: 20, attribution: "", role: token
      }).on("tileerror", askAgain);
    }
    return made[token];
  }
  function label(text, side) {
    var control = L.control({position: side});
    control.onAdd = function () {
      var box = L.DomUtil.create("div", "cloudmask-label");
      box.textContent = text;
      box.style.cssText =
        "background:#fff;padding:2px 8px;border:1px solid #777;border-radius:4px;font-size:13px";
      return box;
    };
    control.addTo(map);
    labels.push(control);
  }
  function endSwipe() {
    if (swipe) { swipe.remove(); }
    swipe = null;
    sides = "";
    labels.forEach(function (control) { control.remove(); });
    labels = [];
  }
  // Everything that changes while one looks: which layers, how opaque, and the divider.
  window.cloudmaskShow = function (state) {
    var wanted = state.layers.map(function (entry) { return entry.token; });
    var asked = state.swipe ? state.swipe.join(" ") : "";
    if (asked !== sides) { endSwipe(); }
    Object.keys(made).forEach(function (token) {
      if (wanted.indexOf(token) < 0 && map.hasLayer(made[token])) { map.removeLayer(made[token]); }
    });
    state.layers.forEach(function (entry, place) {
      var one = layer(entry.token);
      if (!map.hasLayer(one)) { one.addTo(map); }
      one.setOpacity(entry.opacity);
      one.setZIndex(place + 1);
    });
    if (asked && !swipe) {
      swipe = L.control.sideBySide(layer(state.swipe[0]), layer(state.swipe[1])).addTo(map);
      var divider = map.getContainer().querySelector(".leaflet-sbs-range");
      divider.setAttribute("aria-label", "Divider between " + table[state.swipe[0]].title +
        " and " + table[state.swipe[1]].title);
      // Dragging the divider must not count as a click on a pixel.
      L.DomEvent.disableClickPropagation(map.getContainer().querySelector(".leaflet-sbs"));
      label(table[state.swipe[0]].title, "bottomleft");
      label(table[state.swipe[1]].title, "bottomright");
      sides = asked;
    }
  };
})();
{% endmacro %}
"""

_SHOW = """
{% macro script(this, kwargs) %}
window.cloudmaskShow({{ this.state }});
{% endmacro %}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapState:
    """What a map shows just now; changing it does not load the map again."""

    layers: tuple[tuple[Layer, float], ...]
    """Layers from bottom to top, each with its opacity 0-1."""
    swipe: tuple[Layer, Layer] | None = None
    """Layers left and right of a divider; both are in ``layers``."""
    point: tuple[float, float] | None = None
    """Latitude and longitude of the pixel looked at."""


@cache
def _element(template: str) -> type[folium.MacroElement]:
    """Return a class of map elements with that script; folium is only imported here."""
    import folium
    from folium.template import Template

    return type("CloudMaskElement", (folium.MacroElement,), {"_template": Template(template)})


def build_map(layers: Sequence[Layer], *, basemap: str | None = None) -> leafmap.Map:
    """Return a map that knows ``layers`` and shows none of them yet; see ``state_group``.

    Its script depends on the set of layers only: a map whose script changes is built anew in the
    browser. What changes often goes through ``state_group``.

    Args:
        layers: what may be shown.
        basemap: name in ``BASEMAPS``; None asks no other host for anything.
    """
    west, south, east, north = _union([layer.bounds for layer in layers])
    view = plain_map(center=((south + north) / 2, (west + east) / 2), zoom=11)
    if basemap is not None:
        import folium

        address, attribution = BASEMAPS[basemap]
        folium.TileLayer(address, attr=attribution, name=basemap).add_to(view)
    view.fit_bounds([[south, west], [north, east]])
    stack: Any = _element(_STACK)()
    stack.table = _as_script(
        {
            layer.token: {
                "url": layer.tile_url,
                "title": layer.title,
                "bounds": [layer.bounds[1::-1], layer.bounds[:1:-1]],
            }
            for layer in layers
        }
    )
    stack.key = _as_script(f"cloudmask-view {west:.4f} {south:.4f} {east:.4f} {north:.4f}")
    stack.add_to(view)
    localize(view)
    return view


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


def state_group(state: MapState) -> folium.FeatureGroup:
    """Return what brings a map of ``build_map`` to ``state`` without loading it again."""
    import folium

    group = folium.FeatureGroup(name="state")
    show: Any = _element(_SHOW)()
    show.state = _as_script(
        {
            "layers": [
                {"token": layer.token, "opacity": round(opacity, 3)}
                for layer, opacity in state.layers
            ],
            "swipe": None if state.swipe is None else [layer.token for layer in state.swipe],
        }
    )
    show.add_to(group)
    if state.point is not None:
        folium.CircleMarker(
            list(state.point), radius=6, color="#000000", weight=3, fill=False
        ).add_to(group)
        folium.CircleMarker(
            list(state.point), radius=6, color="#ffffff", weight=1, fill=False
        ).add_to(group)
    return group


def _as_script(value: object) -> str:
    """Return JSON that cannot end the script it stands in, whatever names users give."""
    text = json.dumps(value)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _union(bounds: Sequence[Bounds]) -> Bounds:
    if not bounds:
        return (-180.0, -60.0, 180.0, 75.0)
    west, south, east, north = zip(*bounds, strict=True)
    return min(west), min(south), max(east), max(north)


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
