"""Jobs: on the back end, where they outlive this page, and in the viewer itself."""

import os
from dataclasses import replace
from pathlib import Path

import streamlit as st

from openeo_cloudmask.errors import BackendError
from openeo_cloudmask.grid import Bounds
from openeo_cloudmask.viewer import backends
from openeo_cloudmask.viewer.backends import JobRow
from openeo_cloudmask.viewer.entries import MaskEntry, SceneEntry
from openeo_cloudmask.viewer.job_results import JobMask, job_folder, list_masks
from openeo_cloudmask.viewer.layers import read_bounds
from openeo_cloudmask.viewer.local import State, Task
from openeo_cloudmask.viewer.meaning import read_tags
from openeo_cloudmask.viewer.names import BACKEND_DATA_VARIABLE, BACKEND_VARIABLE
from openeo_cloudmask.viewer.web import (
    connect_form,
    download_task,
    rerun_here,
    session,
    told,
)

PAGE = {"title": "Jobs", "icon": ":material/list:", "place": 5}

LOOK_AGAIN_S = 2.0
RUNNING = ("queued", "running")
ICONS = {
    "created": ":material/draft:",
    "queued": ":material/hourglass_empty:",
    "running": ":material/progress_activity:",
    "finished": ":material/check_circle:",
    "canceled": ":material/block:",
    "error": ":material/error:",
}


def look_at_it() -> None:
    """Go to the page Compare; a fragment cannot change the page by itself."""
    st.session_state.look_at_it = True
    st.rerun(scope="app")


def when(text: str) -> str:
    """Return a time as people read it."""
    return text[:16].replace("T", " ")


@st.fragment(run_every=LOOK_AGAIN_S)
def draw_jobs() -> None:
    """Draw the list and the chosen job; looks again by itself."""
    connection = session().connection
    if connection is None:
        return
    try:
        rows = backends.list_jobs(connection)
    except BackendError as err:
        st.error(f"{err}. This page tries again every {LOOK_AGAIN_S:.0f} seconds.")
        return
    if not rows:
        st.info(
            "No job yet. Choose a collection and a model on the page New job, and submit.",
            icon=":material/lightbulb:",
        )
        st.page_link("screens/new_job.py", label="New job", icon=":material/add_circle:")
        return
    by_id = {row.id: row for row in rows}
    st.dataframe(
        [
            {
                "job": row.title,
                "state": row.status,
                "progress": 100.0 if row.status == "finished" else row.progress or 0.0,
                "created (UTC)": when(row.created),
            }
            for row in rows
        ],
        hide_index=True,
        column_config={
            "progress": st.column_config.ProgressColumn(min_value=0, max_value=100, format="%d %%")
        },
    )
    followed = st.session_state.get("followed_job")
    chosen = st.selectbox(
        "Job",
        list(by_id),
        index=list(by_id).index(followed) if followed in by_id else 0,
        format_func=lambda key: f"{by_id[key].title}, {when(by_id[key].created)} ({key[:8]})",
        key=f"chosen_job_{followed}",
    )
    draw_job(by_id[chosen])


def draw_job(row: JobRow) -> None:
    """Draw one job: state, what can be done with it, log."""
    with st.container(border=True):
        st.markdown(f"{ICONS.get(row.status, '')} **{row.title}**: {row.status}")
        # Always there, so that nothing below moves when the job ends.
        share = 1.0 if row.status == "finished" else (row.progress or 0.0) / 100
        st.progress(share, text=f"{share:.0%}")
        with st.container(horizontal=True):
            draw_actions(row)
        draw_log(row)


def draw_actions(row: JobRow) -> None:
    """Draw the buttons."""
    current = session()
    connection = current.connection
    if connection is None:
        return
    if row.status == "finished" and st.button(
        "Open in Compare", type="primary", icon=":material/compare:", key=f"open_{row.id}"
    ):
        with told(), st.spinner("Downloading the results"):
            open_results(row)
        look_at_it()
    if row.status in RUNNING and st.button(
        "Cancel", icon=":material/block:", key=f"cancel_{row.id}"
    ):
        with told():
            backends.cancel_job(connection, row.id)
        rerun_here()
    with st.popover("Delete", icon=":material/delete:"):
        st.write("The job and its results are gone then.")
        if st.button("Delete it", key=f"delete_{row.id}"):
            with told():
                backends.delete_job(connection, row.id)
            st.session_state.pop("followed_job", None)
            rerun_here()


