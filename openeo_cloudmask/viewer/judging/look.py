"""The map of the page, and beside it the pixel that was clicked."""

from __future__ import annotations

from typing import Any

import streamlit as st

from openeo_cloudmask.classes import ClassScheme, OutputStyle
from openeo_cloudmask.evaluation.error_map import ERROR_CLASSES
from openeo_cloudmask.viewer.comparison import shown_scheme
from openeo_cloudmask.viewer.drawing import area_pen, take_area
from openeo_cloudmask.viewer.explorer import cell_class
from openeo_cloudmask.viewer.judging.area import type_area
from openeo_cloudmask.viewer.judging.choose import Chosen
from openeo_cloudmask.viewer.judging.pixel import draw_pixel
from openeo_cloudmask.viewer.judging.try_out import current_trial
from openeo_cloudmask.viewer.layers import Layer
from openeo_cloudmask.viewer.panels import (
    CELLS,
    Look,
    classes_data,
    draw_panels,
    image_data,
    live_data,
    map_data,
)
from openeo_cloudmask.viewer.web import rerun_here, session, told

TRIAL = "mask trial"
"""Id of the layer of a trial."""


@st.fragment
def look(chosen: Chosen, errors: list[str]) -> None:
    """Draw the map and the pixel that was clicked."""
    layers = collect(chosen, errors)
    if not layers:
        return
    # On a narrow screen the pixel comes below the map: see the style of the viewer's frame.
    left, right = st.container(key="look").columns([3.1, 1])
    with left:
        wish = Look(point=st.session_state.get("point"), go=st.session_state.get("go"))
        pen = area_pen(st.session_state, chosen.key)
        heard = draw_panels(map_data(chosen.key, layers, wish, draw=pen), key="compare_map")
        type_area()
    with told():
        if take_area(st.session_state, heard.drawn):
            st.rerun()  # scores and curves of the area are elsewhere on the page
    point = None if heard.click is None else (heard.click.latitude, heard.click.longitude)
    if point is not None and point != st.session_state.get("point"):
        st.session_state.point = point
        rerun_here()
    with right:
        draw_pixel(chosen)


def collect(chosen: Chosen, errors: list[str]) -> list[dict[str, Any]]:
    """Return the layers of the map, from bottom to top."""
    current, scene, reference = session(), chosen.scene, chosen.reference
    layers = []
    if scene is not None:
        layers.append(image_data(next(iter(scene.layers.values())), scene.picture))
        with told():
            layers += [live_data(live) for live in current.findings.live_masks(scene).values()]

    def add(layer: Layer, scheme: ClassScheme, identity: str, title: str) -> None:
        layers.append(classes_data(layer, scheme, identity=identity, title=title))

    for name in errors:
        layer = current.findings.error_layer(name, str(reference))
        add(layer, ERROR_CLASSES, f"errors {_lasting(name)}", f"Errors of {name}")
    if reference in current.references:
        entry = current.references[reference]
        add(entry.layer, shown_scheme(entry.reference.scheme), "reference", "Reference")
    shown = dict.fromkeys([*chosen.masks, *([reference] if reference in current.masks else [])])
    for name in reversed(shown):
        mask = current.masks[name]
        add(mask.layer, mask.scheme, f"mask {_lasting(name)}", name)
    if (found := current_trial(chosen.masks)) is not None:
        tried, title = found
        add(tried.layer, tried.mask.scheme, TRIAL, title)
    if (lit := st.session_state.get("lit")) and lit[0] in errors:
        layers += lit_layers(*lit, reference=str(reference))
    return layers


def _lasting(mask: str) -> str:
    """Return what names a mask from one date of its series to the next: opacity and order stay."""
    return session().masks[mask].series or mask


def lit_layers(
    mask: str, view: str, cell: tuple[int, int], *, reference: str
) -> list[dict[str, Any]]:
    """Return the layer of one cell of the confusion matrix of a mask, if it has such a matrix."""
    current = session()
    result = current.findings.compare(mask, reference).case(OutputStyle(view), dilated=False)
    if result is None:
        return []
    shown = cell_class(result.confusion.scheme, *cell)
    scheme = ClassScheme(name="cells", title=shown.title, classes=(shown,))
    layer = current.findings.cells_layer(mask, reference, result)
    return [classes_data(layer, scheme, identity=CELLS, title=shown.title)]
