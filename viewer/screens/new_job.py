"""A new mask: right here, or as a job on an openEO back end."""

import datetime as dt
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from openeo_cloudmask.products import ReadOptions
from openeo_cloudmask.sensors import SENSORS
from openeo_cloudmask.viewer import backends
from openeo_cloudmask.viewer.areas import check_area, draw_area_map, list_scenes
from openeo_cloudmask.viewer.job_results import image_bands
from openeo_cloudmask.viewer.local import start_mask
from openeo_cloudmask.viewer.names import BACKEND_DATA_VARIABLE, BACKEND_VARIABLE
from openeo_cloudmask.viewer.uploads import SUFFIXES
from openeo_cloudmask.viewer.web import (
    connect_form,
    empty_state,
    follow_tasks,
    mask_form,
    paths_allowed,
    session,
    told,
)

PAGE = {"title": "New job", "icon": ":material/add_circle:", "place": 4}

SIDES = ("west", "south", "east", "north")
# Common names of the bands that an image beside a mask has at first.
SHOWN_BANDS = ("red", "green", "blue", "nir", "swir16", "cirrus")
SENSOR_CHOICES = ["tell from the file", *SENSORS]


def open_file() -> None:
    """Open a scene from this machine or an upload."""
    with st.expander("Open a scene", expanded=not session().scenes):
        upload = st.file_uploader(
            "Upload",
            type=[suffix.lstrip(".") for suffix in SUFFIXES],
            help="GeoTIFF, NetCDF, SAFE.zip",
        )
        path = st.text_input(
            "or the path on the machine where the viewer runs",
            help="A GeoTIFF, NetCDF, SAFE folder or Landsat Level-1 folder",
            disabled=not paths_allowed(),
        )
        path = path if paths_allowed() else ""  # a visitor's own program may send one
        sensor = st.selectbox("Sensor", SENSOR_CHOICES)
        read = read_form()
        if st.button("Open", disabled=upload is None and not path):
            bar = st.progress(0.0, text="Drawing the scene")
            with told():
                current = session()
                where = Path(path)
                if upload is not None:
                    where = current.keep_upload(upload, upload.name, upload.size)
                current.add_scene(
                    where,
                    sensor=None if sensor == SENSOR_CHOICES[0] else sensor,
                    read=read,
                    report=bar.progress,
                )
            bar.empty()
            st.rerun()


def read_form() -> ReadOptions:
    """Draw what a GeoTIFF or NetCDF may not say of itself."""
    names, scale, offset, date = st.columns([2, 1, 1, 1])
    bands = names.text_input(
        "Names of its bands",
        placeholder="B02,B03,B04,B08",
        help="In their order in the file; empty where the file names them",
    )
    factor = scale.number_input(
        "Scale", value=None, format="%g", placeholder="0.0001",
        help="Reflectance per count, e.g. 0.0001 for integers of Sentinel-2",
    )  # fmt: skip
    added = offset.number_input(
        "Offset", value=None, format="%g", placeholder="-0.1", help="Reflectance of count 0"
    )
    day = date.text_input("Date", placeholder="2024-05-01", help="Of a NetCDF that has several")
    listed = tuple(name.strip() for name in bands.split(",") if name.strip())
    return ReadOptions(bands=listed or None, scale=factor, offset=added, date=day.strip() or None)


def here() -> None:
    """Mask an opened scene without a back end."""
    open_file()
    current = session()
    if not current.scenes:
        empty_state("No scene is open yet. Open a file above, or make a demo scene to try it out.")
        return
    names = list(current.scenes)
    wanted = st.session_state.get("start_scene")
    name = st.selectbox(
        "Scene", names, index=names.index(wanted) if wanted in names else len(names) - 1
    )
    options = mask_form("here")
    if st.button("Make the mask", type="primary", icon=":material/play_arrow:"):
        with told():
            current.check_work()
            entry = current.scenes[name]
            output = current.name_mask(options.model, entry.path)
            task = start_mask(
                entry.path, output, options, sensor=entry.sensor_id, read=entry.read,
                pixels=math.prod(entry.picture.grid.shape_yx),
            )  # fmt: skip
        task.title, task.scene = f"{options.model} on {name}", name
        current.tasks.append(task)
    follow_tasks()


def area(connection: object, collection: str) -> tuple[float, float, float, float]:
    """Draw or type an area; begins with the collection's own."""
    with told():
        about = backends.describe_collection(connection, collection)
    west, south, east, north = map(float, about["extent"]["spatial"]["bbox"][0][:4])
    extent = (west, south, east, north)
    keys = [f"{collection}_{name}" for name in SIDES]
    for key, value in zip(keys, extent, strict=True):
        st.session_state.setdefault(key, value)
    pictures = [next(iter(scene.layers.values())) for scene in session().scenes.values()]
    chosen = tuple(st.session_state[key] for key in keys)
    drawn = draw_area_map(extent, chosen, key=f"area_{collection}", pictures=pictures)
    if drawn is not None:
        for key, value in zip(keys, drawn, strict=True):
            st.session_state[key] = value
        st.rerun()
    for column, name, key in zip(st.columns(4), SIDES, keys, strict=True):
        column.number_input(name, format="%.5f", key=key)
    with told():
        return check_area(tuple(st.session_state[key] for key in keys))


