"""The static catalog of models: planned in memory, written, and checked on disk."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pystac
from pystac.layout import TemplateLayoutStrategy
from pystac.stac_io import DefaultStacIO

from openeo_cloudmask import assets
from openeo_cloudmask.errors import (
    CatalogError,
    MissingExtraError,
    OptionError,
    OutputError,
)
from openeo_cloudmask.models.entry import ModelEntry
from openeo_cloudmask.models.onnx_detector import ONNX_SUFFIX, packaged_onnx
from openeo_cloudmask.models.registry import MODELS
from openeo_cloudmask.publish import publish_file, publish_text
from openeo_cloudmask.stac import fields
from openeo_cloudmask.stac.extension import SCHEMA_URI, CloudMaskExtension
from openeo_cloudmask.stac.model_item import BBOX, build_model_item, output_styles
from openeo_cloudmask.stac.scores import read_scores

CATALOG_ID = "openeo-cloudmask-models"
SCHEMAS_VARIABLE = "OPENEO_CLOUDMASK_SCHEMAS"
SHIPPED = {
    "assets/cloud_mask.py": "udf/cloud_mask.py",
    "assets/cloud_mask.json": "udf/cloud_mask.json",
}
"""Place in the catalog -> file of the package: what makes the catalog complete in itself."""

_ROOT = "/catalog"  # any absolute path: pystac makes links relative to it
_LAYOUT = TemplateLayoutStrategy(collection_template="${id}", item_template="${id}")


class _Memory(DefaultStacIO):
    """Keeps what pystac writes."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, str] = {}

    def json_dumps(self, json_dict: dict[str, Any], *_: object, **__: object) -> str:
        return json.dumps(json_dict, indent=2, ensure_ascii=False) + "\n"

    def write_text(self, dest: pystac.link.HREF, txt: str, *_: object, **__: object) -> None:
        self.files[str(dest).removeprefix(f"{_ROOT}/")] = txt

    def link_to_themselves(self, url: str) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
            raise OptionError(f"the catalog's address is {url!r}; expected an http(s) address")
        for place, text in self.files.items():
            content = json.loads(text)
            kind = "application/geo+json" if content["type"] == "Feature" else "application/json"
            link = {"rel": "self", "href": f"{url.rstrip('/')}/{place}", "type": kind}
            content["links"].append(link)
            for asset in content.get("assets", {}).values():  # some clients read them as they are
                asset["href"] = urljoin(link["href"], asset["href"])
            self.files[place] = self.json_dumps(content)


def plan_catalog(
    models: Mapping[str, ModelEntry] = MODELS, *, url: str | None = None
) -> dict[str, str]:
    """Return the text of every file of the catalog, by its path in there.

    The same registry, scores, UDF and process give the same texts.

    Args:
        models: what it holds.
        url: where the catalog is published: every object links to itself there, and assets have
            whole addresses.

    Raises:
        OptionError: ``url`` is no http(s) address.
        MissingExtraError: torch is not installed; the networks' parameters are counted with it.
    """
    memory = _Memory()
    catalog = build_catalog(models)
    catalog.normalize_hrefs(_ROOT, strategy=_LAYOUT)
    catalog.save(pystac.CatalogType.SELF_CONTAINED, stac_io=memory)
    if url is not None:
        memory.link_to_themselves(url)
    shipped = {
        place: assets.path(name).read_text(encoding="utf-8") for place, name in SHIPPED.items()
    }
    return memory.files | shipped


def build_catalog(models: Mapping[str, ModelEntry] = MODELS) -> pystac.Catalog:
    """Return the catalog: a collection per family, an item per model."""
    catalog = pystac.Catalog(
        id=CATALOG_ID,
        title="Cloud-mask models of openeo-cloudmask",
        description="Models that find clouds and their shadows in optical satellite images: "
        "which bands they take, what their classes mean, under which licence they may be used, "
        "and how openEO runs them.",
    )
    scores = read_scores()
    for family in dict.fromkeys(entry.family for entry in models.values()):
        members = [entry for entry in models.values() if entry.family == family]
        collection = _build_collection(family, members)
        for entry in members:
            collection.add_item(
                build_model_item(
                    entry,
                    scores=scores.get(entry.id, ()),
                    total_parameters=count_parameters(entry),
                ),
                title=entry.title,
            )
        catalog.add_child(collection)
    return catalog


def _build_collection(family: str, members: list[ModelEntry]) -> pystac.Collection:
    licences = {entry.licence.spdx: entry.licence for entry in members}
    titles = "; ".join(entry.title for entry in members)
    open_ended = pystac.TemporalExtent([list[datetime | None]([None, None])])
    collection = pystac.Collection(
        id=family,
        title=family,
        description=f"Cloud-mask models of the family {family}: {titles}.",
        extent=pystac.Extent(pystac.SpatialExtent([BBOX]), open_ended),
        license=next(iter(licences)) if len(licences) == 1 else "other",
        keywords=["cloud mask", "cloud shadow", "model"],
        stac_extensions=[SCHEMA_URI],
    )
    for licence in licences.values():
        collection.add_link(
            pystac.Link("license", licence.url, media_type="text/html", title=licence.spdx)
        )
    CloudMaskExtension.summaries(collection).apply(
        class_scheme=_different(entry.scheme_name for entry in members),
        output_styles=_different(
            style for entry in members for style in output_styles(entry.scheme)
        ),
        sensors=_different(sensor for entry in members for sensor in entry.inputs),
    )
    return collection


