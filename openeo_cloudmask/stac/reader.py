"""From a STAC item back to a model that runs, whoever wrote the item.

Nothing is taken on trust: the item has to be valid against STAC and the ``cloudmask`` schema, and
what it says of bands, classes and weights has to be something this package can do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.errors import CatalogError, CloudMaskError
from openeo_cloudmask.models.entry import ModelEntry
from openeo_cloudmask.sensors import Sensor
from openeo_cloudmask.stac import extension as ext
from openeo_cloudmask.stac import item_parts as parts
from openeo_cloudmask.stac.members import Json, link_of, text_of

if TYPE_CHECKING:
    import pystac

    from openeo_cloudmask.inference import Detector
    from openeo_cloudmask.stac.schemas import SchemaValidator


def read_model_item(source: Path | Json | pystac.Item) -> ModelEntry:
    """Return the model that an item describes.

    Args:
        source: a file, the item as read from JSON, or a pystac item.

    Raises:
        CatalogError: the item is invalid, contradicts itself, or asks for what is not there;
            the message names the field.
    """
    item = _as_json(source)
    _check_schema(item)
    return read_valid_item(item)


def read_valid_item(item: Json) -> ModelEntry:
    """Return the model of an item that was held against STAC and the extensions it declares.

    Raises:
        CatalogError: as ``read_model_item``.
    """
    parts.check_declared(item)
    properties = item["properties"]
    scheme_name = parts.check_classes(properties)
    inputs, alternatives = parts.read_inputs(properties)
    parts.check_model_input(item, inputs)
    parts.check_openeo(item)
    kind, config = parts.read_hyperparameters(item)
    parts.check_framework(item, kind)
    requirements = properties.get(ext.BAND_REQUIREMENTS, {})
    try:
        return ModelEntry(
            id=item["id"],
            title=text_of(properties, "title"),
            family=text_of(item, "collection"),
            kind=kind,
            summary=text_of(properties, "description"),
            inputs=inputs,
            alternatives=alternatives,
            sensor_independent=properties[ext.SENSOR_INDEPENDENT],
            min_bands=requirements.get("min_bands", 1),
            scheme_name=scheme_name,
            window=parts.read_window(properties),
            config=config,
            weights=parts.read_weights(item, kind.id),
            licence=parts.read_licence(item),
            citation=text_of(properties, "sci:citation"),
            doi=parts.read_doi(properties),
            source_url=text_of(link_of(item, "about"), "href", where="links"),
            trained_on=tuple(properties.get(ext.TRAINED_ON, ())),
            untold=tuple(properties.get(ext.UNTOLD_CLASSES, ())),
            scores=properties.get(ext.PUBLISHED_SCORES, {}),
        )
    except CatalogError:
        raise
    except CloudMaskError as err:
        raise CatalogError(f"{item['id']}: {err}") from err


def load_item_detector(
    source: Path | Json | pystac.Item,
    *,
    sensor: str | Sensor | None = None,
    bands: Sequence[str] | None = None,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    trust: bool = False,
) -> Detector:
    """Return the detector of the model that an item describes, ready to run.

    The item decides, not the registry: its weights, digest, bands and classes are used.

    Args:
        source: as for ``read_model_item``.
        sensor: as for ``models.load_detector``, like all that follow.
        bands: labels of the bands the data has.
        weights: a weights file or folder instead of the item's asset.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: ``auto``, ``fp32`` or ``bf16``.
        trust: run code of whoever wrote the item: weights in TorchScript are a program. Those of
            the package's own models need no such word, nor do other formats.

    Raises:
        CatalogError: see ``read_model_item``; or the weights are an untrusted program.
        WeightsError: the weights are not those whose digest the item gives.
    """
    from openeo_cloudmask.models.load import load_detector

    entry = read_model_item(source)
    if weights is None:
        check_program(entry, trust=trust)
    return load_detector(
        entry,
        sensor=sensor,
        bands=bands,
        weights=weights,
        device=device,
        precision=precision,
    )


def check_program(entry: ModelEntry, *, trust: bool) -> None:
    """Check that an untrusted TorchScript file is the one meant, and that the user trusts it."""
    from openeo_cloudmask.models.registry import MODELS

    source = entry.weights
    own = {known.weights for known in MODELS.values() if known.kind == entry.kind}
    if entry.kind.id != "torchscript" or source is None or source in own:
        return
    if source.sha256 is None:
        raise CatalogError(
            f"{entry.id}: assets.model has no file:checksum; expected one, as {source.url} is "
            "TorchScript, a program"
        )
    if not trust:
        raise CatalogError(
            f"{entry.id}: {source.url} is TorchScript, a program that would run with your rights; "
            "if you trust whoever published it, pass trust=True"
        )


def _as_json(source: Path | Json | pystac.Item) -> dict[str, Any]:
    if isinstance(source, Path):
        try:
            content = json.loads(source.read_text(encoding="utf-8"))
        except (OSError, ValueError) as err:
            raise CatalogError(f"{source} is no STAC item: {err}") from err
    elif isinstance(source, Mapping):
        content = dict(source)
    else:
        content = source.to_dict(include_self_link=False, transform_hrefs=False)
    if not isinstance(content, dict) or content.get("type") != "Feature":
        raise CatalogError("type: expected a STAC item, a GeoJSON object of the type 'Feature'")
    properties = content.get("properties")
    if isinstance(properties, Mapping) and "start_datetime" in properties:
        # Databases of items (pgstac) leave out what is null, and a model has no single time.
        content = content | {"properties": {"datetime": None} | dict(properties)}
    return content


@cache
def _validator() -> SchemaValidator:
    from openeo_cloudmask.stac.schemas import SchemaValidator

    return SchemaValidator(skip_unknown=True)


def _check_schema(item: dict[str, Any]) -> None:
    import pystac
    from pystac.validation import validate_dict

    extensions = item.get("stac_extensions")
    if not isinstance(extensions, list) or not all(isinstance(uri, str) for uri in extensions):
        raise CatalogError(f"stac_extensions is {extensions!r}; expected a list of URIs")
    try:
        validate_dict(
            item,
            stac_object_type=pystac.STACObjectType.ITEM,
            stac_version="1.1.0",
            extensions=extensions,
            validator=_validator(),
        )
    except pystac.STACValidationError as err:
        raise CatalogError(f"not a valid item: {err}") from err
