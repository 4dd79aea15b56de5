"""Write a comparison down: a page with pictures, a leaderboard in Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import FOUR_CLASS, SCHEMES, OutputStyle, map_labels
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.evaluation import html_page as html
from openeo_cloudmask.evaluation.cases import Case, iterate_numbers
from openeo_cloudmask.evaluation.compare import (
    Comparison,
    Dispute,
    Standing,
    count_votes,
    mask_path,
)
from openeo_cloudmask.evaluation.evaluate import Pooled
from openeo_cloudmask.evaluation.grids import read_mask
from openeo_cloudmask.evaluation.quicklook import paint_mask, stretch_rgb
from openeo_cloudmask.evaluation.report import to_json
from openeo_cloudmask.models import get_model
from openeo_cloudmask.publish import publish_text
from openeo_cloudmask.version import __version__

WORST = 3
"""Scenes whose disagreement is shown."""
LISTED = 6
"""Scenes that the Markdown names one by one."""
COLUMNS = (
    ("Valid or invalid", OutputStyle.VALID_INVALID, "balanced_accuracy"),
    ("Cloud/non-cloud", OutputStyle.CLOUD_NONCLOUD, "balanced_accuracy"),
    ("Shadow alone", OutputStyle.FOUR_CLASS, "cloud-shadow.balanced_accuracy"),
    ("Four classes", OutputStyle.FOUR_CLASS, "balanced_accuracy"),
)
"""Balanced accuracies of the leaderboard: heading, view, number."""
SIMULATED_NOTE = "trained on scenes of the simulator that drew these"
METHOD = (
    "Numbers are balanced accuracies, pooled over the scenes (1 is perfect, 0.5 is chance for two "
    "classes and 0.25 for four), with 95 % intervals from drawing scenes again and again. The "
    "cover error is the mask's cloud cover minus the reference's. Speed is that of the "
    "median scene, by the time of all CPU cores together; windows that overhang a scene count."
)


def write_comparison(
    folder: Path, comparison: Comparison, *, title: str, command: str
) -> tuple[Path, ...]:
    """Write ``compare.html``, ``compare.md``, ``compare.csv`` and ``compare.json``.

    Args:
        folder: where to write.
        comparison: what to write.
        title: headline.
        command: the command that made it, shown in the reports.

    Raises:
        OutputError: a file cannot be written.
    """
    return (
        publish_text(
            folder / "compare.html", render_page(comparison, title=title, command=command)
        ),
        publish_text(
            folder / "compare.md", render_markdown(comparison, title=title, command=command)
        ),
        publish_text(folder / "compare.csv", to_csv(comparison)),
        publish_text(folder / "compare.json", to_json(to_dict(comparison, title, command))),
    )


def to_dict(comparison: Comparison, title: str, command: str) -> dict[str, Any]:
    """Return all numbers as JSON values."""
    return {
        "title": title,
        "command": command,
        "version": __version__,
        "settings": comparison.request.settings.to_dict(),
        "scenes": [source.name for source in comparison.request.scenes],
        "leaderboard": [
            {
                "model": item.model.label,
                "weights_sha256": item.model.weights_sha256(),
                "scenes": item.scenes,
                "megapixels_per_cpu_second": _json(item.megapixels_per_cpu_second),
                "note": _note(item, comparison),
                "pooled": [pooled.to_dict() for pooled in item.pooled],
            }
            for item in comparison.standings
        ],
        "agreement": [
            {"models": [item.one, item.other], "share": item.share, "kappa": _json(item.kappa)}
            for item in comparison.agreements
        ],
        "disagreement": [
            {"scene": item.source.name, "share": item.share} for item in comparison.disputes
        ],
        "left_out": [
            {"name": item.name, "reason": first_sentence(item.reason)}
            for item in comparison.left_out
        ],
    }


def to_csv(comparison: Comparison) -> str:
    """Return a row for each number of each model on each scene."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["model", "scene", "case", "class", "number", "value"])
    for (model, scene), record in comparison.records.items():
        for result in record.result.results:
            for name, key, value in iterate_numbers(result.confusion):
                text = repr(value) if math.isfinite(value) else ""
                writer.writerow([model, scene, result.case.name, name, key, text])
    return out.getvalue()


