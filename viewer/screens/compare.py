"""Image, mask and reference on one map; errors, scores, and what one pixel is."""

from concurrent.futures import Future
from typing import Any

import pandas as pd
import streamlit as st

from openeo_cloudmask.classes import ClassScheme, OutputStyle
from openeo_cloudmask.errors import CloudMaskError
from openeo_cloudmask.evaluation.cases import CaseResult
from openeo_cloudmask.evaluation.error_map import ERROR_CLASSES
from openeo_cloudmask.evaluation.report import to_csv, to_json
from openeo_cloudmask.evaluation.report_html import VIEW_TITLES, render_report
from openeo_cloudmask.grid import overlap
from openeo_cloudmask.viewer.charts import (
    class_rows,
    draw_confusion,
    draw_probabilities,
    draw_spectrum,
    pixel_text,
    score_rows,
    untold_text,
)
from openeo_cloudmask.viewer.comparison import (
    Comparison,
    build_report,
    class_at,
    differing_days,
    shown_scheme,
    title_at,
)
from openeo_cloudmask.viewer.drawing import area_pen, take_area
from openeo_cloudmask.viewer.explorer import cell_class, largest_errors, list_cells
from openeo_cloudmask.viewer.layers import Layer
from openeo_cloudmask.viewer.panels import (
    CELLS,
    Look,
    classes_data,
    draw_panels,
    image_data,
    live_data,
    map_data,
)
from openeo_cloudmask.viewer.probabilities import how_made, kept_probabilities
from openeo_cloudmask.viewer.scenes import open_scene, read_spectrum
from openeo_cloudmask.viewer.session import Probabilities, SceneEntry
from openeo_cloudmask.viewer.web import empty_state, rerun_here, session, told

PAGE = {"title": "Compare", "icon": ":material/compare:", "place": 6}

NUMBERS = {
    name: st.column_config.NumberColumn(format="%.4f")
    for name in (
        "balanced accuracy", "overall accuracy", "kappa", "mean F1", "mean IoU", "cover error",
        "precision", "recall", "F1", "IoU",
    )
}  # fmt: skip
NOTHING = "nothing"


def near(one: Layer, other: Layer) -> bool:
    """Return whether two layers share some place."""
    return overlap(one.bounds, other.bounds)


def pick() -> tuple[SceneEntry | None, list[str], str | None]:
    """Draw what to compare; return the scene, titles of masks and the reference's title.

    The choice stands in the page's address, so that a reload or a bookmark finds it again.
    """
    current = session()
    first, second, third = st.columns([1, 1.4, 1])
    asked = st.query_params
    titles = [*current.scenes, NOTHING]
    chosen = first.selectbox(
        "Scene",
        titles,
        index=_place(asked.get("scene"), titles, max(len(current.scenes) - 1, 0)),
        key="compare_scene",
    )
    scene = current.scenes.get(chosen)
    anchor = next(iter(scene.layers.values())) if scene else None
    masks = [
        entry
        for entry in current.masks.values()
        if anchor is None or (near(anchor, entry.layer) and entry.scene in (None, chosen))
    ]
    names = [entry.title for entry in masks]
    wanted = [name for name in asked.get_all("mask") if name in names]
    shown = second.multiselect(
        "Masks", names, default=wanted or names[-2:], key=f"compare_masks_{chosen}_{len(names)}",
        help="Several models side by side",
    )  # fmt: skip
    anchor = anchor or next((current.masks[name].layer for name in shown), None)
    offered = [
        entry.title
        for entry in current.references.values()
        if anchor is None or near(anchor, entry.layer)
    ]
    offered.sort(key=lambda title: title != chosen)
    offered = [*offered, *(name for name in names if len(names) > 1), NOTHING]
    reference = third.selectbox(
        "Compared with",
        offered,
        index=_place(asked.get("with"), offered, 0),
        key=f"compare_with_{chosen}_{len(offered)}",
        help="A reference. Without one, another mask: two models are then compared.",
    )
    asked.from_dict({"scene": chosen, "mask": shown, "with": reference})
    return scene, shown, None if reference == NOTHING else reference


def _place(wanted: str | None, names: list[str], otherwise: int) -> int:
    return names.index(wanted) if wanted in names else otherwise


