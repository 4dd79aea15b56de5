"""From an entry of the model registry to a STAC item that says all of it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import pystac
from pystac.extensions.mlm import (
    Hyperparameters,
    MLMExtension,
    ModelInput,
    ModelOutput,
    TaskType,
)

from openeo_cloudmask.classes import NODATA, SCHEMES, ClassScheme, OutputStyle, mapping
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.inference import Window
from openeo_cloudmask.models.entry import ModelEntry, WeightsSource
from openeo_cloudmask.models.onnx_detector import packaged_onnx
from openeo_cloudmask.models.weights import sha256_of
from openeo_cloudmask.options import STRIDES_PX
from openeo_cloudmask.sensors import Band, get_sensor
from openeo_cloudmask.stac import fields, recipe
from openeo_cloudmask.stac.extension import SCHEMA_URI, CloudMaskExtension

ASSETS_HREF = "../../assets/"
"""From an item to the files that the catalog carries."""
UDF_HREF = f"{ASSETS_HREF}cloud_mask.py"
UDP_HREF = f"{ASSETS_HREF}cloud_mask.json"
PROCESS_ID = "cloud_mask"
DISTRIBUTION = "openeo-cloudmask"

BBOX = [-180.0, -90.0, 180.0, 90.0]
START, END = "1900-01-01T00:00:00Z", "9999-12-31T23:59:59Z"
"""A model is bound to no place and no time; these are what STAC and MLM use to say so."""

WORLD = {
    "type": "Polygon",
    "coordinates": [
        [[-180.0, -90.0], [180.0, -90.0], [180.0, 90.0], [-180.0, 90.0], [-180.0, -90.0]]
    ],
}

Json = dict[str, Any]


def build_model_item(
    entry: ModelEntry,
    *,
    scores: Sequence[Json] = (),
    total_parameters: int | None = None,
) -> pystac.Item:
    """Return the item of a model.

    Args:
        entry: the model; nearly everything in the item comes from here.
        scores: measured scores (``cloudmask:scores``), as ``stac.scores`` reads them.
        total_parameters: number of the network's parameters, where it could be counted.

    Returns:
        An item without collection and hierarchy links. The hrefs of UDF and process are relative
        to its place in the catalog: ``<collection>/<item>/<item>.json``.
    """
    item = pystac.Item(
        id=entry.id,
        geometry=WORLD,
        bbox=BBOX,
        datetime=None,
        properties={
            "title": entry.title,
            "description": entry.summary,
            "start_datetime": START,
            "end_datetime": END,
            "license": entry.licence.spdx,
        },
        stac_extensions=[
            fields.MLM_URI,
            fields.FILE_URI,
            fields.SCIENTIFIC_URI,
            fields.CLASSIFICATION_URI,
            fields.ML_MODEL_URI,
            SCHEMA_URI,
        ],
    )
    sensor = get_sensor(next(iter(entry.inputs)))
    item.properties["instruments"] = [sensor.instrument]
    item.properties["gsd"] = sensor.resolution_m
    bands = _first_bands(entry)
    item.properties["bands"] = [fields.stac_band(band) for band in bands]
    if any(key.startswith("eo:") for band in item.properties["bands"] for key in band):
        # The schema refuses items that declare it and have no field of it: quality layers alone.
        item.stac_extensions.insert(1, fields.EO_URI)
    _apply_mlm(item, entry, bands, total_parameters)
    CloudMaskExtension.ext(item).apply_model(_own_fields(entry, scores))
    apply_publication(item, entry)
    _add_assets(item, entry)
    return item


def _first_bands(entry: ModelEntry) -> list[Band]:
    sensor_id, names = next(iter(entry.inputs.items()))
    sensor = get_sensor(sensor_id)
    return [sensor.band(name) for name in names]


def _apply_mlm(
    item: pystac.Item, entry: ModelEntry, bands: list[Band], total_parameters: int | None
) -> None:
    MLMExtension.ext(item).apply(
        name=entry.id,
        architecture=entry.kind.architecture,
        tasks=[TaskType.SEMANTIC_SEGMENTATION],
        input=[ModelInput(given) for given in _model_inputs(entry, bands)],
        output=[ModelOutput(_model_output(entry))],
        framework=framework(entry),
        total_parameters=total_parameters,
        batch_size_suggestion=entry.window.batch,
        accelerator_constrained=False,
        hyperparameters=Hyperparameters.create(
            kind=entry.kind.id, **entry.config, **_layout(entry)
        ),
    )
    # pystac writes null, which would say "trained from scratch".
    del item.properties["mlm:pretrained_source"]
    item.properties["mlm:accelerator"] = entry.kind.accelerator
    # The deprecated predecessor of MLM, for clients that know nothing newer.
    item.properties["ml-model:type"] = "ml-model"
    item.properties["ml-model:learning_approach"] = "supervised"
    item.properties["ml-model:prediction_type"] = "segmentation"
    item.properties["ml-model:architecture"] = entry.kind.architecture


def framework(entry: ModelEntry) -> str:
    """Return what runs the file of the model's asset (``mlm:framework``)."""
    return "ONNX" if packaged_onnx(entry).is_file() else entry.kind.framework


