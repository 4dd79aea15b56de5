"""One report over several masks of a scene: image, scores, how each was made, how they compare."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.evaluation import html_page as html
from openeo_cloudmask.evaluation.cases import iterate_numbers
from openeo_cloudmask.evaluation.error_map import ERROR_CLASSES
from openeo_cloudmask.evaluation.evaluate import Pooled, pool_results
from openeo_cloudmask.evaluation.report_html import (
    METHOD,
    class_table,
    confusion_table,
    is_plain,
    scene_pictures,
)
from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.version import __version__
from openeo_cloudmask.viewer.charts import untold_text
from openeo_cloudmask.viewer.comparison import Comparison
from openeo_cloudmask.viewer.places import Ring

DOUBTS = "Doubts"
PROVENANCE = {
    # Tag of a mask's file -> what it is called.
    "MODEL": "Model", "MODEL_LICENCE": "Licence", "MODEL_CITATION": "Citation",
    "SOFTWARE": "Software", "SENSOR": "Sensor", "BANDS": "Bands", "OUTPUT_STYLE": "Output style",
    "STRIDE": "Stride, pixels", "PRECISION": "Precision", "THRESHOLD": "Threshold",
    "MIN_AREA": "Smallest area", "BUFFER": "Buffer", "SOURCE": "Scene", "ACQUIRED": "Acquired",
    "WARNING": DOUBTS,
}  # fmt: skip
NUMBERS = {
    "balanced_accuracy": "Balanced accuracy", "overall_accuracy": "Overall accuracy",
    "kappa": "Kappa", "mean_f1": "Mean F1", "mean_iou": "Mean IoU", "cover_error": "Cover error",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """A mask of a report."""

    name: str
    comparison: Comparison
    made: Mapping[str, str]
    """How it was made, from ``provenance``."""

    def cases(self) -> tuple[Pooled, ...]:
        """Return its comparisons in the classes that its model can tell."""
        return tuple(
            case
            for case in pool_results([self.comparison.evaluation.result])
            if not self.comparison.untold & set(case.confusion.scheme.names)
        )


def provenance(path: Path, item: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Return how a mask was made, as its file and its STAC item say.

    Raises:
        ProductError: the file cannot be read.
    """
    with open_raster(path) as source:
        tags = source.tags()
    found = {title: tags[key] for key, title in PROVENANCE.items() if tags.get(key)}
    if item is not None:
        found["STAC item"] = str(item.get("id"))
        inputs = [
            str(link["href"]).partition("?")[0]  # what follows may be a signature
            for link in item.get("links", ())
            if link.get("rel") == "derived_from" and link.get("title") == "Input"
        ]
        if inputs:
            found["Made from"] = ", ".join(inputs)
    return found


def render_judgement(
    title: str,
    judged: Sequence[Judged],
    image: NDArray[np.uint8] | None = None,
    area: Ring | None = None,
) -> str:
    """Return the page.

    Args:
        title: its heading.
        judged: the masks, all compared with the same reference.
        image: (y, x, 3) uint8, a small picture of the scene; None where it is not open.
        area: what the numbers are restricted to, if anything.
    """
    body = [
        html.section("Image and masks", *_pictures(judged, image)),
        html.section("Scores", *_scores(judged)),
    ]
    for item in judged:
        plain = [case for case in item.cases() if is_plain(case)]
        rest = [case for case in item.cases() if not is_plain(case)]
        parts = [part for case in plain for part in (class_table(case), confusion_table(case))]
        more = [part for case in rest for part in (class_table(case), confusion_table(case))]
        if more:
            parts.append(html.details("With the mask dilated", *more))
        body.append(html.section(item.name, *parts))
    body.append(html.section("Provenance", _provenance(judged)))
    body.append(html.section("Method", *(html.paragraph(text) for text in _method(judged, area))))
    lead = f"{len(judged)} mask{'' if len(judged) == 1 else 's'} compared on one grid."
    return html.page(title, lead, body, foot=f"Made by openeo-cloudmask {__version__}.")


