"""The largest errors of a mask as places that the map goes to."""

from __future__ import annotations

import streamlit as st

from openeo_cloudmask.viewer.comparison import Comparison
from openeo_cloudmask.viewer.explorer import largest_errors


def draw_errors(found: dict[str, Comparison]) -> None:
    """Draw the largest omissions and commissions; the map goes to the one that is chosen."""
    name = st.selectbox("Mask", list(found), key="errors_mask")
    spots = largest_errors(found[name].evaluation)
    if not spots:
        st.success("No pixel is wrong.")
        return

    def jump(place: int) -> None:
        state = st.session_state
        state.error_at = place % len(spots)
        spot = spots[state.error_at]
        state.point, state.go = spot.point, (state.get("go", (0,))[0] + 1, spot.bounds)

    def chosen() -> None:
        rows = st.session_state[f"errors_{name}"].selection.rows
        if rows:
            jump(rows[0])

    at = min(st.session_state.get("error_at", -1), len(spots) - 1)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Previous error", on_click=jump, args=(at - 1,), icon=":material/chevron_left:")
        st.button("Next error", on_click=jump, args=(at + 1,), icon=":material/chevron_right:")
        if at >= 0:
            spot = spots[at]
            st.write(f"{at + 1} of {len(spots)}: {spot.kind}, {spot.pixels:,} pixels")
    st.dataframe(
        [
            {
                "": place,
                "error": spot.kind,
                "pixels": spot.pixels,
                "km²": spot.area_km2,
                "latitude": spot.point[0],
                "longitude": spot.point[1],
            }
            for place, spot in enumerate(spots, start=1)
        ],
        key=f"errors_{name}",
        on_select=chosen,
        selection_mode="single-row",
        hide_index=True,
        column_config={"km²": st.column_config.NumberColumn(format="%.2f")},
    )
    st.caption(
        "Wrong pixels that touch each other, the largest first. Omission: cloud or shadow of the "
        "reference that the mask lacks; commission: the mask has it, the reference not."
    )
