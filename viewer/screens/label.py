"""Make a reference: mark what is sure, a forest learns it, look where it is not."""

from typing import Any

import pandas as pd
import streamlit as st

from openeo_cloudmask.alcd.features import choose_pixel_m, pixel_sizes
from openeo_cloudmask.alcd.labelling import ROUND_MARKS, STILL_ROUNDS, is_settled, movement
from openeo_cloudmask.viewer.drawing import read_events
from openeo_cloudmask.viewer.entries import SceneEntry
from openeo_cloudmask.viewer.labeller import (
    LABEL_SCHEME,
    Labeller,
    count_marks,
    pack,
    plain_name,
)
from openeo_cloudmask.viewer.names import AFTER_PEN
from openeo_cloudmask.viewer.panels import (
    Look,
    classes_data,
    draw_panels,
    image_data,
    map_data,
)
from openeo_cloudmask.viewer.web import empty_state, keep_address, rerun_here, session, told

PAGE = {"title": "Label", "icon": ":material/draw:", "place": 8}


def choose_scene() -> SceneEntry:
    """Draw the choice of a scene; return it."""
    scenes = session().scenes
    titles = list(scenes)
    asked = st.query_params.get("scene")
    index = titles.index(asked) if asked in titles else len(titles) - 1
    chosen = st.selectbox("Scene", titles, index=index, key="label_scene")
    keep_address({"scene": chosen})
    return scenes[chosen]


def begin(scene: SceneEntry) -> None:
    """Draw how work on a scene begins."""
    st.write(
        "Mark a few places of each class you are sure of. A random forest learns them, classifies "
        "the scene, and says where to look next: where it is least sure, or where masks of the "
        "scene contradict it. Go on until the 10-fold figures stand still, and save the reference "
        "in ALCD's layout."
    )
    grid = scene.picture.grid
    with told():
        scene.sensor_id  # noqa: B018 - told at once where the scene holds no values
        wanted, sizes = choose_pixel_m(grid), pixel_sizes(grid)
    size = st.selectbox(
        "Side of the reference's pixels, m",
        sizes,
        index=sizes.index(wanted),
        format_func=lambda value: f"{value:g}",
        help="ALCD's own references have 60 m. Finer pixels of a large scene make one wait.",
    )
    if st.button("Start", type="primary", icon=":material/draw:"):
        bar = st.progress(0.0, text="Reading the scene: spectra and texture")
        with told():
            session().label(scene, pixel_m=size, report=bar.progress)
        st.rerun()


def layers_of(scene: SceneEntry, work: Labeller) -> list[dict[str, Any]]:
    """Return the layers of the map, from bottom to top: at first the bare image."""
    image = image_data(next(iter(scene.layers.values())), scene.picture)
    if work.layer is None:
        return [image]
    known = session().masks
    masks = [
        classes_data(known[name].layer, known[name].scheme, identity=f"mask {name}", title=name)
        for name in work.models
    ]
    forest = classes_data(work.layer, LABEL_SCHEME, identity="labels", title="The forest's map")
    return [image, *masks, forest]


@st.fragment
def work_on(scene: SceneEntry, work: Labeller) -> None:
    """Draw the map, hear what is marked, and show how far the work is."""
    left, right = st.columns([3.1, 1])
    with right, told():
        catch_up(work)  # a run that was to learn may have been broken off
    with left:
        bounds = work.around()
        look = Look(point=work.point(), go=(work.gone, bounds) if bounds else None)
        data = map_data(f"Label {scene.title}", layers_of(scene, work), look, draw=work.pen())
        heard = draw_panels(data, key="label_map")
    with right:
        with told():
            events = read_events(heard.drawn, work.heard)
            work.hear(events)
            catch_up(work)
        if work.complaint:
            st.warning(work.complaint, icon=":material/error:")
        draw_progress(work)
        # Before the map is told what was heard: it holds back ``AFTER_PEN`` until then.
        draw_files(work, again=bool(events))
    if events:
        rerun_here()


def catch_up(work: Labeller) -> None:
    """Learn the marks that were not learned yet."""
    if work.is_behind:
        with st.spinner("Learning"):
            session().doubt(work)
            work.learn()


