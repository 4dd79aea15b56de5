"""Random corruptions of valid items: all are refused, and the message names the field."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pystac
import pytest
from pystac.validation import validate_dict

from openeo_cloudmask.errors import CatalogError
from openeo_cloudmask.models import MODELS
from openeo_cloudmask.stac.reader import read_model_item
from openeo_cloudmask.stac.schemas import SchemaValidator

COUNT = 200
Path = tuple[str | int, ...]
Corruption = tuple[str, dict[str, Any]]
"""Name of the field that was corrupted, and the item."""

# What MLM and this package require; all that is in a class, a band or a window is needed too.
REQUIRED = (
    "title",
    "description",
    "license",
    "mlm:name",
    "mlm:architecture",
    "mlm:tasks",
    "mlm:input",
    "mlm:output",
    "mlm:framework",
    "mlm:hyperparameters",
    "sci:citation",
    "bands",
    "ml-model:type",
    "cloudmask:class_scheme",
    "cloudmask:class_mappings",
    "cloudmask:output_styles",
    "cloudmask:window",
    "cloudmask:strides",
    "cloudmask:sensor_independent",
    "cloudmask:sensors",
    "cloudmask:inputs",
    "cloudmask:non_commercial",
    "cloudmask:openeo",
)
FREE = ("mlm:hyperparameters", "context")
"""Objects whose members may be anything, by MLM and by openEO."""


def _leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in FREE:
                yield from _leaves(inner, (*path, key))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, index))
    elif value is not None:
        yield path


def _get(item: Any, path: Path) -> Any:
    for key in path:
        item = item[key]
    return item


def _name(path: Path) -> str:
    """Return the last key of the path: numbers are places in a list."""
    return next(str(key) for key in reversed(path) if isinstance(key, str))


def remove_required(item: dict[str, Any], chance: random.Random) -> Corruption:
    field = chance.choice(REQUIRED)
    del item["properties"][field]
    return field, item


def wrong_type(item: dict[str, Any], chance: random.Random) -> Corruption:
    path = chance.choice(list(_leaves(item["properties"])))
    parent, old = _get(item["properties"], path[:-1]), _get(item["properties"], path)
    parent[path[-1]] = {"wrong": True} if isinstance(old, str | bool) else "seven"
    return _name(path), item


def wrong_type_of_a_whole(item: dict[str, Any], chance: random.Random) -> Corruption:
    field = chance.choice(REQUIRED)
    item["properties"][field] = chance.choice([None, 5, [], [[]]])
    return field, item


def missing_band(item: dict[str, Any], chance: random.Random) -> Corruption:
    properties = item["properties"]
    place, bands = chance.choice(
        [
            ("mlm:input", properties["mlm:input"][0]["bands"]),
            ("cloudmask:inputs", properties["cloudmask:inputs"][0]["bands"]),
            ("bands", properties["bands"]),
            ("bands", item["assets"]["model"]["bands"]),
        ]
    )
    del bands[chance.randrange(len(bands))]
    return place if place != "cloudmask:inputs" else "bands", item


def corrupted_class(item: dict[str, Any], chance: random.Random) -> Corruption:
    classes = item["properties"]["mlm:output"][0]["classification:classes"]
    chosen = chance.choice(classes)
    key = chance.choice(["value", "name", "color_hint"])
    if key == "color_hint":
        chosen[key] = chance.choice(["green", "#009E73", "12345", 7])
    elif chance.random() < 0.5:
        del chosen[key]
    else:
        chosen[key] = chance.choice([-1, 3.5, "two words", None])
    return f"classification:classes[{classes.index(chosen)}]", item


def corrupted_asset(item: dict[str, Any], chance: random.Random) -> Corruption:
    key = chance.choice(["model", "udf", "udp"])
    asset = item["assets"][key]
    if chance.random() < 0.4:
        del item["assets"][key]
        # STAC's core speaks first: an item's properties may have bands only where an asset has.
        return "properties" if key == "model" else key, item
    part = chance.choice(["href", "roles", "type"])
    asset[part] = chance.choice([5, {"no": 1}, True])
    return f"{key}.{part}", item


def corrupted_digest(item: dict[str, Any], chance: random.Random) -> Corruption:
    asset = item["assets"]["model"]
    asset["roles"] = ["mlm:model", "weights"]
    asset["href"] = "https://huggingface.co/owner/models/resolve/main/weights.pt"
    digest = "1220" + "".join(chance.choice("0123456789abcdef") for _ in range(64))
    asset["file:checksum"] = chance.choice([digest[:-2], digest.upper() + "X", "1114" + digest, 7])
    return "file:checksum", item


def unknown_word(item: dict[str, Any], chance: random.Random) -> Corruption:
    properties = item["properties"]
    chosen: list[tuple[str, Any, Any]] = [
        ("cloudmask:output_styles", properties["cloudmask:output_styles"], 0),
        ("mlm:tasks", properties["mlm:tasks"], 0),
        ("kind", properties["cloudmask:inputs"][0]["bands"][0], "kind"),
        ("sensor", properties["cloudmask:inputs"][0], "sensor"),
        ("mlm:framework", properties, "mlm:framework"),
        ("mlm:accelerator", properties, "mlm:accelerator"),
        ("resize_type", properties["mlm:input"][0], "resize_type"),
        ("data_type", properties["mlm:input"][0]["input"], "data_type"),
        ("cloudmask:class_scheme", properties, "cloudmask:class_scheme"),
    ]
    field, parent, key = chance.choice(chosen)
    parent[key] = "nonesuch"
    return field, item


def misspelt_field(item: dict[str, Any], chance: random.Random) -> Corruption:
    own = [key for key in item["properties"] if key.startswith(("cloudmask:", "mlm:"))]
    key = chance.choice(own)
    spelling = key[:-1] + chance.choice("qxz")
    item["properties"][spelling] = item["properties"][key]
    return spelling, item


CORRUPTIONS: tuple[Callable[[dict[str, Any], random.Random], Corruption], ...] = (
    remove_required,
    wrong_type,
    wrong_type,
    wrong_type_of_a_whole,
    missing_band,
    corrupted_class,
    corrupted_asset,
    corrupted_digest,
    unknown_word,
    misspelt_field,
)


def _refusal(item: dict[str, Any], validator: SchemaValidator) -> str | None:
    """Return the message of whoever refuses the item first, None where nobody does."""
    try:
        validate_dict(
            item,
            stac_object_type=pystac.STACObjectType.ITEM,
            stac_version="1.1.0",
            extensions=item["stac_extensions"],
            validator=validator,
        )
        read_model_item(item)
    except (pystac.STACValidationError, CatalogError) as err:
        return str(err)
    return None


@pytest.mark.parametrize("seed", range(COUNT))
def test_a_corrupted_item_is_refused_and_the_field_named(
    seed: int, item_of: Callable[[str], dict[str, Any]], validator: SchemaValidator
) -> None:
    chance = random.Random(seed)
    item = item_of(chance.choice(list(MODELS)))
    field, corrupted = chance.choice(CORRUPTIONS)(item, chance)
    message = _refusal(corrupted, validator)
    assert message is not None, f"{field} was accepted"
    assert field in message, f"{field} is not named in: {message}"


def test_what_is_corrupted_is_refused_for_that_alone(
    item_of: Callable[[str], dict[str, Any]], validator: SchemaValidator
) -> None:
    assert [_refusal(item_of(model), validator) for model in MODELS] == [None] * len(MODELS)
