"""The viewer's frame: pages and what is shown on all of them."""

from pathlib import Path

import streamlit as st

from openeo_cloudmask.viewer.names import FAINT_TEXT

# Not "pages": Streamlit would show the files of a folder of that name in a list of its own, to
# whoever comes by the address of a page before anyone opened the first.
SCREENS = Path(__file__).parent / "screens"

# A file of our own: Streamlit takes the picture of a named icon from another host.
ICON = Path(__file__).parent / "vendor" / "icon.png"

st.set_page_config(page_title="openeo-cloudmask", page_icon=str(ICON), layout="wide")
# Captions and placeholders are fainter by default than WCAG's AA asks for.
st.html(
    "<style>"
    "[data-testid='stCaptionContainer'], [data-testid='stCaptionContainer'] * "
    f"{{color: {FAINT_TEXT} !important; opacity: 1 !important}} "
    f"input::placeholder {{color: {FAINT_TEXT} !important; opacity: 1 !important}} "
    ".stMainBlockContainer {padding: 4.2rem 2.5rem 3rem} "
    "h1 {font-size: 2rem !important; padding: 0 0 .6rem !important} "
    "h2 {font-size: 1.45rem !important} h3 {font-size: 1.2rem !important}</style>"
)

page = st.navigation(
    [
        st.Page(SCREENS / "start.py", title="Start", icon=":material/home:", default=True),
        st.Page(SCREENS / "models.py", title="Models", icon=":material/model_training:"),
        st.Page(SCREENS / "new_job.py", title="New job", icon=":material/add_circle:"),
        st.Page(SCREENS / "jobs.py", title="Jobs", icon=":material/list:"),
        st.Page(SCREENS / "compare.py", title="Compare", icon=":material/compare:"),
        st.Page(SCREENS / "references.py", title="References", icon=":material/public:"),
    ],
    position="top",
)
page.run()
