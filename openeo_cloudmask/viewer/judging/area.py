"""The area that scores and curves are restricted to: drawn on the map, or typed."""

from __future__ import annotations

import streamlit as st

from openeo_cloudmask.viewer.areas import check_area
from openeo_cloudmask.viewer.drawing import AREA_KEY
from openeo_cloudmask.viewer.places import Ring, ring_of
from openeo_cloudmask.viewer.web import told

SIDES = ("west", "south", "east", "north")


def drawn_area() -> Ring | None:
    """Return the corners of the area, None without one."""
    found: Ring | None = st.session_state.get(AREA_KEY)
    return found


def type_area() -> None:
    """Draw fields for a rectangle, for those who do not use a mouse."""
    with st.expander("Type an area"), st.form("type_area", border=False):
        sides = [
            column.number_input(name.capitalize(), value=None, format="%.5f", key=f"area_{name}")
            for column, name in zip(st.columns(4), SIDES, strict=True)
        ]
        if st.form_submit_button("Use this area") and None not in sides:
            west, south, east, north = (float(side or 0) for side in sides)
            with told():
                st.session_state[AREA_KEY] = ring_of(check_area((west, south, east, north)))
            st.rerun()
    if drawn_area() is not None and st.button("Forget the area", icon=":material/close:"):
        st.session_state[AREA_KEY] = None
        st.rerun()
