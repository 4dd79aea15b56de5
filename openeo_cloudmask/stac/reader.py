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

from openeo_cloudmask.classes import SCHEMES
from openeo_cloudmask.errors import CatalogError, CloudMaskError
from openeo_cloudmask.inference import Window
from openeo_cloudmask.models.entry import Licence, ModelEntry, ModelKind, WeightsSource
from openeo_cloudmask.options import STRIDES_PX
from openeo_cloudmask.sensors import SENSORS, Sensor
from openeo_cloudmask.stac import extension as ext
from openeo_cloudmask.stac import fields, recipe
from openeo_cloudmask.stac.model_item import (
    DISTRIBUTION,
    band_descriptor,
    class_mappings,
    class_objects,
    framework,
)

if TYPE_CHECKING:
    import pystac

    from openeo_cloudmask.inference import Detector
    from openeo_cloudmask.stac.schemas import SchemaValidator

Json = Mapping[str, Any]

_MLM = "https://stac-extensions.github.io/mlm/v1."


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
    _check_declared(item)
    properties = item["properties"]
    scheme_name = _check_classes(properties)
    inputs, alternatives = _read_inputs(properties)
    _check_model_input(item, inputs)
    _check_openeo(item)
    kind, config = _read_hyperparameters(item)
    _check_framework(item, kind)
    requirements = properties.get(ext.BAND_REQUIREMENTS, {})
    try:
        return ModelEntry(
            id=item["id"],
            title=_text(properties, "title"),
            family=_text(item, "collection"),
            kind=kind,
            summary=_text(properties, "description"),
            inputs=inputs,
            alternatives=alternatives,
            sensor_independent=properties[ext.SENSOR_INDEPENDENT],
            min_bands=requirements.get("min_bands", 1),
            scheme_name=scheme_name,
            window=_read_window(properties),
            config=config,
            weights=_read_weights(item, kind.id),
            licence=_read_licence(item),
            citation=_text(properties, "sci:citation"),
            doi=_read_doi(properties),
            source_url=_text(_link(item, "about"), "href", where="links"),
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


def _check_declared(item: Json) -> None:
    for uri, name in ((ext.SCHEMA_URI, "cloudmask"), (_MLM, "MLM 1.x")):
        if not any(given.startswith(uri) for given in item.get("stac_extensions", ())):
            raise CatalogError(
                f"stac_extensions does not name the {name} extension ({uri}); "
                "expected the item of a cloud-mask model"
            )
    properties = item["properties"]
    if properties["mlm:name"] != item["id"]:
        raise CatalogError(
            f"properties.mlm:name is {properties['mlm:name']!r}; expected the item's id, "
            f"{item['id']!r}"
        )


def _check_classes(properties: Json) -> str:
    name: str = properties[ext.CLASS_SCHEME]
    if name not in SCHEMES:
        raise CatalogError(
            f"properties.{ext.CLASS_SCHEME} is {name!r}; expected one of {', '.join(SCHEMES)}"
        )
    given = properties["mlm:output"][0]["classification:classes"]
    expected = class_objects(SCHEMES[name])
    place = "properties.mlm:output[0].classification:classes"
    if not isinstance(given, list) or len(given) != len(expected):
        raise CatalogError(f"{place}: expected the {len(expected)} classes of {name!r}")
    for index, (found, wanted) in enumerate(zip(given, expected, strict=True)):
        for key in ("value", "name"):
            if not isinstance(found, Mapping) or found.get(key) != wanted[key]:
                raise CatalogError(
                    f"{place}[{index}].{key}: expected {wanted[key]!r}, as {name!r} has it"
                )
    mappings = class_mappings(SCHEMES[name])
    for style, values in properties[ext.CLASS_MAPPINGS].items():
        if values != mappings.get(style):
            raise CatalogError(
                f"properties.{ext.CLASS_MAPPINGS}.{style} is {values}; "
                f"expected {mappings.get(style)}, as this package maps {name!r}"
            )
    return name


def _read_inputs(
    properties: Json,
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[tuple[str, ...], ...]]]:
    inputs, alternatives = {}, {}
    for index, given in enumerate(properties[ext.INPUTS]):
        place = f"properties.{ext.INPUTS}[{index}]"
        sensor = SENSORS.get(given["sensor"])
        if sensor is None:
            raise CatalogError(
                f"{place}.sensor is {given['sensor']!r}; expected one of {', '.join(SENSORS)}"
            )
        for number, band in enumerate(given["bands"]):
            _check_band(band, sensor, f"{place}.bands[{number}]")
        names = tuple(band["name"] for band in given["bands"])
        inputs[sensor.id] = names
        if others := given.get("alternatives"):
            for number, subset in enumerate(others):
                if not set(subset) <= set(sensor.band_names):
                    raise CatalogError(
                        f"{place}.alternatives[{number}] is {subset}; expected some of "
                        f"{sensor.band_names}"
                    )
            alternatives[sensor.id] = tuple(tuple(subset) for subset in others)
    if properties[ext.SENSORS_FIELD] != list(inputs):
        raise CatalogError(
            f"properties.{ext.SENSORS_FIELD} is {properties[ext.SENSORS_FIELD]}; expected the "
            f"sensors of {ext.INPUTS}: {list(inputs)}"
        )
    return inputs, alternatives


