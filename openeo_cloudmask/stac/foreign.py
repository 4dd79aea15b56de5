"""Any model that a STAC item describes, of this package or of others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from openeo_cloudmask.models.entry import ModelEntry
from openeo_cloudmask.models.mlm import read_item, read_model
from openeo_cloudmask.models.registry import MODELS, adopt
from openeo_cloudmask.stac.extension import SCHEMA_URI
from openeo_cloudmask.stac.reader import check_program, read_model_item


def adopt_model(
    source: str | Path,
    *,
    weights: str | Path | None = None,
    assume: Iterable[str] = (),
    trust: bool = False,
    programs: bool = True,
) -> ModelEntry:
    """Take up the model of an item and return it; its id names it from then on.

    Items with this package's extension say all that is needed, and are held to it; others are
    read as ``models.mlm.read_model`` does, whose arguments and errors these are.
    """
    item, place = read_item(str(source))
    if SCHEMA_URI not in (item.get("stac_extensions") or ()):
        found = read_model(
            item, base=place, weights=weights, assume=assume, trust=trust, programs=programs
        )
        return adopt(found)
    entry = read_model_item(item)
    if MODELS.get(entry.id) == entry:
        return MODELS[entry.id]
    check_program(entry, trust=trust and programs)
    return adopt(entry)
