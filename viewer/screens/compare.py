"""Image, masks and reference on one map; errors, scores, dates, and what one pixel is."""

import streamlit as st

from openeo_cloudmask.viewer.judging.choose import compare_all, pick, warn_of_link
from openeo_cloudmask.viewer.judging.look import look
from openeo_cloudmask.viewer.judging.scores import draw_scores
from openeo_cloudmask.viewer.web import empty_state, session, told

PAGE = {"title": "Compare", "icon": ":material/compare:", "place": 6}


def main() -> None:
    """Draw the page."""
    st.title("Compare")
    current = session()
    if not (current.scenes or current.masks or current.series):
        warn_of_link([])
        empty_state(
            "Nothing is open yet. Make a demo scene, or open a scene on the page New job; then "
            "make a mask of it."
        )
        return
    with told():
        chosen = pick()
    if not chosen.masks and not (chosen.scene is not None and chosen.scene.is_colors):
        st.info("No mask of this scene yet: make one on the page New job.")
        st.page_link("screens/new_job.py", label="Make a mask", icon=":material/add_circle:")
    found = compare_all(chosen.masks, chosen.reference)
    look(chosen, list(found))
    if chosen.masks and chosen.reference is None:
        st.info("Choose what to compare with: a reference, or a second mask of the scene.")
    if chosen.masks or found:
        draw_scores(chosen, found)


main()
