"""The examples of the STAC extension, built from the registry so that they stay true."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pystac

from openeo_cloudmask.grid import WGS84, Grid
from openeo_cloudmask.models.registry import MODELS, get_model
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.stac.catalog import build_catalog
from openeo_cloudmask.stac.mask_item import MaskFile, MaskOrigin, build_mask_item
from openeo_cloudmask.stac.model_item import UDF_HREF, UDP_HREF

MODEL_EXAMPLES = {
    "item-fixed-bands.json": "cloudsen12",
    "item-sensor-independent.json": "SEnSeIv2-SegFormerB2-alldata-ambiguous",
    "item-rule.json": "hollstein",
    "item-patch-cnn.json": "kristollari-cnn",
}
"""File -> model: one of each sort."""

COLLECTION_EXAMPLE = "collection.json"
MASK_EXAMPLE = "item-mask.json"
_FAMILY_OF = "item-fixed-bands.json"
_HREFS = {UDF_HREF: "../../udf/cloud_mask.py", UDP_HREF: "../../udf/cloud_mask.json"}

Json = dict[str, Any]


def plan_examples() -> dict[str, str]:
    """Return the text of every example, by its file name.

    Raises:
        MissingExtraError: torch is not installed; the networks' parameters are counted with it.
    """
    wanted = {name: MODELS[name] for name in MODEL_EXAMPLES.values() if name in MODELS}
    catalog = build_catalog(wanted)
    files = {name: model for name, model in MODEL_EXAMPLES.items() if model in wanted}
    planned = {}
    for name, model in files.items():
        item = next(item for item in catalog.get_items(recursive=True) if item.id == model)
        planned[name] = _model_example(item, in_collection=name == _FAMILY_OF)
    family = MODELS[MODEL_EXAMPLES[_FAMILY_OF]].family
    planned[COLLECTION_EXAMPLE] = _collection_example(catalog, family)
    planned[MASK_EXAMPLE] = _mask_example()
    return {
        name: json.dumps(_as_javascript(content), indent=2, ensure_ascii=False)
        for name, content in planned.items()
    }


def _as_javascript(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return JSON as JavaScript writes it, whose form the linter of STAC extensions wants."""
    if isinstance(value, dict):
        return {key: _as_javascript(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_javascript(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _model_example(item: pystac.Item, *, in_collection: bool) -> Json:
    content = item.to_dict(include_self_link=False, transform_hrefs=False)
    content["links"] = [link for link in content["links"] if link["rel"] in ("license", "cite-as")]
    if in_collection:
        target = {
            "rel": "collection",
            "href": f"./{COLLECTION_EXAMPLE}",
            "type": "application/json",
        }
        content["links"].append(target)
    else:  # STAC wants a link wherever an item names its collection
        family = {
            "rel": "collection",
            "href": f"../../catalog/{item.collection_id}/collection.json",
        }
        content["links"].append(family | {"type": "application/json"})
    for asset in content["assets"].values():
        asset["href"] = _HREFS.get(asset["href"], asset["href"])
    return content


def _collection_example(catalog: pystac.Catalog, family: str) -> Json:
    collection = next(found for found in catalog.get_collections() if found.id == family)
    content = collection.to_dict(include_self_link=False, transform_hrefs=False)
    kept = [link for link in content["links"] if link["rel"] == "license"]
    item = {"rel": "item", "href": f"./{_FAMILY_OF}", "type": "application/geo+json"}
    item["title"] = get_model(MODEL_EXAMPLES[_FAMILY_OF]).title
    content["links"] = [*kept, item]
    return content


def _mask_example() -> Json:
    """Return the item of a mask on the grid of tile 46RER; the file itself is not there."""
    from affine import Affine
    from rasterio.crs import CRS

    options = MaskOptions(model=MODEL_EXAMPLES[_FAMILY_OF], scale=0.0001)
    transform = (10.0, 0.0, 499980.0, 0.0, -10.0, 3100020.0)
    west, south, east, north = Grid(
        shape_yx=(10980, 10980), transform=Affine(*transform), crs=CRS.from_string("EPSG:32646")
    ).bounds_in(WGS84)
    mask = MaskFile(
        href="./S2A_T46RER_20210908_cloudsen12_mask.tif",
        shape_yx=(10980, 10980),
        transform=transform,
        crs="EPSG:32646",
        bounds=(round(west, 6), round(south, 6), round(east, 6), round(north, 6)),
        resolution_m=10.0,
    )
    item = build_mask_item(
        "S2A_T46RER_20210908_cloudsen12",
        mask,
        MODELS[options.model],
        options,
        time=datetime(2021, 9, 8, 4, 27, 1, tzinfo=UTC),
        origin=MaskOrigin(
            model_href=f"./{_FAMILY_OF}",
            input_hrefs=("./S2A_MSIL1C_20210908T042701_N0301_R133_T46RER_20210908T070248.SAFE",),
        ),
    )
    return item.to_dict(include_self_link=False)