def compare_all(masks: list[str], reference: str | None) -> dict[str, Comparison]:
    """Return the comparison of each mask; a message for what cannot be compared."""
    found: dict[str, Comparison] = {}
    if reference is None:
        return found
    with st.spinner("Comparing"):
        for name in masks:
            if name == reference:
                continue
            warn_of_days(name, reference)
            try:
                found[name] = session().compare(name, reference)
            except CloudMaskError as err:
                st.warning(f"{name}: {err}", icon=":material/error:")
    return found


def warn_of_days(mask: str, reference: str) -> None:
    """Say so where a mask and what it is compared with are of different days."""
    current = session()
    known = {**current.masks, **current.references}
    one, other = known[mask].day, known[reference].day
    if differing_days(one, other):
        st.warning(
            f"{mask} is of {one}, {reference} of {other}: clouds of different days are compared, "
            "and the scores say nothing of the mask.",
            icon=":material/event_busy:",
        )


def collect(
    scene: SceneEntry | None, masks: list[str], reference: str | None, errors: list[str]
) -> list[dict[str, Any]]:
    """Return the layers of the map, from bottom to top."""
    current = session()
    layers = []
    if scene is not None:
        layers.append(image_data(next(iter(scene.layers.values())), scene.picture))
        with told():
            layers += [live_data(live) for live in current.live_masks(scene).values()]

    def add(layer: Layer, scheme: ClassScheme, kind: str, title: str) -> None:
        identity = kind if kind == "reference" else f"{kind} {title}"
        layers.append(classes_data(layer, scheme, identity=identity, title=title))

    for name in errors:
        add(current.error_layer(name, str(reference)), ERROR_CLASSES, "errors", f"Errors of {name}")
    if reference in current.references:
        entry = current.references[reference]
        add(entry.layer, shown_scheme(entry.reference.scheme), "reference", "Reference")
    shown = dict.fromkeys([*masks, *([reference] if reference in current.masks else [])])
    for name in reversed(shown):
        add(current.masks[name].layer, current.masks[name].scheme, "mask", name)
    if (lit := st.session_state.get("lit")) and lit[0] in errors:
        layers.append(lit_layer(*lit, str(reference)))
    return layers


def lit_layer(mask: str, view: str, cell: tuple[int, int], reference: str) -> dict[str, Any]:
    """Return the layer of one cell of the confusion matrix of a mask."""
    current = session()
    result = current.compare(mask, reference).case(OutputStyle(view), dilated=False)
    shown = cell_class(result.confusion.scheme, *cell)
    scheme = ClassScheme(name="cells", title=shown.title, classes=(shown,))
    layer = current.cells_layer(mask, reference, result)
    return classes_data(layer, scheme, identity=CELLS, title=shown.title)


@st.fragment
def look(
    scene: SceneEntry | None, masks: list[str], reference: str | None, errors: list[str]
) -> None:
    """Draw the map and the pixel that was clicked."""
    layers = collect(scene, masks, reference, errors)
    if not layers:
        return
    left, right = st.columns([3.1, 1])
    with left:
        wish = Look(point=st.session_state.get("point"), go=st.session_state.get("go"))
        key = scene.title if scene is not None else ", ".join(masks)
        pen = area_pen(st.session_state, key)
        heard = draw_panels(map_data(key, layers, wish, draw=pen), key="compare_map")
    with told():
        if take_area(st.session_state, heard.drawn):
            st.rerun()  # scores and curves of the area are elsewhere on the page
    point = None if heard.click is None else (heard.click.latitude, heard.click.longitude)
    if point is not None and point != st.session_state.get("point"):
        st.session_state.point = point
        rerun_here()
    with right:
        draw_pixel(scene, masks, reference)


def type_place() -> None:
    """Draw fields for a place, for those who do not use a mouse."""
    with st.form("place", border=False):
        latitude, longitude = st.columns(2)
        lat = latitude.number_input("Latitude", -90.0, 90.0, value=None, format="%.5f")
        lon = longitude.number_input("Longitude", -180.0, 180.0, value=None, format="%.5f")
        if st.form_submit_button("Look there") and lat is not None and lon is not None:
            st.session_state.point = (lat, lon)
            rerun_here()


