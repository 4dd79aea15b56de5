"""A leaderboard as a page, as Markdown and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from openeo_cloudmask.evaluation import html_page as html
from openeo_cloudmask.evaluation.compare_report import first_sentence
from openeo_cloudmask.evaluation.compare_scenes import ComparedModel
from openeo_cloudmask.evaluation.leaderboard import COLUMNS, Board, Number, Standing
from openeo_cloudmask.evaluation.reference_format import formats
from openeo_cloudmask.evaluation.report import to_json
from openeo_cloudmask.models import get_model
from openeo_cloudmask.publish import publish_text
from openeo_cloudmask.version import __version__

METHOD = (
    "Models stand by their balanced accuracy of cloud/non-cloud, pixels of all scenes pooled, with "
    "95 % intervals from drawing scenes with replacement. Models share a rank unless the interval "
    "of one lies wholly above that of the other; a model without masks of all scenes has no rank. "
    "Producer's accuracy is the share of cloud that is found, user's the share of the mask's cloud "
    "that is right. Pixels without a class in the mask are not compared; their share is told where "
    "there are any. By class of the reference, the share of its pixels that is right. What each "
    "model was trained on stands below: on the same scenes its figures are no independent score. "
    "\N{DAGGER} marks those that name this data set (or scenes of this simulator). Speed is "
    "that of the median scene, by the time of all CPU cores together."
)
PACKAGES = ("numpy", "onnxruntime", "torch", "ukis-csmask", "s2cloudless", "rasterio")
_MODEL_HEADS = ("Model", "SHA-256 of weights", "Trained on")
_BREAK, _END = "<br><sub>", "</sub>"
"""Around the interval of a number, in Markdown."""


def write_leaderboard(
    folder: Path,
    boards: Sequence[Board],
    models: Sequence[ComparedModel],
    *,
    title: str,
    command: str,
) -> tuple[Path, ...]:
    """Write ``leaderboard.html``, ``leaderboard.md`` and ``leaderboard.json``.

    Args:
        folder: where to.
        boards: the figures.
        models: what was tried; their versions and digests are told.
        title: headline.
        command: the command that made it.

    Raises:
        OutputError: a file cannot be written.
    """
    content = to_content(boards, models, title=title, command=command)
    return (
        publish_text(folder / "leaderboard.html", render_page(boards, content)),
        publish_text(folder / "leaderboard.md", render_markdown(boards, content)),
        publish_text(folder / "leaderboard.json", to_json(content)),
    )


def to_content(
    boards: Iterable[Board], models: Iterable[ComparedModel], *, title: str, command: str
) -> dict[str, Any]:
    """Return everything as JSON values."""
    return {
        "title": title,
        "command": command,
        "version": __version__,
        "software": _software(),
        "models": {model.label: _about(model) for model in models},
        "boards": [_board_content(board) for board in boards],
    }


def _board_content(board: Board) -> dict[str, Any]:
    return {
        "references": board.references,
        "scenes": board.scenes,
        "sha256": board.digest,
        "standings": [
            {
                "model": item.model,
                "rank": item.rank,
                "scenes": item.scenes,
                "numbers": {
                    f"{view.value}: {key}": number.to_list()
                    for (_, view, key), number in zip(COLUMNS, item.numbers, strict=True)
                },
                "unclassed_share": item.unclassed_share,
                "megapixels_per_cpu_second": _json(item.megapixels_per_cpu_second),
                "strata": [
                    {"kind": kind, "stratum": name, "value": _json(value), "scenes": scenes}
                    for (kind, name), (value, scenes) in item.strata.items()
                ],
            }
            for item in board.standings
        ],
        "left_out": {
            model: {first_sentence(reason): count for reason, count in reasons.items()}
            for model, reasons in board.left_out.items()
        },
    }


def _about(model: ComparedModel) -> dict[str, Any]:
    entry = get_model(model.id)
    return {
        "weights_sha256": model.weights_sha256(),
        "reads": list(entry.layers),
        "trained_on": list(entry.trained_on),
        "stride": model.stride,
        "precision": model.precision,
    }


def _software() -> dict[str, str]:
    found = {"openeo-cloudmask": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def render_markdown(boards: Iterable[Board], content: dict[str, Any]) -> str:
    """Return the page in Markdown."""
    boards = list(boards)
    made = f"Made by `{content['command']}` with {_versions(content)}."
    lines = [f"# {content['title']}", "", made, "", METHOD]
    for board in boards:
        lines += ["", f"## {board.references}: {board.scenes} scene(s)", ""]
        lines += [f"SHA-256 of names and labels: `{board.digest[:16]}`.", ""]
        heads, rows = _board_rows(board)
        lines += _markdown_table(heads, rows)
        for kind, names, cells in _strata_tables(board):
            lines += ["", f"### By {kind}", "", *_markdown_table(["", *names], cells)]
        lines += _left_out_lines(board)
    tried = {item.model for board in boards for item in board.standings}
    lines += ["", "## Models", ""]
    lines += _markdown_table(_MODEL_HEADS, _model_rows(content, tried))
    return "\n".join(lines) + "\n"


def render_page(boards: Iterable[Board], content: dict[str, Any]) -> str:
    """Return the page in HTML."""
    body = [html.section("How it was made", html.paragraph(METHOD))]
    tried = set()
    for board in boards:
        tried |= {item.model for item in board.standings}
        heads, rows = _board_rows(board)
        parts = [html.table("All scenes pooled", heads, [_cells(row) for row in rows])]
        parts += [
            html.table(f"By {kind}", ["", *names], cells)
            for kind, names, cells in _strata_tables(board)
        ]
        left = [(name, html.Cell(text=why, prose=True)) for name, why in _left_out(board)]
        if left:
            parts.append(html.details("Left out", html.table("Left out", ("Model", "Why"), left)))
        parts.append(html.paragraph(f"SHA-256 of names and labels: {board.digest}"))
        body.append(html.section(f"{board.references}: {board.scenes} scene(s)", *parts))
    models = [
        (name, digest, html.Cell(text=trained, prose=True))
        for name, digest, trained in _model_rows(content, tried)
    ]
    table = html.table("Models", _MODEL_HEADS, models)
    body.append(html.section("Models", table))
    lead = f"{len(tried)} models; {_versions(content)}."
    return html.page(content["title"], lead, body, foot=f"Made by: {content['command']}")


def board_rows(board: Board) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows of a board as plain text, for the terminal."""
    heads, rows = _board_rows(board)
    return heads, [[cell.replace(_BREAK, " ").replace(_END, "") for cell in row] for row in rows]


