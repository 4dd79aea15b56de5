"""JSON schemas of STAC objects, found without a network, and errors that name the field."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pystac
from jsonschema import Draft7Validator, ValidationError
from pystac.errors import STACValidationError
from pystac.validation.local_validator import get_local_schema_cache
from pystac.validation.stac_validator import STACValidator
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable

from openeo_cloudmask import assets
from openeo_cloudmask.errors import CatalogError
from openeo_cloudmask.stac.extension import SCHEMA_URI

_STAC_EXTENSIONS = "https://stac-extensions.github.io"
_CORE = "https://schemas.stacspec.org/v1.1.0"
Schemas = dict[str, dict[str, Any]]


class SchemaValidator(STACValidator):
    """Checks STAC objects against schemas on disk; hand it to ``pystac.validation.set_validator``.

    Args:
        folder: schemas of other extensions, one per file, each with its ``$id``; None where only
            the core and this project's extension can be checked offline.
        fetch: whether other schemas may be downloaded. Without, an object that declares an
            extension whose schema is not there cannot be validated, which is an error.
        skip_unknown: pass over extensions whose schema is not there.
    """

    def __init__(
        self, folder: Path | None = None, *, fetch: bool = False, skip_unknown: bool = False
    ) -> None:
        self._schemas = read_schemas(folder)
        self._fetch = fetch
        self._skip_unknown = skip_unknown
        self._compiled: dict[str, Draft7Validator] = {}
        known = [(uri, Resource.from_contents(schema)) for uri, schema in self._schemas.items()]
        empty: Registry[Any] = Registry(retrieve=self._retrieve)  # type: ignore[call-arg]
        self._registry = empty.with_resources(known).crawl()

    def require(self, uris: Iterable[str]) -> None:
        """Make sure that schemas are there, or can be fetched.

        Raises:
            CatalogError: some are not; the message names all of them.
        """
        missing = sorted(set(uris) - set(self._schemas))
        reason = "and may not be downloaded (--no-fetch)"
        if self._fetch:
            for uri in list(missing):
                try:
                    self._schema(uri)
                except CatalogError as err:
                    reason = f"and cannot be fetched ({err.__cause__})"
                    break  # what one address does not give, the others do not either
                missing.remove(uri)
        if missing:
            raise CatalogError(
                f"{len(missing)} schemas of extensions are not on this machine {reason}: "
                f"{', '.join(missing)}. Save each as a .json file in one folder and give it: "
                "--schemas FOLDER"
            )

    def validate_core(
        self,
        stac_dict: dict[str, Any],
        stac_object_type: pystac.STACObjectType,
        stac_version: str,
        href: str | None = None,
    ) -> str:
        """Check the object against the STAC specification; returns the schema's URI."""
        kind = (
            "item"
            if stac_object_type == pystac.STACObjectType.ITEM
            else (stac_object_type.value.lower())
        )
        uri = f"https://schemas.stacspec.org/v{stac_version}/{kind}-spec/json-schema/{kind}.json"
        return self._check(stac_dict, uri, href)

    def validate_extension(
        self,
        stac_dict: dict[str, Any],
        stac_object_type: pystac.STACObjectType,  # noqa: ARG002 - pystac's signature
        stac_version: str,  # noqa: ARG002
        extension_id: str,
        href: str | None = None,
    ) -> str | None:
        """Check the object against an extension's schema; returns the schema's URI."""
        if self._skip_unknown and extension_id not in self._schemas:
            return None
        return self._check(stac_dict, extension_id, href)

    def _check(self, stac_dict: dict[str, Any], uri: str, href: str | None) -> str:
        try:
            errors = list(self._validator(uri).iter_errors(stac_dict))
        except Unresolvable as err:
            raise CatalogError(f"schema {uri} refers to {err.ref}, which is not there") from err
        if errors:
            place = href or stac_dict.get("id")
            message = f"{place}: {describe_errors(errors)} (schema {uri})"
            raise STACValidationError(message, source=errors)
        return uri

    def _validator(self, uri: str) -> Draft7Validator:
        if uri not in self._compiled:
            schema = self._schema(uri)
            self._compiled[uri] = Draft7Validator(schema, registry=self._registry)
        return self._compiled[uri]

    def _retrieve(self, uri: str) -> Resource[Any]:
        return Resource.from_contents(self._schema(uri.rstrip("#")))

    def _schema(self, uri: str) -> dict[str, Any]:
        if uri not in self._schemas and self._fetch:
            try:
                self._schemas[uri] = json.loads(pystac.StacIO.default().read_text(uri))
            except Exception as err:
                raise CatalogError(f"cannot fetch the schema {uri}: {err}") from err
        try:
            return self._schemas[uri]
        except KeyError:
            raise CatalogError(
                f"the schema {uri} is not on this machine; give a folder with it "
                "(`--schemas FOLDER`) or allow to download it (`--fetch`)"
            ) from None


