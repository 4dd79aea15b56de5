"""The map of the page Compare: a component of its own that lives in the browser.

Layers, order, opacity, bands, stretch, panels and the divider are the browser's; Python tells it
which layers there are, and is notified of clicks. Its sources are in ``webmap``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from openeo_cloudmask import assets
from openeo_cloudmask.classes import ALCD, FOUR_CLASS, VALID_INVALID, ClassScheme, mapping
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.evaluation.error_map import ERROR_CLASSES
from openeo_cloudmask.grid import Bounds
from openeo_cloudmask.viewer.layers import Layer
from openeo_cloudmask.viewer.live import LiveMask
from openeo_cloudmask.viewer.maps import BASEMAPS
from openeo_cloudmask.viewer.scenes import Picture

SCRIPT = "vendor/map/map.js"
_LOADER = """
export default async function (component) {
  const map = await import(new URL("/%s?v=%s", window.location.origin).href);
  return map.show(component);
}
"""
_ORDER = ("labels", "mask", "reference", "errors")
LIVE = "live"
"""First word of the ids of live masks, which are off until the user turns one on."""
CELLS = "cells"
"""Id of the layer of one cell of a confusion matrix, which lies over all panels."""
"""Kinds of layers, by which the first word of an id names them."""
Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Click:
    """A pixel that was clicked, or looked at with the keyboard."""

    longitude: float
    latitude: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the map told just now."""

    click: Click | None = None
    drawn: Mapping[str, Any] | None = None
    """Of the pen, for ``drawing.read_events``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What Python wishes the map to show beside its layers."""

    point: tuple[float, float] | None = None
    """Latitude and longitude of the pixel looked at."""
    go: tuple[int, Bounds] | None = None
    """A place to go to, and the number of the wish: the same number is one wish."""


def image_data(layer: Layer, picture: Picture) -> Json:
    """Return what the map has to know of a scene's picture; its bands are chosen there."""
    return {
        "id": "image",
        "title": "Image",
        "url": layer.tile_url,
        "bounds": list(layer.bounds),
        "kind": "image",
        "bands": [
            {"index": index, "title": title} for index, title in enumerate(picture.bands, start=1)
        ],
        "composites": [
            {"title": title, "bands": list(bands)} for title, bands in picture.composites.items()
        ],
    }


def classes_data(
    layer: Layer | LiveMask, scheme: ClassScheme, *, identity: str, title: str
) -> Json:
    """Return what the map has to know of a layer of classes."""
    clear = clear_values(scheme)
    # What nothing is drawn in needs no line in the legend.
    shown = [item for item in scheme.classes if scheme.name != ALCD.name or item.value > 1]
    return {
        "id": identity,
        "title": title,
        "url": layer.tile_url,
        "bounds": list(layer.bounds),
        "kind": "classes",
        "classes": [
            {
                "value": item.value,
                "title": item.title,
                "color": item.color,
                "clear": item.value in clear,
            }
            for item in shown
        ],
    }


def live_data(live: LiveMask) -> Json:
    """Return what the map has to know of a mask that is computed while somebody pans."""
    model = live.options.model
    layer = classes_data(live, live.scheme, identity=f"{LIVE} {model}", title=f"Live: {model}")
    return {**layer, "live": True, "minZoom": live.min_zoom}


def clear_values(scheme: ClassScheme) -> frozenset[int]:
    """Return the values of a scheme that "hide clear" hides: no cloud, no shadow, no error."""
    if scheme is ERROR_CLASSES:
        return frozenset({0, 1})
    for target in (FOUR_CLASS, VALID_INVALID):
        try:
            meant = mapping(scheme, target)
        except OptionError:
            continue
        return frozenset(
            value for value, new in zip(scheme.values, meant, strict=True) if new in (0, 255)
        )
    return frozenset(item.value for item in scheme.classes if item.name.startswith("non-"))


def plan_panels(layers: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return which layers each panel shows at first, from bottom to top.

    The first has the first mask, the second the reference, then come other masks and errors, and
    last the bare image.
    """
    image = [layer["id"] for layer in layers if layer["kind"] == "image"]
    names = [layer["id"] for layer in reversed(layers) if layer["kind"] == "classes"]
    lit = [name for name in names if name == CELLS]
    names = [name for name in names if name.partition(" ")[0] not in (CELLS, LIVE)]
    # A stable sort: masks keep the order of the list, the topmost first.
    names.sort(key=lambda name: _ORDER.index(name.partition(" ")[0]))
    if len(names) > 1 and (other := next((n for n in names if n == "reference"), None)):
        names.remove(other)
        names.insert(1, other)
    shown = [[*image, name, *lit] for name in names]
    return [*shown, [*image, *lit]]


def map_data(
    key: str, layers: Sequence[Json], look: Look | None = None, *, draw: Json | None = None
) -> Json:
    """Return all that the component gets; see ``webmap/src/types.ts``.

    Args:
        key: what is looked at; the view is kept as long as it stays the same.
        layers: from ``image_data`` and ``classes_data``, from bottom to top.
        look: what else it is to show.
        draw: what can be drawn on it, from ``drawing.pen_data``.
    """
    look = look or Look()
    url, credit = next(iter(BASEMAPS.values()))
    return {
        "key": key,
        "layers": list(layers),
        "panels": plan_panels(layers),
        "point": None if look.point is None else list(look.point),
        "go": None if look.go is None else {"number": look.go[0], "bounds": list(look.go[1])},
        "streets": {"url": url, "credit": credit.replace("&copy;", "©")},
        "draw": draw,
    }


@cache
def _component() -> Callable[..., Any]:
    import streamlit as st

    path = assets.path(f"viewer/{SCRIPT}")
    version = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    return st.components.v2.component("cloudmask_map", js=_LOADER % (SCRIPT, version))


def draw_panels(data: Json, *, key: str) -> Heard:
    """Draw the map; return what it told just now."""
    answer = _component()(
        data=data, key=key, on_clicked_change=lambda: None, on_drawn_change=lambda: None
    )
    clicked, drawn = getattr(answer, "clicked", None), getattr(answer, "drawn", None)
    return Heard(
        click=Click(longitude=float(clicked["longitude"]), latitude=float(clicked["latitude"]))
        if clicked
        else None,
        drawn=drawn or None,
    )
