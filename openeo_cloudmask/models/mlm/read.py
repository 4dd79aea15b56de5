"""Reading an item and finding its file: all that makes a model of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from openeo_cloudmask.errors import CatalogError
from openeo_cloudmask.models.entry import ModelEntry
from openeo_cloudmask.models.mlm.assumed import parse_assumed
from openeo_cloudmask.models.mlm.files import find_artifact
from openeo_cloudmask.models.mlm.item import check_mlm, parse_item

_MOST_BYTES = 4 << 20
_TIMEOUT_S = 30


def read_model(
    source: str | Path | Mapping[str, Any],
    *,
    base: str | None = None,
    weights: str | Path | None = None,
    assume: Iterable[str] = (),
    trust: bool = False,
    programs: bool = True,
) -> ModelEntry:
    """Return the model that a STAC item with the MLM extension describes.

    Args:
        source: a file, an https address, or the item as read from JSON.
        base: where the item is from, if it is given as JSON; its file may lie beside it.
        weights: the model's file, in place of the address in the item.
        assume: what the item does not say, such as ``no-data=0`` or ``class:smoke=clear``.
        trust: run a program of whoever published the model (TorchScript, ``.pt2``).
        programs: False refuses these whatever ``trust`` says, as a server does.

    Raises:
        CatalogError: the item does not say enough; the message names the field and what to pass.
        WeightsError: its file cannot be had, or is another one.
        OptionError: an answer in ``assume`` is invalid.
    """
    item, place = (source, base or "") if isinstance(source, Mapping) else read_item(str(source))
    check_mlm(item)
    answers = parse_assumed(assume)
    file = None if weights is None else Path(weights).expanduser()
    artifact = find_artifact(item, place, weights=file, trust=trust, programs=programs)
    return parse_item(item, artifact, answers)


def is_item(name: str) -> bool:
    """Return whether the name of a model is the place of an item."""
    return urlsplit(name).path.lower().endswith((".json", ".geojson"))


def read_item(source: str) -> tuple[dict[str, Any], str]:
    """Return the item at a path or https address as JSON, and where it is.

    Raises:
        CatalogError: it cannot be read, or is no JSON object.
    """
    try:
        text = _fetch(source) if "://" in source else Path(source).expanduser().read_bytes()
        content = json.loads(text)
    except (OSError, ValueError, RecursionError) as err:
        raise CatalogError(f"{source} is no STAC item: {err}") from err
    if not isinstance(content, dict):
        raise CatalogError(f"{source} is no STAC item: it is no JSON object")
    return content, source


def _fetch(url: str) -> bytes:
    import requests

    if urlsplit(url).scheme != "https":
        raise CatalogError(f"the item is at {url}; expected a file or an https address")
    with requests.get(url, timeout=_TIMEOUT_S, stream=True) as answer:
        answer.raise_for_status()
        content: bytes = answer.raw.read(_MOST_BYTES + 1, decode_content=True)
    if len(content) > _MOST_BYTES:
        raise CatalogError(f"{url} has more than {_MOST_BYTES} bytes; expected a STAC item")
    return content