def read_schemas(folder: Path | None) -> Schemas:
    """Return URI -> schema: the core, this project's extension and all of ``folder``.

    Raises:
        CatalogError: a file of the folder is no JSON schema.
    """
    schemas = dict(get_local_schema_cache())
    schemas[SCHEMA_URI] = own_schema()
    for path in sorted(folder.glob("*.json")) if folder else ():
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            schemas[content["$id"].rstrip("#")] = content
        except (OSError, ValueError, KeyError, TypeError) as err:
            raise CatalogError(f"{path} is no JSON schema with an $id: {err!r}") from err
    for uri, schema in _stand_ins(schemas).items():
        schemas.setdefault(uri, schema)
    return schemas


@functools.cache
def own_schema() -> dict[str, Any]:
    """Return the JSON schema of the ``cloudmask`` extension."""
    path = assets.path("stac_extension/json-schema/schema.json")
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


def _stand_ins(schemas: Schemas) -> Schemas:
    """Return the parts that MLM 1.5.2 refers to in versions of two extensions before STAC 1.1.

    ``data_type`` moved from the raster extension to the core; ``processing:expression`` is the
    same in the processing extension's next version.
    """
    expression = f"{_STAC_EXTENSIONS}/processing/v1.2.0/schema.json"
    found: Schemas = {
        f"{_STAC_EXTENSIONS}/raster/v1.1.0/schema.json": _definition(
            ("bands", "items", "properties", "data_type"),
            {"$ref": f"{_CORE}/item-spec/json-schema/data-values.json#/properties/data_type"},
        )
    }
    if expression in schemas:
        part = "fields/properties/processing:expression"
        found[f"{_STAC_EXTENSIONS}/processing/v1.1.0/schema.json"] = _definition(
            tuple(part.split("/")), {"$ref": f"{expression}#/definitions/{part}"}
        )
    return found


def _definition(path: tuple[str, ...], schema: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = dict(schema)
    for key in reversed(path):
        nested = {key: nested}
    return {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": nested}


def describe_errors(errors: list[ValidationError]) -> str:
    """Return what is wrong and in which field: the deepest of all errors, alternatives included."""
    leaves = [leaf for error in errors for leaf in _leaves(error)]
    # Alternatives that do not apply at all ("this is no Collection") fail near the top.
    deepest = max(leaves, key=lambda leaf: len(leaf.absolute_path))
    message = deepest.message if len(deepest.message) < 300 else deepest.message[:300] + " ..."
    return f"{field_path(deepest.absolute_path)}: {message}"


def field_path(parts: Any) -> str:  # noqa: ANN401 - jsonschema gives a deque of str and int
    """Return ``properties.mlm:input[0].bands`` for ("properties", "mlm:input", 0, "bands")."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.lstrip(".") or "the object"


def _leaves(error: ValidationError) -> Iterator[ValidationError]:
    if not error.context:
        yield error
    for inner in error.context or ():
        yield from _leaves(inner)
