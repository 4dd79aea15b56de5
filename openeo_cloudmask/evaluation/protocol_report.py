"""The tables of the protocol, a text for the section Methods, and BibTeX, as files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from openeo_cloudmask.classes import ALCD
from openeo_cloudmask.evaluation.bootstrap import LEVEL, RESAMPLES
from openeo_cloudmask.evaluation.evaluate import ScoreSettings
from openeo_cloudmask.evaluation.protocol import FOUND_SHARE, SceneDetail, protocol_content
from openeo_cloudmask.evaluation.reference_format import ReferenceFormat
from openeo_cloudmask.evaluation.report import to_json
from openeo_cloudmask.publish import publish_text
from openeo_cloudmask.version import __version__

_HEADS = {
    "recall": "Producer's accuracy",
    "precision": "User's accuracy",
    "specificity": "Specificity",
    "balanced_accuracy": "Balanced accuracy",
    "overall_accuracy": "Overall accuracy",
    "f1": "F1",
    "f2": "F2",
    "iou": "IoU",
    "kappa": "Kappa",
}
_PAPER = ("recall", "precision", "balanced_accuracy", "f1", "iou", "kappa")
"""Numbers of the table for LaTeX; all of them are too wide for a page."""
_CMIX = """@article{skakun2022cmix,
  title = {Cloud Mask Intercomparison eXercise (CMIX): An evaluation of cloud masking algorithms for
    Landsat 8 and Sentinel-2},
  author = {Skakun, Sergii and Wevers, Jan and Brockmann, Carsten and others},
  journal = {Remote Sensing of Environment},
  volume = {274},
  pages = {112990},
  year = {2022},
  doi = {10.1016/j.rse.2022.112990}
}
"""
_ALCD = """@article{baetens2019alcd,
  title = {Validation of Copernicus Sentinel-2 Cloud Masks Obtained from MAJA, Sen2Cor, and FMask
    Processors Using Reference Cloud Masks Generated with a Supervised Active Learning Procedure},
  author = {Baetens, Louis and Desjardins, Camille and Hagolle, Olivier},
  journal = {Remote Sensing},
  volume = {11},
  number = {4},
  pages = {433},
  year = {2019},
  doi = {10.3390/rs11040433}
}
"""


def write_protocol(
    folder: Path,
    details: Sequence[SceneDetail],
    settings: ScoreSettings,
    form: ReferenceFormat | None,
) -> tuple[Path, ...]:
    """Write ``protocol.json``, ``.md`` and ``.tex``, ``methods.md`` and ``references.bib``.

    Args:
        folder: where to.
        details: the scenes, by strata.
        settings: how they were compared.
        form: the format of the references; None for ALCD's and one's own.

    Raises:
        OutputError: a file cannot be written.
    """
    content = protocol_content(details)
    return (
        publish_text(folder / "protocol.json", to_json({"version": __version__, "views": content})),
        publish_text(folder / "protocol.md", render_protocol(content)),
        publish_text(folder / "protocol.tex", render_latex(content)),
        publish_text(folder / "methods.md", methods_text(details, settings, form)),
        publish_text(folder / "references.bib", bibtex(details, form)),
    )


def render_protocol(content: Iterable[dict[str, Any]]) -> str:
    """Return the tables as Markdown."""
    lines = ["# Strata and objects", ""]
    for view in content:
        lines += [f"## {view['view']}, {view['scenes']} scene(s)", ""]
        lines += [*_table(["Stratum", "Scenes", "Pixels", *_HEADS.values()], _strata_rows(view))]
        lines += ["", "### Classes of the reference", ""]
        rows = [
            [item["class"], str(item["pixels"]), f"{item['positive_share']:.3f}"]
            for item in view["classes"]
        ]
        lines += _table(["Class of the reference", "Pixels", "Called cloud (or invalid)"], rows)
        lines += ["", "### Clouds as objects", ""]
        keys = ("size", "reference", "missed", "mask", "invented")
        lines += _table(
            ["Size", "In the reference", "Missed", "In the mask", "Invented"],
            [[str(item[key]) for key in keys] for item in view["objects"]],
        )
        lines.append("")
    return "\n".join(lines)


def render_latex(content: Iterable[dict[str, Any]]) -> str:
    """Return the strata as tables for LaTeX with the package booktabs."""
    lines = []
    for view in content:
        heads = ["Stratum", "Scenes", *(_HEADS[key] for key in _PAPER)]
        lines += [
            r"\begin{table}",
            rf"\caption{{{_tex(view['view'])}, {view['scenes']} scene(s), with 95\,\% intervals.}}",
            rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
            r"\toprule",
            " & ".join(_tex(head) for head in heads) + r" \\",
            r"\midrule",
        ]
        for item in view["strata"]:
            cells = [_tex(_name(item)), str(item["scenes"])]
            for key in _PAPER:
                value, _, span = _cell(item["numbers"][key]).partition(" ")
                span = span.replace("-", "--")
                cells.append(value + (rf" {{\scriptsize {span}}}" if span else ""))
            lines.append(" & ".join(cells) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join(lines)


def _tex(text: str) -> str:
    """Return plain text for LaTeX."""
    for mark in "&%_#":
        text = text.replace(mark, rf"\{mark}")
    return text.replace("\N{DEGREE SIGN}", r"$^\circ$")


def _name(item: dict[str, Any]) -> str:
    return item["kind"] if item["kind"] == "all" else f"{item['kind']}: {item['stratum']}"


def _strata_rows(view: dict[str, Any]) -> list[list[str]]:
    rows = []
    for item in view["strata"]:
        cells = [_cell(item["numbers"][key]) for key in _HEADS]
        rows.append([_name(item), str(item["scenes"]), f"{item['pixels']:.0f}", *cells])
    return rows


def _cell(number: dict[str, Any]) -> str:
    if number["value"] is None:
        return "-"
    edges = [edge for edge in number["interval"] if edge is not None]
    span = f" ({edges[0]:.3f}-{edges[1]:.3f})" if len(edges) == 2 else ""
    return f"{number['value']:.3f}{span}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    marks = [":--", *["--:"] * (len(heads) - 1)]
    return [f"| {' | '.join(line)} |" for line in (heads, marks, *rows)]


def methods_text(
    details: Sequence[SceneDetail], settings: ScoreSettings, form: ReferenceFormat | None
) -> str:
    """Return sentences for the section Methods: what was compared with what, and how."""
    source = "reference masks"
    if form is not None:
        source = f"the references of {form.title}"
    elif details[0].scheme == ALCD.name:
        source = "the ALCD reference masks (Baetens et al., 2019)"
    cases = "; ".join(case.name for case in settings.cases)
    codes = ""
    if form is not None:
        named = (f"{c.code} ({c.meaning}) as {c.target or 'not compared'}" for c in form.codes)
        codes = f" Its codes were taken as follows: {', '.join(named)}."
    share = f"{FOUND_SHARE:.0%}"
    return (
        f"Masks were compared with {source} on {len(details)} scene(s) with openeo-cloudmask "
        f"{__version__}.{codes} Masks on another grid were brought to that of the reference by "
        f"{settings.method.value} (threshold {settings.threshold:g}). Compared were: {cases}. "
        "Pixels that are no-data in mask or reference were left out. Matrices of scenes were "
        f"added; intervals are percentiles ({LEVEL:.0%}) of {RESAMPLES} bootstrap samples in which "
        "whole scenes were drawn with replacement. Producer's accuracy is recall, user's accuracy "
        "precision of the positive class (cloud, or cloud and shadow where valid and invalid "
        "pixels were compared); F2 weights recall twice as much as precision. Strata follow the "
        "reference: its classes, the distance of a pixel to the nearest one of the other class, "
        "and the share of cloud in the scene. A cloud, a set of pixels that touch by side or "
        f"corner, counts as missed where less than {share} of it was found, and as invented where "
        f"less than {share} of it is in the reference. Measures and strata are in the manner of "
        "the Cloud Mask Intercomparison eXercise (Skakun et al., 2022).\n"
    )


def bibtex(details: Sequence[SceneDetail], form: ReferenceFormat | None) -> str:
    """Return entries of the software, of CMIX and of the references."""
    own = f"  title = {{openeo-cloudmask}},\n  version = {{{__version__}}}\n"
    entries = [f"@software{{openeo_cloudmask,\n{own}}}\n", _CMIX]
    if form is not None:
        entries.append(
            f"@misc{{{form.id},\n  note = {{{form.citation}}},\n  doi = {{{form.doi}}}\n}}\n"
        )
    elif details[0].scheme == ALCD.name:
        entries.append(_ALCD)
    return "\n".join(entries)