def draw_pixel(scene: SceneEntry | None, masks: list[str], reference: str | None) -> None:
    """Draw what is known of the pixel that was clicked."""
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
    with told():
        with open_scene(scene.path, sensor=scene.picture.sensor_id, read=scene.read) as opened:
            spectrum = read_spectrum(opened, longitude, latitude)
        if spectrum is None:
            st.write("The scene does not reach this place.")
            return
        chart = draw_spectrum(spectrum)
        if chart is not None:
            st.altair_chart(chart)
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
        comparison = current.comparisons.get((name, reference or ""))
        if comparison is not None:
            cell = comparison.evaluation.reference.grid
            judged = title_at(comparison.error_path, ERROR_CLASSES, longitude, latitude)
            verdict = f"{judged} ({pixel_text(cell)} cell)"
        rows.append((name, said, pixel_text(current.mask_grid(name)), verdict))
    known = current.references.get(reference or "")
    if known is not None:
        given = known.reference
        said = class_at(given.labels, given.scheme, given.grid, longitude, latitude)
        sure = known.confidence_at(longitude, latitude)
        text = "" if sure is None else f"confidence {sure:.0%}"
        rows.append(("Reference", said, pixel_text(given.grid), text))
    columns = ["layer", "class", "pixel", "verdict"]
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
            st.altair_chart(draw_probabilities(found))
            st.caption("Kept when the mask was made, whole percents; before any post-processing.")
    if without and scene is not None:
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
        f"{how[0]}, stride {how[1]}": current.ask_probabilities(scene, how, lon, lat)
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
            st.altair_chart(draw_probabilities(found))
    st.caption("Those the mask is made of: of the pixel, before any post-processing.")


def draw_scores(found: dict[str, Comparison], reference: str) -> None:
    """Draw the numbers of the masks that were compared."""
    titles = ["Scores", "Confusion matrix", "Largest errors", "Classes", "All scenes", "Report"]
    tabs = st.tabs(titles)
    with tabs[0]:
        rows = score_rows([(name, reference, item) for name, item in found.items()])
        st.dataframe(rows, hide_index=True, column_config=NUMBERS)
        for name, item in found.items():
            if text := untold_text(name, item):
                st.caption(text)
        st.caption(
            "Balanced accuracy is the mean recall of the classes that occur in the reference. "
            "Cover error: cloud (in valid-invalid: cloud and shadow) in the mask minus in the "
            "reference. Dilated: the mask's cloud grown by that much before comparing."
        )
    with tabs[1]:
        name, view, dilated = choose_case(found, "confusion")
        result = found[name].case(view, dilated=dilated)
        if result is None:
            st.info(f"{name} has no classes for {VIEW_TITLES[view].lower()}.")
        else:
            drawn, written = st.columns([1.2, 1])
            drawn.altair_chart(draw_confusion(result))
            with written:
                st.caption("Pixels; rows are classes of the reference, columns of the mask")
                st.table(confusion_table(result), border="horizontal")
            if not dilated:
                choose_cell(name, view, result)
            skipped = result.excluded
            st.caption(
                f"{skipped.compared:,} pixels compared; left out: {skipped.reference_nodata:,} "
                f"without data in the reference, {skipped.mask_nodata:,} in the mask."
            )
    with tabs[2]:
        draw_errors(found)
    with tabs[3]:
        name, view, dilated = choose_case(found, "classes")
        result = found[name].case(view, dilated=dilated)
        if result is not None:
            rows = class_rows(result, found[name].untold)
            st.dataframe(rows, hide_index=True, column_config=NUMBERS)
    with tabs[4]:
        done = [(*key, item) for key, item in session().comparisons.items()]
        st.dataframe(score_rows(done), hide_index=True, column_config=NUMBERS)
        st.caption("Everything compared since the page was opened, scene by scene.")
    with tabs[5]:
        draw_report(found)


def choose_cell(mask: str, view: OutputStyle, result: CaseResult) -> None:
    """Draw the choice of a cell of the confusion matrix that lights up on the map."""
    cells = {(row, column): pixels for row, column, pixels in list_cells(result)}
    key = f"lit_{mask}_{view.value}"

    def take() -> None:
        cell = st.session_state[key]
        st.session_state.lit = (mask, view.value, cell) if cell else None

    st.selectbox(
        "Light up on the map",
        [None, *cells],
        format_func=lambda cell: (
            f"{cell_class(result.confusion.scheme, *cell).title}: {cells[cell]:,} pixels"
            if cell
            else "nothing"
        ),
        key=key,
        on_change=take,
        help="The pixels of one cell of the matrix, errors first",
    )


