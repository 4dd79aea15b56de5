"""The numbers below the map: scores, matrices, classes, and what else is told of the masks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd
import streamlit as st

from openeo_cloudmask.classes import OutputStyle
from openeo_cloudmask.evaluation.cases import CaseResult
from openeo_cloudmask.evaluation.report_html import VIEW_TITLES
from openeo_cloudmask.viewer.charts import (
    class_rows,
    draw_confusion,
    score_rows,
    untold_text,
)
from openeo_cloudmask.viewer.comparison import Comparison
from openeo_cloudmask.viewer.explorer import cell_class, list_cells
from openeo_cloudmask.viewer.judging.area import drawn_area
from openeo_cloudmask.viewer.judging.choose import Chosen
from openeo_cloudmask.viewer.judging.largest import draw_errors
from openeo_cloudmask.viewer.judging.report import draw_provenance, draw_report
from openeo_cloudmask.viewer.judging.series import draw_curve
from openeo_cloudmask.viewer.judging.spectra import draw_spectra
from openeo_cloudmask.viewer.judging.try_out import draw_trial
from openeo_cloudmask.viewer.web import session

PART = "compare_part"
EVERYWHERE, INSIDE = "Everywhere", "In the drawn area"
Found = dict[str, Comparison]

NUMBERS = {
    name: st.column_config.NumberColumn(format="%.4f")
    for name in (
        "balanced accuracy", "overall accuracy", "kappa", "mean F1", "mean IoU", "cover error",
        "precision", "recall", "F1", "IoU",
    )
}  # fmt: skip


def draw_scores(chosen: Chosen, found: Found) -> None:
    """Draw what is told of the masks below the map, one part at a time.

    Not ``st.tabs``: while Python runs for the tab that was just opened, Streamlit disables them all
    for a moment, and whoever went there by keyboard loses the focus.
    """
    restrict = choose_where() if found else (lambda item: item)
    inside = {name: restrict(item) for name, item in found.items()}
    parts: dict[str, Callable[[], None]] = {}
    if found:
        parts |= {
            "Scores": partial(draw_numbers, inside, str(chosen.reference)),
            "Confusion matrix": partial(draw_matrix, inside),
            "Largest errors": partial(draw_errors, inside),
            "Classes": partial(draw_classes, inside),
            "Threshold and buffer": partial(draw_trial, found, restrict),
        }
    if chosen.series is not None:
        series = session().series[chosen.series]
        parts["Cloud over time"] = partial(draw_curve, series, st.session_state[series.key])
    parts["Spectra"] = partial(draw_spectra, chosen, found)
    parts["Provenance"] = partial(draw_provenance, chosen.masks)
    if found:
        parts |= {"All scenes": draw_all, "Report": partial(draw_report, chosen, inside)}
    # Set, not given as default: a default that changes would make another widget of it.
    if st.session_state.get(PART) not in parts:
        wanted = st.query_params.get("tab")
        st.session_state[PART] = wanted if wanted in parts else next(iter(parts))
    st.segmented_control(
        "Told of the masks", list(parts), key=PART, required=True, label_visibility="collapsed"
    )
    part: str = st.session_state[PART]
    if st.query_params.get("tab") != part:
        st.query_params["tab"] = part
    with st.container(key="told"):
        parts[part]()


def choose_where() -> Callable[[Comparison], Comparison]:
    """Draw where the numbers are of, if an area was drawn; return what limits one to it."""
    ring = drawn_area()
    if ring is None:
        return lambda item: item
    where = st.segmented_control(
        "Numbers", [EVERYWHERE, INSIDE], default=INSIDE, key="numbers_where", required=True
    )
    if where == EVERYWHERE:
        return lambda item: item
    return lambda item: session().findings.bench.restrict(item, ring)


def draw_numbers(found: Found, reference: str) -> None:
    """Draw a row of scores for each mask and way of comparing."""
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


def draw_matrix(found: Found) -> None:
    """Draw the confusion matrix; a cell that is clicked or chosen lights up on the map."""
    name, view, dilated = choose_case(found, "confusion")
    result = found[name].case(view, dilated=dilated)
    if result is None:
        st.info(f"{name} has no classes for {VIEW_TITLES[view].lower()}.")
        return
    drawn, written = st.columns([1.2, 1])
    with drawn:
        draw_cells(name, view, result, dilated=dilated)
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


def draw_cells(name: str, view: OutputStyle, result: CaseResult, *, dilated: bool) -> None:
    """Draw the matrix as a chart whose cells can be clicked."""
    chart, key = draw_confusion(result), f"matrix_{name}_{view.value}"
    if dilated:  # the map shows the mask as it is
        st.altair_chart(chart, alt="Confusion matrix")
        return

    def take() -> None:
        picked = st.session_state[key].selection.get("cell", [])
        if picked:
            cell = (int(picked[0]["row"]), int(picked[0]["column"]))
            if not result.confusion.counts[cell]:
                return  # no pixel would light up
            st.session_state.lit = (name, view.value, cell)
            st.session_state[f"lit_{name}_{view.value}"] = cell

    st.altair_chart(chart, key=key, on_select=take, selection_mode="cell", alt="Confusion matrix")


def draw_classes(found: Found) -> None:
    """Draw precision, recall and so on of each class."""
    name, view, dilated = choose_case(found, "classes")
    result = found[name].case(view, dilated=dilated)
    if result is not None:
        rows = class_rows(result, found[name].untold)
        st.dataframe(rows, hide_index=True, column_config=NUMBERS)


def draw_all() -> None:
    """Draw the scores of everything that was compared."""
    done = [(*key, item) for key, item in session().findings.comparisons.items()]
    st.dataframe(score_rows(done), hide_index=True, column_config=NUMBERS)
    st.caption("Everything compared since the page was opened, scene by scene.")


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
    view: OutputStyle = two.selectbox(
        "Classes", there, index=len(there) - 1, format_func=lambda item: VIEW_TITLES[item],
        key=f"{key}_view",
    )  # fmt: skip
    dilated = three.toggle("Mask dilated by 120 m", key=f"{key}_dilated")
    return name, view, dilated