def _check_band(given: Json, sensor: Sensor, place: str) -> None:
    known = {band.name: band for band in (*sensor.bands, *sensor.layers)}
    if given["name"] not in known:
        raise CatalogError(
            f"{place}.name is {given['name']!r}, which {sensor.id} has no band of; "
            f"it has {', '.join(known)}"
        )
    expected = band_descriptor(known[given["name"]])
    for key, value in expected.items():
        if given.get(key) != value:
            raise CatalogError(f"{place}.{key} is {given.get(key)!r}; expected {value!r}")


def _check_model_input(item: Json, inputs: Mapping[str, tuple[str, ...]]) -> None:
    """Check that what MLM clients read is the input of the first sensor."""
    properties = item["properties"]
    sensor, names = next(iter(inputs.items()))
    given = properties["mlm:input"][0]
    asset = _asset(item, "model")
    for place, found in (
        ("properties.mlm:input[0].bands", given["bands"]),
        ("properties.bands", [band.get("name") for band in properties["bands"]]),
        ("assets.model.bands", [band.get("name") for band in asset.get("bands", ())]),
    ):
        if found != list(names):
            raise CatalogError(
                f"{place} is {found}; expected the bands of {sensor}, as "
                f"{ext.INPUTS} lists them: {list(names)}"
            )
    shape = _member(given, "input", "properties.mlm:input[0]").get("shape")
    planes = shape[1] if isinstance(shape, list) and len(shape) == 4 else None
    if planes != len(names):
        raise CatalogError(
            f"properties.mlm:input[0].input.shape is {shape}; expected "
            f"[-1, {len(names)}, size, size]"
        )


def _read_window(properties: Json) -> Window:
    shape = properties["mlm:input"][0]["input"]["shape"]
    batch = properties.get("mlm:batch_size_suggestion", 1)
    sizes = (shape[2], shape[3], batch)
    if any(isinstance(value, bool) or not isinstance(value, int) for value in sizes) or (
        shape[2] != shape[3]
    ):
        raise CatalogError(
            f"properties.mlm:input[0].input.shape is {shape} with mlm:batch_size_suggestion "
            f"{batch!r}; expected a square window and whole numbers"
        )
    unknown = set(properties[ext.STRIDES]) - set(STRIDES_PX)
    if unknown:
        raise CatalogError(
            f"properties.{ext.STRIDES} has {sorted(unknown)}; expected some of {list(STRIDES_PX)}"
        )
    own = properties[ext.WINDOW]
    try:
        return Window(
            size_px=shape[2],
            multiple_px=own["multiple_px"],
            pixelwise=own["pixelwise"],
            rim_px=own["rim_px"],
            mirrored=own["mirrored"],
            batch=batch,
        )
    except CloudMaskError as err:
        raise CatalogError(f"properties.{ext.WINDOW} and mlm:input[0].input.shape: {err}") from err


def _read_hyperparameters(item: Json) -> tuple[ModelKind, dict[str, Any]]:
    from openeo_cloudmask.models.registry import KINDS, MODELS

    found = dict(_member(item["properties"], "mlm:hyperparameters", "properties"))
    for name in recipe.STEPS:  # how windows are laid out, and no setting of the network
        found.pop(name, None)
    name = found.pop("kind", None)
    carried = MODELS.get(item["id"])
    if carried is not None and carried.kind.id == name:
        return carried.kind, found
    if name not in KINDS:
        raise CatalogError(
            f"properties.mlm:hyperparameters.kind is {name!r}; expected one of {', '.join(KINDS)}"
        )
    return KINDS[name], found


