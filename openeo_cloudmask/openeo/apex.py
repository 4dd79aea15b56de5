"""The mask as a service of ESA's APEx algorithm catalogue: record, process and benchmark.

The files are those of a pull request to ESA-APEx/apex_algorithms: an OGC API Record of the service
and, where it is new there, of its provider; the user-defined process; and a benchmark scenario,
which the catalogue runs again and again and compares with reference data. Links to the process name
a commit, so that what runs tomorrow is what was checked today.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from openeo_cloudmask.errors import InputError, OptionError
from openeo_cloudmask.models.registry import get_model
from openeo_cloudmask.openeo.jobs import job_options
from openeo_cloudmask.openeo.udp import PROCESS_ID, build_udp
from openeo_cloudmask.options import DEFAULT_MODEL

BACKEND = "openeofed.dataspace.copernicus.eu"
SENSOR, COLLECTION, SCALE = "sentinel-2-l2a", "SENTINEL2_L2A", 0.0001
EXTENT = {"west": 5.05, "south": 51.20, "east": 5.10, "north": 51.23}
PERIOD = ("2023-06-01", "2023-06-11")
EXACT = {"rtol": 0, "atol": 0, "pixel_tolerance": 0}
"""The catalogue's own defaults let classes differ by 1, and 1 % of the pixels by anything."""
RESULTS_FILE = "job-results.json"
_PLATFORM = "../../../../platform_catalog/cdse_openeo_federation.json"
_RECORD_CORE = "https://www.opengis.net/spec/ogcapi-records-1/1.0/req/record-core"
_ENGLISH = {"code": "en-US", "name": "English (United States)"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Who offers the service, for a provider that the catalogue does not know yet."""

    id: str
    """Folder below ``algorithm_catalog``."""
    admin: str
    """Address, or ``@domain``, of who may see the benchmarks."""
    logo: str
    """http(s) address of an image."""

    def __post_init__(self) -> None:
        _check_id(self.id)
        _check_url("the logo", self.logo)
        if not re.fullmatch(r"[^@\s]*@[^@\s]+", self.admin):
            raise OptionError(
                f"the administrator is {self.admin!r}; expected an e-mail address, or @domain"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ApexService:
    """Where the process is published, and how its benchmark runs."""

    repository: str
    """OWNER/NAME on GitHub; ``udf/cloud_mask.json`` lies there."""
    commit: str
    """All 40 digits of the commit."""
    model: str = DEFAULT_MODEL
    archive: str | None = None
    """Address of what ``cloudmask bundle`` wrote; None where the back end has the package."""
    reference: tuple[Path, str] | None = None
    """Folder with the files of a job's results, and the address they will be found below."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repository):
            raise OptionError(f"the repository is {self.repository!r}; expected OWNER/NAME")
        if not re.fullmatch(r"[0-9a-f]{40}", self.commit):
            raise OptionError(
                f"the commit is {self.commit!r}; expected its 40 digits, as git rev-parse HEAD "
                "prints them: a branch or a tag may move"
            )
        if SENSOR not in (entry := get_model(self.model)).inputs:
            raise OptionError(
                f"model {entry.id!r} does not take {SENSOR}, which the benchmark scenario loads"
            )

    @property
    def process_url(self) -> str:
        """Where the process of this commit is read."""
        name = f"udf/{PROCESS_ID}.json"
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{name}"


def plan_apex(service: ApexService, provider: str, known: Provider | None = None) -> dict[str, str]:
    """Return path -> text of the files for a checkout of the catalogue.

    Args:
        service: what is published.
        provider: its folder below ``algorithm_catalog``.
        known: writes the provider's record, too.

    Raises:
        OptionError: an identifier or address is not one.
        InputError: the reference data are no results of a job.
    """
    folder = f"algorithm_catalog/{_check_id(provider)}"
    home = f"{folder}/{PROCESS_ID}"
    planned: dict[str, Any] = {
        f"{home}/records/{PROCESS_ID}.json": build_record(service),
        f"{home}/openeo_udp/{PROCESS_ID}.json": build_udp(),
        f"{home}/benchmark_scenarios/{PROCESS_ID}.json": [build_scenario(service)],
    }
    if known is not None:
        planned[f"{folder}/record.json"] = build_provider(known)
    return {path: json.dumps(value, indent=2) + "\n" for path, value in planned.items()}


def build_record(service: ApexService) -> dict[str, Any]:
    """Return the OGC API Record of the service."""
    udp = build_udp()
    home = f"https://github.com/{service.repository}"
    server = f"https://{BACKEND}"
    wizard = (
        f"https://editor.openeo.org/?wizard=UDP&wizard~process={PROCESS_ID}"
        f"&wizard~processUrl={service.process_url}&server={server}"
    )
    properties = _properties("service", udp["summary"], udp["description"]) | {
        "keywords": ["Sentinel-2", "Landsat-8", "Data Analysis and Visualization"],
        "formats": [{"name": "GeoTIFF"}, {"name": "netCDF"}],
        "license": "Apache-2.0",
    }
    properties["themes"] = [
        {
            "concepts": [{"id": "CLOUDS"}],
            "scheme": "https://gcmd.earthdata.nasa.gov/kms/concepts/concept_scheme/sciencekeywords",
        }
    ]
    links = [
        ("application", "application/vnd.openeo+json;type=process", "openEO process",
         service.process_url),
        ("service", "application/json", "CDSE openEO federation", server),
        ("platform", "application/json", "CDSE openEO federation", _PLATFORM),
        ("provider", "application/json", "Provider", "../../record.json"),
        ("code", "text/html", "Source", home),
        ("about", "text/html", "Documentation", f"{home}/tree/{service.commit}/docs"),
        ("license", "text/plain", "Apache License 2.0", f"{home}/blob/{service.commit}/LICENSE"),
        ("webapp", "text/html", "openEO Web Editor", wizard),
    ]  # fmt: skip
    return _feature(PROCESS_ID, properties, links) | {
        "conformsTo": [_RECORD_CORE, "https://apex.esa.int/core/openeo-udp"],
        "geometry": None,
    }


def build_provider(provider: Provider) -> dict[str, Any]:
    """Return the OGC API Record of the provider."""
    title = "The openeo-cloudmask developers"
    properties = _properties("algorithm_provider", title, "Cloud and cloud-shadow masks.")
    properties |= {"license": "other", "acl": {"admin": [provider.admin]}}
    logos = [(rel, "image/*", "Logo", provider.logo) for rel in ("logo-light", "logo-dark")]
    return _feature(provider.id, properties, logos) | {"conformsTo": [_RECORD_CORE]}


def build_scenario(service: ApexService) -> dict[str, Any]:
    """Return the benchmark: a graph of a small area, and results that have to come out again.

    Raises:
        InputError: the reference data are no results of a job.
    """
    entry = get_model(service.model)
    bands = entry.inputs[SENSOR]
    scenario: dict[str, Any] = {
        "id": PROCESS_ID,
        "type": "openeo",
        "description": f"Mask of a few square kilometres of Sentinel-2 by {entry.id}",
        "backend": BACKEND,
        "process_graph": {
            "loadcollection1": {
                "process_id": "load_collection",
                "arguments": {
                    "id": COLLECTION,
                    "spatial_extent": EXTENT,
                    "temporal_extent": list(PERIOD),
                    "bands": list(bands),
                },
            },
            "cloudmask1": {
                "process_id": PROCESS_ID,
                "namespace": service.process_url,
                "arguments": {
                    "data": {"from_node": "loadcollection1"},
                    "model": entry.id,
                    "sensor": SENSOR,
                    "scale": SCALE,
                    "precision": "fp32",
                },
            },
            "saveresult1": {
                "process_id": "save_result",
                "arguments": {"data": {"from_node": "cloudmask1"}, "format": "GTiff"},
                "result": True,
            },
        },
        "job_options": job_options(service.archive, model=entry.id, bands=len(bands)),
    }
    if service.reference is not None:
        files, base = service.reference
        base = _check_url("the address of the reference data", base).rstrip("/")
        names = find_results(files)
        scenario["reference_data"] = {name: f"{base}/{name}" for name in names}
        scenario["reference_options"] = EXACT
    return scenario


def find_results(folder: Path) -> list[str]:
    """Return the names of a job's result files, which the catalogue compares with.

    Raises:
        InputError: the list of results is missing, or names no GeoTIFF beside it.
    """
    path = folder / RESULTS_FILE
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["assets"]
        names = [str(name) for name in listed]
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise InputError(
            f"{path} is no list of a job's results; expected what job.get_results()."
            "download_files() of the openeo client wrote"
        ) from err
    masks = [name for name in names if name.endswith(".tif")]
    missing = [name for name in names if not (folder / name).is_file()]
    if not masks or missing:
        what = f"without {', '.join(missing)}" if missing else "without a GeoTIFF"
        raise InputError(f"the results in {folder} are {what}; download all files of the job")
    return [RESULTS_FILE, *names]


def _properties(kind: str, title: str, description: str) -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    contact = {"name": "The openeo-cloudmask developers", "roles": ["developer"]}
    return {
        "created": now,
        "updated": now,
        "type": kind,
        "title": title,
        "description": description,
        "language": _ENGLISH,
        "languages": [_ENGLISH],
        "contacts": [contact],
        "themes": [],
    }


def _feature(
    name: str, properties: Mapping[str, Any], links: list[tuple[str, str, str, str]]
) -> dict[str, Any]:
    keys = ("rel", "type", "title", "href")
    return {
        "id": name,
        "type": "Feature",
        "conformsTo": [],
        "properties": properties,
        "linkTemplates": [],
        "links": [dict(zip(keys, link, strict=True)) for link in links],
    }


def _check_id(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise OptionError(f"the provider is {name!r}; expected letters, digits, _ and -")
    return name


def _check_url(what: str, url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise OptionError(f"{what} is {url!r}; expected an http(s) address")
    return url
