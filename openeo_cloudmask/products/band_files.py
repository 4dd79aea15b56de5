"""Folders of single bands, as providers name them: a table, and the scene that it makes.

Names, scales and no-data are those of the providers' own guides: USGS (Landsat Collection 2
Level-2), LP DAAC (HLS version 2), Geoscience Australia (DEA Collection 3), Element 84 (Earth
Search), CESBIO (MAJA), the Registry of Open Data on AWS (Sentinel-2).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from openeo_cloudmask.errors import BandError, ProductError
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.products.acquired import read_acquired
from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.products.files import ProductFiles
from openeo_cloudmask.products.safe import map_axes
from openeo_cloudmask.products.scene import Scene
from openeo_cloudmask.products.stack import Plane, RasterStack, raster_grid
from openeo_cloudmask.sensors import SENSORS, BandDecoder, Sensor, band_decoder, get_sensor

_SUFFIXES = (".tif", ".tiff", ".jp2")


@dataclass(frozen=True, slots=True, kw_only=True)
class BandNames:
    """One provider's way to name the files of bands."""

    title: str
    pattern: str
    """Of a file's name without suffix: the group ``band``, and ``scene`` where files share one."""
    label: str = "{}"
    """From the group ``band`` to the sensor's label."""
    sensor: str | None = None
    """None where the names do not tell."""
    scale: float | None = None
    """Reflectance per count; None where the file says it, or it has to be given."""
    offset: float | None = None
    nodata: float | None = None
    """Stored number that means no-data, for files that do not declare it."""


def _l2(title: str, craft: str, sensor: str) -> BandNames:
    return BandNames(
        title=f"{title} Collection 2 Level-2", sensor=sensor,
        scale=0.0000275, offset=-0.2, nodata=0,
        pattern=rf"(?P<scene>{craft}_L2S[PR]_.+)_SR_(?P<band>B\d)",
    )  # fmt: skip


def _hls(title: str, kind: str, sensor: str) -> BandNames:
    return BandNames(
        title=f"HLS {kind} ({title})", sensor=sensor, scale=0.0001, offset=0, nodata=-9999,
        pattern=rf"(?P<scene>HLS\.{kind}\.T\w{{5}}\.\d{{7}}T\d{{6}}\.v[\d.]+)\.(?P<band>B\w\w)",
    )  # fmt: skip


def _dea(title: str, craft: str, sensor: str) -> BandNames:
    return BandNames(
        title=f"DEA NBART ({title})", sensor=sensor, scale=0.0001, offset=0, nodata=-999,
        pattern=rf"(?P<scene>ga_{craft}_nbart_.+)_(?:final|interim)_band(?P<band>\w+)", label="B{}",
    )  # fmt: skip


def _maja() -> BandNames:
    return BandNames(
        title="MAJA (CNES, Theia)", sensor="sentinel-2-l2a", scale=0.0001, offset=0, nodata=-10000,
        pattern=r"(?P<scene>SENTINEL2[A-D]_\d{8}-\d{6}-\d{3}_L2A_T\w{5}_.+)_FRE_(?P<band>B\w+)",
    )  # fmt: skip


def _browser(level: str) -> BandNames:
    return BandNames(
        title=f"Copernicus Browser ({level})", sensor=f"sentinel-2-{level.lower()}",
        pattern=rf"(?P<scene>.+_Sentinel-2_{level})_(?P<band>B\w\w)_\(Raw\)",
    )  # fmt: skip


TABLE = (
    _hls("Sentinel-2", "S30", "sentinel-2-l2a"),
    _hls("Landsat 8 and 9", "L30", "landsat-8-9-l2"),
    _l2("Landsat 8 and 9", r"L[CO]0[89]", "landsat-8-9-l2"),
    _l2("Landsat 7", "LE07", "landsat-7-l2"),
    _l2("Landsat 4 and 5", r"LT0[45]", "landsat-4-5-l2"),
    _dea("Landsat 8 and 9", r"ls[89]c", "landsat-8-9-l2"),
    _dea("Landsat 7", "ls7e", "landsat-7-l2"),
    _dea("Landsat 5", "ls5t", "landsat-4-5-l2"),
    _dea("Sentinel-2", r"s2[abc]m", "sentinel-2-l2a"),
    _maja(),
    _browser("L1C"),
    _browser("L2A"),
    BandNames(
        title="files named by their band",
        pattern=r"(?:(?P<scene>.*)[_.\-])?(?P<band>[A-Za-z]+\d{0,3}[Aa]?)(?:_[126]0m)?",
    ),
)
"""From the most to the least telling; the first whose names are bands is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BandFiles:
    """The files of one scene, a band each."""

    names: BandNames
    scene: str
    """What the names have in common; empty where they are bands alone."""
    files: dict[str, str]
    """Label -> name of the file, relative to the folder."""


def find_band_files(files: ProductFiles) -> BandFiles | None:
    """Return the bands among ``files``, or None where no file is named like a band.

    Raises:
        ProductError: there are several scenes, or two files of one band.
    """
    rasters = [name for name in files.names if name.lower().endswith(_SUFFIXES)]
    for names in TABLE:
        found = [hit for name in rasters if (hit := _match(names, name)) is not None]
        scenes = sorted({scene for scene, _, _ in found})
        if len(scenes) > 1:
            raise ProductError(
                f"{files.where} holds bands of {len(scenes)} scenes, {', '.join(scenes[:5])}"
                f"{' ...' if len(scenes) > 5 else ''}; expected those of one. Give each a folder"
            )
        bands: dict[str, str] = {}
        for _, label, name in found:
            # Sentinel-2 tiles come at 10, 20 and 60 m side by side: the finest is kept.
            bands[label] = min(name, bands.get(label, name), key=_pixel_m)
        if bands:
            order = SENSORS[names.sensor].band_names if names.sensor else ()
            files_of = dict(sorted(bands.items(), key=lambda item: _place(item[0], order)))
            return BandFiles(names=names, scene=scenes[0], files=files_of)
    return None


def band_of_file(file: str) -> str | None:
    """Return the label of the band that a file of that name would hold, or None."""
    hits = (_match(names, file) for names in TABLE)
    return next((hit[1] for hit in hits if hit is not None), None)


def _match(names: BandNames, file: str) -> tuple[str, str, str] | None:
    """Return (scene, label, file) where the name is that of a band of a known sensor."""
    stem = PurePosixPath(file).stem
    hit = re.fullmatch(names.pattern, stem, re.IGNORECASE)
    if hit is None:
        return None
    label = names.label.format(hit["band"])
    sensors = [SENSORS[names.sensor]] if names.sensor else list(SENSORS.values())
    if not any(sensor.find_band(label) for sensor in sensors):
        return None
    return hit["scene"] or "", label, file


def _place(label: str, order: Sequence[str]) -> tuple[int, str]:
    """Return where a band stands: in the sensor's order, or else by its name."""
    return (order.index(label) if label in order else len(order), label)


