"""The extension itself: its pystac class, its schema, and what its README says of the schema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pystac
import pytest

from openeo_cloudmask.classes import OutputStyle
from openeo_cloudmask.sensors import BandKind
from openeo_cloudmask.stac import extension
from openeo_cloudmask.stac.extension import PREFIX, SCHEMA_URI, VERSION, CloudMaskExtension
from openeo_cloudmask.stac.schemas import SchemaValidator, own_schema, read_schemas

FOLDER = Path(__file__).resolve().parents[2] / "stac_extension"


def _item() -> pystac.Item:
    path = FOLDER / "examples" / "item-sensor-independent.json"
    return pystac.Item.from_file(str(path))


def test_the_class_reads_what_the_item_says() -> None:
    fields = CloudMaskExtension.ext(_item())
    assert fields.class_scheme == "sensei-7-class"
    assert fields.class_mappings["4-class"] == [0, 0, 0, 2, 1, 3, 255]
    assert fields.sensor_independent is True
    assert fields.band_requirements is not None
    assert fields.band_requirements["min_bands"] >= 1
    assert fields.sensors == [given["sensor"] for given in fields.inputs]
    assert fields.strides == [64, 128, 256, 384, 512]
    assert fields.window == {
        "multiple_px": 32,
        "pixelwise": False,
        "rim_px": 0,
        "mirrored": True,
    }
    assert fields.openeo["context"]["model"] == fields.item.id
    assert fields.non_commercial is False
    assert fields.scores is None
    assert fields.trained_on
    assert "CloudMaskExtension Item id=SEnSeIv2" in repr(fields)


def test_the_class_behaves_as_pystacs_own() -> None:
    bare = pystac.Item("bare", None, None, None, {"start_datetime": None, "end_datetime": None})
    assert not CloudMaskExtension.has_extension(bare)
    with pytest.raises(pystac.ExtensionNotImplemented, match="cloudmask"):
        CloudMaskExtension.ext(bare)
    fields = CloudMaskExtension.ext(bare, add_if_missing=True)
    assert bare.stac_extensions == [SCHEMA_URI]
    with pytest.raises(pystac.errors.RequiredPropertyMissing, match="cloudmask:sensors"):
        _ = fields.sensors
    fields.apply_mask(model="m", output_style="4-class", parameters={"model": "m"})
    assert (fields.model, fields.output_style, fields.parameters) == (
        "m",
        "4-class",
        {"model": "m"},
    )
    CloudMaskExtension.remove_from(bare)
    assert bare.stac_extensions == []
    with pytest.raises(pystac.ExtensionTypeError, match="does not apply to type 'Catalog'"):
        CloudMaskExtension.ext(pystac.Catalog("c", "c"))  # type: ignore[arg-type]


def test_summaries_of_a_collection_are_read() -> None:
    collection = pystac.Collection.from_file(str(FOLDER / "examples" / "collection.json"))
    assert CloudMaskExtension.summaries(collection).sensors == ["sentinel-2-l1c"]


def test_the_schema_is_draft_07_and_bears_its_version() -> None:
    schema = own_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert schema["$id"] == SCHEMA_URI
    assert f"/v{VERSION}/" in SCHEMA_URI
    changes = (FOLDER / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [v{VERSION}]" in changes
    assert SCHEMA_URI in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_schema_knows_the_packages_words() -> None:
    definitions = own_schema()["definitions"]
    assert definitions["output_style"]["enum"] == [style.value for style in OutputStyle]
    assert definitions["band_kind"]["enum"] == [kind.value for kind in BandKind]


def _fields_of_schema() -> set[str]:
    definitions = own_schema()["definitions"]
    places = [definitions["model"]["allOf"][0], definitions["mask"]]
    return {key for place in places for key in place["properties"] if key.startswith(PREFIX)}


def test_schema_class_and_readme_name_the_same_fields() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    in_tables = set(re.findall(rf"^\| ({PREFIX}\w+) \|", readme, flags=re.MULTILINE))
    constants = {
        value
        for value in vars(extension).values()
        if isinstance(value, str) and value.startswith(PREFIX) and value != PREFIX
    }
    assert in_tables == _fields_of_schema() == constants


@pytest.mark.parametrize(
    ("title", "definition"),
    [
        ("Window Object", "window"),
        ("Band Requirements Object", "band_requirements"),
        ("Input Object", "input"),
        ("Band Object", "band"),
        ("Score Object", "score"),
        ("openEO Object", "openeo"),
    ],
)
def test_tables_of_objects_are_those_of_the_schema(title: str, definition: str) -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    section = readme.split(f"### {title}\n")[1].split("\n#")[0]
    rows = re.findall(r"^\| ([\w:]+) \| .* \| (.*) \|$", section, flags=re.MULTILINE)
    schema = own_schema()["definitions"][definition]
    assert {name for name, _ in rows} == set(schema["properties"])
    required = {name for name, text in rows if text.startswith("**REQUIRED.**")}
    assert required == set(schema["required"])


def test_readme_lists_the_examples_that_are_there() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(examples/([\w.-]+)\)", readme))
    assert linked == {path.name for path in (FOLDER / "examples").glob("*.json")}


def test_readmes_snippet_prints_what_it_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    snippet = readme.split("```python\n")[1].split("```")[0]
    answer = readme.split("```text\n")[1].split("```")[0]
    monkeypatch.chdir(FOLDER.parent)
    exec(compile(snippet, "README.md", "exec"), {})
    assert capsys.readouterr().out == answer


def test_every_example_is_valid(validator: SchemaValidator) -> None:
    from pystac.validation import validate_dict

    examples = sorted((FOLDER / "examples").glob("*.json"))
    assert len(examples) == 6
    for path in examples:
        content = json.loads(path.read_text(encoding="utf-8"))
        assert SCHEMA_URI in validate_dict(content, validator=validator)


def test_a_collection_has_to_say_its_sensors(validator: SchemaValidator) -> None:
    from pystac.validation import validate_dict

    content = json.loads((FOLDER / "examples" / "collection.json").read_text(encoding="utf-8"))
    del content["summaries"]["cloudmask:sensors"]
    with pytest.raises(pystac.STACValidationError, match="summaries: 'cloudmask:sensors'"):
        validate_dict(content, validator=validator)


def test_stand_ins_say_what_the_published_schemas_say(shared: Callable[[str], Path]) -> None:
    schemas: dict[str, Any] = read_schemas(shared("schemas"))
    raster = schemas["https://stac-extensions.github.io/raster/v1.1.0/schema.json"]
    target = raster["definitions"]["bands"]["items"]["properties"]["data_type"]["$ref"]
    core = schemas[target.split("#")[0]]
    assert "float32" in core["properties"]["data_type"]["enum"]
    processing = schemas["https://stac-extensions.github.io/processing/v1.1.0/schema.json"]
    part = processing["definitions"]["fields"]["properties"]["processing:expression"]["$ref"]
    assert part.split("#")[0] in schemas