def open_results(row: JobRow) -> None:
    """Open a job's masks, each once; those of several dates as a series."""
    current = session()
    if current.connection is None or row.id in current.opened_jobs:
        return
    folder = job_folder(current.folder, row.id)
    masks = list_masks(current.connection, row.id, folder)
    if not masks:
        raise BackendError(
            f"the job {row.title!r} has no GeoTIFF among its results; masks are saved as GTiff"
        )
    if len(masks) > 1:
        current.add_series(row.title, masks)
    else:
        scene = known_scene(masks[0])
        entry = current.open_job_mask(masks[0], row.title, scene=scene)
        if entry.scene is None:
            attach_scene(entry)
    current.opened_jobs.add(row.id)


def known_scene(mask: JobMask) -> str | None:
    """Return the title of the open scene that a job's mask is of, where that can be told."""
    path = mask.fetch("mask")
    found = None if path is None else find_own(read_bounds(path), read_tags(path).day)
    if found is None:
        return None
    scenes = session().scenes.values()
    return next((scene.title for scene in scenes if same(scene, found[0])), None)


def find_own(bounds: Bounds, day: str | None) -> backends.OwnScene | None:
    """Return the scene of a mask, where the back end is the viewer's own."""
    folder = os.environ.get(BACKEND_DATA_VARIABLE)
    if not folder or session().backend_url != os.environ.get(BACKEND_VARIABLE):
        return None
    return backends.find_scene(Path(folder), bounds, day)


def attach_scene(entry: MaskEntry) -> None:
    """Open the scene that a mask is of, where the results have no image of it."""
    current = session()
    found = find_own(entry.layer.bounds, entry.day)
    if found is not None:
        path, name, sensor, read = found
        title = current.add_scene(path, title=name, sensor=sensor, read=read).title
        current.masks[entry.title] = replace(entry, scene=title)


def same(scene: SceneEntry, path: Path) -> bool:
    """Return whether a scene is that of a file, or of a copy that the back end made of it."""
    return scene.path.name == path.name


def draw_log(row: JobRow) -> None:
    """Draw the log; it follows while the job runs."""
    connection = session().connection
    if connection is None:
        return
    try:
        lines = backends.read_logs(connection, row.id)
    except BackendError as err:
        st.warning(str(err))
        return
    if not lines:
        st.caption("The log is empty so far.")
        return
    text = "\n".join(f"{level:7} {message}" for level, message in lines[-200:])
    st.code(text, language=None, height=180 if len(lines) > 6 else "content", wrap_lines=True)


@st.fragment(run_every=1.0)
def draw_tasks() -> None:
    """Draw what the viewer itself works on."""
    tasks = session().tasks
    if not tasks:
        st.caption("None since the viewer was opened.")
    for task in reversed(tasks):
        draw_task(task)


def draw_task(task: Task) -> None:
    """Draw one task."""
    left, right = st.columns([5, 1], vertical_alignment="center")
    if task.state is State.RUNNING:
        left.progress(task.share, text=f"{task.title}: {task.share:.0%}")
        if right.button("Cancel", key=f"stop_{task.id}"):
            task.cancel()
        return
    note = f": {task.message}" if task.message else ""
    left.markdown(f"{ICONS[task.state.value]} {task.title}, {task.state.value}{note}")
    if task.state is not State.FINISHED:
        return
    with left:
        download_task(task)
    if task.classes and right.button("Open", key=f"look_{task.id}"):
        with told():
            session().open_task(task)
        look_at_it()


if st.session_state.pop("look_at_it", False):
    st.switch_page("screens/compare.py")
st.title("Jobs")
remote, own = st.tabs(["On the back end", "In the viewer"])
with remote:
    if connect_form() is not None:
        draw_jobs()
with own:
    draw_tasks()