def _check_framework(item: Json, kind: ModelKind) -> None:
    """Check that framework and dependencies are those that run models of this kind."""
    from openeo_cloudmask.models.registry import MODELS

    properties = item["properties"]
    carried = MODELS.get(item["id"])
    wanted = framework(carried) if carried and carried.kind.id == kind.id else kind.framework
    if (found := properties.get("mlm:framework")) != wanted:
        raise CatalogError(
            f"properties.mlm:framework is {found!r}, which does not run a model of the kind "
            f"{kind.id!r}; expected {wanted!r}"
        )
    given = properties[ext.OPENEO]["dependencies"][0]
    expected = f"{DISTRIBUTION}[{kind.extra}]" if kind.extra else DISTRIBUTION
    if given != expected:
        raise CatalogError(
            f"properties.{ext.OPENEO}.dependencies[0] is {given!r}; expected {expected!r} for a "
            f"model of the kind {kind.id!r}"
        )


def _read_weights(item: Json, kind: str) -> WeightsSource | None:
    from dataclasses import replace

    asset = _asset(item, "model")
    href = _text(asset, "href", where="assets.model")
    if "weights" not in asset["roles"]:
        _check_carried(item["id"], kind, asset)
        return None
    source = fields.parse_weights_url(href, "assets.model.href")
    checksum, size = asset.get("file:checksum"), asset.get("file:size")
    if checksum is not None:
        digest = fields.parse_multihash(str(checksum), "assets.model.file:checksum")
        source = replace(source, sha256=digest)
    if size is not None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise CatalogError(f"assets.model.file:size is {size!r}; expected a number of bytes")
        source = replace(source, size_bytes=size)
    return source


def _check_carried(model: str, kind: str, asset: Json) -> None:
    """Check that a model whose asset is no weights file is one that this package brings along."""
    from openeo_cloudmask.models.onnx_detector import packaged_onnx
    from openeo_cloudmask.models.registry import MODELS
    from openeo_cloudmask.models.weights import sha256_of

    carried = [name for name, entry in MODELS.items() if entry.weights is None]
    if model not in carried or MODELS[model].kind.id != kind:
        raise CatalogError(
            f"assets.model.roles has no 'weights', and {model!r} of the kind {kind!r} is not among "
            f"the models that need no file: {', '.join(carried)}"
        )
    onnx = packaged_onnx(MODELS[model])
    if onnx.is_file() and asset.get("file:checksum") != (own := fields.multihash(sha256_of(onnx))):
        raise CatalogError(
            f"assets.model.file:checksum is {asset.get('file:checksum')!r}; expected {own!r}, that "
            f"of the {onnx.name} in this package"
        )


def _read_licence(item: Json) -> Licence:
    properties = item["properties"]
    return Licence(
        spdx=_text(properties, "license"),
        url=_link(item, "license")["href"],
        non_commercial=properties[ext.NON_COMMERCIAL],
    )


def _read_doi(properties: Json) -> str | None:
    publications = properties.get("sci:publications")
    if publications is None:
        return None
    if not isinstance(publications, list) or not publications:
        raise CatalogError("properties.sci:publications: expected a list of publications")
    return _text(publications[0], "doi", where="properties.sci:publications[0]")


def _check_openeo(item: Json) -> None:
    openeo = item["properties"][ext.OPENEO]
    place = f"properties.{ext.OPENEO}"
    for key in ("udf", "udp"):
        if openeo[key] not in item["assets"]:
            raise CatalogError(
                f"{place}.{key} is {openeo[key]!r}; expected the key of an asset, one of "
                f"{', '.join(item['assets'])}"
            )
    if openeo["context"]["model"] != item["id"]:
        raise CatalogError(
            f"{place}.context.model is {openeo['context']['model']!r}; expected {item['id']!r}"
        )


def _asset(item: Json, key: str) -> Json:
    return _member(item["assets"], key, "assets")


def _link(item: Json, rel: str) -> Json:
    links: list[Json] = [link for link in item["links"] if link["rel"] == rel]
    if not links:
        raise CatalogError(f"links: none has the rel {rel!r}; expected one")
    return links[0]


def _member(parent: Json, key: str, where: str) -> Json:
    found = parent.get(key)
    if not isinstance(found, Mapping):
        raise CatalogError(f"{where}.{key} is {found!r}; expected an object")
    return found


def _text(parent: Json, key: str, *, where: str = "properties") -> str:
    found = parent.get(key)
    if not isinstance(found, str) or not found:
        raise CatalogError(f"{where}.{key} is {found!r}; expected a non-empty text")
    return found
