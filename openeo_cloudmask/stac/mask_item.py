"""From a mask file to a STAC item that says what it shows and how it was made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac

from openeo_cloudmask.classes import NODATA, ClassScheme, kind_values, style_scheme
from openeo_cloudmask.errors import InputError, ProductError
from openeo_cloudmask.grid import WGS84, footprint
from openeo_cloudmask.models.entry import ModelEntry
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products.stack import raster_grid
from openeo_cloudmask.stac import fields
from openeo_cloudmask.stac.extension import SCHEMA_URI, CloudMaskExtension
from openeo_cloudmask.stac.model_item import NODATA_CLASS, class_objects
from openeo_cloudmask.version import __version__

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskFile:
    """Where a mask lies on the ground and on disk."""

    href: str
    shape_yx: tuple[int, int]
    transform: tuple[float, float, float, float, float, float]
    """Affine, row by row: x of a pixel is ``a * column + b * row + c``."""
    crs: str | None
    """E.g. ``EPSG:32631``; None where it has no authority's code."""
    bounds: tuple[float, float, float, float] | None
    """West, south, east, north, degrees (WGS 84); None where the file has no georeference."""
    resolution_m: float | None = None
    cloud_percent: float | None = None
    """Share of cloud among the pixels seen, 0-100; None where the mask is not of classes."""
    size_bytes: int | None = None
    sha256: str | None = None
    """Hexadecimal digest of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskOrigin:
    """What a mask was made of."""

    model_href: str | None = None
    """The model's item in a catalog."""
    input_hrefs: tuple[str, ...] = ()
    """STAC items, or else products, that it was made from."""
    process_graph: Mapping[str, Any] | None = field(default=None, hash=False)
    """The openEO process graph, where it was run by one."""
    created: datetime | None = None
    platform: str | None = None
    """Satellite that took the scene, e.g. ``sentinel-2a``; None where it is not known."""
    warnings: tuple[str, ...] = ()
    """Reasons to doubt the mask, as ``MaskReport.warnings`` has it."""


def build_mask_item(
    item_id: str,
    mask: MaskFile,
    entry: ModelEntry,
    options: MaskOptions,
    *,
    time: datetime | tuple[datetime, datetime],
    origin: MaskOrigin | None = None,
) -> pystac.Item:
    """Return the item of a mask.

    Args:
        item_id: its id.
        mask: the file.
        entry: the model that made it.
        options: what it was made with.
        time: when the scene was taken, or the first and the last time.
        origin: what it was made of; without any link the item names the model alone.

    Raises:
        InputError: a time has no time zone.
    """
    origin = origin or MaskOrigin()
    first, last = time if isinstance(time, tuple) else (time, time)
    if first.tzinfo is None or last.tzinfo is None:
        raise InputError(f"time is {time}, which has no time zone; expected e.g. UTC")
    item = pystac.Item(
        id=item_id,
        geometry=footprint(mask.bounds) if mask.bounds else None,
        bbox=list(mask.bounds) if mask.bounds else None,
        datetime=first if first == last else None,
        start_datetime=None if first == last else first,
        end_datetime=None if first == last else last,
        properties=_properties(mask, entry, options, origin),
        stac_extensions=_extensions(mask, options),
    )
    CloudMaskExtension.ext(item).apply_mask(
        model=entry.id,
        output_style=options.output_style.value,
        parameters=options.to_context(),
        warnings=origin.warnings,
    )
    _add_links(item, entry, origin)
    item.add_asset("mask", _mask_asset(mask, entry, options))
    return item


def _extensions(mask: MaskFile, options: MaskOptions) -> list[str]:
    """Return the extensions whose fields the item has: schemas refuse one without a field."""
    declared = [fields.PROCESSING_URI, fields.PROJECTION_URI, SCHEMA_URI]
    if options.categorise:
        declared += [fields.CLASSIFICATION_URI, fields.RENDER_URI]
    if mask.cloud_percent is not None:
        declared.append(fields.EO_URI)
    if mask.size_bytes is not None or mask.sha256 is not None:
        declared.append(fields.FILE_URI)
    return declared


def describe_mask(
    path: Path,
    options: MaskOptions,
    *,
    item_id: str,
    time: datetime | tuple[datetime, datetime],
    origin: MaskOrigin | None = None,
    href: str | None = None,
) -> pystac.Item:
    """Return the item of a mask file on disk.

    Args:
        path: a GeoTIFF that was made with ``options``.
        options: what it was made with; its model has to be in the registry.
        item_id: as for ``build_mask_item``, like ``time`` and ``origin``.
        time: when the scene was taken.
        origin: what it was made of.
        href: how the item is to refer to the file; None for its name.

    Raises:
        ProductError: the file is no raster, or says that it was made otherwise.
        UnknownModelError: the model is not in the registry.
        InputError: a time has no time zone.
    """
    from openeo_cloudmask.models.registry import get_model

    entry = get_model(options.model)
    scheme = style_scheme(options.output_style, entry.scheme)
    values = cloud_values(scheme) if options.categorise else ()
    mask = read_mask_file(path, href=href, cloud_values=values)
    _check_tags(path, entry.id, options)
    return build_mask_item(item_id, mask, entry, options, time=time, origin=origin)


def _check_tags(path: Path, model: str, options: MaskOptions) -> None:
    """Make sure that the file does not say of itself that something else made it."""
    from openeo_cloudmask.products.drivers import open_raster

    expected = {
        "MODEL": model,
        "OUTPUT_STYLE": options.output_style.value,
        "CATEGORISE": str(options.categorise).lower(),
    }
    with open_raster(path) as source:
        tags = source.tags()
    for name, value in expected.items():
        if name in tags and tags[name] != value:
            raise ProductError(
                f"{path} says that its {name.lower()} is {tags[name]}, but it is described as "
                f"{value}; expected the options it was made with"
            )


