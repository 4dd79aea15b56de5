"""A series: a strip of its dates, and the curve of cloud over an area."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from openeo_cloudmask.viewer.charts import draw_cover, draw_dates
from openeo_cloudmask.viewer.drawing import AREA_KEY
from openeo_cloudmask.viewer.series import Series
from openeo_cloudmask.viewer.web import told


def choose_date(series: Series, asked: str | None) -> str:
    """Draw the strip of dates and the slider; return the label of the date looked at."""
    labels = list(series.dates)
    key, strip = series.key, f"dates_{series.title}"
    if st.session_state.get(key) not in labels:
        st.session_state[key] = asked if asked in labels else labels[0]

    def take() -> None:
        picked = st.session_state[strip].selection.get("date", [])
        if picked and picked[0].get("label") in labels:
            st.session_state[key] = picked[0]["label"]

    with told(), st.spinner("Reading the masks of all dates"):
        covers = {label: series.cover(label) for label in labels}
    if len(labels) == 1:
        return labels[0]
    st.altair_chart(
        draw_dates(covers, st.session_state[key]), key=strip, on_select=take,
        selection_mode="date", alt="Share of cloud on each date",
    )  # fmt: skip
    chosen = st.select_slider(
        "Date", labels, key=key, format_func=lambda label: f"{label}, {cover_text(covers[label])}",
        help="Arrow keys go from date to date; a bar of the strip above is clicked",
    )  # fmt: skip
    return str(chosen)


def cover_text(share: float | None) -> str:
    """Return a share of cloud for people."""
    return "nothing seen" if share is None else f"{share:.0%} cloud"


def draw_curve(series: Series, chosen: str) -> None:
    """Draw how much is cloud on each date, in the drawn area and in all of the masks."""
    ring = st.session_state.get(AREA_KEY)
    with told(), st.spinner("Counting cloud in the area"):
        rows = [
            {"label": label, "where": where, "cover": series.cover(label, area)}
            for where, area in (("Whole mask", None), *((("Drawn area", ring),) if ring else ()))
            for label in series.dates
        ]
    st.altair_chart(draw_cover(rows, chosen), alt="Curve of cloud over the dates")
    if not ring:
        st.caption("Draw an area on the map, or type one below it: a second curve is of it alone.")
    with st.expander("Table of the curve"):
        table = pd.DataFrame(rows).pivot_table(
            index="label", columns="where", values="cover", sort=False, dropna=False
        )
        st.dataframe(
            table,
            column_config={
                name: st.column_config.NumberColumn(format="percent") for name in table.columns
            },
        )
        st.caption("Share of cloud among the pixels seen; empty where none was seen.")
