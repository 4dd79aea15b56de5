"""The map on which an area is chosen, and the scenes a back end has there."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.grid import Bounds, overlap
from openeo_cloudmask.viewer.layers import Layer
from openeo_cloudmask.viewer.maps import localize, plain_map

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import openeo

AREA_HEIGHT_PX = 320
MAX_SCENES = 100


def area_from_clicks(clicks: list[tuple[float, float]]) -> Bounds | None:
    """Return west, south, east, north of the box between the last two clicks (lat, lon)."""
    if len(clicks) < 2:
        return None
    (lat_1, lon_1), (lat_2, lon_2) = clicks[-2:]
    return min(lon_1, lon_2), min(lat_1, lat_2), max(lon_1, lon_2), max(lat_1, lat_2)


def check_area(area: Bounds) -> Bounds:
    """Return an area that can be asked for.

    Raises:
        OptionError: it lies beyond the globe, or its sides are the wrong way round.
    """
    west, south, east, north = area
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise OptionError(
            f"the area is {west:g}, {south:g}, {east:g}, {north:g} (west, south, east, north); "
            "expected longitudes from -180 to 180 and latitudes from -90 to 90 degrees, south "
            "below north"
        )
    if west >= east or south >= north:
        raise OptionError(
            f"the area reaches from {west:g} west to {east:g} east and from {south:g} south to "
            f"{north:g} north; expected west below east and south below north. An area across "
            "the antimeridian is asked for in two parts"
        )
    return area


def draw_area_map(
    extent: Bounds, chosen: Bounds, *, key: str, pictures: Sequence[Layer] = ()
) -> Bounds | None:
    """Draw the collection's extent and the chosen area; two clicks are two corners of a new one.

    Args:
        extent: west, south, east and north of the collection, degrees.
        chosen: the area as it is, clicked or typed.
        key: tells this map from others.
        pictures: what is drawn below, where it lies in the extent.

    Returns:
        West, south, east, north of a box whose second corner was just clicked, or else None.
    """
    import folium
    import streamlit as st
    from streamlit_folium import st_folium

    west, south, east, north = extent
    corners = st.session_state.setdefault(f"{key}_corners", [])
    view = plain_map(center=((south + north) / 2, (west + east) / 2), zoom=8)
    for layer in pictures:
        if overlap(layer.bounds, extent):
            reach = [layer.bounds[1::-1], layer.bounds[:1:-1]]
            picture = folium.TileLayer(layer.tile_url, attr="own", max_native_zoom=18, bounds=reach)
            picture.options["attribution"] = ""  # folium asks for one; the user's own needs none
            picture.add_to(view)
    box = [[south, west], [north, east]]
    folium.Rectangle(box, color="#0072B2", fill=False, tooltip="extent of the collection").add_to(
        view
    )
    view.fit_bounds(box)
    localize(view)
    overlay = folium.FeatureGroup(name="area")
    for latitude, longitude in corners:
        folium.CircleMarker([latitude, longitude], radius=5, color="#D55E00").add_to(overlay)
    if chosen != extent:
        folium.Rectangle(
            [[chosen[1], chosen[0]], [chosen[3], chosen[2]]],
            color="#D55E00",
            fill=True,
            tooltip="area of the job",
        ).add_to(overlay)
    st.caption("Click two corners on the map, or type the area below.")
    answer = st_folium(
        view,
        key=key,
        height=AREA_HEIGHT_PX,
        use_container_width=True,
        returned_objects=["last_clicked"],
        feature_group_to_add=overlay,
    )
    clicked = (answer or {}).get("last_clicked")
    place = (clicked["lat"], clicked["lng"]) if clicked else None
    if place is None or place == st.session_state.get(f"{key}_last"):
        return None
    st.session_state[f"{key}_last"] = place  # the map tells its last click again and again
    corners.append(place)
    drawn = area_from_clicks(corners)
    if drawn is None:
        st.rerun()
    corners.clear()
    return drawn


def list_scenes(
    connection: openeo.Connection,
    collection: str,
    area: Bounds,
    dates: tuple[dt.date, dt.date],
    *,
    backend_data: Path | None = None,
) -> list[dict[str, Any]] | None:
    """Return what the back end says of its scenes there, or None where it does not list any.

    Back ends that are STAC APIs of features answer ``/collections/ID/items``; the embedded one's
    are read from its folder, ``backend_data``.
    """
    if backend_data is not None:
        return read_scenes(backend_data, collection, area, dates)
    from openeo.rest import OpenEoClientException, OpenEoRestError
    from requests import RequestException

    try:
        answer = connection.get(
            f"/collections/{collection}/items",
            params={
                "bbox": ",".join(map(str, area)),
                "datetime": f"{dates[0]}T00:00:00Z/{dates[1]}T00:00:00Z",
                "limit": MAX_SCENES,
            },
            expected_status=200,
        ).json()
    except (OpenEoRestError, OpenEoClientException, RequestException, ValueError):
        return None  # an optional part of the API: the page then shows no list
    return [_scene_row(item) for item in answer.get("features", [])]


def read_scenes(
    backend_data: Path, collection: str, area: Bounds, dates: tuple[dt.date, dt.date]
) -> list[dict[str, Any]]:
    """Return the scenes of a collection of the embedded back end, there and then."""
    from openeo_cloudmask.backend.cubes.collections import CollectionStore
    from openeo_cloudmask.backend.settings import Settings

    store = CollectionStore(Settings(data_dir=backend_data).collections_dir)
    first, last = str(dates[0]), str(dates[1])
    return [
        _scene_row(item)
        for item in store.items(collection)
        if (item.get("bbox") is None or overlap(item["bbox"], area))
        and first <= (item["properties"].get("datetime") or "")[:10] < last
    ][:MAX_SCENES]


def _scene_row(item: Mapping[str, Any]) -> dict[str, Any]:
    cover = item["properties"].get("eo:cloud_cover")
    return {
        "scene": item["id"],
        "date (UTC)": (item["properties"].get("datetime") or "")[:16].replace("T", " "),
        "cloud cover": "not stated" if cover is None else f"{cover:.0f} %",
    }