def read_mask_file(
    path: Path, *, href: str | None = None, cloud_values: Sequence[int] = ()
) -> MaskFile:
    """Return what a GeoTIFF says of itself.

    Args:
        path: the file.
        href: how the item is to refer to it; None for its name.
        cloud_values: values that mean cloud, to count its share; none to leave that out.

    Raises:
        ProductError: it is no raster.
    """
    from rasterio.errors import RasterioError

    from openeo_cloudmask.products.drivers import open_raster

    try:
        with open_raster(path) as source:
            placed = source.crs is not None
            bounds = raster_grid(source).bounds_in(WGS84) if placed else None
            code = source.crs.to_authority() if placed else None
            metres = placed and source.crs.is_projected
            return MaskFile(
                href=href or path.name,
                shape_yx=(source.height, source.width),
                transform=tuple(source.transform)[:6],
                crs=":".join(code) if code else None,
                bounds=bounds,
                resolution_m=float(source.res[0]) if metres else None,
                cloud_percent=_cloud_percent(source, cloud_values) if cloud_values else None,
                size_bytes=path.stat().st_size,
                sha256=_sha256(path),
            )
    except (RasterioError, OSError) as err:
        raise ProductError(f"cannot read the mask {path}: {err}") from err


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cloud_percent(source: Any, cloud_values: Sequence[int]) -> float | None:  # noqa: ANN401
    """Return the share of cloud, counted block by block; None where nothing was seen."""
    counts = np.zeros(256, np.int64)
    for _, window in source.block_windows(1):
        counts += np.bincount(source.read(1, window=window).ravel(), minlength=256)
    seen = int(counts[:NODATA].sum())
    return round(100 * int(counts[list(cloud_values)].sum()) / seen, 2) if seen else None


def cloud_values(scheme: ClassScheme) -> tuple[int, ...]:
    """Return the values of ``scheme`` that mean cloud, thick or thin."""
    cloud = kind_values(scheme, "cloud")
    return () if cloud == kind_values(scheme, "shadow") else cloud


def _properties(
    mask: MaskFile, entry: ModelEntry, options: MaskOptions, origin: MaskOrigin
) -> Json:
    style = options.output_style.value
    properties: Json = {
        "title": f"Cloud mask by {entry.title}",
        "processing:lineage": f"{entry.title} ({entry.id}), output style {style}, "
        f"stride {options.stride} pixels",
        "processing:software": {"openeo-cloudmask": __version__},
        "proj:shape": list(mask.shape_yx),
        "proj:transform": list(mask.transform),
    }
    if mask.crs is not None:
        properties["proj:code"] = mask.crs
    if mask.resolution_m is not None:
        properties["gsd"] = mask.resolution_m
    if mask.cloud_percent is not None:
        properties["eo:cloud_cover"] = mask.cloud_percent
    if origin.platform is not None:
        properties["platform"] = origin.platform
    if options.categorise:
        properties["renders"] = {"mask": _render(style_scheme(options.output_style, entry.scheme))}
    if origin.process_graph is not None:
        properties["processing:expression"] = {
            "format": "openeo",
            "expression": dict(origin.process_graph),
        }
    if origin.created is not None:
        created = origin.created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        properties["created"] = properties["processing:datetime"] = created
    return properties


def _render(scheme: ClassScheme) -> Json:
    """Return how a map shows the classes: each in its colour, no-data not at all."""
    colours = {str(item.value): [*bytes.fromhex(item.color), 255] for item in scheme.classes}
    return {
        "title": scheme.title,
        "assets": ["mask"],
        "colormap": colours,
        "nodata": NODATA,
        "resampling": "nearest",
    }


def _add_links(item: pystac.Item, entry: ModelEntry, origin: MaskOrigin) -> None:
    for href in origin.input_hrefs:
        item.add_link(pystac.Link("derived_from", href, title="Input"))
    item.add_link(
        pystac.Link(
            "derived_from",
            origin.model_href or entry.source_url,
            media_type="application/geo+json" if origin.model_href else "text/html",
            title=entry.title,
        )
    )


def _mask_asset(mask: MaskFile, entry: ModelEntry, options: MaskOptions) -> pystac.Asset:
    scheme = style_scheme(options.output_style, entry.scheme)
    extra = pixel_fields(scheme, categorise=options.categorise)
    if mask.size_bytes is not None:
        extra["file:size"] = mask.size_bytes
    if mask.sha256 is not None:
        extra["file:checksum"] = fields.multihash(mask.sha256)
    kind = "Mask" if options.categorise else "Percentages"
    title = f"{kind}: {scheme.title}"
    return pystac.Asset(
        href=mask.href, title=title, media_type=COG, roles=["data"], extra_fields=extra
    )


def pixel_fields(scheme: ClassScheme, *, categorise: bool) -> Json:
    """Return what an asset says of a mask's pixels: type, no-data, bands, and classes or unit."""
    told: Json = {"data_type": "uint8", "nodata": NODATA}
    if categorise:
        classes = [*class_objects(scheme), NODATA_CLASS]
        return told | {"bands": [{"name": "mask"}], "classification:classes": classes}
    bands = [{"name": item.name, "description": item.title} for item in scheme.classes]
    return told | {"unit": "%", "bands": bands}