def render_markdown(comparison: Comparison, *, title: str, command: str) -> str:
    """Return the leaderboard in Markdown."""
    heads = ["", "Model", *(name for name, _, _ in COLUMNS), "Cover error", "Mpx per CPU s", ""]
    lines = [
        f"# {title}",
        "",
        f"Made by `{command}` with openeo-cloudmask {__version__}.",
        "",
        METHOD,
        "",
        _row(heads),
        _row([":--" if name in ("", "Model") else "--:" for name in heads]),
    ]
    for place, standing in enumerate(comparison.standings, start=1):
        cells = [str(place), f"`{standing.model.label}`"]
        for _, view, key in COLUMNS:
            value, interval = _value(standing, view, key)
            cells.append(value + (f"<br><sub>{interval}</sub>" if interval else ""))
        cells += [_cover(standing), html.number(standing.megapixels_per_cpu_second, 3)]
        lines.append(_row([*cells, _note(standing, comparison)]))
    lines += ["", f"## Scenes ({len(comparison.request.scenes)})", "", _scene_names(comparison)]
    if comparison.agreements:
        lines += ["", "## How alike the masks are", "", "Share of pixels with the same answer to "]
        lines[-1] += '"cloud/non-cloud", and Cohen\'s kappa.'
        lines += ["", *_agreement_lines(comparison)]
    if comparison.disputes:
        lines += ["", "## Where they differ most", ""]
        lines += [
            f"- {item.source.name}: {100 * item.share:.1f} % of the pixels"
            for item in comparison.disputes[:WORST]
        ]
    if comparison.left_out:
        lines += ["", "## Left out", ""]
        lines += [f"- `{item.name}`: {first_sentence(item.reason)}" for item in comparison.left_out]
    return "\n".join(lines) + "\n"


def render_page(comparison: Comparison, *, title: str, command: str) -> str:
    """Return the page."""
    scenes = len(comparison.request.scenes)
    body = [
        html.section("Leaderboard", _board(comparison), html.paragraph(METHOD)),
        html.section("Scene by scene", *_scene_tables(comparison)),
    ]
    if comparison.agreements:
        body.append(html.section("How alike the masks are", *_agreement_tables(comparison)))
    if comparison.disputes:
        shown = [_dispute(comparison, item) for item in comparison.disputes[:WORST]]
        body.append(html.section("Where the models differ most", html.legend(FOUR_CLASS), *shown))
    if comparison.left_out:
        rows = [
            (i.name, html.Cell(text=first_sentence(i.reason), prose=True))
            for i in comparison.left_out
        ]
        body.append(html.section("Left out", html.table("What did not run", ("", "Why"), rows)))
    lead = f"{len(comparison.standings)} models on {scenes} scene{'' if scenes == 1 else 's'}."
    foot = f"Made by: {command} (openeo-cloudmask {__version__})."
    return html.page(title, lead, body, foot=foot)


