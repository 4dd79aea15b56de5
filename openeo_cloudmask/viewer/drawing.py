"""What is drawn on the map of the viewer: what its pen offers, and what comes back of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from openeo_cloudmask.errors import InputError

Json = dict[str, Any]
Place = tuple[float, float]
"""Longitude and latitude, degrees."""

TOOLS = ("brush", "lasso", "polygon", "rectangle")
AREA_COLOR = "0072B2"
AREA_KEY = "drawn_area"
"""Of ``st.session_state``: the corners of the area drawn on Compare's map, or None."""
MAX_POINTS = 20_000
MAX_RADIUS_M = 1e6
_AREA_OF, _HEARD = "drawn_area_of", "drawn_heard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A shape that was finished on the map."""

    points: tuple[Place, ...]
    """Corners of an area, or points of a line."""
    area: bool
    radius_m: float = 0.0
    """Of a line: how far its pixels lie from it."""
    value: int | None = None
    """Of the class that was chosen, where there are classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something done with the pen: a shape, or the press of a button."""

    number: int
    """Grows from one event to the next."""
    shape: Shape | None = None
    action: str | None = None


def pen_data(
    tools: Sequence[str],
    *,
    classes: Sequence[Json] = (),
    shapes: Sequence[tuple[Shape, str]] = (),
    actions: Sequence[tuple[str, str, str]] = (),
    heard: int = 0,
) -> Json:
    """Return what the map has to know of its pen; see ``webmap/src/types.ts``.

    Args:
        tools: some of ``TOOLS``.
        classes: value, title, color and key of what a shape can be of.
        shapes: those that are there, each with its colour ``RRGGBB``.
        actions: name, title and key of buttons.
        heard: number of the last event that was dealt with; the map repeats those after it.
    """
    return {
        "tools": list(tools),
        "classes": list(classes),
        "shapes": [
            {
                "points": [list(point) for point in shape.points],
                "area": shape.area,
                "radius_m": shape.radius_m,
                "color": color,
            }
            for shape, color in shapes
        ],
        "actions": [{"name": name, "title": title, "key": key} for name, title, key in actions],
        "heard": heard,
    }


def read_events(given: Mapping[str, Any] | None, heard: int) -> tuple[Event, ...]:
    """Return what was done with the pen after event ``heard``, in order.

    Raises:
        InputError: it is not what the map sends.
    """
    if not given:
        return ()
    try:
        events = [_read_event(item) for item in given["events"]]
    except (KeyError, TypeError, ValueError, OverflowError) as err:
        raise InputError(f"what was drawn cannot be understood: {err!r}") from err
    return tuple(event for event in events if event.number > heard)


def _read_event(given: Mapping[str, Any]) -> Event:
    number = int(given["number"])
    if given["kind"] == "action":
        return Event(number=number, action=str(given["name"]))
    points = tuple((float(x), float(y)) for x, y in given["points"])
    radius, value = float(given["radius_m"]), given["value"]
    area = bool(given["area"])
    if not (3 if area else 1) <= len(points) <= MAX_POINTS:
        raise ValueError(f"{len(points)} points")
    if not all(abs(x) <= 180 and abs(y) <= 90 for x, y in points):
        raise ValueError("a place that is not on the Earth")
    if not (math.isfinite(radius) and 0 <= radius <= MAX_RADIUS_M):
        raise ValueError(f"a radius of {radius} m")
    shape = Shape(
        points=points, area=area, radius_m=radius, value=None if value is None else int(value)
    )
    return Event(number=number, shape=shape)


def area_pen(state: MutableMapping[Any, Any], key: str) -> Json:
    """Return the pen that draws one area on a map; that of another map is forgotten.

    Args:
        state: ``st.session_state``; ``AREA_KEY`` in it holds the area.
        key: names the map.
    """
    if state.get(_AREA_OF) != key:
        state[_AREA_OF], state[AREA_KEY] = key, None
    corners = state[AREA_KEY]
    shapes = [(Shape(points=corners, area=True), AREA_COLOR)] if corners else []
    return pen_data(
        ("polygon", "lasso", "rectangle"),
        shapes=shapes,
        actions=[("clear", "No area", "x")] if corners else (),
        heard=state.get(_HEARD, 0),
    )


def take_area(state: MutableMapping[Any, Any], given: Mapping[str, Any] | None) -> bool:
    """Put the area that was drawn, or None where it was taken away, into ``state[AREA_KEY]``.

    Returns:
        Whether it is another one now.

    Raises:
        InputError: what the map sent cannot be understood.
    """
    events = read_events(given, state.get(_HEARD, 0))
    if not events:
        return False
    before, last = state.get(AREA_KEY), events[-1]
    state[_HEARD] = last.number
    state[AREA_KEY] = None if last.shape is None else last.shape.points
    return bool(state[AREA_KEY] != before)
