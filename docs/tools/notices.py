"""Write ``THIRD_PARTY_NOTICES.md`` and, on request, a software bill of materials.

    python docs/tools/notices.py                    # THIRD_PARTY_NOTICES.md
    python docs/tools/notices.py --check            # exit status 1 where it is not current
    python docs/tools/notices.py --sbom bom.json    # CycloneDX 1.5, of what is installed here

The notices name the libraries this package asks for itself, not what those bring along. The bill of
materials has every distribution of the environment that is needed by this package with the extras
it was installed with: run it in the environment or image that it is to describe.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from openeo_cloudmask.publish import publish_text

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "THIRD_PARTY_NOTICES.md"
PROJECT = "openeo-cloudmask"
_UNSHIPPED = ("all", "dev", "docs", "bench")

# Where the metadata names a licence in other words, or not at all: what the licence file says.
_KNOWN = {
    "odc-stac": "Apache-2.0",
    "omnicloudmask": "MIT",
    "openeo-pg-parser-networkx": "Apache-2.0",
    "planetary-computer": "MIT",
    "s2cloudless": "CC-BY-SA-4.0",
}
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0",
}

INTRODUCTION = """\
<!-- Written by docs/tools/notices.py; do not edit. -->

# Third-party notices

openeo-cloudmask is Apache-2.0. It holds no code of other projects but what the first table lists,
and asks pip for the libraries in the second; each comes with its own licence text.

## In this repository and its wheel

| what | where | licence |
|---|---|---|
| Leaflet | `viewer/vendor/leaflet/` | BSD-2-Clause, `viewer/vendor/leaflet/LICENSE` |
| OpenLayers, world-atlas | `viewer/vendor/map/` | BSD-2-Clause, MIT, ISC, its `LICENSE` |
| Coast lines of Natural Earth | `viewer/vendor/map/` | public domain |

Networks were written anew from the published descriptions, with the published names of weights, so
that published weights load. No weights of other projects are in the repository or the wheel; they
are fetched by whoever uses a model, under the licence that the [list of models](docs/models.md)
states. Answers of the published networks are in `tests/data/golden/` as numbers.

The weights of `mini` were made by this project. Among what they were trained on are real scenes,
which are not in the repository; small pictures of some are in `docs/images/`. What their labels
leave open was learned from masks that ukis-csmask (German Aerospace Center, Apache-2.0) gives:

| scenes | source | terms |
|---|---|---|
| Landsat 8, L8 Biome | US Geological Survey (Foga et al., 2017) | public domain |
| Sentinel-2, On Cloud N | Radiant MLHub and Microsoft; modified Copernicus data | CC-BY-4.0 |
| Sentinel-2, painted shadow | J. Layton; modified Copernicus data | MIT |
| two test scenes of ukis-csmask | German Aerospace Center; Copernicus, USGS data | Apache-2.0 |
| eight Sentinel-2 chips, no labels | modified Copernicus data | Copernicus terms |

## Libraries it depends on

Names and licences are as the installed distributions state them.

| library | licence | extra |
|---|---|---|
"""


def licence_of(found: Distribution) -> str:
    """Return what the distribution's metadata says of its licence, in a few words."""
    metadata = found.metadata
    if metadata["Name"].lower() in _KNOWN:
        return _KNOWN[metadata["Name"].lower()]
    if expression := metadata.get("License-Expression"):
        return str(expression)
    names = [
        value.rsplit(" :: ", 1)[-1]
        for value in metadata.get_all("Classifier") or ()
        if value.startswith("License :: ") and not value.endswith(":: OSI Approved")
    ]
    if names:
        return ", ".join(_CLASSIFIERS.get(name, name) for name in names)
    text = (metadata.get("License") or "").strip().splitlines()
    return text[0][:60] if text and len(text[0]) < 60 else "not stated in its metadata"


def _name(requirement: str) -> str:
    return re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0].lower()


def build_notices() -> str:
    """Return the page.

    Raises:
        PackageNotFoundError: a library is not installed; the extra ``all`` is needed.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    users: dict[str, list[str]] = {_name(item): ["(always)"] for item in project["dependencies"]}
    for extra, items in project["optional-dependencies"].items():
        if extra in _UNSHIPPED:
            continue
        for item in items:
            if extra not in users.setdefault(_name(item), []):
                users[_name(item)].append(extra)
    rows = []
    for name in sorted(users):
        title, licence = _describe(name)
        rows.append(f"| {title} | {licence} | {', '.join(users[name])} |")
    return INTRODUCTION + "\n".join(rows) + "\n"


def _describe(name: str) -> tuple[str, str]:
    """Return a library's own spelling and its licence."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        if name not in _KNOWN:
            raise
        return name, _KNOWN[name]  # of an extra that is not part of `all`
    return found.metadata["Name"], licence_of(found)


def collect(root: str) -> dict[str, Distribution]:
    """Return what is installed here and needed by ``root`` with its extras, by name."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, Distribution] = {}
    extras: dict[str, set[str]] = {}
    waiting = [
        (canonicalize_name(root), set(distribution(root).metadata.get_all("Provides-Extra") or ()))
    ]
    while waiting:
        name, wanted = waiting.pop()
        if name in found and wanted <= extras[name]:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # of an extra, or of another platform, that is not installed here
        extras[name] = extras.get(name, set()) | wanted
        for text in found[name].requires or ():
            needed = Requirement(text)
            contexts = [{"extra": extra} for extra in ("", *extras[name])]
            if needed.marker is None or any(map(needed.marker.evaluate, contexts)):
                waiting.append((canonicalize_name(needed.name), set(needed.extras)))
    return found


def build_sbom() -> dict[str, Any]:
    """Return the bill of materials of this environment as CycloneDX 1.5."""
    parts = collect(PROJECT)
    own = parts.pop(PROJECT)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": _component(own, "application")},
        "components": [_component(parts[name], "library") for name in sorted(parts)],
    }


def _component(found: Distribution, kind: str) -> dict[str, Any]:
    name, version = found.metadata["Name"], found.version
    return {
        "type": kind,
        "bom-ref": f"pkg:pypi/{name.lower()}@{version}",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name.lower()}@{version}",
        "licenses": [{"license": {"name": licence_of(found)}}],
    }


def main() -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--sbom", type=Path)
    options = parser.parse_args()
    if options.sbom is not None:
        publish_text(options.sbom, json.dumps(build_sbom(), indent=2) + "\n")
        return 0
    text = build_notices()
    if options.check:
        current = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text
        if not current:
            print(f"{PAGE.name} is not current; run python docs/tools/notices.py")
        return 0 if current else 1
    publish_text(PAGE, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
