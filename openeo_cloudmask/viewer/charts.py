"""Charts of the pages: spectra, probabilities, confusion matrices, scores."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.evaluation.cases import CaseResult
from openeo_cloudmask.products import Grid
from openeo_cloudmask.viewer.comparison import Comparison
from openeo_cloudmask.viewer.probabilities import ClassProbability
from openeo_cloudmask.viewer.scenes import Spectrum

if TYPE_CHECKING:
    import altair as alt

    from openeo_cloudmask.classes import MaskClass
    from openeo_cloudmask.viewer.cards import CardClass

THERMAL_FROM_NM = 3000
CELL_PX = 64
LEGEND_PX = 280
DATE_PX = 260
"""Room for the name of a date: those of one day differ at their ends."""
SHADES = ((0xEF, 0xF4, 0xFA), (0x0B, 0x4F, 0x8A))
"""Colours of a confusion matrix's cells, of the share 0 and 1."""
DARK_INK, LIGHT_INK, LIGHT_INK_FROM = "#000000", "#ffffff", 0.74
"""What is written on them; the contrast is 4.5 or more on all shades."""


def pixel_text(grid: Grid) -> str:
    """Return the side of a grid's pixels as people say it."""
    if grid.transform is None or grid.crs is None:
        return "1 pixel"
    side = grid.pixel_size
    return f"{side:g} m" if grid.crs.is_projected else f"{side:.2g} degrees"


def swatches(classes: Iterable[CardClass | MaskClass]) -> str:
    """Return a line of HTML with each class's colour and title; whatever they hold is text."""
    items = (
        '<span style="white-space:nowrap;margin-right:1.1em"><span aria-hidden="true" '
        'style="display:inline-block;width:.9em;height:.9em;'
        f"background:{_hex(item.color)};border:1px solid #555;margin-right:.35em;"
        f'vertical-align:-.05em"></span>{escape(item.title)}</span>'
        for item in classes
    )
    return f'<div style="font-size:.85rem;line-height:1.5">{"".join(items)}</div>'


def _hex(color: str) -> str:
    return f"#{color}" if re.fullmatch("[0-9A-Fa-f]{6}", color) else "#888888"


def draw_spectrum(spectrum: Spectrum) -> alt.LayerChart | None:
    """Return reflectance over wavelength, or None where nothing was seen.

    The points have a key, as marks of all charts that often get new data have: without one, the
    browser makes new ones for each pixel, and keeps thousands of the old.
    """
    import altair as alt
    import pandas as pd

    rows = [
        {"band": band.name, "wavelength, nm": band.centre_nm, "reflectance": value}
        for band, value in zip(spectrum.bands, spectrum.values, strict=True)
        if band.centre_nm and band.centre_nm < THERMAL_FROM_NM and math.isfinite(value)
    ]
    if not rows:
        return None
    base = alt.Chart(pd.DataFrame(rows)).encode(
        x=alt.X("wavelength, nm:Q", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5)),
        y=alt.Y("reflectance:Q", scale=alt.Scale(zero=True)),
        tooltip=["band:N", "wavelength, nm:Q", alt.Tooltip("reflectance:Q", format=".3f")],
    )
    points = base.mark_point(color="#0072B2", filled=True, size=45).encode(key="band:N")
    marks = base.mark_line(color="#0072B2") + points
    chart: alt.LayerChart = marks.properties(height=170)
    return chart


def draw_probabilities(found: Sequence[ClassProbability]) -> alt.LayerChart:
    """Return a bar for each class, in its colour, with the number beside it."""
    import altair as alt
    import pandas as pd

    rows = [
        {"class": item.title, "color": f"#{item.color}", "probability": item.share}
        for item in found
    ]
    base = alt.Chart(pd.DataFrame(rows)).encode(
        y=alt.Y("class:N", sort=None, title=None, axis=alt.Axis(labelOverlap=False)),
        x=alt.X("probability:Q", scale=alt.Scale(domain=[0, 1.3]), axis=None),
        key="class:N",
    )
    bars = base.mark_bar(stroke="#555555", strokeWidth=0.5).encode(
        color=alt.Color("color:N", scale=None)
    )
    text = base.mark_text(align="left", dx=4).encode(text=alt.Text("probability:Q", format=".1%"))
    chart: alt.LayerChart = (bars + text).properties(height=26 * len(rows) + 10)
    return chart


