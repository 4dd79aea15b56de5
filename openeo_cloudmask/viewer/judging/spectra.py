"""Spectra of the classes, of a mask, the reference or the errors."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from openeo_cloudmask.viewer.charts import draw_class_spectra
from openeo_cloudmask.viewer.class_spectra import spectrum_rows
from openeo_cloudmask.viewer.comparison import Comparison
from openeo_cloudmask.viewer.judging.choose import Chosen
from openeo_cloudmask.viewer.web import session, told


def draw_spectra(chosen: Chosen, found: Mapping[str, Comparison]) -> None:
    """Draw the median spectrum of each class, and the quartiles around it."""
    if chosen.scene is None:
        st.info("Spectra need the scene: open it on the page New job, or choose it above.")
        return
    current = session()
    kinds = {f"Classes of {name}": ("mask", name) for name in chosen.masks}
    if chosen.reference in current.references:
        kinds["Classes of the reference"] = ("reference", str(chosen.reference))
    kinds |= {f"Errors of {name}": ("errors", name) for name in found}
    if not kinds:
        st.info("Choose a mask or a reference above.")
        return
    wanted = st.selectbox("Spectra of", list(kinds), key="spectra_of")
    with told(), st.spinner("Reading pixels of the scene"):
        kind, name = kinds[wanted]
        spectra = current.findings.spectra(chosen.scene, kind, name, found.get(name))
    if not spectra:
        st.info("None of these classes lies within the scene.")
        return
    st.altair_chart(draw_class_spectra(spectrum_rows(spectra)), alt=f"Spectra: {wanted}")
    st.caption(
        "Median of the pixels of each class, and between their quartiles; from small windows "
        "spread over the scene. Bands are at their centre wavelengths."
    )