def on_backend() -> None:
    """Plan and submit a job."""
    connection = connect_form()
    if connection is None:
        return
    current = session()
    with told():
        collections = backends.list_collections(connection)
    if not collections:
        empty_state(
            "The back end has no collection yet. Make a demo scene and register it below, or run "
            "`cloudmask ingest PATH` on the back end's machine."
        )
        return
    collection = st.selectbox(
        "Collection", list(collections), format_func=collections.get, key="job_collection"
    )
    west, south, east, north = area(connection, collection)
    left, middle, right = st.columns(3)
    first, last = backends.temporal_extent(connection, collection)
    earliest, latest = backends.date_limits(first, last)
    start = left.date_input(
        "From", first, min_value=earliest, max_value=latest, key=f"from_{collection}"
    )
    end = middle.date_input(
        "To (not included)",
        last + dt.timedelta(days=1),
        min_value=earliest,
        max_value=latest,
        key=f"to_{collection}",
    )
    if start >= end:
        st.error(f"From {start} to {end} there is no day: choose a later end.")
        st.stop()
    cover = right.slider("Cloud cover of a scene at most, %", 0, 100, 100)
    own = current.backend_url == os.environ.get(BACKEND_VARIABLE)
    folder = os.environ.get(BACKEND_DATA_VARIABLE) if own else None
    with told():
        scenes = list_scenes(
            connection, collection, (west, south, east, north), (start, end),
            backend_data=Path(folder) if folder else None,
        )  # fmt: skip
    if scenes:
        with st.expander(f"Scenes there and then: {len(scenes)}", expanded=True):
            st.dataframe(scenes, hide_index=True)
    elif scenes is not None:
        st.warning("No scene there and then: widen the area or the dates.")
    options = mask_form("job")
    saved = beside_form(connection, collection) if options.categorise else {}
    title = st.text_input("Title", f"{options.model} on {collection}")
    plan = backends.JobPlan(
        collection=collection,
        west=west,
        south=south,
        east=east,
        north=north,
        start=str(start),
        end=str(end),
        max_cloud_cover=None if cover == 100 else cover,
        options=options,
        title=title,
        saved=saved,
    )
    with st.expander("Process graph and Python code"), told():
        graph, code = st.tabs(["Process graph", "Python"])
        graph.code(json.dumps(backends.build_graph(None, plan), indent=1), language="json")
        code.code(backends.python_code(current.backend_url, plan), language="python")
    with st.container(horizontal=True):
        send = st.button(
            "Submit",
            type="primary",
            icon=":material/send:",
            disabled=scenes == [],
            help="There is no scene there and then." if scenes == [] else None,
        )
        ask = st.button("Estimate", help="What the back end expects the job to take")
    if ask:
        with told(), st.spinner("Asking the back end"):
            found = backends.estimate(connection, plan)
        st.write(estimate_text(found))
    if send:
        with told():
            job_id = backends.submit(connection, plan)
        st.session_state.followed_job = job_id
        st.switch_page("screens/jobs.py")


def beside_form(connection: object, collection: str) -> dict[str, Any]:
    """Draw what the job saves beside its masks, where the back end offers that."""
    with told():
        offered = backends.offered_beside(connection)
        about = backends.describe_collection(connection, collection)
    saved: dict[str, Any] = {}
    if "image" in offered:
        known, first = image_bands(about, SHOWN_BANDS)
        bands = st.multiselect(
            "Bands of the image beside the mask", known, default=first,
            key=f"image_{collection}", help="What the mask is judged by; none for no image",
        )  # fmt: skip
        saved |= {"image": bands} if bands else {}
    if "percentages" in offered:
        saved["percentages"] = True
    return saved


def estimate_text(found: Mapping[str, Any] | None) -> str:
    """Return an estimate as a sentence."""
    if found is None:
        return "The back end gives no estimates."
    parts = []
    if "duration" in found:
        parts.append(f"takes about {found['duration'].removeprefix('PT').lower()}")
    if "size" in found:
        parts.append(f"results of at most {found['size'] / 1024**2:.1f} MB")
    if "costs" in found:
        parts.append(f"costs {found['costs']}")
    return "Estimate: " + ", ".join(parts) + "." if parts else "The back end cannot tell."


st.title("New job")
choices = ["Here, without a back end", "On an openEO back end"]
if "job_where" not in st.session_state:
    st.session_state.job_where = choices[1 if os.environ.get(BACKEND_VARIABLE) else 0]
where = st.segmented_control("Where", choices, key="job_where", required=True)
if where == choices[1]:
    on_backend()
else:
    here()