def _different(values: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(values))


def count_parameters(entry: ModelEntry) -> int | None:
    """Return the number of the network's parameters; None where there is no network to count.

    Raises:
        MissingExtraError: torch is not installed.
    """
    if fields.artifact_type(entry) == "python":
        return 0
    if entry.kind.network is None:
        return None  # a file or package of others: its network is not built here
    try:
        import torch
    except ModuleNotFoundError as err:
        raise MissingExtraError.for_extra("torch", "counting a network's parameters") from err

    with torch.device("meta"):  # shapes without memory
        network = entry.kind.build(entry.config)
    return sum(parameter.numel() for parameter in network.parameters())


def write_catalog(folder: Path, files: Mapping[str, str] | None = None) -> list[Path]:
    """Write the catalog into ``folder`` and return its files.

    Files of an older catalog there that are no longer planned are removed.

    Args:
        folder: made where it is missing.
        files: what ``plan_catalog`` gives; None plans it now.

    Raises:
        OutputError: the folder holds something else, or cannot be written.
    """
    planned = plan_catalog() if files is None else files
    try:
        old = _old_files(folder)
        written = [publish_text(folder / name, text) for name, text in planned.items()]
        written += [_copy(source, folder / "assets" / source.name) for source in carried_files()]
        for path in old - set(written):
            path.unlink()
        for place in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
            if not any(place.iterdir()):
                place.rmdir()
    except OSError as err:
        raise OutputError(f"cannot write the catalog to {folder}: {err}") from err
    return written


def _old_files(folder: Path) -> set[Path]:
    if not folder.exists() or not any(folder.iterdir()):
        return set()
    try:
        known = json.loads((folder / "catalog.json").read_text(encoding="utf-8"))["id"]
    except (OSError, ValueError, KeyError, TypeError):
        known = None
    if known != CATALOG_ID:
        raise OutputError(
            f"{folder} is not empty and holds no catalog {CATALOG_ID!r}; name an empty folder"
        )
    return {path for path in folder.rglob("*") if path.suffix in (".json", ".py", ONNX_SUFFIX)}


def carried_files() -> list[Path]:
    """Return the networks that the catalog carries, as they lie in this package."""
    return sorted(path for entry in MODELS.values() if (path := packaged_onnx(entry)).is_file())


def _copy(source: Path, target: Path) -> Path:
    with publish_file(target) as part:
        shutil.copyfile(source, part)
    return target


def find_schemas() -> Path | None:
    """Return the folder with schemas of other extensions, or None where it is missing.

    ``OPENEO_CLOUDMASK_SCHEMAS``, or ``shared/schemas`` beside the checkout.
    """
    if given := os.environ.get(SCHEMAS_VARIABLE):
        return Path(given)
    beside = assets.path("stac_extension").parent.parent / "shared" / "schemas"
    return beside if beside.is_dir() else None


def validate_catalog(folder: Path, *, schemas: Path | None = None, fetch: bool = False) -> int:
    """Check every object of the catalog in ``folder`` and return how many there are.

    Each is held against the core and the extensions it declares; items also have to be models
    that this package understands, and links and assets inside the catalog have to lead somewhere.

    Args:
        folder: holds ``catalog.json``.
        schemas: folder with the schemas of other extensions.
        fetch: whether schemas that are not there may be downloaded.

    Raises:
        CatalogError: something is wrong; the message names the file and the field.
    """
    from pystac.validation import validate_dict

    from openeo_cloudmask.stac.reader import read_valid_item
    from openeo_cloudmask.stac.schemas import SchemaValidator

    validator = SchemaValidator(schemas, fetch=fetch)
    validator.require(_declared(folder))
    count = 0
    for path, content in walk_catalog(folder):
        count += 1
        try:
            validate_dict(content, href=str(path), validator=validator)
        except (pystac.STACError, pystac.STACValidationError, ValueError) as err:
            raise CatalogError(str(err)) from err
        if content["type"] == "Feature":
            try:
                read_valid_item(content)
            except CatalogError as err:
                raise CatalogError(f"{path}: {err}") from err
        for href in _hrefs(content):
            if not is_absolute(href) and not (path.parent / href).is_file():
                raise CatalogError(f"{path}: {href} leads nowhere")
    return count


def _declared(folder: Path) -> set[str]:
    """Return the extensions that objects of the catalog declare; none where it cannot be walked."""
    try:
        return {uri for _, item in walk_catalog(folder) for uri in item.get("stac_extensions", ())}
    except CatalogError:
        return set()  # errors are reported with their place when objects are checked


def walk_catalog(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield path and content of the catalog, its collections and their items, following links.

    Raises:
        CatalogError: a file is missing or no JSON object.
    """
    waiting = [folder / "catalog.json"]
    while waiting:
        path = waiting.pop(0)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            links = [link for link in content["links"] if link["rel"] in ("child", "item")]
            waiting += [(path.parent / link["href"]).resolve() for link in links]
        except (OSError, ValueError, KeyError, TypeError) as err:
            raise CatalogError(f"{path} is no object of a STAC catalog: {err!r}") from err
        yield path, content


def is_absolute(href: str) -> bool:
    """Return whether ``href`` is a URL or URN rather than a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", href) is not None


def _hrefs(content: Mapping[str, Any]) -> Iterator[str]:
    for link in content["links"]:
        yield link["href"]
    for asset in content.get("assets", {}).values():
        yield asset["href"]
