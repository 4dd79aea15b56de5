"""The viewer's frame: pages and what is shown on all of them."""

import ast
from pathlib import Path

import streamlit as st

from openeo_cloudmask.viewer.names import AFTER_PEN, FAINT_TEXT

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
    # A table that scrolls sideways is out of reach of the keyboard.
    ".stTable table {table-layout: fixed; width: 100%} "
    ".stTable :is(th, td), .stTable :is(th, td) * "
    "{white-space: normal !important; overflow-wrap: anywhere !important; font-size: .86rem} "
    ".stTable :is(th, td) {padding: .35rem .3rem !important} "
    # It would save what was there before the last mark, while Python has not heard of that.
    f"[data-pen-waits] .st-key-{AFTER_PEN} {{visibility: hidden}} "
    ".stMainBlockContainer {padding: 4.2rem 2.5rem 3rem} "
    "@media (max-width: 1100px) {.st-key-look > * > .stHorizontalBlock, "
    ".st-key-look > .stHorizontalBlock {flex-wrap: wrap} "
    ".st-key-look > * > .stHorizontalBlock > .stColumn, "
    ".st-key-look > .stHorizontalBlock > .stColumn {min-width: 100%}} "
    "h1 {font-size: 2rem !important; padding: 0 0 .6rem !important} "
    "h2 {font-size: 1.45rem !important} h3 {font-size: 1.2rem !important}</style>"
)


@st.cache_data
def find_pages(folder: Path) -> list[tuple[int, str, str, str]]:
    """Return place, file, title and icon of each page, as its constant PAGE says."""
    found = []
    for path in folder.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PAGE":
                said = ast.literal_eval(node.value)
                found.append((said["place"], str(path), said["title"], said["icon"]))
    return sorted(found)


page = st.navigation(
    [
        st.Page(path, title=title, icon=icon, default=place == 1)
        for place, path, title, icon in find_pages(SCREENS)
    ],
    position="top",
)
page.run()
