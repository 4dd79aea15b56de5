"""Maps ask no other host, and what changes often is no part of them."""

import re

import numpy as np
import pytest

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.viewer.layers import LayerStore, class_colors, open_layer
from openeo_cloudmask.viewer.maps import BASEMAPS, MapState, build_map, state_group


@pytest.fixture
def layers(write_classes):
    path, store = write_classes(np.zeros((64, 64))), LayerStore()
    return [
        open_layer(path, title=title, colors=class_colors(FOUR_CLASS), store=store)
        for title in ("one", "</script><b>two")
    ]


def addresses(view) -> set[str]:
    text = view.get_root().render()
    # Leaflet's own credit is a link, not a request.
    return {url for url in re.findall(r"https?://[^\s\"'<]+", text) if "leafletjs.com" not in url}


def test_a_map_asks_no_other_host(layers):
    assert addresses(build_map(layers)) == set()


def test_a_base_map_is_the_only_other_host(layers):
    name = next(iter(BASEMAPS))
    found = addresses(build_map(layers, basemap=name))
    assert found
    assert all("openstreetmap.org" in url for url in found)


def test_titles_cannot_end_the_script(layers):
    text = build_map(layers).get_root().render()
    assert "</script><b>two" not in text
    assert "\\u003c/script\\u003e" in text


def test_opacity_swipe_and_point_are_no_part_of_the_map(layers):
    from streamlit_folium import _get_map_string

    scripts = set()
    for state in (
        MapState(layers=((layers[0], 1.0),)),
        MapState(layers=((layers[0], 0.2), (layers[1], 0.5)), swipe=(layers[0], layers[1])),
        MapState(layers=(), point=(1.0, 2.0)),
    ):
        view = build_map(layers)
        view.get_root().render()
        state_group(state)
        scripts.add(_get_map_string(view))
    assert len(scripts) == 1


def test_the_state_names_layers_and_opacity(layers):
    import folium

    view = folium.Map()
    group = state_group(MapState(layers=((layers[0], 0.25),), point=(45.0, 3.0)))
    group.add_to(view)
    text = view.get_root().render()
    assert f'"token": "{layers[0].token}", "opacity": 0.25' in text
    assert "[45.0, 3.0]" in text