def draw_errors(found: dict[str, Comparison]) -> None:
    """Draw the largest omissions and commissions; the map goes to the one that is chosen."""
    name = st.selectbox("Mask", list(found), key="errors_mask")
    spots = largest_errors(found[name].evaluation)
    if not spots:
        st.success("No pixel is wrong.")
        return

    def jump(place: int) -> None:
        state = st.session_state
        state.error_at = place % len(spots)
        spot = spots[state.error_at]
        state.point, state.go = spot.point, (state.get("go", (0,))[0] + 1, spot.bounds)

    def chosen() -> None:
        rows = st.session_state[f"errors_{name}"].selection.rows
        if rows:
            jump(rows[0])

    at = min(st.session_state.get("error_at", -1), len(spots) - 1)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Previous error", on_click=jump, args=(at - 1,), icon=":material/chevron_left:")
        st.button("Next error", on_click=jump, args=(at + 1,), icon=":material/chevron_right:")
        if at >= 0:
            spot = spots[at]
            st.write(f"{at + 1} of {len(spots)}: {spot.kind}, {spot.pixels:,} pixels")
    st.dataframe(
        [
            {
                "": place,
                "error": spot.kind,
                "pixels": spot.pixels,
                "km²": spot.area_km2,
                "latitude": spot.point[0],
                "longitude": spot.point[1],
            }
            for place, spot in enumerate(spots, start=1)
        ],
        key=f"errors_{name}",
        on_select=chosen,
        selection_mode="single-row",
        hide_index=True,
        column_config={"km²": st.column_config.NumberColumn(format="%.2f")},
    )
    st.caption(
        "Wrong pixels that touch each other, the largest first. Omission: cloud or shadow of the "
        "reference that the mask lacks; commission: the mask has it, the reference not."
    )


def confusion_table(result: CaseResult) -> pd.DataFrame:
    """Return the pixels of the confusion matrix, for those who read rather than look."""
    titles = [item.title for item in result.confusion.scheme.classes]
    table = pd.DataFrame(result.confusion.counts.astype(int), index=titles, columns=titles)
    table.index.name = "reference"
    return table


def choose_case(found: dict[str, Comparison], key: str) -> tuple[str, OutputStyle, bool]:
    """Draw the choice of mask, classes and dilation."""
    one, two, three = st.columns([1.6, 1, 1], vertical_alignment="bottom")
    name = one.selectbox("Mask", list(found), key=f"{key}_mask")
    there = list(dict.fromkeys(item.case.view for item in found[name].evaluation.result.results))
    view = two.selectbox(
        "Classes", there, index=len(there) - 1, format_func=VIEW_TITLES.get, key=f"{key}_view"
    )
    dilated = three.toggle("Mask dilated by 120 m", key=f"{key}_dilated")
    return name, view, dilated


def draw_report(found: dict[str, Comparison]) -> None:
    """Draw the downloads."""
    name = st.selectbox("Report of", list(found), key="report_mask")
    with told():
        report = build_report(name, [found[name]])
    page, table, numbers = st.columns(3)
    page.download_button(
        "Page (HTML)", render_report(report), f"{name}.html", "text/html", icon=":material/article:"
    )
    table.download_button(
        "Table (CSV)", to_csv(report), f"{name}.csv", "text/csv", icon=":material/table:"
    )
    numbers.download_button(
        "Numbers (JSON)", to_json(report.to_dict()), f"{name}.json", "application/json",
        icon=":material/data_object:",
    )  # fmt: skip


def main() -> None:
    """Draw the page."""
    st.title("Compare")
    current = session()
    if not (current.scenes or current.masks):
        empty_state(
            "Nothing is open yet. Make a demo scene, or open a scene on the page New job; then "
            "make a mask of it."
        )
        return
    scene, masks, reference = pick()
    if not masks:
        st.info("No mask of this scene yet: make one on the page New job.")
        st.page_link("screens/new_job.py", label="Make a mask", icon=":material/add_circle:")
    found = compare_all(masks, reference)
    look(scene, masks, reference, list(found))
    if found and reference is not None:
        draw_scores(found, reference)
    elif masks and reference is None:
        st.info("Choose what to compare with: a reference, or a second mask of the scene.")


main()