def _board_rows(board: Board) -> tuple[list[str], list[list[str]]]:
    shown = [
        place
        for place in range(len(COLUMNS))
        if any(math.isfinite(item.numbers[place].value) for item in board.standings)
    ]
    gaps = any(item.unclassed_share for item in board.standings)
    partly = any(item.scenes < board.scenes for item in board.standings)
    heads = ["Rank", "Model", *(["Scenes"] if partly else [])]
    heads += [*(COLUMNS[place][0] for place in shown), *(["No class"] if gaps else [])]
    heads.append("Mpx per CPU s")
    rows = []
    for item in board.standings:
        mark = " \N{DAGGER}" if _learned_from(item.model, board.references) else ""
        row = ["-" if item.rank is None else str(item.rank), f"{item.model}{mark}"]
        row += [f"{item.scenes} of {board.scenes}"] if partly else []
        row += [_cell(item.numbers[place], interval=place in (0, 5)) for place in shown]
        row += [html.percent(item.unclassed_share)] if gaps else []
        rows.append([*row, html.number(item.megapixels_per_cpu_second, 3)])
    return heads, rows


def _learned_from(model: str, references: str) -> bool:
    """Return whether the model's own words name the data set among what it was trained on."""
    name, _, weights = model.partition("=")
    if weights:
        return False  # nobody says what these were trained on
    known = references.partition(" (")[0]
    if references.startswith("simulated "):
        known = "simulated scenes"
    elif known not in {item.title.partition(" (")[0] for item in formats().values()}:
        return False  # a folder of one's own, whatever its name
    known = known.rstrip("+").lower()  # CloudSEN12+ holds the scenes of CloudSEN12
    return any(known in item.lower() for item in get_model(name).trained_on)


def _cell(number: Number, *, interval: bool) -> str:
    text = html.number(number.value)
    if interval and math.isfinite(number.low):
        text += f"{_BREAK}{number.low:.3f} to {number.high:.3f}{_END}"
    return text


def _cells(row: Sequence[str]) -> list[str | html.Cell]:
    """Return a row for HTML, whose intervals stand on a line of their own."""
    cells: list[str | html.Cell] = []
    for text in row:
        value, _, note = text.partition(_BREAK)
        cells.append(html.Cell(text=value, note=note.removesuffix(_END)) if note else text)
    return cells


def _strata_tables(board: Board) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return (kind, models, rows) for each kind of strata."""
    keys = dict.fromkeys(key for item in board.standings for key in item.strata)
    names = [item.model for item in board.standings]
    tables = []
    for kind in dict.fromkeys(kind for kind, _ in keys):
        own = [key for key in keys if key[0] == kind]
        rows = [[key[1], *(_share(item, key) for item in board.standings)] for key in _sorted(own)]
        tables.append((kind, names, rows))
    return tables


def _sorted(keys: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return strata from low to high; classes as they come."""

    def low(key: tuple[str, str]) -> float:
        words = key[1].split()
        number = words[0] if words[0] not in ("below", "over") else words[1]
        return float(number) - (0.5 if words[0] == "below" else 0.0)

    try:
        return sorted(keys, key=low)
    except (ValueError, IndexError):
        return keys


def _share(item: Standing, key: tuple[str, str]) -> str:
    return html.number(item.strata[key][0]) if key in item.strata else html.UNDEFINED


def _left_out(board: Board) -> list[tuple[str, str]]:
    return [
        (model, f"{first_sentence(reason)} ({count} of {board.scenes} scenes)")
        for model, reasons in board.left_out.items()
        for reason, count in reasons.items()
    ]


def _left_out_lines(board: Board) -> list[str]:
    rows = _left_out(board)
    return ["", "### Left out", "", *(f"- `{name}`: {why}" for name, why in rows)] if rows else []


def _model_rows(content: dict[str, Any], tried: set[str]) -> list[list[str]]:
    rows = []
    for name, about in content["models"].items():
        if name in tried:
            digest = about["weights_sha256"]
            trained = "; ".join(about["trained_on"])
            reads = f"reads {', '.join(about['reads'])}" if about["reads"] else ""
            rows.append([name, digest[:16] if digest else "-", trained or reads or "-"])
    return rows


def _versions(content: dict[str, Any]) -> str:
    return ", ".join(f"{name} {number}" for name, number in content["software"].items())


def _markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    marks = [":--" if place < 2 else "--:" for place in range(len(heads))]
    return [f"| {' | '.join(line)} |" for line in (heads, marks, *rows)]


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None
