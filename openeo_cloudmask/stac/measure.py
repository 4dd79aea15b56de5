"""Scores for the catalog, taken from what ``cloudmask evaluate`` measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from openeo_cloudmask.errors import CatalogError
from openeo_cloudmask.models import MODELS
from openeo_cloudmask.publish import publish_text
from openeo_cloudmask.stac.scores import SCORES_FILE, Row, read_scores

_ABOUT = {
    "cloud": ("cloud-noncloud", "Cloud, thick and thin, against the rest."),
    "overcast": ("cloud-noncloud", "Cloud in scenes that are more than 95 % cloud."),
    "snow": ("cloud-noncloud", "Cloud in scenes of snow."),
    "shadow": ("4-class", "Cloud shadow against the rest, where it is labelled."),
    "invalid": ("valid-invalid", "Cloud and shadow against the rest, where shadow is labelled."),
}
"""Rates of an evaluation -> style and words of their row."""
_METRICS = {"found": "recall", "kept": "specificity", "balanced": "balanced_accuracy"}


_HELD_OUT = "Cross-validated by scene: weights that had not seen it masked each."


def record_scores(
    path: Path, *, cross_validated: str | None = None, target: Path = SCORES_FILE
) -> list[tuple[str, Row]]:
    """Write the rows of an evaluation down, and return (model, row) of each.

    Rows of the same model and data are replaced; all others stay. Masks that were given, and models
    with weights of somebody's own, are no models of the catalog and are passed over.

    Args:
        path: ``evaluation.json``, as ``cloudmask evaluate`` writes it.
        cross_validated: model whose cross-validation the given masks are; they are recorded for it,
            and what its own weights, which know the scenes, reach there is not.
        target: the file to write.

    Raises:
        CatalogError: the file holds no evaluation, or none of a model of the catalog.
    """
    new = rows_of(path, cross_validated=cross_validated)
    if not new:
        raise CatalogError(f"{path} holds no figures of a model of the catalog")
    rows = read_scores(target)
    measured = {(name, row["data"]) for name, row in new}
    for name in dict.fromkeys(name for name, _ in new):
        rows[name] = [old for old in rows.get(name, []) if (name, old["data"]) not in measured]
        rows[name] += [row for model, row in new if model == name]
    ordered = {key: rows[key] for key in sorted(rows)}
    publish_text(target, json.dumps(ordered, indent=2) + "\n")
    return new


def rows_of(path: Path, *, cross_validated: str | None = None) -> list[tuple[str, Row]]:
    """Return (model, row) for each group of scenes and what its figures are about.

    Args:
        path: the evaluation.
        cross_validated: see ``record_scores``.

    Raises:
        CatalogError: the file holds no evaluation.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return [
            (name, {**row, "description": " ".join((row["description"], *more))})
            for item in content["masks"]
            for name, more in [_whose(item["label"], cross_validated)]
            if name is not None
            for group, rates in item["groups"].items()
            for row in _group_rows(content, group, rates)
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise CatalogError(
            f"{path} holds no evaluation ({err!r}); expected the evaluation.json that `cloudmask "
            "evaluate` writes"
        ) from err


def _whose(label: str, cross_validated: str | None) -> tuple[str | None, tuple[str, ...]]:
    """Return the model of some masks, None if no row is due, and what their rows say of it."""
    if label in MODELS:
        return (None if label == cross_validated else label), ()
    if "=" in label:  # a model with weights of one's own
        return None, ()
    return cross_validated, (_HELD_OUT,)


def _group_rows(content: dict[str, Any], group: str, rates: dict[str, Any]) -> list[Row]:
    name = content["title"] if group == "all" else f"{content['title']}: {group}"
    rows = []
    for about, counts in rates.items():
        style, words = _ABOUT[about]
        metrics = {_METRICS[key]: counts[key] for key in _METRICS if counts[key] is not None}
        rows.append(
            {
                "data": name,
                "description": words,
                "style": style,
                "pixels": counts["pixels"][1] + counts["pixels"][3],
                "command": content["command"],
                "date": content["date"],
                "software": f"openeo-cloudmask {content['version']}",
                "metrics": metrics,
            }
        )
    return rows
