"""Where one begins."""

import streamlit as st

from openeo_cloudmask import __version__
from openeo_cloudmask.viewer.web import make_demo, session

PAGE = {"title": "Start", "icon": ":material/home:", "place": 1}

st.title("Cloud masks")
st.write(
    "Mask clouds and their shadows in Sentinel-2, Landsat and other optical images, here or on an "
    "openEO back end, and compare the masks with reference masks, class by class."
)
current = session()
first, second, third = st.columns(3)
with first, st.container(border=True):
    st.subheader("1. A scene")
    st.write("Simulate one in seconds, open a file, or pick one from a back end's collection.")
    if st.button("Make a demo scene", icon=":material/auto_awesome:", type="primary"):
        make_demo()
    st.page_link("screens/import_own.py", label="Open your own", icon=":material/upload_file:")
    st.page_link("screens/new_job.py", label="A collection", icon=":material/folder:")
with second, st.container(border=True):
    st.subheader("2. A mask")
    st.write("Choose a model and its parameters, and run it here or as a job.")
    st.page_link("screens/models.py", label="See the models", icon=":material/model_training:")
    st.page_link("screens/new_job.py", label="Make a mask", icon=":material/add_circle:")
with third, st.container(border=True):
    st.subheader("3. A comparison")
    st.write("Image, mask and reference on one map; errors, scores, spectra.")
    st.page_link("screens/compare.py", label="Compare", icon=":material/compare:")

rows = [
    *({"what": "scene", "name": name} for name in current.scenes),
    *({"what": "reference", "name": name} for name in current.references),
    *({"what": "mask", "name": name} for name in current.masks),
]
if rows:
    st.subheader("Opened so far")
    st.dataframe(rows, hide_index=True)
st.caption(f"openeo-cloudmask {__version__}")
