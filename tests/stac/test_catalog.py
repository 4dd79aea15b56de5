"""The static catalog: the same every time, whole in itself, valid, and readable by others."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pystac
import pytest
from pystac.validation import JsonSchemaSTACValidator, RegisteredValidator
from typer.testing import CliRunner

from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import CatalogError, OptionError, OutputError
from openeo_cloudmask.models import MODELS
from openeo_cloudmask.stac.catalog import (
    CATALOG_ID,
    plan_catalog,
    validate_catalog,
    walk_catalog,
    write_catalog,
)
from openeo_cloudmask.stac.examples import plan_examples
from openeo_cloudmask.stac.schemas import read_schemas

ROOT = Path(__file__).resolve().parents[2]
FEW = {name: MODELS[name] for name in ("mini", "hollstein")}


def _files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".onnx"
    }


def test_the_committed_catalog_is_what_the_registry_gives(planned: dict[str, str]) -> None:
    committed = _files(ROOT / "catalog")
    assert sorted(committed) == sorted(planned)
    changed = [name for name, text in planned.items() if committed[name] != text]
    assert changed == [], "run `cloudmask catalog build`"


def test_the_committed_examples_are_what_the_registry_gives() -> None:
    planned = plan_examples()
    committed = _files(ROOT / "stac_extension" / "examples")
    assert sorted(committed) == sorted(planned)
    changed = [name for name, text in planned.items() if committed[name] != text]
    assert changed == [], "run `cloudmask catalog examples`"


@pytest.mark.slow
def test_every_item_is_listed_with_its_title(catalog: Path) -> None:
    for path, content in walk_catalog(catalog):
        for link in content["links"]:
            if link["rel"] == "item":
                item = json.loads((path.parent / link["href"]).read_text(encoding="utf-8"))
                assert link["title"] == item["properties"]["title"]


def test_a_field_has_one_type_in_all_items(catalog: Path) -> None:
    """Tables (GeoParquet) need that: a column of texts and truth values is no such column."""
    found: dict[str, set[str]] = {}

    def walk(value: object, path: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{path}.{key}")
        elif isinstance(value, list):
            for inner in value:
                walk(inner, f"{path}[]")
        elif value is not None:
            kind = "number" if type(value) in (int, float) else type(value).__name__
            found.setdefault(path, set()).add(kind)

    for _, content in walk_catalog(catalog):
        if content["type"] == "Feature":
            walk(content["properties"], "properties")
    assert {path: kinds for path, kinds in found.items() if len(kinds) > 1} == {}


@pytest.mark.slow
def test_another_process_builds_the_same_catalog(planned: dict[str, str], tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; "
        "from openeo_cloudmask.stac.catalog import write_catalog; write_catalog(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True, timeout=120)
    assert _files(tmp_path) == planned


def test_every_model_has_its_item_in_its_familys_collection(catalog: Path) -> None:
    found = {
        content["id"]: content["collection"]
        for _, content in walk_catalog(catalog)
        if content["type"] == "Feature"
    }
    assert found == {entry.id: entry.family for entry in MODELS.values()}


def test_links_and_assets_inside_are_relative(catalog: Path) -> None:
    for path, content in walk_catalog(catalog):
        for link in content["links"]:
            if link["rel"] in ("root", "parent", "child", "item", "collection"):
                assert link["href"].startswith("."), (path, link)
            assert link["rel"] != "self"


def test_the_catalog_carries_the_udf_and_the_process(catalog: Path) -> None:
    for name in ("cloud_mask.py", "cloud_mask.json"):
        assert (catalog / "assets" / name).read_bytes() == (ROOT / "udf" / name).read_bytes()


@pytest.fixture
def _offline_pystac(shared: Callable[[str], Path]) -> Iterator[None]:
    """Give pystac's own validator the schemas it would download."""
    from openeo_cloudmask.stac.schemas import read_schemas

    own = JsonSchemaSTACValidator()
    own.schema_cache.update(read_schemas(shared("schemas")))
    before = RegisteredValidator._validator
    RegisteredValidator._validator = own
    yield
    RegisteredValidator._validator = before


@pytest.mark.slow  # the package's own validator holds items against the same schemas
@pytest.mark.usefixtures("_offline_pystac")
def test_pystac_walks_and_validates_the_catalog(catalog: Path) -> None:
    from pystac.validation import validate_all_dict

    path = catalog / "catalog.json"
    validate_all_dict(json.loads(path.read_text(encoding="utf-8")), str(path))
    opened = pystac.Catalog.from_file(str(path))
    assert {item.id for item in opened.get_items(recursive=True)} == set(MODELS)
    for item in opened.get_items(recursive=True):
        udf = item.assets["udf"].get_absolute_href()
        assert udf is not None
        assert Path(udf).is_file()


