"""The page of a score report."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import (
    FOUR_CLASS,
    NODATA,
    SCHEMES,
    ClassScheme,
    OutputStyle,
    map_labels,
)
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.evaluation import html_page as html
from openeo_cloudmask.evaluation.cases import CaseResult
from openeo_cloudmask.evaluation.error_map import ERROR_CLASSES
from openeo_cloudmask.evaluation.evaluate import Evaluation, Pooled
from openeo_cloudmask.evaluation.quicklook import paint_mask
from openeo_cloudmask.evaluation.report import (
    Picture,
    ScoreReport,
    to_csv,
    to_json,
)
from openeo_cloudmask.evaluation.scores import POSITIVE
from openeo_cloudmask.publish import publish_text
from openeo_cloudmask.version import __version__

VIEW_TITLES = {
    OutputStyle.VALID_INVALID: "Valid or invalid",
    OutputStyle.CLOUD_NONCLOUD: "Cloud/non-cloud",
    OutputStyle.FOUR_CLASS: "Four classes",
}
METHOD = (
    "Balanced accuracy is the mean recall of the classes that occur in the reference. Recall is "
    "also called producer's accuracy (1 - omission), precision user's accuracy (1 - commission). "
    "A class against the rest: its balanced accuracy, all other classes taken as one. "
    "Cover is the share of cloud (in valid/invalid: of cloud and shadow) in the pixels compared; "
    "its error is mask minus reference. Intervals hold 95 % of 1000 draws of as many scenes with "
    "replacement; a single scene has none. Pixels that are no-data in either are not compared."
)


def scene_pictures(evaluation: Evaluation) -> tuple[Picture, ...]:
    """Return small pictures of reference, mask and error map."""
    pair, name = evaluation.pair, evaluation.reference.name
    scheme = FOUR_CLASS
    try:
        labels = [
            map_labels(pair.reference, pair.reference_scheme, scheme),
            map_labels(pair.mask, pair.mask_scheme, scheme),
        ]
    except OptionError:  # a binary mask
        scheme = SCHEMES[evaluation.error_view.value]
        labels = list(pair.labels(evaluation.error_view))
    titles = ("Reference", "Mask")
    pictures = [
        Picture(
            caption=title,
            alt=f"{title} of {name}: {_shares(values, scheme)}",
            pixels=html.thumbnail(paint_mask(values, scheme)),
        )
        for title, values in zip(titles, labels, strict=True)
    ]
    errors = evaluation.errors
    wrong = np.mean(errors[errors != NODATA] >= 2) if (errors != NODATA).any() else math.nan
    pictures.append(
        Picture(
            caption=f"Errors, {VIEW_TITLES[evaluation.error_view].lower()}",
            alt=f"Error map of {name}: {html.percent(float(wrong))} of the pixels are wrong",
            pixels=html.thumbnail(paint_mask(errors, ERROR_CLASSES)),
        )
    )
    return tuple(pictures)


def write_report(folder: Path, report: ScoreReport) -> tuple[Path, Path, Path]:
    """Write ``scores.html``, ``scores.csv`` and ``scores.json`` and return their paths.

    Raises:
        OutputError: a file cannot be written.
    """
    return (
        publish_text(folder / "scores.html", render_report(report)),
        publish_text(folder / "scores.csv", to_csv(report)),
        publish_text(folder / "scores.json", to_json(report.to_dict())),
    )


def render_report(report: ScoreReport) -> str:
    """Return the page."""
    plain = [item for item in report.pooled if is_plain(item)]
    body = [
        html.tiles(_tile(item) for item in plain),
        html.section("All scenes", _summary(report.pooled), html.paragraph(METHOD)),
        html.section("Classes", *(class_table(item) for item in plain)),
        html.section("Confusion matrices", *(confusion_table(item) for item in plain)),
    ]
    if rest := [item for item in report.pooled if not is_plain(item)]:
        parts = [part for item in rest for part in (class_table(item), confusion_table(item))]
        body.append(html.details("Classes and matrices with dilation, rim and weights", *parts))
    body.append(html.section("Pixels that were not compared", _pixels(report.pooled)))
    body.append(html.section("Scenes", _scenes(report), *_scene_pictures(report)))
    if report.left_out:
        rows = [(item.name, html.Cell(text=item.reason, prose=True)) for item in report.left_out]
        body.append(html.section("Left out", html.table("Scenes left out", ("Scene", "Why"), rows)))
    settings = report.settings
    count = len(report.scenes)
    lead = (
        f"{count} scene{'' if count == 1 else 's'} compared on the reference's grid. A mask on "
        f"another grid is brought there by {settings.method.value}"
        + (f", threshold {settings.threshold:g}." if settings.method.value == "fractions" else ".")
    )
    return html.page(report.title, lead, body, foot=f"Made by openeo-cloudmask {__version__}.")


def is_plain(item: CaseResult | Pooled) -> bool:
    """Return whether a comparison has neither dilation nor rim nor weights."""
    return not (item.case.dilate or item.case.ignore_rim or item.case.weighted)


def _tile(item: Pooled) -> tuple[str, str, str]:
    scores = item.confusion.scores()
    note = "balanced accuracy"
    if interval := item.intervals.get("balanced_accuracy"):
        note += f", 95 % interval {html.number(interval[0])} to {html.number(interval[1])}"
    return html.number(scores.balanced_accuracy), VIEW_TITLES[item.case.view], note


def _summary(pooled: tuple[Pooled, ...]) -> str:
    columns = (
        "Comparison", "Balanced accuracy", "Overall accuracy", "Kappa", "Mean F1", "Mean IoU",
        "Cover in reference", "Cover error", "Mean size of it",
    )  # fmt: skip
    return html.table("All scenes pooled", columns, [_summary_row(item) for item in pooled])


def _summary_row(item: Pooled) -> list[str | html.Cell]:
    scores = item.confusion.scores()
    row: list[str | html.Cell] = [item.case.name]
    row += [
        html.Cell(text=html.number(getattr(scores, key)), note=_interval(item, key))
        for key in ("balanced_accuracy", "overall_accuracy", "kappa", "mean_f1", "mean_iou")
    ]
    row.append(html.percent(scores.cover_reference))
    row.append(html.percent(scores.cover_error, sign=True))
    row.append(html.percent(item.mean_absolute_cover_error))
    return row


def _interval(item: Pooled, key: str) -> str:
    low, high = item.intervals.get(key, (math.nan, math.nan))
    return f"{low:.3f} to {high:.3f}" if math.isfinite(low) and math.isfinite(high) else ""


def class_table(item: Pooled) -> str:
    """Return the table of the classes of a comparison as HTML."""
    columns = ("Class", "Pixels", "Precision", "Recall", "F1", "IoU", "Against the rest")
    rows: list[list[str | html.Cell]] = []
    for score in item.confusion.scores().classes:
        row: list[str | html.Cell] = [score.title, html.count(score.support)]
        for key in ("precision", "recall", "f1", "iou", "balanced_accuracy"):
            note = _interval(item, f"{score.name}.{key}")
            row.append(html.Cell(text=html.number(getattr(score, key)), note=note))
        rows.append(row)
    return html.table(item.case.name, columns, rows)


def confusion_table(item: Pooled) -> str:
    """Return the confusion matrix of a comparison as HTML."""
    classes = item.confusion.scheme.classes
    columns = ("In the reference", *(f"Mask: {item.title.lower()}" for item in classes), "All")
    rows: list[list[str | html.Cell]] = []
    for item_class, counts in zip(classes, item.confusion.counts, strict=True):
        total = counts.sum()
        row: list[str | html.Cell] = [item_class.title]
        for value in counts:
            share = float(value / total) if total else math.nan
            tint = 0.32 * share if math.isfinite(share) else 0.0
            row.append(
                html.Cell(text=html.count(float(value)), note=html.percent(share), shade=tint)
            )
        row.append(html.count(float(total)))
        rows.append(row)
    return html.table(f"{item.case.name}: pixels, and share of the row", columns, rows)


def _pixels(pooled: tuple[Pooled, ...]) -> str:
    columns = ("Comparison", "Compared", "No data in reference", "No data in mask", "Rim")
    rows = [
        [
            item.case.name,
            html.count(item.excluded.compared),
            html.count(item.excluded.reference_nodata),
            html.count(item.excluded.mask_nodata),
            html.count(item.excluded.rim),
        ]
        for item in pooled
    ]
    return html.table("Pixels of the reference's grids", columns, rows)


def _scenes(report: ScoreReport) -> str:
    views = [item.case.view for item in report.pooled if is_plain(item)]
    columns = ["Scene"]
    for view in views:
        title = VIEW_TITLES[view]
        columns += [f"{title}: balanced accuracy"]
        if view is not OutputStyle.FOUR_CLASS:
            columns += ["Precision", "Recall", "Cover error"]
    rows = []
    for scene in report.scenes:
        by_view = {item.case.view: item for item in scene.results if is_plain(item)}
        row = [scene.name]
        for view in views:
            row += _scene_cells(by_view.get(view), view)
        rows.append(row)
    return html.table("Each scene", columns, rows)


def _scene_cells(result: CaseResult | None, view: OutputStyle) -> list[str]:
    binary = view is not OutputStyle.FOUR_CLASS
    if result is None:
        return [html.UNDEFINED] * (4 if binary else 1)
    scores = result.confusion.scores()
    cells = [html.number(scores.balanced_accuracy)]
    if binary:
        positive = scores.of(POSITIVE[view.value][0])
        cells += [html.number(positive.precision), html.number(positive.recall)]
        cells.append(html.percent(scores.cover_error, sign=True))
    return cells


def _scene_pictures(report: ScoreReport) -> list[str]:
    if not report.pictures:
        return []
    parts = [html.legend(ERROR_CLASSES), html.legend(FOUR_CLASS)]
    for name, items in report.pictures.items():
        parts.append(f"<h3>{escape(name)}</h3>\n")
        parts.append(
            html.pictures(
                html.picture(item.pixels, alt=item.alt, caption=item.caption) for item in items
            )
        )
    return parts


def _shares(labels: NDArray[np.uint8], scheme: ClassScheme) -> str:
    seen = labels[labels != NODATA]
    if not seen.size:
        return "no data"
    return ", ".join(
        f"{item.title.lower()} {html.percent(float(np.mean(seen == item.value)))}"
        for item in scheme.classes
    )