def shade(share: float) -> str:
    """Return the colour of a cell of the confusion matrix: the darker, the larger its share."""
    mixed = (round(low + (high - low) * share) for low, high in zip(*SHADES, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def draw_confusion(result: CaseResult) -> alt.LayerChart:
    """Return the confusion matrix: shade is the share of the row, text the pixels and the share."""
    import altair as alt
    import pandas as pd

    classes = result.confusion.scheme.classes
    rows = []
    for row, (item, counts) in enumerate(zip(classes, result.confusion.counts, strict=True)):
        total = float(counts.sum())
        for column, (other, count) in enumerate(zip(classes, counts, strict=True)):
            share = float(count) / total if total else 0.0
            rows.append(
                {
                    "row": row,
                    "column": column,
                    "reference": item.title,
                    "mask": other.title,
                    "share": share,
                    "count": f"{count:,.0f}",
                    "percent": f"{share:.1%}" if total else "",
                    "shade": shade(share),
                    "ink": LIGHT_INK if share > LIGHT_INK_FROM else DARK_INK,
                }
            )
    base = alt.Chart(pd.DataFrame(rows)).encode(
        x=alt.X(
            "mask:N",
            sort=None,
            title="in the mask",
            axis=alt.Axis(labelAngle=0, labelOverlap=False, orient="top"),
        ),
        y=alt.Y("reference:N", sort=None, title="in the reference"),
    )
    cells = base.mark_rect(stroke="#ffffff", cursor="pointer").encode(
        color=alt.Color("shade:N", scale=None),
        # Of the cells alone: texts with tooltips of their own would take the clicks.
        tooltip=["reference:N", "mask:N", "count:N", "percent:N"],
    )
    cells = cells.add_params(alt.selection_point("cell", fields=["row", "column"]))
    ink = alt.Color("ink:N", scale=None)
    counts_text = base.mark_text(dy=-7, fontSize=14).encode(text="count:N", color=ink)
    shares_text = base.mark_text(dy=10, fontSize=11).encode(text="percent:N", color=ink)
    layers = cells + counts_text + shares_text
    chart: alt.LayerChart = layers.properties(height=CELL_PX * len(classes) + 40)
    return chart


def draw_dates(covers: Mapping[str, float | None], chosen: str) -> alt.Chart:
    """Return a strip with a bar for each date, as high as its share of cloud; they can be clicked.

    Args:
        covers: label of each date, in order -> share of cloud, 0-1; None where nothing was seen.
        chosen: label of the date looked at, which is drawn darker.
    """
    import altair as alt
    import pandas as pd

    rows = [
        {"label": label, "cloud": share, "from": 0.0, "to": max(share or 0.0, 0.02),
         "color": "#0072B2" if label == chosen else "#9FB7C9"}
        for label, share in covers.items()
    ]  # fmt: skip
    chart: alt.Chart = (
        alt.Chart(pd.DataFrame(rows))
        .mark_bar(cursor="pointer")
        .encode(
            x=alt.X("label:N", sort=None, title=None,
                    axis=alt.Axis(labelOverlap=True, labelAngle=0, labelLimit=DATE_PX)),
            y=alt.Y("from:Q", title="cloud", scale=alt.Scale(domain=[0, 1]),
                    axis=alt.Axis(format="%", tickCount=3)),
            y2="to:Q",
            color=alt.Color("color:N", scale=None),
            tooltip=["label:N", alt.Tooltip("cloud:Q", format=".1%")],
            key="label:N",
        )
        .add_params(alt.selection_point("date", fields=["label"]))
        .properties(height=130)
    )  # fmt: skip
    return chart


def draw_cover(rows: Sequence[Mapping[str, Any]], chosen: str) -> alt.LayerChart:
    """Return a curve of cloud over dates for each place that ``rows`` are of.

    Args:
        rows: ``label`` of a date, ``where``, and ``cover``, 0-1 or None.
        chosen: label of the date looked at; a line marks it.
    """
    import altair as alt
    import pandas as pd

    base = alt.Chart(pd.DataFrame(rows)).encode(
        x=alt.X("label:N", sort=None, title=None, axis=alt.Axis(labelOverlap=True, labelAngle=0)),
        y=alt.Y("cover:Q", title="cloud", scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(format="%")),
        color=alt.Color(
            "where:N", title=None,
            scale=alt.Scale(domain=["Whole mask", "Drawn area"], range=["#5B6B7B", "#0072B2"]),
        ),
        tooltip=["label:N", "where:N", alt.Tooltip("cover:Q", format=".1%")],
    )  # fmt: skip
    mark = alt.Chart(pd.DataFrame([{"label": chosen}])).mark_rule(strokeDash=[4, 3]).encode(
        x=alt.X("label:N", sort=None)
    )  # fmt: skip
    chart: alt.LayerChart = (
        base.mark_line() + base.mark_point(filled=True, size=50) + mark
    ).properties(height=240)
    return chart


def draw_class_spectra(rows: Sequence[Mapping[str, Any]]) -> alt.LayerChart:
    """Return the median spectrum of each class with the band between its quartiles.

    Args:
        rows: what ``class_spectra.spectrum_rows`` gives.
    """
    import altair as alt
    import pandas as pd

    colors = {str(row["class"]): str(row["color"]) for row in rows}
    base = alt.Chart(pd.DataFrame(rows)).encode(
        x=alt.X("wavelength, nm:Q", scale=alt.Scale(zero=False)),
        color=alt.Color(
            "class:N", title=None, sort=None, legend=alt.Legend(labelLimit=LEGEND_PX),
            scale=alt.Scale(domain=list(colors), range=list(colors.values())),
        ),
        tooltip=["class:N", "band:N", alt.Tooltip("reflectance:Q", format=".3f")],
    )  # fmt: skip
    middle = base.encode(y=alt.Y("reflectance:Q", title="reflectance"))
    area = base.mark_area(opacity=0.18).encode(y=alt.Y("low:Q"), y2="high:Q")
    chart: alt.LayerChart = (
        area + middle.mark_line(strokeWidth=2.5) + middle.mark_point(filled=True, size=40)
    ).properties(height=320)
    return chart


def score_rows(comparisons: Sequence[tuple[str, str, Comparison]]) -> list[dict[str, Any]]:
    """Return a row of numbers for each mask, reference and way of comparing.

    A mask is not scored in classes of which its model cannot tell some: see ``untold_text``.
    """
    rows = []
    for mask, reference, comparison in comparisons:
        for result in comparison.evaluation.result.results:
            if comparison.untold & set(result.confusion.scheme.names):
                continue
            scores = result.confusion.scores()
            rows.append(
                {
                    "mask": mask,
                    "compared with": reference,
                    "classes": result.case.view.value,
                    "mask dilated": str(result.case.dilate) if result.case.dilate else "no",
                    "balanced accuracy": scores.balanced_accuracy,
                    "overall accuracy": scores.overall_accuracy,
                    "kappa": scores.kappa,
                    "mean F1": scores.mean_f1,
                    "mean IoU": scores.mean_iou,
                    "cover error": scores.cover_error,
                    "pixels": int(scores.compared),
                }
            )
    return rows


def untold_text(mask: str, comparison: Comparison) -> str | None:
    """Return which classes the model of a mask cannot tell, and what follows, or None."""
    if not comparison.untold:
        return None
    titles = [item.title.lower() for item in FOUR_CLASS.classes if item.name in comparison.untold]
    return (
        f"The model of {mask} cannot tell {' and '.join(titles)}: no scores in classes that "
        "hold them."
    )


def class_rows(result: CaseResult, untold: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
    """Return a row of numbers for each class; none for those that the model cannot tell."""
    rows: list[dict[str, Any]] = []
    for item in result.confusion.scores().classes:
        told = item.name not in untold
        rows.append(
            {
                "class": item.title if told else f"{item.title} (the model cannot tell it)",
                "pixels in the reference": int(item.support),
                "precision": item.precision if told else None,
                "recall": item.recall if told else None,
                "F1": item.f1 if told else None,
                "IoU": item.iou if told else None,
            }
        )
    return rows
