"""What one pixel is: its classes, probabilities and spectrum."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from openeo_cloudmask.errors import CloudMaskError
from openeo_cloudmask.evaluation.error_map import ERROR_CLASSES
from openeo_cloudmask.viewer.charts import draw_probabilities, draw_spectrum, pixel_text
from openeo_cloudmask.viewer.comparison import class_at, title_at
from openeo_cloudmask.viewer.entries import SceneEntry
from openeo_cloudmask.viewer.probabilities import Probabilities, how_made, kept_probabilities
from openeo_cloudmask.viewer.scenes import open_scene, read_spectrum
from openeo_cloudmask.viewer.web import rerun_here, session, told

if TYPE_CHECKING:
    from openeo_cloudmask.viewer.judging.choose import Chosen


def type_place() -> None:
    """Draw fields for a place, for those who do not use a mouse."""
    with st.form("place", border=False):
        latitude, longitude = st.columns(2)
        lat = latitude.number_input("Latitude", -90.0, 90.0, value=None, format="%.5f")
        lon = longitude.number_input("Longitude", -180.0, 180.0, value=None, format="%.5f")
        if st.form_submit_button("Look there") and lat is not None and lon is not None:
            st.session_state.point = (lat, lon)
            rerun_here()


def draw_pixel(chosen: Chosen) -> None:
    """Draw what is known of the pixel that was clicked."""
    scene, masks, reference = chosen.scene, chosen.masks, chosen.reference
    st.subheader("Pixel", anchor=False)
    point = st.session_state.get("point")
    if point is None:
        st.write("Click the map to see a pixel's classes, spectrum and probabilities.")
        with st.expander("Type a place"):
            type_place()
        return
    latitude, longitude = point
    st.caption(f"{latitude:.5f}, {longitude:.5f} (latitude, longitude)")
    st.table(pixel_rows(masks, reference, longitude, latitude), border="horizontal")
    with told():
        draw_models(scene, masks, longitude, latitude)
    if scene is None:
        return
    if scene.is_colors:
        st.caption("The image is a picture for looking at: it has no spectrum.")
        return
    with told():
        with open_scene(scene.path, sensor=scene.sensor_id, read=scene.read) as opened:
            spectrum = read_spectrum(opened, longitude, latitude)
        if spectrum is None:
            st.write("The scene does not reach this place.")
            return
        chart = draw_spectrum(spectrum)
        if chart is not None:
            st.altair_chart(chart, alt="Spectrum of the pixel")
    with st.expander("Values of the bands"):
        st.dataframe(
            {
                "band": [band.name for band in spectrum.bands],
                "value": [round(value, 4) for value in spectrum.values],  # noqa: PD011 - not a data frame
            },
            hide_index=True,
        )
        st.caption(f"row {spectrum.row}, column {spectrum.column}; reflectance 0-1")
        type_place()


def pixel_rows(
    masks: list[str], reference: str | None, longitude: float, latitude: float
) -> pd.DataFrame:
    """Return the class of the pixel in each mask and in the reference, and the verdict."""
    current = session()
    rows = []
    for name in masks:
        entry = current.masks[name]
        said = title_at(entry.path, entry.scheme, longitude, latitude)
        verdict = ""
        comparison = current.findings.comparisons.get((name, reference or ""))
        if comparison is not None:
            cell = comparison.evaluation.reference.grid
            judged = title_at(comparison.error_path, ERROR_CLASSES, longitude, latitude)
            verdict = f"{judged} ({pixel_text(cell)} cell)"
        rows.append((name, f"{said} ({pixel_text(current.findings.mask_grid(name))})", verdict))
    known = current.references.get(reference or "")
    if known is not None:
        given = known.reference
        said = class_at(given.labels, given.scheme, given.grid, longitude, latitude)
        sure = known.confidence_at(longitude, latitude)
        text = "" if sure is None else f"confidence {sure:.0%}"
        rows.append(("Reference", f"{said} ({pixel_text(given.grid)})", text))
    columns = ["layer", "class (pixel)", "verdict"]
    return pd.DataFrame(rows, columns=columns).set_index("layer")


def draw_models(scene: SceneEntry | None, masks: list[str], lon: float, lat: float) -> None:
    """Draw the probabilities of the pixel: those kept beside the masks, or else computed anew."""
    current = session()
    without = []
    for name in masks:
        entry = current.masks[name]
        if entry.percentages is None:
            without.append(name)
            continue
        found = kept_probabilities(entry.percentages, entry.scheme, lon, lat)
        if found is not None:
            st.markdown(f"**{name}**")
            st.altair_chart(draw_probabilities(found), alt="Probabilities of the classes")
            st.caption("Kept when the mask was made, whole percents; before any post-processing.")
    if without and scene is not None and not scene.is_colors:
        compute_models(scene, without, lon, lat)


def compute_models(scene: SceneEntry, masks: list[str], lon: float, lat: float) -> None:
    """Draw the probabilities of masks beside which none were kept: the models run once more."""
    current = session()
    made = [how_made(current.masks[name].path) for name in masks]
    models = list(dict.fromkeys(how for how in made if how))
    if not models:
        st.caption("These masks do not say which model made them: no probabilities.")
        return
    asked = {
        f"{how[0]}, stride {how[1]}": current.findings.ask_probabilities(scene, how, lon, lat)
        for how in models
    }
    pending = any(not future.done() for future in asked.values())
    # While a model works, the rest of the page stays free; this part looks again by itself.
    st.fragment(draw_asked, run_every=0.5 if pending else None)(asked, waited=pending)


def draw_asked(asked: dict[str, Future[Probabilities]], *, waited: bool) -> None:
    """Draw what the models have answered so far."""
    if waited and all(future.done() for future in asked.values()):
        st.rerun()
    for model, future in asked.items():
        st.markdown(f"**{model}**")
        if not future.done():
            st.caption("The model runs on the windows around the pixel ...")
            continue
        try:
            found = future.result()
        except CloudMaskError as err:
            st.warning(str(err), icon=":material/error:")
            continue
        if found is not None:
            st.altair_chart(draw_probabilities(found), alt="Probabilities of the classes")
    st.caption("Those the mask is made of: of the pixel, before any post-processing.")