def _layout(entry: ModelEntry) -> Json:
    if entry.kind.tiled is not None:
        return recipe.tile_steps(entry.window, entry.kind.tiled)
    return recipe.steps(entry.window)


def _model_inputs(entry: ModelEntry, bands: list[Band]) -> list[Json]:
    if entry.kind.tiled is not None:
        return [recipe.tiles_input(bands, entry.window, entry.kind.tiled)]
    if not packaged_onnx(entry).is_file():
        return [recipe.windows_input(next(iter(entry.inputs)), bands, entry.window)]
    return [
        recipe.windows_input(recipe.WINDOWS, bands, entry.window),
        recipe.further_input(recipe.PRESENT, len(bands)),
    ]


def _model_output(entry: ModelEntry) -> Json:
    classes = class_objects(entry.scheme)
    if (tiled := entry.kind.tiled) is None:
        return recipe.probabilities_output(classes, entry.window)
    told = [classes[entry.scheme.index(name)] for name in tiled.classes]
    return recipe.logits_output(told, entry.window, tiled)


def class_objects(scheme: ClassScheme) -> list[Json]:
    """Return ``classification:classes`` of a scheme."""
    return [
        {
            "value": item.value,
            "name": item.name,
            "description": item.title,
            "color_hint": item.color,
        }
        for item in scheme.classes
    ]


def class_mappings(scheme: ClassScheme) -> dict[str, list[int]]:
    """Return output style -> the value there of each class of ``scheme``, in order.

    A style is left out where the model cannot say it (shadow, where a model knows none).
    """
    found = {}
    for style in OutputStyle:
        if style is OutputStyle.NATIVE:
            continue
        with contextlib.suppress(OptionError):
            found[style.value] = list(mapping(scheme, SCHEMES[style]))
    return found


def output_styles(scheme: ClassScheme) -> list[str]:
    """Return what masks of a model with these classes can show."""
    return [*class_mappings(scheme), OutputStyle.NATIVE.value]


def _own_fields(entry: ModelEntry, scores: Sequence[Json]) -> Json:
    return {
        "class_scheme": entry.scheme_name,
        "class_mappings": class_mappings(entry.scheme),
        "output_styles": output_styles(entry.scheme),
        "window": {
            "multiple_px": entry.window.multiple_px,
            "pixelwise": entry.window.pixelwise,
            "rim_px": entry.window.rim_px,
            "mirrored": entry.window.mirrored,
        },
        "strides": list(STRIDES_PX),
        "sensor_independent": entry.sensor_independent,
        "band_requirements": {"min_bands": entry.min_bands, "kinds": _kinds(entry)}
        if entry.sensor_independent
        else None,
        "sensors": list(entry.inputs),
        "inputs": [_sensor_input(entry, sensor_id) for sensor_id in entry.inputs],
        "trained_on": list(entry.trained_on) or None,
        "untold_classes": list(entry.untold) or None,
        "non_commercial": entry.licence.non_commercial,
        "published_scores": dict(entry.scores) or None,
        "scores": list(scores) or None,
        "openeo": {
            "udf": "udf",
            "udp": "udp",
            "process_id": PROCESS_ID,
            "overlap_px": _overlap_px(entry.window),
            "context": {"model": entry.id},
            "dependencies": [f"{DISTRIBUTION}[{entry.extra}]" if entry.extra else DISTRIBUTION],
        },
    }


def _overlap_px(window: Window) -> int:
    """Return the overlap, in steps of 32 pixels, that lets each window be seen whole.

    A window that covers a pixel reaches at most one window less a pixel beyond it.
    """
    return 0 if window.pixelwise else 32 * math.ceil((window.size_px - 1) / 32)


def _kinds(entry: ModelEntry) -> list[str]:
    kinds = [
        get_sensor(sensor_id).band(name).kind.value
        for sensor_id, names in entry.inputs.items()
        for name in names
    ]
    return list(dict.fromkeys(kinds))


