"""Models, from the STAC catalog and nothing else."""

from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from openeo_cloudmask.models.registry import MODELS
from openeo_cloudmask.viewer.cards import ModelCard
from openeo_cloudmask.viewer.charts import swatches
from openeo_cloudmask.viewer.readiness import READY, readiness
from openeo_cloudmask.viewer.speeds import data_folder, measure_speed, read_speeds
from openeo_cloudmask.viewer.web import cards, paths_allowed, told

PAGE = {"title": "Models", "icon": ":material/model_training:", "place": 3}

THERMAL_FROM_NM = 3000
TABLE_HEIGHT_PX = 420


def draw_bands(card: ModelCard, sensor: str) -> None:
    """Draw the bands on a wavelength axis; thermal ones, far away, are named below."""
    bands = dict(card.bands)[sensor]
    rows = [
        {"band": band.name, "from": band.min_nm, "to": band.max_nm, "name": band.common_name}
        for band in bands
        if band.min_nm is not None and band.max_nm is not None and band.min_nm < THERMAL_FROM_NM
    ]
    if rows:
        chart = (
            alt.Chart(pd.DataFrame(rows))
            .mark_rect(stroke="#333333", strokeWidth=0.5)
            .encode(
                x=alt.X("from:Q", title="wavelength, nm", scale=alt.Scale(domain=[400, 2400])),
                x2="to:Q",
                y=alt.Y("band:N", sort=None, title=None, axis=alt.Axis(labelOverlap=False)),
                color=alt.Color("from:Q", scale=alt.Scale(scheme="viridis"), legend=None),
                tooltip=["band", "name", "from", "to"],
            )
            .properties(height=16 * len(rows) + 30)
        )
        st.altair_chart(chart)
    thermal = [band.name for band in bands if (band.min_nm or 0) >= THERMAL_FROM_NM]
    if thermal:
        st.caption(f"Thermal: {', '.join(thermal)}")


def draw_classes(card: ModelCard) -> None:
    """Draw the classes with their colours."""
    st.html(swatches(card.classes))
    if card.untold:
        st.caption(f"Cannot tell: {', '.join(item.title.lower() for item in card.untold)}")


def draw_card(card: ModelCard) -> None:
    """Draw one model."""
    with st.container(border=True):
        head, button = st.columns([4, 1])
        head.subheader(card.title, anchor=card.id)
        head.caption(f"`{card.id}` · {card.family}")
        if card.id in MODELS and readiness(MODELS[card.id]) == READY:
            draw_speed(card)
        if button.button("Use this model", key=f"use_{card.id}"):
            st.session_state.chosen_model = card.id
            st.switch_page("screens/new_job.py")
        st.write(card.description)
        licence = card.licence if not card.licence_url else f"[{card.licence}]({card.licence_url})"
        if card.non_commercial:
            st.warning(f"Licence {licence}: not for commercial use.", icon=":material/gavel:")
        else:
            st.markdown(f"Licence {licence}")
        draw_classes(card)
        with st.expander("Bands, scores, citation", expanded=True):
            chosen = st.selectbox(
                "Bands of", [key for key, _ in card.sensors], format_func=dict(card.sensors).get,
                key=f"bands_of_{card.id}",
            )  # fmt: skip
            draw_bands(card, chosen)
            if card.sensor_independent:
                st.write("Sensor-independent: any described sensor will do.")
            if card.scores:
                st.dataframe(pd.json_normalize(list(card.scores)), hide_index=True)
            else:
                st.write("No scores are known.")
            if card.parameters:
                st.write(f"{card.parameters:,} parameters")
            cite = f" [{card.doi_url}]({card.doi_url})" if card.doi_url else ""
            st.markdown(f"{card.citation}{cite}")


def draw_speed(card: ModelCard) -> None:
    """Draw how fast the model is here, and the button that measures it."""
    speed = read_speeds(data_folder()).get(card.id)
    text = "not measured yet" if speed is None else f"{speed:.2f} megapixels per second"
    said, button = st.columns([4, 1], vertical_alignment="center")
    said.caption(f"On this machine: {text}")
    if button.button("Measure", key=f"measure_{card.id}", help="A simulated scene of 1024 pixels"):
        with told(), st.spinner("The model masks a simulated scene"):
            measure_speed(data_folder(), card.id)
        st.rerun()


def draw_table(shown: list[ModelCard]) -> None:
    """Draw a row for each model, to be sorted by a click on a heading; a row opens its card."""

    def take() -> None:
        rows = st.session_state.models_table.selection.rows
        if rows:
            st.session_state.card = shown[rows[0]].id

    speeds = read_speeds(data_folder())
    st.dataframe(
        [model_row(card, speeds.get(card.id)) for card in shown],
        key="models_table",
        on_select=take,
        selection_mode="single-row",
        hide_index=True,
        height=TABLE_HEIGHT_PX,
        column_config={
            "balanced accuracy": st.column_config.NumberColumn(
                format="%.3f",
                help="The lowest of those measured; on what data, the model's card says",
            ),
            "parameters": st.column_config.NumberColumn(format="localized"),
            "Mpx/s here": st.column_config.NumberColumn(
                format="%.2f",
                help="Megapixels per second on this machine: of the last mask of at least 512 x "
                "512 pixels, or as measured on the model's card",
            ),
        },
    )


def model_row(card: ModelCard, speed: float | None) -> dict[str, Any]:
    """Return what the table says of a model."""
    measured = [
        score["metrics"]["balanced_accuracy"]
        for score in card.scores
        if "balanced_accuracy" in score.get("metrics", {})
    ]
    least = min((len(bands) for _, bands in card.bands), default=0)
    return {
        "model": card.id,
        "runs here": readiness(MODELS[card.id]) if card.id in MODELS else "not in this version",
        "bands": card.min_bands if card.sensor_independent else least,
        "sensors": "any" if card.sensor_independent else str(len(card.sensors)),
        "tells": ", ".join(item.title.lower() for item in card.classes),
        "balanced accuracy": min(measured, default=None),
        "Mpx/s here": speed,
        "parameters": card.parameters,
        "licence": card.licence,
        "commercial use": not card.non_commercial,
    }


st.title("Models")
st.text_input(
    "Catalog",
    key="catalog_href",
    placeholder="the one that comes with the viewer",
    help="Path or address of a STAC catalog.json"
    if paths_allowed()
    else "Public https address of a STAC catalog.json",
)
with told():
    known = cards()

sensors = {identity: title for card in known for identity, title in card.sensors}
common = sorted(
    {b.common_name for c in known for _, bands in c.bands for b in bands if b.common_name}
)
left, middle, right = st.columns(3, vertical_alignment="bottom")
sensor = left.selectbox(
    "Sensor", ["any", *sensors], format_func=lambda key: sensors.get(key, "Any")
)
bands = middle.multiselect("Available bands", common, help="Only models that need no others")
free = right.toggle("Commercial use allowed", help="Leaves out models with non-commercial licences")
shown = [
    card
    for card in known
    if (sensor == "any" or sensor in dict(card.sensors))
    and (not bands or card.takes(bands))
    and not (free and card.non_commercial)
]
st.caption(f"{len(shown)} of {len(known)} models")
if not shown:
    st.info("No model fits. Take away a condition: fewer limits, or more available bands.")
else:
    names = [card.id for card in shown]
    draw_table(shown)
    wanted = st.session_state.get("card") or st.session_state.get("chosen_model")
    st.session_state.card = wanted if wanted in names else names[0]
    chosen = st.selectbox(
        "Model", names, key="card", help="Or choose it in the table: the box left of its name"
    )
    draw_card(shown[names.index(chosen)])
