"""Reference masks: the published ALCD scenes, and one's own."""

import os
from pathlib import Path

import folium
import pandas as pd
import streamlit as st
from streamlit_folium import st_folium

from openeo_cloudmask.alcd.scenes import ALCD_SCENES, AlcdSceneInfo
from openeo_cloudmask.classes import SCHEMES
from openeo_cloudmask.evaluation.reference_format import formats
from openeo_cloudmask.fetch.archives import ARCHIVES
from openeo_cloudmask.fetch.biome import BIOMES
from openeo_cloudmask.viewer.atlas import (
    class_shares,
    find_scenes,
    tile_centre,
    world_map,
    wrs_centre,
)
from openeo_cloudmask.viewer.entries import ReferenceEntry
from openeo_cloudmask.viewer.fetching import models_for, start_fetch
from openeo_cloudmask.viewer.local import State
from openeo_cloudmask.viewer.maps import BASEMAPS, localize
from openeo_cloudmask.viewer.meaning import EXAMPLE
from openeo_cloudmask.viewer.names import ALLOW_PATHS_VARIABLE
from openeo_cloudmask.viewer.web import follow_tasks, make_demo, session, told

PAGE = {"title": "References", "icon": ":material/public:", "place": 7}

MAP_HEIGHT_PX = 330
AS_SAID, OWN_CODES = "as the file says", "values of its own"
ALL_BANDS = "all bands"
COLOR, BIOME_COLOR, OWN_COLOR = "#0072B2", "#009E73", "#D55E00"
DOI = "https://doi.org/10.5281/zenodo.1460961"


def draw_world() -> None:
    """Draw where the references are."""
    street = st.session_state.get("world_basemap")
    view = world_map(basemap=next(iter(BASEMAPS)) if street else None)
    by_tile: dict[str, list[AlcdSceneInfo]] = {}
    for scene in ALCD_SCENES:
        by_tile.setdefault(scene.tile, []).append(scene)
    for tile, scenes in by_tile.items():
        latitude, longitude = tile_centre(tile)
        days = ", ".join(f"{item.date[:4]}-{item.date[4:6]}-{item.date[6:]}" for item in scenes)
        folium.CircleMarker(
            [latitude, longitude], radius=5 + len(scenes), color=COLOR, fill=True,
            tooltip=f"{scenes[0].location}, tile {tile}: {days}",
        ).add_to(view)  # fmt: skip
    for name, biome in BIOMES.items():
        folium.CircleMarker(
            wrs_centre(int(name[3:6]), int(name[6:9])), radius=3, color=BIOME_COLOR, fill=True,
            tooltip=f"L8 Biome, {biome}: {name}",
        ).add_to(view)  # fmt: skip
    for entry in session().references.values():
        west, south, east, north = entry.layer.bounds
        folium.CircleMarker(
            [(south + north) / 2, (west + east) / 2], radius=8, color=OWN_COLOR, fill=True,
            tooltip=f"opened: {entry.title}",
        ).add_to(view)  # fmt: skip
    localize(view)
    st_folium(
        view, key="world", height=MAP_HEIGHT_PX, use_container_width=True, returned_objects=[]
    )
    st.caption(
        "Blue: the 37 ALCD scenes, green: the 96 of L8 Biome, at their approximate centres. "
        "Orange: opened here."
    )
    st.toggle("Street map below (asks tile.openstreetmap.org)", key="world_basemap")


def draw_table() -> None:
    """Draw the published scenes."""
    st.dataframe(
        [
            {
                "place": item.location,
                "tile": item.tile,
                "date": f"{item.date[:4]}-{item.date[4:6]}-{item.date[6:]}",
                "part of": ", ".join(item.groups),
                "Level-1C product": item.product_name,
            }
            for item in ALCD_SCENES
        ],
        hide_index=True,
        height=260,
    )
    st.caption(
        f"Baetens and Hagolle, [doi:10.5281/zenodo.1460961]({DOI}); get the archive with "
        "`cloudmask references download DIR`."
    )
    fetch_images()


def fetch_images() -> None:
    """Draw the form that fetches Level-1C products of the scenes."""
    st.subheader("Their images")
    if not allowed_paths():
        st.caption(
            "`cloudmask references fetch SCENE` gets them; with `cloudmask viewer --allow-paths` "
            "this page does."
        )
        return
    products = {f"{item.location}, {item.date}": item.product_name for item in ALCD_SCENES}
    left, right = st.columns(2)
    chosen = left.selectbox("Scene to fetch", list(products))
    bands = right.selectbox(
        "Bands to fetch", [ALL_BANDS, *models_for(products[chosen])],
        help="A whole product is large; the bands that a model takes are less",
    )  # fmt: skip
    archive = left.selectbox(
        "Archive", list(ARCHIVES),
        help="google needs no account; copernicus takes CDSE_USERNAME and CDSE_PASSWORD",
    )  # fmt: skip
    folder = right.text_input("Folder for products, on the machine where the viewer runs")
    if st.button("Fetch the product", icon=":material/download:", disabled=not folder):
        with told():
            session().check_work()
        task = start_fetch(
            products[chosen],
            Path(folder).expanduser(),
            archive=archive,
            model=None if bands == ALL_BANDS else bands,
        )
        session().tasks.append(task)
        st.rerun()
    follow_tasks()
    for task in session().tasks:
        if task.product is not None and task.state is State.FINISHED:
            text, button = st.columns([4, 1], vertical_alignment="center")
            text.write(task.message)
            if button.button("Open it", key=f"fetched_{task.id}"):
                with told(), st.spinner("Opening the scene"):
                    session().add_scene(task.product, title=task.product.stem)
                st.success(f"{task.product.stem} is open", icon=":material/check_circle:")


