"""Rates of masks as JSON, and as tables that the documentation shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from openeo_cloudmask.evaluation.labelled_masks import RatedMasks
from openeo_cloudmask.evaluation.report import to_json
from openeo_cloudmask.publish import publish_text
from openeo_cloudmask.version import __version__

FILE_NAME = "evaluation"
COLUMNS = (
    ("Cloud found", "cloud", "found"),
    ("Cloud-free kept", "cloud", "kept"),
    ("Cloud balanced", "cloud", "balanced"),
    ("Overcast: found", "overcast", "found"),
    ("Snow: kept", "snow", "kept"),
    ("Shadow found", "shadow", "found"),
    ("Shadow balanced", "shadow", "balanced"),
    ("Cloud or shadow balanced", "invalid", "balanced"),
)
"""Heading, what it is about, and which share of it."""
METHOD = (
    "Shares of pixels, all scenes of a group pooled. Found: the share of labelled cloud (thick and "
    "thin together) that the mask has; kept: the share of labelled cloud-free pixels that it "
    "leaves alone; balanced: the mean of both. Overcast scenes are more than 95 % cloud. Shadow is "
    "scored where it is labelled. A labelled pixel without a class counts as wrong."
)


def to_content(rated: Iterable[RatedMasks], *, title: str, command: str) -> dict[str, Any]:
    """Return everything as JSON values."""
    return {
        "title": title,
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "version": __version__,
        "masks": [item.to_dict() for item in rated],
    }


def write_evaluation(folder: Path, content: dict[str, Any]) -> tuple[Path, Path]:
    """Write ``evaluation.json`` and ``evaluation.md``.

    Raises:
        OutputError: a file cannot be written.
    """
    return (
        publish_text(folder / f"{FILE_NAME}.json", to_json(content)),
        publish_text(folder / f"{FILE_NAME}.md", render_markdown(content)),
    )


def render_markdown(content: dict[str, Any]) -> str:
    """Return the tables: all scenes, each group, each scene."""
    lines = [
        f"# {content['title']}",
        "",
        f"Made by `{content['command']}` with openeo-cloudmask {content['version']}.",
        "",
        METHOD,
        "",
        *group_table(content, "all"),
    ]
    groups = dict.fromkeys(group for item in content["masks"] for group in item["groups"])
    for group in groups:
        if group != "all" and len(groups) > 2:
            lines += ["", f"## {group}", "", *group_table(content, group)]
    lines += ["", "## Scene by scene", "", *scene_table(content)]
    lines += left_out_lines(content)
    return "\n".join(lines) + "\n"


def group_table(content: dict[str, Any], group: str) -> list[str]:
    """Return a Markdown table with a row for each model that has masks of the group."""
    rows = []
    for item in content["masks"]:
        rates = item["groups"].get(group)
        if rates:
            rows.append([f"`{item['label']}`", _coverage(item, group), *_cells(rates)])
    return _table(["Model", "Scenes", *(heading for heading, _, _ in COLUMNS)], rows)


def scene_table(content: dict[str, Any]) -> list[str]:
    """Return a Markdown table: cloud found and kept, and shadow found, scene by scene."""
    names = sorted({name for item in content["masks"] for name in item["scenes"]})
    heads = ["Scene", *(f"`{item['label']}`" for item in content["masks"])]
    rows = []
    for name in names:
        row = [name]
        for item in content["masks"]:
            rates = item["scenes"].get(name)
            row.append(scene_note(rates) if rates else "-")
        rows.append(row)
    return _table(heads, rows)


def scene_note(rates: dict[str, Any]) -> str:
    """Return the shares of one scene in a few words."""
    cloud = rates["cloud"]
    words = [
        f"{word} {_number(cloud[key])}"
        for word, key in (("found", "found"), ("kept", "kept"))
        if cloud[key] is not None
    ]
    if "shadow" in rates:
        words.append(f"shadow {_number(rates['shadow']['found'])}")
    return ", ".join(words)


def left_out_lines(content: dict[str, Any]) -> list[str]:
    """Return which scenes a model was not tried on, and why."""
    lines = []
    for item in content["masks"]:
        reasons: dict[str, list[str]] = {}
        for scene, reason in item["left_out"].items():
            reasons.setdefault(reason, []).append(scene)
        lines += [
            f"- `{item['label']}` has no masks of {len(scenes)} scene(s) ({', '.join(scenes)}): "
            f"{reason}"
            for reason, scenes in reasons.items()
        ]
    return ["", "## Left out", "", *lines] if lines else []


def _coverage(item: dict[str, Any], group: str) -> str:
    def inside(name: str) -> bool:
        return group in ("all", name.split("_", maxsplit=1)[0])

    done = sum(inside(name) for name in item["scenes"])
    left = sum(inside(name) for name in item["left_out"])
    return f"{done} of {done + left}" if left else str(done)


def _cells(rates: dict[str, Any]) -> list[str]:
    return [_number(rates[about][share]) if about in rates else "-" for _, about, share in COLUMNS]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table without the columns in which no row has a value."""
    keep = [
        place for place in range(len(heads)) if place == 0 or any(row[place] != "-" for row in rows)
    ]
    lines = [[heads[place] for place in keep], [":--" if not place else "--:" for place in keep]]
    lines += [[row[place] for place in keep] for row in rows]
    return [f"| {' | '.join(line)} |" for line in lines]
