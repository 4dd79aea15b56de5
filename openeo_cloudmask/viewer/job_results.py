"""What a job made: masks, and what lies beside them so that they can be judged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from openeo_cloudmask.errors import BackendError
from openeo_cloudmask.publish import publish_file
from openeo_cloudmask.viewer.backends import as_backend_error
from openeo_cloudmask.viewer.uploads import check_raster

if TYPE_CHECKING:
    import openeo
    from openeo.rest.job import ResultAsset

RASTERS = (".tif", ".tiff")
MAX_ITEM_BYTES = 16 * 2**20
"""Of a STAC item, which is parsed whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMask:
    """A mask of a job's results; its files are fetched when they are asked for."""

    name: str
    """Of its file, without the suffix."""
    folder: Path
    assets: Mapping[str, ResultAsset] = field(hash=False)
    """``mask``, and where the back end offers them ``percentages`` and ``image``."""
    day: str | None = None
    """``2024-05-01``"""
    cloud_percent: float | None = None
    """Share of cloud among the pixels seen, 0-100, as the mask's item says."""
    item: Mapping[str, Any] | None = field(default=None, hash=False)
    """The mask's STAC item, where it has one."""

    def fetch(self, kind: str) -> Path | None:
        """Return the file of ``mask``, ``percentages`` or ``image``, downloaded once.

        Raises:
            BackendError: it cannot be downloaded.
            InputError: it is no raster, or a larger one than the viewer takes.
        """
        asset = self.assets.get(kind)
        if asset is None:
            return None
        return _download(asset, self.folder)


def job_folder(root: Path, job_id: str) -> Path:
    """Return the folder below ``root`` for a job's files.

    The back end chose the id, which may be the path of another folder: it is no part of the name.
    """
    return root / f"job-{hashlib.sha256(job_id.encode()).hexdigest()[:32]}"


def list_masks(connection: openeo.Connection, job_id: str, folder: Path) -> list[JobMask]:
    """Return the masks of a finished job, the earliest first.

    Where masks have STAC items, those say what belongs to which; else every GeoTIFF is a mask.

    Args:
        connection: logged in to the back end.
        job_id: the job.
        folder: where files go.

    Raises:
        BackendError: the results cannot be read, or an item is too large to be one.
    """
    job = connection.job(job_id)
    with as_backend_error("reading the results"):
        results = job.get_results()
        assets = {_file_name(asset): asset for asset in results.get_assets()}
        items = _items(job, results.get_metadata(), assets)
    rasters = [name for name in assets if name.lower().endswith(RASTERS)]
    found: list[JobMask] = []
    described: set[str] = set()
    for asset in items:
        item = json.loads(_download(asset, folder).read_text(encoding="utf-8"))
        files = _files(item)
        if "mask" in files and set(files.values()) <= set(rasters):
            described |= set(files.values())
            chosen = {kind: assets[file] for kind, file in files.items()}
            found.append(_describe(Path(files["mask"]).stem, folder, chosen, item))
    found += [
        JobMask(name=Path(name).stem, folder=folder, assets={"mask": assets[name]})
        for name in rasters
        if name not in described
    ]
    return sorted(found, key=lambda mask: (mask.day or "", mask.name))


def _items(
    job: openeo.BatchJob, document: Mapping[str, Any], assets: Mapping[str, ResultAsset]
) -> list[ResultAsset]:
    """Return the STAC items of results: assets whose role is metadata, and links to items."""
    from openeo.rest.job import ResultAsset

    found = {
        name: asset
        for name, asset in assets.items()
        if name.endswith(".json") and "metadata" in asset.metadata.get("roles", ())
    }
    for link in document.get("links", ()):
        href = str(link.get("href"))
        name = Path(unquote(urlsplit(href).path)).name
        if link.get("rel") == "item" and name.endswith(".json"):
            found.setdefault(name, ResultAsset(job, name, href, {}))
    return list(found.values())


def _files(item: Mapping[str, Any]) -> dict[str, str]:
    """Return kind -> name of the file of an item's assets."""
    return {
        kind: Path(unquote(urlsplit(asset["href"]).path)).name
        for kind, asset in item.get("assets", {}).items()
        if kind in ("mask", "percentages", "image")
    }


def _describe(
    name: str, folder: Path, assets: Mapping[str, ResultAsset], item: Mapping[str, Any]
) -> JobMask:
    about = item.get("properties", {})
    when = about.get("datetime") or about.get("start_datetime") or ""
    return JobMask(
        name=name, folder=folder, assets=assets, day=when[:10] or None,
        cloud_percent=about.get("eo:cloud_cover"), item=item,
    )  # fmt: skip


def _file_name(asset: ResultAsset) -> str:
    """Return the last part of the name that the back end gives; older clients have no ``key``."""
    return Path(str(getattr(asset, "key", None) or asset.name)).name


def _download(asset: ResultAsset, folder: Path) -> Path:
    """Return the file of an asset; of the name that the back end gives only the last part.

    It is checked as what users upload: whoever names the back end may have made the file.
    """
    path = folder / _file_name(asset)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with publish_file(path) as part:
            with as_backend_error(f"downloading {path.name}"):
                asset.download(part)
            if path.suffix.lower() in RASTERS:
                check_raster(part, path.name)
            elif part.stat().st_size > MAX_ITEM_BYTES:
                raise BackendError(
                    f"{path.name} has {part.stat().st_size / 2**20:.0f} MB; expected a STAC item "
                    f"of at most {MAX_ITEM_BYTES // 2**20} MB"
                )
    return path


def image_bands(about: Mapping[str, Any], wanted: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the bands of a collection that an image may have, and those to begin with.

    Args:
        about: the STAC collection.
        wanted: common names of bands.
    """
    bands = about.get("summaries", {}).get("bands") or about.get("summaries", {}).get("eo:bands")
    if not bands:
        dimensions = about.get("cube:dimensions", {}).values()
        names: list[Any] = next(
            (d.get("values", []) for d in dimensions if d.get("type") == "bands"), []
        )
        return [str(name) for name in names], []
    common = {band["name"]: band.get("eo:common_name") or band.get("common_name") for band in bands}
    first = {name: next((key for key in common if common[key] == name), None) for name in wanted}
    return list(common), [name for name in first.values() if name is not None]