def board_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows of the leaderboard as plain text."""
    heads = ["Model", *(name for name, _, _ in COLUMNS), "Cover error", "Mpx per CPU s"]
    rows = [
        [
            item.model.label,
            *(_value(item, view, key)[0] for _, view, key in COLUMNS),
            _cover(item),
            html.number(item.megapixels_per_cpu_second, 3),
        ]
        for item in comparison.standings
    ]
    return heads, rows


def _board(comparison: Comparison) -> str:
    columns = ["Model", *(name for name, _, _ in COLUMNS), "Cover error", "Mpx per CPU s", "Note"]
    best = {
        (view, key): _largest(_raw(item, view, key) for item in comparison.standings)
        for _, view, key in COLUMNS
    }
    rows = []
    for standing in comparison.standings:
        row: list[str | html.Cell] = [standing.model.label]
        for _, view, key in COLUMNS:
            text, interval = _value(standing, view, key)
            first = _raw(standing, view, key) == best[view, key]
            row.append(html.Cell(text=text, note=interval, best=first))
        row += [_cover(standing), html.number(standing.megapixels_per_cpu_second, 3)]
        rows.append([*row, html.Cell(text=_note(standing, comparison), prose=True)])
    return html.table("All scenes pooled; the best number of each column is bold", columns, rows)


def _scene_tables(comparison: Comparison) -> list[str]:
    labels = [item.model.label for item in comparison.standings]
    tables = []
    for title, view, key in COLUMNS[:2]:
        rows: list[list[str | html.Cell]] = []
        for source in comparison.request.scenes:
            values = [_scene_value(comparison, label, source.name, view, key) for label in labels]
            top = _largest(values)
            cells = [html.Cell(text=html.number(v), best=v == top) for v in values]
            rows.append([source.name, *cells])
        tables.append(html.table(f"{title}: balanced accuracy", ("Scene", *labels), rows))
    return tables


def _agreement_tables(comparison: Comparison) -> list[str]:
    labels = [item.model.label for item in comparison.standings]
    found = {frozenset((item.one, item.other)): item for item in comparison.agreements}
    rows: list[list[str | html.Cell]] = []
    for one in labels:
        row: list[str | html.Cell] = [one]
        for other in labels:
            item = found.get(frozenset((one, other)))
            if item is None:
                row.append("" if one == other else html.UNDEFINED)
            else:
                tint = 0.32 * max(0.0, item.kappa) if math.isfinite(item.kappa) else 0.0
                note = f"kappa {html.number(item.kappa)}"
                row.append(html.Cell(text=html.percent(item.share), note=note, shade=tint))
        rows.append(row)
    caption = 'Share of pixels with the same answer to "cloud/non-cloud"; darker is a higher kappa'
    return [html.table(caption, ("Model", *labels), rows)]


def _dispute(comparison: Comparison, dispute: Dispute) -> str:
    source, request = dispute.source, comparison.request
    reference = source.reference()
    figures = [
        html.picture(
            stretch_rgb(source.rgb()), alt=f"Colour image of {source.name}", caption="Image"
        ),
        _figure(reference.labels, reference.scheme.name, "Reference"),
    ]
    for standing in comparison.standings:
        path = mask_path(request.folder, standing.model.label, source.name)
        if (standing.model.label, source.name) in comparison.records:
            mask = read_mask(path, scheme=standing.model.scheme)
            figures.append(_figure(mask.labels, mask.scheme.name, standing.model.label))
    votes, seen, count = count_votes(request, source, comparison.records)
    figures.append(
        html.picture(
            html.thumbnail(_paint_votes(votes, seen, count)),
            alt=f"How many of {count} models see cloud",
            caption=f"Models that see cloud: white none, black all {count}",
        )
    )
    heading = f"{source.name}: {html.percent(dispute.share)} of the pixels"
    return f"<h3>{escape(heading)}</h3>\n{html.pictures(figures)}"


def _figure(labels: NDArray[np.uint8], scheme_name: str, caption: str) -> str:
    scheme = SCHEMES[scheme_name]
    with suppress(OptionError):  # masks of cloud/non-cloud keep their own classes
        labels, scheme = map_labels(labels, scheme, FOUR_CLASS), FOUR_CLASS
    painted = html.thumbnail(paint_mask(labels, scheme))
    return html.picture(painted, alt=f"Mask: {caption}", caption=caption)


def _paint_votes(
    votes: NDArray[np.uint8], seen: NDArray[np.bool_], count: int
) -> NDArray[np.uint8]:
    # Unanimous pixels are white and black; the more even the vote, the stronger the orange.
    ramp = np.linspace(255, 0, count + 1)
    grey = np.repeat(ramp[votes][..., np.newaxis], 3, axis=2)
    split = 1 - np.abs(2 * votes / max(count, 1) - 1)
    orange = np.asarray([213.0, 94.0, 0.0])
    colours = grey * (1 - split[..., np.newaxis]) + orange * split[..., np.newaxis]
    colours[~seen] = 225
    painted: NDArray[np.uint8] = np.rint(colours).astype(np.uint8)
    return painted


def _pooled(standing: Standing, view: OutputStyle) -> Pooled | None:
    plain = Case(view=view)
    return next((item for item in standing.pooled if item.case == plain), None)


def _raw(standing: Standing, view: OutputStyle, key: str) -> float:
    pooled = _pooled(standing, view)
    if pooled is None:
        return math.nan
    scores = pooled.confusion.scores()
    name, _, number = key.rpartition(".")
    return float(getattr(scores.of(name) if name else scores, number))


def _value(standing: Standing, view: OutputStyle, key: str) -> tuple[str, str]:
    """Return the number and its interval as texts."""
    pooled = _pooled(standing, view)
    low, high = (
        (math.nan, math.nan) if pooled is None else pooled.intervals.get(key, (math.nan,) * 2)
    )
    interval = f"{low:.3f} to {high:.3f}" if math.isfinite(low) and math.isfinite(high) else ""
    return html.number(_raw(standing, view, key)), interval


def _largest(values: Iterable[float]) -> float:
    return max((value for value in values if math.isfinite(value)), default=math.nan)


def _cover(standing: Standing) -> str:
    return html.percent(_raw(standing, OutputStyle.CLOUD_NONCLOUD, "cover_error"), sign=True)


def _scene_value(
    comparison: Comparison, label: str, scene: str, view: OutputStyle, key: str
) -> float:
    record = comparison.records.get((label, scene))
    if record is None:
        return math.nan
    for result in record.result.results:
        if result.case == Case(view=view):
            return float(getattr(result.confusion.scores(), key))
    return math.nan


def _note(standing: Standing, comparison: Comparison) -> str:
    """Return what a reader must know to judge the row."""
    entry = get_model(standing.model.id)
    notes = []
    simulated = any(source.name.startswith("simulated-") for source in comparison.request.scenes)
    if simulated and any("simulated" in name for name in entry.trained_on):
        notes.append(SIMULATED_NOTE)
    if standing.scenes < len(comparison.request.scenes):
        notes.append(f"on {standing.scenes} of the scenes only")
    pooled = _pooled(standing, OutputStyle.FOUR_CLASS)
    if pooled is not None:
        chosen = pooled.confusion.counts.sum(axis=0)
        never = [
            item.title.lower()
            for item, total in zip(FOUR_CLASS.classes, chosen, strict=True)
            if not total
        ]
        if never:
            notes.append(f"never says {' or '.join(never)}")
    if entry.licence.non_commercial:
        notes.append("not for commercial use")
    return "; ".join(notes)


def _agreement_lines(comparison: Comparison) -> list[str]:
    labels = [item.model.label for item in comparison.standings]
    found = {frozenset((item.one, item.other)): item for item in comparison.agreements}
    lines = [_row(["", *(f"`{label}`" for label in labels)]), _row([":--", *["--:"] * len(labels)])]
    for one in labels:
        cells = []
        for other in labels:
            item = found.get(frozenset((one, other)))
            cells.append("" if item is None else f"{100 * item.share:.1f} % ({item.kappa:.2f})")
        lines.append(_row([f"`{one}`", *cells]))
    return lines


def _scene_names(comparison: Comparison) -> str:
    names = [source.name for source in comparison.request.scenes]
    if len(names) > LISTED:
        return f"{names[0]} to {names[-1]}; all of them are named in the JSON."
    return ", ".join(names) + "."


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def first_sentence(reason: str) -> str:
    """Return the first sentence; the rest may hold paths of this machine."""
    return reason.split(". ", maxsplit=1)[0]


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None