def _sensor_input(entry: ModelEntry, sensor_id: str) -> Json:
    sensor = get_sensor(sensor_id)
    described: Json = {
        "sensor": sensor.id,
        "title": sensor.title,
        "platforms": list(sensor.platforms),
        "instruments": [sensor.instrument],
        "processing_level": sensor.level,
        "gsd": sensor.resolution_m,
        "bands": [band_descriptor(sensor.band(name)) for name in entry.inputs[sensor_id]],
    }
    if smaller := entry.alternatives.get(sensor_id):
        described["alternatives"] = [list(names) for names in smaller]
    return described


def band_descriptor(band: Band) -> Json:
    """Return what tells a band from others whatever its sensor calls it: kind and pass band."""
    descriptor: Json = {"name": band.name, "kind": band.kind.value}
    if band.common_name is not None:
        descriptor["eo:common_name"] = band.common_name
    if band.min_nm is not None:
        descriptor |= {"min_nm": band.min_nm, "max_nm": band.max_nm}
    return descriptor


def apply_publication(item: pystac.Item, entry: ModelEntry) -> None:
    """Add licence, citation and publication to a model's item."""
    item.properties["sci:citation"] = entry.citation
    item.add_link(
        pystac.Link("license", entry.licence.url, media_type="text/html", title=entry.licence.spdx)
    )
    # A link and no asset: clients download what is an asset.
    origin = "Where the model comes from"
    item.add_link(pystac.Link("about", entry.source_url, media_type="text/html", title=origin))
    if entry.doi:
        item.properties["sci:publications"] = [{"doi": entry.doi, "citation": entry.citation}]
        item.add_link(pystac.Link("cite-as", f"https://doi.org/{entry.doi}"))


def _add_assets(item: pystac.Item, entry: ModelEntry) -> None:
    model = _model_asset(entry)
    # STAC 1.1 allows bands in an item's properties (where MLM looks for them) only where an asset
    # has some too.
    names = next(iter(entry.inputs.values()))
    model.extra_fields["bands"] = [{"name": name} for name in names]
    item.add_asset("model", model)
    item.add_asset(
        "udf",
        pystac.Asset(
            href=UDF_HREF,
            title="openEO user-defined function",
            description="Runs this and any other model of the catalog; the context names it.",
            media_type="text/x-python",
            roles=["code", "udf"],
            extra_fields={"mlm:entrypoint": "cloud_mask:apply_datacube"},
        ),
    )
    item.add_asset(
        "udp",
        pystac.Asset(
            href=UDP_HREF,
            title="openEO user-defined process",
            description="The function with its parameters, as a back end stores it.",
            media_type="application/json",
            roles=["udp"],
        ),
    )


def _model_asset(entry: ModelEntry) -> pystac.Asset:
    """Return the file that holds the model: what other software runs, if there is such a file."""
    onnx = packaged_onnx(entry)
    if onnx.is_file():
        return file_asset(
            f"{ASSETS_HREF}{onnx.name}",
            "onnx",
            title="Network with its weights, for onnxruntime",
            sha256=sha256_of(onnx),
            size_bytes=onnx.stat().st_size,
        )
    source = entry.weights or entry.kind.brought
    if source is None:  # rules, and networks that each user trains: the function is all there is
        return pystac.Asset(
            href=UDF_HREF,
            title=entry.kind.asset_title,
            media_type=fields.media_type("python"),
            roles=["mlm:model", "code"],
            extra_fields={"mlm:artifact_type": "python"},
        )
    return _published_asset(entry, source)


def _published_asset(entry: ModelEntry, source: WeightsSource) -> pystac.Asset:
    own = entry.weights is not None
    return file_asset(
        source.url,
        fields.artifact_type(entry),
        title="Weights" if own else entry.kind.asset_title,
        sha256=source.sha256,
        size_bytes=source.size_bytes,
        roles=("mlm:model", "weights") if own else ("mlm:model",),
    )


def file_asset(
    href: str,
    artifact: str,
    *,
    title: str,
    sha256: str | None,
    size_bytes: int | None,
    roles: Sequence[str] = ("mlm:model",),
) -> pystac.Asset:
    """Return the asset of a model's file, with what tells whether it is the one meant."""
    extra: Json = {"mlm:artifact_type": artifact}
    if sha256 is not None:
        extra["file:checksum"] = fields.multihash(sha256)
    if size_bytes is not None:
        extra["file:size"] = size_bytes
    return pystac.Asset(
        href=href,
        title=title,
        media_type=fields.media_type(artifact),
        roles=list(roles),
        extra_fields=extra,
    )


NODATA_CLASS: Json = {
    "value": NODATA,
    "name": "no-data",
    "description": "No data",
    "color_hint": "000000",
    "nodata": True,
}
"""What every mask has besides the classes of its style."""