def _pixel_m(name: str) -> tuple[int, str]:
    found = re.search(r"(?:_|/R)([126]0)m", name)
    return (int(found[1]) if found else 0, name)


def open_band_files(
    files: ProductFiles,
    found: BandFiles,
    *,
    sensor: Sensor | None = None,
    scale: float | None = None,
    offset: float | None = None,
    bands: Sequence[str] | None = None,
) -> Scene:
    """Return a folder of single bands as a scene on the grid of its finest band.

    Args:
        files: the folder or archive.
        found: what ``find_band_files`` found there.
        sensor: what took it; None takes what the names tell.
        scale: reflectance per count; None takes the provider's, or else the file's tags.
        offset: reflectance of count 0, as ``scale``.
        bands: bands to use; None takes all.

    Raises:
        ProductError: a file cannot be read, or holds several bands.
        BandError: a band asked for is not there.
    """
    known = sensor or (get_sensor(found.names.sensor) if found.names.sensor else None)
    chosen = _choose(found, bands, known)
    paths = {label: files.gdal_path(name) for label, name in chosen.items()}
    given = {"scale": scale, "offset": offset}
    grids: dict[str, Grid] = {}
    decoders: dict[str, BandDecoder] = {}
    acquired: datetime | None = None
    for label, path in paths.items():
        with open_raster(path) as dataset:
            if dataset.count != 1:
                raise ProductError(
                    f"{chosen[label]} holds {dataset.count} bands; expected one band per file"
                )
            grids[label] = raster_grid(dataset)
            acquired = acquired or read_acquired(dataset)
            decoders[label] = _decoder(dataset, label, known, found.names, given)
    grid = min(grids.values(), key=_fineness)
    if elsewhere := [label for label, own in grids.items() if own.crs != grid.crs]:
        raise ProductError(
            f"{', '.join(elsewhere)} of {files.where} are in another coordinate reference system "
            f"than the finest band ({grid.crs}); expected all bands in one: warp them first"
        )
    planes = []
    for label, path in paths.items():
        step = grids[label].shape_yx[0] / grid.shape_yx[0]
        rows, columns = map_axes(grids[label], grid, step=step, name=path)
        planes.append(
            Plane(
                path=path,
                decode=decoders[label],
                nodata=found.names.nodata,
                rows=rows,
                columns=columns,
            )
        )
    return Scene(
        source=RasterStack(planes),
        grid=grid,
        band_labels=tuple(chosen),
        sensor=known,
        acquired=acquired,
        metadata={"id": found.scene or files.where.stem, "format": found.names.title},
        missing_hint=f"{files.where} was read as {found.names.title}",
    )


def _decoder(
    dataset: Any,  # noqa: ANN401 - rasterio has no types
    label: str,
    sensor: Sensor | None,
    names: BandNames,
    given: dict[str, float | None],
) -> BandDecoder:
    """Return how a file's band is decoded: as asked for, by its tags, or as its provider says.

    Files of floats under a provider's name hold reflectance already.
    """
    own_scale, own_offset = dataset.scales[0], dataset.offsets[0]
    counts = np.dtype(dataset.dtypes[0]).kind in "iu"
    if (own_scale, own_offset) == (1, 0) and counts and names.scale is not None:
        own_scale, own_offset = names.scale, names.offset or 0.0
    return band_decoder(
        sensor.find_band(label) if sensor is not None else None,
        **given,
        own_scale=own_scale,
        own_offset=own_offset,
    )


def _choose(found: BandFiles, bands: Sequence[str] | None, sensor: Sensor | None) -> dict[str, str]:
    if bands is None:
        return found.files
    chosen: dict[str, str] = {}
    for wanted in bands:
        same = {wanted.lower()}
        if sensor is not None:
            same.add(sensor.band(wanted).name.lower())
        for label, name in found.files.items():
            band = sensor.find_band(label) if sensor is not None else None
            if label.lower() in same or (band is not None and band.name.lower() in same):
                chosen[label] = name
                break
        else:
            raise BandError(f"missing band {wanted}; there are {', '.join(found.files)}")
    return chosen


def _fineness(grid: Grid) -> float:
    """Return the pixel size; of grids without georeference the one with most pixels is first."""
    return grid.pixel_size if grid.transform else 1 / grid.shape_yx[0]
