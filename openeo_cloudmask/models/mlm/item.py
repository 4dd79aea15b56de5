"""From a STAC item with the MLM extension, whoever wrote it, to a model that runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from openeo_cloudmask.errors import CatalogError
from openeo_cloudmask.models.entry import Licence, ModelEntry
from openeo_cloudmask.models.mlm.assumed import IGNORE, Assumed, ask
from openeo_cloudmask.models.mlm.bands import find_counts, find_inputs, parse_bands
from openeo_cloudmask.models.mlm.classes import parse_classes
from openeo_cloudmask.models.mlm.detector import KIND, Recipe, window_for
from openeo_cloudmask.models.mlm.files import Artifact
from openeo_cloudmask.models.mlm.scaling import Scaling, is_of_counts, parse_scaling

Json = Mapping[str, Any]

_MLM = re.compile(r"https://[^/]+/(mlm|mlm-extension)/v1\.\d+\.\d+/schema\.json")
_AXES = {
    "batch": "batch", "b": "batch", "n": "batch",
    "bands": "band", "band": "band", "channel": "band", "channels": "band", "c": "band",
    "height": "y", "h": "y", "y": "y", "width": "x", "w": "x", "x": "x",
    "class": "class", "classes": "class",
}  # fmt: skip
_INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32")
_TYPES = (*_INTEGERS, "float16", "float32", "float64")
_HARMLESS = re.compile(r"[\w.]*(softmax|sigmoid|argmax)", re.IGNORECASE)
"""What a function after the network may be: the answer tells itself whether it is needed."""
_NO_DATA_IS_0 = "numpy.where(valid, windows, 0).astype('float32')"
"""What this package's own items say before the network: 0 where nothing was seen."""
_DEFAULT_TILE_PX = 512
_SMALLEST_TILE_PX = 16


def parse_item(item: Json, artifact: Artifact, assumed: Assumed) -> ModelEntry:
    """Return the model an item describes.

    Args:
        item: as JSON.
        artifact: its file.
        assumed: what the user says where the item does not.

    Raises:
        CatalogError: the item describes no model, or does not say enough; the message names the
            field and what to pass.
    """
    properties = check_mlm(item)
    place = "properties.mlm:input[0]"
    given = _only(properties, "mlm:input")
    output = _only(properties, "mlm:output")
    bands = parse_bands(item, given, place, assumed)
    inputs = find_inputs(item, bands, place, assumed)
    recipe = _parse_recipe(given, output, bands, inputs, artifact, assumed)
    if artifact.format == "safetensors":
        from dataclasses import replace

        recipe = replace(recipe, architecture=_find_network(properties, len(bands), recipe))
    return ModelEntry(
        id=str(item["id"]),
        title=str(properties.get("title") or properties["mlm:name"]),
        family=str(item.get("collection") or "others"),
        kind=KIND,
        summary=str(properties.get("description") or properties["mlm:name"]),
        inputs=inputs,
        window=window_for(recipe.tile_px),
        config={"recipe": recipe},
        licence=_parse_licence(item),
        citation=str(properties.get("sci:citation") or properties["mlm:name"]),
        source_url=_source_url(item),
    )


def check_mlm(item: Json) -> Json:
    """Return the properties of an item that describes a model.

    Raises:
        CatalogError: it is no item with the MLM extension.
    """
    if not isinstance(item, Mapping) or item.get("type") != "Feature" or "id" not in item:
        raise CatalogError("type: expected a STAC item, a GeoJSON object of the type 'Feature'")
    declared = item.get("stac_extensions") or ()
    if not any(_MLM.fullmatch(str(uri)) for uri in declared):
        raise CatalogError(
            f"stac_extensions is {list(declared)}; expected the MLM extension, such as "
            "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"
        )
    properties = item.get("properties")
    if not isinstance(properties, Mapping) or not properties.get("mlm:name"):
        raise CatalogError("properties.mlm:name is not there; expected the name of the model")
    return properties


def _only(properties: Json, name: str) -> Json:
    """Return the only entry of ``mlm:input`` or ``mlm:output``."""
    listed = properties.get(name)
    if not isinstance(listed, list) or not listed or not isinstance(listed[0], Mapping):
        raise CatalogError(f"properties.{name} is {listed!r}; expected a list of objects")
    if len(listed) > 1:
        names = ", ".join(repr(each.get("name")) for each in listed)
        raise CatalogError(f"properties.{name} has {len(listed)} entries ({names}); expected one")
    return listed[0]


def _parse_recipe(
    given: Json,
    output: Json,
    bands: list[Json],
    inputs: Mapping[str, tuple[str, ...]],
    artifact: Artifact,
    assumed: Assumed,
) -> Recipe:
    place, out = "properties.mlm:input[0]", "properties.mlm:output[0]"
    _check_functions(given, output, assumed)
    axes, shape = _parse_axes(given, "input", place, {"batch", "band", "y", "x"})
    if (planes := shape[axes.index("band")]) not in (-1, len(bands)):
        raise CatalogError(f"{place}.input.shape has {planes} bands; {len(bands)} are named")
    tile = _parse_tile(shape, axes, place)
    answer_axes, answer = _parse_axes(output, "result", out, {"batch", "y", "x"}, {"class"})
    sizes = {answer[answer_axes.index(axis)] for axis in ("y", "x")}
    if not sizes <= {-1, tile}:
        raise CatalogError(
            f"{out}.result.shape is {list(answer)}; expected as many rows and columns as the "
            f"input has, {tile}"
        )
    classes = parse_classes(output, assumed, out)
    if "class" in answer_axes:
        classes = _by_plane(classes)
    return Recipe(
        artifact=artifact,
        scaling=_parse_scaling(given, bands, inputs, assumed, place),
        input_axes=axes,
        output_axes=answer_axes,
        classes=classes,
        tile_px=tile,
    )