def draw_formats() -> None:
    """Draw the data sets that are read, with their terms and how to get them."""
    st.dataframe(
        [
            {
                "data set": item.title,
                "kind": item.kind,
                "sensor": item.sensor,
                "images too": item.images,
                "terms": item.terms,
                "get": f"cloudmask references download --of {item.id}" if item.record else item.get,
            }
            for item in formats().values()
        ],
        hide_index=True,
        height=400,
    )
    st.caption(
        "`cloudmask references formats NAME` says codes, files, citation, and what was seen."
    )


def allowed_paths() -> bool:
    """Return whether whoever started the viewer lets its users name files."""
    return bool(os.environ.get(ALLOW_PATHS_VARIABLE))


def open_references() -> None:
    """Draw the ways to open a reference."""
    upload = st.file_uploader("A raster of class values (GeoTIFF)", type=["tif", "tiff"])
    left, right = st.columns(2)
    classes = left.selectbox(
        "Its classes", [AS_SAID, *SCHEMES, OWN_CODES], help="What the values of the raster mean"
    )
    codes = right.text_input(
        "Classes of its values",
        placeholder=EXAMPLE,
        disabled=classes != OWN_CODES,
        help="Classes: clear, thick-cloud, thin-cloud, cloud-shadow; none for no data",
    )
    meaning = {AS_SAID: None, OWN_CODES: codes}.get(classes, classes)
    if st.button("Open the raster", disabled=upload is None) and upload is not None:
        with told():
            current = session()
            path = current.keep_upload(upload, upload.name, upload.size)
            entry = current.add_reference(path, meaning=meaning)
        st.success(f"{entry.title} is open", icon=":material/check_circle:")
    allowed = allowed_paths()
    text = st.text_input(
        "ALCD archive (folder) or scene folder, on the machine where the viewer runs",
        disabled=not allowed,
        help=None if allowed else "Start the viewer with --allow-paths to open files by path.",
    )
    if not allowed:
        st.caption("Paths are turned off; `cloudmask viewer --allow-paths` turns them on.")
    if not text or not allowed:
        return
    with told():
        folders = find_scenes(Path(text).expanduser())
    chosen = st.selectbox("Scene", list(folders))
    if st.button("Open the scene", type="primary"):
        with told(), st.spinner("Reading the reference"):
            entry = session().add_reference(folders[chosen], title=chosen)
        st.success(f"{entry.title} is open", icon=":material/check_circle:")


def draw_opened(entry: ReferenceEntry) -> None:
    """Draw one opened reference: classes, confidence, and a way on."""
    reference = entry.reference
    height, width = reference.grid.shape_yx
    with st.container(border=True):
        left, right = st.columns([2, 1])
        left.markdown(f"**{entry.title}**")
        sure = entry.mean_confidence()
        text = "" if sure is None else f"; mean confidence {sure:.0%}"
        left.caption(f"{width} x {height} pixels, {reference.grid.crs}{text}")
        rows = class_shares(reference)
        left.dataframe(
            pd.DataFrame(rows), hide_index=True,
            column_config={"share": st.column_config.NumberColumn(format="percent")},
        )  # fmt: skip
        scene = entry.scene or entry.title
        if scene in session().scenes:
            right.write("Its scene is open.")
            label = "Start from this scene"
        else:
            right.write("Open the Level-1C product of this scene to mask it.")
            label = "Open its scene"
        if right.button(label, key=f"start_{entry.title}", type="primary"):
            st.session_state.start_scene = scene
            st.session_state.job_where = "Here, without a back end"
            st.switch_page("screens/new_job.py")


st.title("References")
draw_world()
opened = session().references
tabs = st.tabs(
    [f"Opened ({len(opened)})", "Open a reference", "The 37 ALCD scenes", "Other data sets"]
)
with tabs[0]:
    if not opened:
        st.info(
            "None is open. Make a demo scene, which comes with its reference, or open one.",
            icon=":material/lightbulb:",
        )
        if st.button("Make a demo scene", icon=":material/auto_awesome:"):
            make_demo()
            st.rerun()
    for item in opened.values():
        draw_opened(item)
with tabs[1]:
    open_references()
with tabs[2]:
    draw_table()
with tabs[3]:
    draw_formats()