def draw_progress(work: Labeller) -> None:
    """Draw what to do next, the marks there are, and the 10-fold figures."""
    st.subheader("Next", anchor=False)
    place = work.place
    if place is None:
        st.write("Press **Next place** (`n`): the map goes where a mark teaches most.")
    else:
        number = f"{work.at + 1} of {len(work.places)}"
        st.write(f"Place {number}, the white circle. {place.why[0].upper()}{place.why[1:]}.")
        if work.layer is not None:
            st.caption(
                "If the forest's map is wrong in view, mark the middle of the largest wrong patch "
                "first: that teaches more than the place."
            )
    counts = count_marks(work.marks)
    st.caption(f"{len(work.marks)} marks. A class with none is not in the map.")
    st.dataframe(
        pd.DataFrame({"class": list(counts), "marks": list(counts.values())}),
        hide_index=True,
        height="content",
    )
    st.subheader("10-fold figures", anchor=False)
    if not work.rounds:
        st.write(f"After {ROUND_MARKS} marks, and then every {ROUND_MARKS}.")
        return
    last = work.rounds[-1]
    means = last.statistics.means
    st.write(
        f"After {last.marks} marks: accuracy **{means['accuracy']:.3f}**, "
        f"F1 **{means['f1_score']:.3f}** (cloud and shadow against the rest; marks held out)."
    )
    if is_settled(work.rounds):
        st.success("The figures stand still: the reference can be saved.")
    elif len(work.rounds) > 1:
        st.caption(
            f"They moved by {movement(work.rounds):.3f} over the last rounds; "
            f"{STILL_ROUNDS} rounds with at most 0.010 are the end."
        )
    table = pd.DataFrame(
        [
            {
                "marks": item.marks,
                **{key: item.statistics.means[key] for key in ("accuracy", "f1_score")},
            }
            for item in work.rounds
        ]
    )
    if len(table) > 1:
        st.line_chart(table, x="marks", y=["accuracy", "f1_score"], height=160)


def draw_files(work: Labeller, *, again: bool) -> None:
    """Draw the ways to save the reference and the marks, and to load marks.

    Args:
        work: what is saved.
        again: whether all of it is drawn again at once; what is asked for is done then.
    """
    st.subheader("Save", anchor=False)
    with st.form("save_reference", border=False):
        name = st.text_input("Name", plain_name(work.title))
        location = st.text_input("Place", placeholder="Orleans")
        pressed = st.form_submit_button("Save the reference", type="primary")
    pressed |= st.session_state.pop("save_asked", False)
    if pressed and again:
        st.session_state.save_asked = True
    elif pressed:
        with told(stop=False), st.spinner("Computing the figures, writing the reference"):
            entry = session().save_reference(work, name=name, location=location.strip())
            st.session_state.made = (work.title, entry, pack(entry.path))
    of, entry, packed = st.session_state.get("made", (None, None, b""))
    if of == work.title:
        st.success(f"{entry.title} is open as a reference.", icon=":material/check_circle:")
        # Contents, not functions that make them: what is offered then stays over a rerun.
        st.download_button(
            "Download it (ALCD's layout)",
            packed,
            f"{entry.path.name}.zip",
            "application/zip",
            icon=":material/download:",
            on_click="ignore",
        )
        st.page_link(
            "screens/compare.py", label="Score masks against it", icon=":material/compare:"
        )
    with st.container(key=AFTER_PEN):
        st.download_button(
            "Save the marks",
            work.save_text(),
            f"{plain_name(work.title)}-marks.geojson",
            "application/geo+json",
            icon=":material/save:",
            on_click="ignore",
        )
    upload = st.file_uploader("Load marks", type=["geojson", "json"], key="label_marks")
    if upload is not None and st.button("Take these marks", icon=":material/upload:"):
        with told(stop=False), st.spinner("Learning"):
            work.load(upload.getvalue())
            rerun_here()


def main() -> None:
    """Draw the page."""
    st.title("Label")
    if not session().scenes:
        empty_state("No scene is open yet. Make a demo scene, or open one on the page Import.")
        return
    scene = choose_scene()
    work = session().labellers.get(scene.title)
    if work is None:
        begin(scene)
        return
    work_on(scene, work)
    with st.popover("Begin anew", icon=":material/restart_alt:"):
        st.write("All marks are gone then, unless you saved them.")
        if st.button("Forget the marks"):
            del session().labellers[scene.title]
            st.rerun()


main()
