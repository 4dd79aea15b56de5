"""The audit of several models as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openeo_cloudmask.evaluation.audit import CHECKS, DOUBTFUL_SHARE, GAIN, NOISE, Audit
from openeo_cloudmask.evaluation.scores import json_number
from openeo_cloudmask.version import __version__

_METHOD = (
    "Each model masks the same scenes again after a change that leaves clouds where they are. The "
    "figures are shares of pixels, in percent, whose class of the four is another one afterwards. "
    "*Once more*, *other batch* and *other cut* have to be exactly 0: the kernel promises it. *No "
    "data next door*: a disk in the middle is taken away, the rest counted. "
    f"*{GAIN:.0%} brighter* and *darker*: all bands times {1 + GAIN:g} or {1 - GAIN:g}. *Noise*: "
    f"normal, standard deviation {NOISE:g} reflectance. *Worst band lost*: each band in turn is 0 "
    "throughout, and the one that changes most counts. *Pixels twice as large*: averaged two by "
    f"two. Figures above {DOUBTFUL_SHARE:.0%} are bold; that limit is a choice, not a norm, and "
    "the scenes are simulated where nothing else is said."
)


def audit_content(
    audits: Mapping[str, Audit], left_out: Mapping[str, str], *, command: str, scenes: str
) -> dict[str, Any]:
    """Return everything as JSON values."""
    return {
        "version": __version__,
        "command": command,
        "scenes": scenes,
        "checks": {check.id: check.title for check in CHECKS},
        "models": {
            name: {
                "flips": audit.flips,
                "pixels": audit.pixels,
                "shares": {c.id: json_number(audit.share(c.id)) for c in CHECKS},
                "found": list(audit.found()),
                "worst_band": audit.worst_band,
            }
            for name, audit in audits.items()
        },
        "left_out": dict(left_out),
    }


def render_audit(content: Mapping[str, Any]) -> str:
    """Return the page, Markdown."""
    lines = ["# Audit of the detectors", "", _METHOD, ""]
    version, scenes = content["version"], content["scenes"]
    lines.append(f"Made by `{content['command']}` with openeo-cloudmask {version}, on {scenes}.")
    lines += ["", *audit_table(content)]
    if content["left_out"]:
        lines += ["", "## Left out", ""]
        lines += [f"- `{name}`: {reason}" for name, reason in content["left_out"].items()]
    return "\n".join(lines) + "\n"


def audit_table(content: Mapping[str, Any]) -> list[str]:
    """Return a Markdown table with a row for each check and a column for each model."""
    models = content["models"]
    rows = [["Change", *(f"`{name}`" for name in models)], [":--", *["--:"] * len(models)]]
    for key, title in content["checks"].items():
        cells = [_cell(about["shares"][key], key in about["found"]) for about in models.values()]
        rows.append([title, *cells])
    rows.append(["(that band)", *(about["worst_band"] for about in models.values())])
    return [f"| {' | '.join(row)} |" for row in rows]


def _cell(share: float | None, found: bool) -> str:  # noqa: FBT001 - a cell of a table
    if share is None:
        return "-"
    text = "0" if share == 0 else f"{100 * share:.2f}"
    return f"**{text}**" if found else text