def _check_functions(given: Json, output: Json, assumed: Assumed) -> None:
    """Ask for the user's word where a function of others belongs to the model."""
    before, after = given.get("pre_processing_function"), output.get("post_processing_function")
    if before and assumed.preprocessing != IGNORE and not _says_no_data(given):
        raise ask(
            "properties.mlm:input[0].pre_processing_function",
            f"is {before!r}, which is not run here",
            "preprocessing=ignore",
        )
    text = after.get("expression") if isinstance(after, Mapping) else after
    known = isinstance(text, str) and (_HARMLESS.fullmatch(text) or "argmax(axis=-3)" in text)
    if after and not known and assumed.postprocessing != IGNORE:
        raise ask(
            "properties.mlm:output[0].post_processing_function",
            f"is {after!r}, which is not run here",
            "postprocessing=ignore",
        )


def _says_no_data(given: Json) -> bool:
    before = given.get("pre_processing_function")
    return isinstance(before, Mapping) and before.get("expression") == _NO_DATA_IS_0


def _parse_axes(
    given: Json,
    key: str,
    place: str,
    needed: set[str],
    allowed: set[str] = frozenset(),  # type: ignore[assignment]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the axes by our names, and their sizes."""
    inner = given.get(key)
    shape = inner.get("shape") if isinstance(inner, Mapping) else None
    order = inner.get("dim_order") if isinstance(inner, Mapping) else None
    if not isinstance(shape, list) or not isinstance(order, list) or len(shape) != len(order):
        raise CatalogError(f"{place}.{key} is {inner!r}; expected shape and dim_order, as long")
    channels = "class" if "class" in allowed else "band"
    axes = tuple(_AXES.get(str(name).lower(), str(name)) for name in order)
    axes = tuple(channels if axis in ("band", "class") else axis for axis in axes)
    if not needed <= set(axes) <= needed | allowed or len(set(axes)) != len(axes):
        raise CatalogError(
            f"{place}.{key}.dim_order is {order}; expected {', '.join(sorted(needed | allowed))} "
            "in any order: masks are made of one date, and have a class for each pixel"
        )
    return axes, tuple(int(size) if isinstance(size, int) else -1 for size in shape)


def _parse_tile(shape: tuple[int, ...], axes: tuple[str, ...], place: str) -> int:
    height, width = shape[axes.index("y")], shape[axes.index("x")]
    if height != width:
        raise CatalogError(f"{place}.input.shape is {list(shape)}; expected square windows")
    if height == -1:
        return _DEFAULT_TILE_PX
    if height < _SMALLEST_TILE_PX:
        raise CatalogError(
            f"{place}.input.shape has {height} x {width} pixels; expected {_SMALLEST_TILE_PX} at "
            "least, or -1 where the network takes any size"
        )
    return height


def _by_plane(classes: Mapping[int, int | None]) -> dict[int, int | None]:
    """Return plane -> class: values are planes where they count from 0, else in their order."""
    if sorted(classes) == list(range(len(classes))):
        return dict(classes)
    return dict(enumerate(classes.values()))


def _parse_scaling(
    given: Json,
    bands: list[Json],
    inputs: Mapping[str, tuple[str, ...]],
    assumed: Assumed,
    place: str,
) -> Scaling:
    steps = parse_scaling(given.get("value_scaling"), len(bands), f"{place}.value_scaling")
    dtype = str(given["input"].get("data_type", "float32"))
    if dtype not in _TYPES:
        raise CatalogError(f"{place}.input.data_type is {dtype!r}; expected one of {_TYPES}")
    if assumed.counts is not None:
        counts, offset = assumed.counts, 0.0
    else:
        counted = is_of_counts(steps) or dtype in _INTEGERS
        counts, offset = find_counts(bands, inputs, counted=counted, place=place)
    return Scaling(
        counts=counts,
        offset=offset,
        fill=_find_fill(given, bands, assumed),
        steps=steps,
        dtype=dtype,
    )


def _find_fill(given: Json, bands: list[Json], assumed: Assumed) -> float | None:
    """Return what stands for no-data, in the model's units before scaling; None if unstated."""
    if assumed.nodata is not None:
        return assumed.nodata
    if _says_no_data(given):
        return 0.0
    told = {band["nodata"] for band in bands if isinstance(band.get("nodata"), int | float)}
    return float(told.pop()) if len(told) == 1 else None


def _find_network(properties: Json, bands: int, recipe: Recipe) -> dict[str, int]:
    """Return the settings of the network whose tensors the file holds."""
    settings = properties.get("mlm:hyperparameters") or {}
    named = str(settings.get("kind", properties.get("mlm:architecture", "")))
    plain = re.sub(r"[^a-z0-9]", "", named.lower())
    if "unet" in plain and "mobilenetv2" in plain:
        return {"bands": bands, "classes": len(recipe.classes)}
    raise CatalogError(
        f"properties.mlm:architecture is {named!r}, and safetensors hold no network; expected a "
        "U-Net with MobileNetV2 encoder, or a file in ONNX"
    )


def _parse_licence(item: Json) -> Licence:
    links = [link for link in item.get("links") or () if link.get("rel") == "license"]
    name = str(item["properties"].get("license") or "unknown")
    return Licence(
        spdx=name,
        url=str(links[0]["href"]) if links else _source_url(item),
        non_commercial="-NC" in name.upper(),
    )


def _source_url(item: Json) -> str:
    links = {str(link.get("rel")): str(link.get("href")) for link in item.get("links") or ()}
    return links.get("self") or links.get("canonical") or f"STAC item {item['id']}"
