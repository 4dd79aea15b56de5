"""What a model item says, part by part, held against what this package can do.

Each function takes an item that is valid against the schemas, and raises ``CatalogError`` with the
place of what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from openeo_cloudmask.classes import SCHEMES
from openeo_cloudmask.errors import CatalogError, CloudMaskError
from openeo_cloudmask.inference import Window
from openeo_cloudmask.models.entry import Licence, ModelKind, WeightsSource
from openeo_cloudmask.options import STRIDES_PX
from openeo_cloudmask.sensors import SENSORS, Sensor
from openeo_cloudmask.stac import extension as ext
from openeo_cloudmask.stac import fields, recipe
from openeo_cloudmask.stac.members import Json, asset_of, link_of, member_of, text_of
from openeo_cloudmask.stac.model_item import (
    DISTRIBUTION,
    band_descriptor,
    class_mappings,
    class_objects,
    framework,
)

_MLM = "https://stac-extensions.github.io/mlm/v1."


def check_declared(item: Json) -> None:
    """Check that the item declares the extensions of a model, and has the name of one."""
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


def check_classes(properties: Json) -> str:
    """Return the name of the class scheme, whose classes and mappings the item has to list."""
    name: str = properties[ext.CLASS_SCHEME]
    if name not in SCHEMES:
        raise CatalogError(
            f"properties.{ext.CLASS_SCHEME} is {name!r}; expected one of {', '.join(SCHEMES)}"
        )
    given = properties["mlm:output"][0]["classification:classes"]
    expected = class_objects(SCHEMES[name])
    place = "properties.mlm:output[0].classification:classes"
    untold = properties.get(ext.UNTOLD_CLASSES, ())
    told = [item for item in expected if item["name"] not in untold]
    if isinstance(given, list) and len(given) == len(told):
        expected = told  # the file has no planes of what it never tells
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


def read_inputs(
    properties: Json,
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[tuple[str, ...], ...]]]:
    """Return sensor -> bands, and sensor -> alternatives to these."""
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


def check_model_input(item: Json, inputs: Mapping[str, tuple[str, ...]]) -> None:
    """Check that what MLM clients read is the input of the first sensor."""
    properties = item["properties"]
    sensor, names = next(iter(inputs.items()))
    given = properties["mlm:input"][0]
    asset = asset_of(item, "model")
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
    shape = member_of(given, "input", "properties.mlm:input[0]").get("shape")
    planes = shape[1] if isinstance(shape, list) and len(shape) == 4 else None
    if planes != len(names):
        raise CatalogError(
            f"properties.mlm:input[0].input.shape is {shape}; expected "
            f"[-1, {len(names)}, size, size]"
        )


def read_window(properties: Json) -> Window:
    """Return how windows are laid out."""
    shape = properties["mlm:input"][0]["input"]["shape"]
    batch = properties.get("mlm:batch_size_suggestion", 1)
    size = properties["mlm:hyperparameters"].get("window_px", shape[2])
    sizes = (shape[2], shape[3], size, batch)
    if any(isinstance(value, bool) or not isinstance(value, int) for value in sizes) or (
        shape[2] != shape[3]
    ):
        raise CatalogError(
            f"properties.mlm:input[0].input.shape is {shape} with mlm:batch_size_suggestion "
            f"{batch!r} and windows of {size!r} pixels; expected squares and whole numbers"
        )
    unknown = set(properties[ext.STRIDES]) - set(STRIDES_PX)
    if unknown:
        raise CatalogError(
            f"properties.{ext.STRIDES} has {sorted(unknown)}; expected some of {list(STRIDES_PX)}"
        )
    own = properties[ext.WINDOW]
    try:
        return Window(
            size_px=size,
            multiple_px=own["multiple_px"],
            pixelwise=own["pixelwise"],
            rim_px=own["rim_px"],
            mirrored=own["mirrored"],
            batch=batch,
        )
    except CloudMaskError as err:
        raise CatalogError(f"properties.{ext.WINDOW} and mlm:input[0].input.shape: {err}") from err


def read_hyperparameters(item: Json) -> tuple[ModelKind, dict[str, Any]]:
    """Return the kind of model and the settings of its network."""
    from openeo_cloudmask.models.registry import KINDS, MODELS

    found = dict(member_of(item["properties"], "mlm:hyperparameters", "properties"))
    for name in (*recipe.STEPS, *recipe.TILES):  # of windows, and no setting of the network
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


def check_framework(item: Json, kind: ModelKind) -> None:
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


def read_weights(item: Json, kind: str) -> WeightsSource | None:
    """Return where the weights are, None where the package brings the model along."""
    asset = asset_of(item, "model")
    href = text_of(asset, "href", where="assets.model")
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


def read_licence(item: Json) -> Licence:
    """Return the licence."""
    properties = item["properties"]
    return Licence(
        spdx=text_of(properties, "license"),
        url=link_of(item, "license")["href"],
        non_commercial=properties[ext.NON_COMMERCIAL],
    )


def read_doi(properties: Json) -> str | None:
    """Return the DOI of the first publication, None without publications."""
    publications = properties.get("sci:publications")
    if publications is None:
        return None
    if not isinstance(publications, list) or not publications:
        raise CatalogError("properties.sci:publications: expected a list of publications")
    return text_of(publications[0], "doi", where="properties.sci:publications[0]")


def check_openeo(item: Json) -> None:
    """Check that UDF and user-defined process are assets, and that they run this model."""
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