def _pictures(judged: Sequence[Judged], image: NDArray[np.uint8] | None) -> list[str]:
    figures = []
    if image is not None:
        figures.append(html.picture(image, alt="The scene", caption="Image"))
    for place, item in enumerate(judged):
        reference, mask, errors = scene_pictures(item.comparison.evaluation)
        if place == 0:
            figures.append(
                html.picture(reference.pixels, alt=reference.alt, caption=reference.caption)
            )
        for shown, caption in ((mask, item.name), (errors, f"{item.name}: {errors.caption}")):
            figures.append(html.picture(shown.pixels, alt=shown.alt, caption=caption))
    return [html.legend(FOUR_CLASS), html.legend(ERROR_CLASSES), html.pictures(figures)]


def _scores(judged: Sequence[Judged]) -> list[str]:
    """Return a table for each way of comparing, a row for each mask, the best number in bold."""
    by_case: dict[str, list[tuple[str, Pooled]]] = {}
    for item in judged:
        for case in item.cases():
            by_case.setdefault(case.case.name, []).append((item.name, case))
    tables = []
    for name, rows in by_case.items():
        scores = [case.confusion.scores().to_dict() for _, case in rows]
        cells: list[list[str | html.Cell]] = [
            [mask, *(_score_cell(key, score, scores) for key in NUMBERS)]
            for (mask, _), score in zip(rows, scores, strict=True)
        ]
        tables.append(html.table(name, ("Mask", *NUMBERS.values()), cells))
    told = [untold_text(item.name, item.comparison) for item in judged]
    return [*tables, *(html.paragraph(text) for text in told if text)]


def _score_cell(
    key: str, score: Mapping[str, Any], scores: Sequence[Mapping[str, Any]]
) -> html.Cell:
    value = score[key]
    if value is None:
        return html.Cell(text=html.UNDEFINED)
    if key == "cover_error":
        return html.Cell(text=html.percent(value, sign=True))
    best = len(scores) > 1 and value == max(item[key] or -math.inf for item in scores)
    return html.Cell(text=html.number(value), best=best)


def _provenance(judged: Sequence[Judged]) -> str:
    titles = [*PROVENANCE.values(), "STAC item", "Made from"]
    rows: list[list[str | html.Cell]] = [
        [title, *(html.Cell(text=item.made.get(title, ""), prose=True) for item in judged)]
        for title in titles
        if any(title in item.made for item in judged)
    ]
    if not rows:
        return html.paragraph("The files of these masks do not say how they were made.")
    return html.table("How the masks were made", ("", *(item.name for item in judged)), rows)


def _method(judged: Sequence[Judged], area: Ring | None) -> list[str]:
    methods = dict.fromkeys(item.comparison.evaluation.result.method for item in judged)
    reference = judged[0].comparison.evaluation.reference
    grid = reference.grid
    side = "" if grid.resolution_m is None else f", pixels of {grid.resolution_m:g} m"
    compared = (
        f"Compared with {reference.name} on its grid ({grid.shape_yx[1]} x {grid.shape_yx[0]} "
        f"pixels{side}). How a mask comes to that grid: {'; '.join(methods)}."
    )
    text = [compared, METHOD]
    if area is not None:
        corners = ", ".join(f"{lat:.5f} {lon:.5f}" for lon, lat in area)
        text.append(
            "All numbers are of one area alone; latitude and longitude of its corners: "
            f"{corners}. The mask is dilated before the area is cut out."
        )
    return text


def judgement_csv(judged: Sequence[Judged]) -> str:
    """Return a row for each number: mask, case, class, name, value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["mask", "case", "class", "number", "value"])
    for item in judged:
        for case in item.cases():
            for name, key, value in iterate_numbers(case.confusion):
                text = repr(value) if math.isfinite(value) else ""
                writer.writerow([item.name, case.case.name, name, key, text])
    return out.getvalue()


def judgement_dict(
    title: str, judged: Sequence[Judged], area: Ring | None = None
) -> dict[str, Any]:
    """Return everything but the pictures as JSON values."""
    return {
        "title": title,
        "version": __version__,
        "area": None if area is None else [list(corner) for corner in area],
        "reference": judged[0].comparison.evaluation.reference.name,
        "method": _method(judged, area),
        "masks": [
            {
                "name": item.name,
                "made": dict(item.made),
                "results": [case.to_dict() for case in item.cases()],
            }
            for item in judged
        ],
    }
