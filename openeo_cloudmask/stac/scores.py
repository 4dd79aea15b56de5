"""Scores of models with how they were obtained, kept in ``scores.json`` beside this module.

Only what a command measured stands there; a model without a row has no known score.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from openeo_cloudmask.errors import CatalogError

SCORES_FILE = Path(__file__).with_name("scores.json")

Row = dict[str, Any]


def read_scores(path: Path = SCORES_FILE) -> dict[str, list[Row]]:
    """Return model -> its rows (``cloudmask:scores``).

    Raises:
        CatalogError: the file is missing or does not hold scores.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise CatalogError(f"cannot read the scores {path}: {err}") from err
    if not isinstance(content, dict) or not all(isinstance(row, list) for row in content.values()):
        raise CatalogError(f"{path} holds no scores; expected model -> list of rows")
    return content
