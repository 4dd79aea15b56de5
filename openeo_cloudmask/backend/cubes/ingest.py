"""From files on disk to STAC items of a local collection."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.backend.cubes.collections import CollectionStore
from openeo_cloudmask.errors import BandError, ProductError
from openeo_cloudmask.grid import footprint
from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.products.open import open_product
from openeo_cloudmask.products.scene import Scene
from openeo_cloudmask.sensors import Sensor
from openeo_cloudmask.stac import fields

if TYPE_CHECKING:
    from rasterio.crs import CRS


def ingest_product(  # noqa: PLR0913 - options of a command line
    path: str | Path,
    collections: CollectionStore,
    *,
    collection_id: str | None = None,
    sensor: str | None = None,
    bands: tuple[str, ...] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    date: str | None = None,
    acquired: datetime | None = None,
    cloud_cover: float | None = None,
    title: str | None = None,
    licence: str = "other",
) -> tuple[str, str]:
    """Register a product and return the ids of its collection and its item.

    The files stay where they are; the item notes their absolute path.

    Args:
        path: what ``open_product`` takes.
        collections: where the collection lives.
        collection_id: None takes the sensor's id, in capitals with underscores.
        sensor: see ``open_product``, as are bands, scale, offset and date.
        bands: names of a raster's bands.
        scale: reflectance a count.
        offset: reflectance of count 0.
        date: which date of a file that has several.
        acquired: when it was taken, where the file does not say it.
        cloud_cover: percent of clouds, where the file does not say it; collections are filtered
            by it (``eo:cloud_cover``).
        title: title of the collection.
        licence: licence of the data, an SPDX identifier.

    Raises:
        ProductError: the path is nothing that can be read.
    """
    where = Path(path).resolve()
    with open_product(
        where, sensor=sensor, bands=bands, scale=scale, offset=offset, date=date
    ) as scene:
        known = scene.sensor
        _check_image(scene, where, named=bands is not None)
        name = collection_id or (_collection_name(known) if known else "RASTERS")
        item = describe_item(
            scene, where, name, acquired=acquired, cloud_cover=cloud_cover,
            opened={"sensor": sensor, "bands": list(bands) if bands else None, "scale": scale,
                    "offset": offset, "date": date},
        )  # fmt: skip
    collections.put_item(name, item)
    collections.rebuild(name, title=title or (known.title if known else None), licence=licence)
    return name, str(item["id"])


def _check_image(scene: Scene, path: Path, *, named: bool) -> None:
    """Make sure that a scene holds bands of its sensor, and not classes.

    Args:
        scene: the open scene.
        path: its file.
        named: whether the user named its bands.

    Raises:
        BandError: it does not.
    """
    sensor = scene.sensor
    if sensor is None and not named and len(scene.band_labels) == 1 and _is_bytes(path):
        raise BandError(
            f"{path.name} is one band of uint8 called {scene.band_labels[0]}, as masks and "
            "references are: expected a scene. If it is an image, say so with --sensor and --bands"
        )
    if sensor is None or any(sensor.find_band(label) for label in scene.band_labels):
        return
    raise BandError(
        f"{path.name} has the bands {', '.join(scene.band_labels)}, none of which {sensor.id} has "
        f"({', '.join(sensor.band_names)}). If it is an image, name its bands with --bands; a mask "
        "or a reference is no scene"
    )


def _is_bytes(path: Path) -> bool:
    """Return whether a file is a raster of uint8."""
    try:
        with open_raster(path) as source:
            return set(source.dtypes) == {"uint8"}
    except ProductError:
        return False


def describe_item(
    scene: Scene,
    path: Path,
    collection_id: str,
    *,
    acquired: datetime | None,
    cloud_cover: float | None = None,
    opened: dict[str, Any],
) -> dict[str, Any]:
    """Return a scene as a STAC item with the metadata that ``load_collection`` needs."""
    import pystac

    when = scene.acquired or acquired or datetime.fromtimestamp(path.stat().st_mtime, UTC)
    bbox = scene.grid.bounds_wgs84
    item = pystac.Item(
        id=_item_id(scene, path),
        geometry=None if bbox is None else footprint(bbox),
        bbox=None if bbox is None else list(bbox),
        datetime=when.astimezone(UTC).replace(tzinfo=None) if when.tzinfo else when,
        properties=_properties(scene, cloud_cover),
        stac_extensions=[fields.PROJECTION_URI],
        collection=collection_id,
    )
    if "eo:cloud_cover" in item.properties:  # the schema refuses items that have no field of it
        item.stac_extensions.append(fields.EO_URI)
    given = {key: value for key, value in opened.items() if value is not None}
    item.add_asset(
        "product",
        pystac.Asset(href=str(path), roles=["data"], extra_fields={"cloudmask:open": given}),
    )
    return item.to_dict(include_self_link=False, transform_hrefs=False)


def _properties(scene: Scene, cloud_cover: float | None) -> dict[str, Any]:
    grid, sensor = scene.grid, scene.sensor
    known = [(label, sensor.find_band(label) if sensor else None) for label in scene.band_labels]
    bands: list[dict[str, Any]] = []
    for label, band in known:
        entry: dict[str, Any] = {"name": label}
        if band is not None:
            if band.common_name and band.common_name in _COMMON_NAMES:
                entry["eo:common_name"] = band.common_name
            if band.centre_nm is not None and band.min_nm is not None and band.max_nm is not None:
                entry["eo:center_wavelength"] = round(band.centre_nm / 1000, 6)
                entry["eo:full_width_half_max"] = round((band.max_nm - band.min_nm) / 1000, 6)
        bands.append(entry)
    properties: dict[str, Any] = {
        "cloudmask:bands": bands,
        "proj:shape": list(grid.shape_yx),
        "proj:code": _authority_code(grid.crs),
    }
    if grid.crs is not None:
        properties["proj:wkt2"] = grid.crs.to_wkt()
    if grid.transform is not None:
        properties["proj:transform"] = [float(value) for value in tuple(grid.transform)[:6]]
        properties["proj:bbox"] = list(grid.bounds)
    if sensor is not None:
        properties |= {
            "cloudmask:sensor": sensor.id,
            "instruments": [sensor.instrument],
            "gsd": sensor.resolution_m,
        }
    cloud = cloud_cover if cloud_cover is not None else scene.metadata.get("cloud_cover")
    if isinstance(cloud, int | float):
        properties["eo:cloud_cover"] = float(cloud)
    platform = scene.metadata.get("platform")
    if isinstance(platform, str):
        properties["platform"] = platform.lower()
    return properties


def _authority_code(crs: CRS | None) -> str | None:
    """Return e.g. ``EPSG:32631``; None where the reference system has no authority's code."""
    code = crs.to_authority() if crs is not None else None
    return ":".join(code) if code else None


_COMMON_NAMES = frozenset(
    {
        "coastal",
        "blue",
        "green",
        "red",
        "rededge",
        "yellow",
        "pan",
        "nir",
        "nir08",
        "nir09",
        "cirrus",
        "swir16",
        "swir22",
        "lwir",
        "lwir11",
        "lwir12",
    }
)


def _item_id(scene: Scene, path: Path) -> str:
    name = str(scene.metadata.get("id") or path.stem)
    return re.sub(r"[^\w\-.]", "_", name)


def _collection_name(sensor: Sensor) -> str:
    return sensor.id.upper().replace("-", "_")