@pytest.mark.usefixtures("_offline_pystac")
def test_pystac_validates_the_examples() -> None:
    from pystac.validation import validate_dict

    for path in sorted((ROOT / "stac_extension" / "examples").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        checked = validate_dict(content, href=str(path))
        assert len(checked) == len(content["stac_extensions"]) + 1


def test_stac_model_parses_every_item(catalog: Path) -> None:
    schema = pytest.importorskip("stac_model.schema")
    for _, content in walk_catalog(catalog):
        if content["type"] != "Feature":
            continue
        properties = content["properties"]
        parsed = schema.MLModelProperties.model_validate(properties)
        entry = MODELS[content["id"]]
        assert parsed.name == entry.id
        assert list(parsed.input[0].bands) == list(next(iter(entry.inputs.values())))
        planes = entry.kind.tiled.classes if entry.kind.tiled else entry.scheme.names
        assert [item.name for item in parsed.output[0].classes] == list(planes)
        assert parsed.total_parameters == properties.get("mlm:total_parameters")
        written = json.loads(parsed.model_dump_json(by_alias=True))
        assert written["mlm:output"][0]["result"] == properties["mlm:output"][0]["result"]


def test_an_older_catalog_is_replaced_and_its_leftovers_go(
    planned: dict[str, str], tmp_path: Path
) -> None:
    write_catalog(tmp_path, planned)
    leftover = tmp_path / "CloudSEN12" / "gone" / "gone.json"
    leftover.parent.mkdir()
    leftover.write_text("{}", encoding="utf-8")
    write_catalog(tmp_path, planned)
    assert not leftover.parent.exists()
    assert _files(tmp_path) == planned


def test_a_folder_with_other_things_is_left_alone(planned: dict[str, str], tmp_path: Path) -> None:
    precious = tmp_path / "precious.json"
    precious.write_text("{}", encoding="utf-8")
    with pytest.raises(OutputError, match="is not empty and holds no catalog"):
        write_catalog(tmp_path, planned)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.json"]


def test_validation_names_the_file_that_is_wrong(
    tmp_path: Path, shared: Callable[[str], Path]
) -> None:
    planned, schemas = plan_catalog(FEW), shared("schemas")
    name = "Hollstein/hollstein/hollstein.json"
    write_catalog(tmp_path, planned)
    item = tmp_path / name
    content = json.loads(planned[name])
    content["properties"]["cloudmask:strides"] = ["many"]
    item.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CatalogError, match=r"hollstein\.json: .*cloudmask:strides"):
        validate_catalog(tmp_path, schemas=schemas)
    content["properties"]["cloudmask:strides"] = [100]  # valid by the schema, not for this package
    item.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CatalogError, match=r"hollstein\.json: .*cloudmask:strides has \[100\]"):
        validate_catalog(tmp_path, schemas=schemas)
    item.write_text(planned[name], encoding="utf-8")
    (tmp_path / "assets" / "cloud_mask.py").unlink()
    with pytest.raises(CatalogError, match=r"cloud_mask\.py leads nowhere"):
        validate_catalog(tmp_path, schemas=schemas)
    item.unlink()
    with pytest.raises(CatalogError, match=r"collection\.json: .*hollstein\.json leads nowhere"):
        validate_catalog(tmp_path, schemas=schemas)


def test_commands_build_and_validate(
    tmp_path: Path, planned: dict[str, str], shared: Callable[[str], Path]
) -> None:
    run, app, folder = CliRunner(), build_app(), tmp_path / "models"
    built = run.invoke(app, ["catalog", "build", str(folder)])
    networks = list(folder.rglob("*.onnx"))
    assert built.output == f"{len(planned) + len(networks)} files in {folder}\n"
    assert _files(folder) == planned
    options = ["--schemas", str(shared("schemas")), "--no-fetch"]
    checked = run.invoke(app, ["catalog", "validate", str(folder), *options])
    assert checked.exit_code == 0
    families = {entry.family for entry in MODELS.values()}
    assert checked.output.startswith(f"{1 + len(families) + len(MODELS)} objects in")
    examples = tmp_path / "examples"
    examples.mkdir()
    assert run.invoke(app, ["catalog", "examples", str(examples)]).exit_code == 0
    assert _files(examples) == _files(ROOT / "stac_extension" / "examples")


def test_planning_twice_gives_the_same_texts() -> None:
    one, other = plan_catalog(FEW), plan_catalog(FEW)
    assert one == other
    assert json.loads(one["catalog.json"])["id"] == CATALOG_ID


def test_schemas_that_are_missing_are_all_named() -> None:
    with pytest.raises(CatalogError, match="schemas of extensions are not on this machine") as told:
        validate_catalog(ROOT / "catalog", schemas=None, fetch=False)
    assert "--schemas FOLDER" in str(told.value)
    declared = {
        uri for _, item in walk_catalog(ROOT / "catalog") for uri in item.get("stac_extensions", ())
    }
    missing = declared - set(read_schemas(None))
    assert len(missing) > 1
    assert all(uri in str(told.value) for uri in missing)


def test_stac_check_finds_a_published_catalog_valid(stac_check: Any) -> None:
    pytest.importorskip("torch")  # the networks' parameters are counted
    models = {name: MODELS[name] for name in ("mini", "hollstein", "UNetMobV2_V2")}
    planned = plan_catalog(models, url="https://masks.example/models/") | plan_examples()
    documents = {place: text for place, text in planned.items() if not place.startswith("assets/")}
    # A model belongs to no day and to all places, and MLM alone has twenty fields.
    of_models = {"datetime_null", "bloated_metadata", "check_bbox_antimeridian"}
    # Published models and products have capital letters in their names.
    names = {"searchable_identifiers"}
    for place, found in stac_check(documents).items():
        assert (place, found["valid"], found["error"]) == (place, True, "")
        content = json.loads(documents[place])
        # Examples lie in one folder under names of their own; they are published nowhere.
        example = {"check_item_id", "check_links_self"} if "/" not in place else set()
        example -= {"check_links_self"} if place == "catalog.json" else set()
        expected = of_models | names if content["type"] == "Feature" else set()
        if place == "item-mask.json":  # a northern latitude may be less than its longitude
            expected = {"geometry_coordinates_order", *names}
        assert set(found["advice"]) <= expected | example, place
        links = {link["rel"]: link["href"] for link in content["links"]}
        if "/" in place:
            assert links["self"] == f"https://masks.example/models/{place}"


def test_a_catalogs_address_is_one() -> None:
    pytest.importorskip("torch")
    with pytest.raises(OptionError, match=r"address is 'models/'; expected an http"):
        plan_catalog({"hollstein": MODELS["hollstein"]}, url="models/")
