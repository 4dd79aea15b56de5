"""Landsat 8 references: L8 Biome, SPARCS, 38-Cloud and 95-Cloud."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.evaluation.evaluate import Reference
from openeo_cloudmask.evaluation.labelled import LabelledScene
from openeo_cloudmask.evaluation.reference_format import (
    CLOUD_ONLY,
    FOUR,
    NOT_LABELLED,
    ReferenceFormat,
    ReferenceScene,
    code_table,
    labelled,
    read_plane,
    read_planes,
)
from openeo_cloudmask.fetch.biome import BIOMES
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.sensors import landsat_reflectance

_SENSOR = "landsat-8-9-l1"
_SHADOW_CODE = 64
_HEADER_FIELD = re.compile(r"^\s*([a-z ]+?)\s*=\s*(\{[^}]*\}|[^\n]*)", re.IGNORECASE | re.MULTILINE)
_SPARCS_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B9")
"""The first layers of ``_data.tif``: without the panchromatic band; the thermal ones follow."""
_SPARCS_LAYERS = 10
_TOA_SCALE, _TOA_OFFSET = 2e-5, -0.1


def _find_biome(path: Path) -> list[ReferenceScene]:
    if not path.is_dir():
        return []
    files = [
        file
        for ending in ("img", "IMG", "tif", "TIF")
        for file in path.rglob(f"*_fixedmask.{ending}")
    ]
    return [
        ReferenceScene(name=name, reference=partial(_biome, name, file))
        for name, file in sorted({file.name.split("_fixedmask")[0]: file for file in files}.items())
    ]


def _biome(name: str, path: Path) -> Reference:
    """Return the mask; without any shadow in it, shadow was not labelled, and only cloud counts."""
    codes, grid = _read_envi(path) if path.suffix.lower() == ".img" else read_plane(path)
    labels = BIOME.recode(codes, str(path))
    elevation = _sun_elevation(path.with_name(f"{name}_MTL.txt"))
    if (codes == _SHADOW_CODE).any():
        return Reference(
            name=name, labels=labels, scheme=FOUR, grid=grid, sun_elevation_deg=elevation
        )
    cloud = np.isin(labels, (1, 2))
    return Reference(
        name=name,
        labels=np.where(cloud, np.uint8(1), labels).astype(np.uint8),
        scheme=CLOUD_ONLY,
        grid=grid,
        sun_elevation_deg=elevation,
    )


def _read_envi(path: Path) -> tuple[NDArray[Any], Grid]:
    """Return the bytes of an ENVI raster, (y, x), and its grid.

    Raises:
        ReferenceDataError: there is no header, or it is not one plane of bytes.
    """
    header = path.with_suffix(".hdr")
    try:
        text = header.read_text(encoding="latin-1")
        fields = {key.lower(): value.strip() for key, value in _HEADER_FIELD.findall(text)}
        height, width = int(fields["lines"]), int(fields["samples"])
        skipped = int(fields.get("header offset", "0"))
        content = np.fromfile(path, np.uint8)[skipped:]
    except (OSError, KeyError, ValueError) as err:
        raise ReferenceDataError(
            f"{path} cannot be read: {err}; expected an ENVI raster with its header "
            f"{header.name} beside it"
        ) from err
    if fields.get("data type") != "1" or fields.get("bands") != "1":
        raise ReferenceDataError(
            f"{header} says data type {fields.get('data type')} and {fields.get('bands')} bands; "
            "expected data type 1 (bytes) and 1 band"
        )
    if content.size != height * width:
        raise ReferenceDataError(
            f"{path} has {content.size} bytes; expected {height} x {width}. It may be cut off"
        )
    grid = Grid(shape_yx=(height, width), **_envi_place(fields.get("map info"), header))
    return content.reshape(height, width), grid


def _envi_place(info: str | None, header: Path) -> dict[str, Any]:
    """Return transform and reference system; ``map info`` counts pixels from 1, at their corner."""
    from rasterio.crs import CRS

    if info is None:
        return {}
    parts = [item.strip() for item in info.strip("{} ").split(",")]
    try:
        kind, column, row, x, y, dx, dy, zone = (parts[0], *map(float, parts[1:8]))
        south = parts[8].lower().startswith("s")
    except (ValueError, IndexError) as err:
        raise ReferenceDataError(f"{header}: map info is {info!r}, which cannot be read") from err
    if kind.upper() != "UTM":
        raise ReferenceDataError(f"{header}: the projection is {kind!r}; expected UTM")
    left, top = x - (column - 1) * dx, y + (row - 1) * dy
    return {
        "transform": Affine(dx, 0, left, 0, -dy, top),
        "crs": CRS.from_epsg((32700 if south else 32600) + int(zone)),
    }


def _find_sparcs(path: Path) -> list[ReferenceScene]:
    if not path.is_dir():
        return []
    scenes = []
    for mask in sorted(path.rglob("*_mask.png")):
        name = mask.name.removesuffix("_mask.png")
        data, mtl = (mask.with_name(f"{name}_{part}") for part in ("data.tif", "mtl.txt"))
        if data.is_file():
            image = partial(_sparcs_image, name, mask, data, mtl) if mtl.is_file() else None
            reference = partial(_sparcs, name, mask, data, mtl)
            scenes.append(ReferenceScene(name=name, reference=reference, image=image))
    return scenes


def _sparcs_codes(path: Path) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=("PNG",)) as image:
            mode, codes = image.mode, np.asarray(image)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as err:
        raise ReferenceDataError(f"{path} cannot be read as PNG: {err}") from err
    if mode not in ("P", "L"):
        raise ReferenceDataError(f"{path} is a picture in {mode}; expected codes (P or L)")
    return SPARCS.recode(codes, str(path))


def _sparcs(name: str, mask: Path, data: Path, mtl: Path) -> Reference:
    _, grid = read_planes(data)
    labels = _sparcs_codes(mask)
    if labels.shape != grid.shape_yx:
        raise ReferenceDataError(f"{mask} has {labels.shape} pixels, {data.name} {grid.shape_yx}")
    elevation = _sun_elevation(mtl)
    return Reference(name=name, labels=labels, scheme=FOUR, grid=grid, sun_elevation_deg=elevation)


def _sun_elevation(mtl: Path) -> float | None:
    """Return what an MTL file says; None where it is missing or does not say it."""
    if not mtl.is_file():
        return None
    found = re.search(r"SUN_ELEVATION\s*=\s*(-?\d+(?:\.\d+)?)", mtl.read_text(encoding="latin-1"))
    return None if found is None else float(found[1])


def _sparcs_image(name: str, mask: Path, data: Path, mtl: Path) -> LabelledScene:
    counts, _ = read_planes(data)
    elevation = _sun_elevation(mtl)
    if elevation is None or len(counts) != _SPARCS_LAYERS:
        raise ReferenceDataError(
            f"{data} has {len(counts)} layers and {mtl.name} a sun elevation of "
            f"{elevation}; expected {_SPARCS_LAYERS} layers, and a number"
        )
    stored = counts[: len(_SPARCS_BANDS)].astype(np.float32)
    cube = landsat_reflectance(stored, _TOA_SCALE, _TOA_OFFSET, elevation)
    scene = labelled(
        SPARCS,
        name,
        bands=_SPARCS_BANDS,
        cube=np.where((stored == 0).all(axis=0), np.float32(0), cube),
        label=_sparcs_codes(mask),
        pixel_m=30.0,
    )
    return replace(scene, sun_elevation_deg=elevation)


def _find_38cloud(path: Path) -> list[ReferenceScene]:
    if not path.is_dir():
        return []
    scenes = []
    for file in sorted(path.rglob("Entire_scene_gts/*")):
        found = re.search(r"L[CO]0?8_?[0-9A-Z_]+", file.stem)
        if file.suffix.lower() == ".tif" and found:
            name = found[0]
            split = "test" if "test" in file.parents[1].name else "train"
            scenes.append(
                ReferenceScene(name=name, reference=partial(_cloud38, name, file), split=split)
            )
    return scenes


def _cloud38(name: str, path: Path) -> Reference:
    codes, grid = read_plane(path)
    labels = CLOUD38.recode(codes, str(path))
    return Reference(name=name, labels=labels, scheme=CLOUD_ONLY, grid=grid)


BIOME = ReferenceFormat(
    id="l8-biome",
    title="L8 Biome",
    kind="masks",
    sensor=_SENSOR,
    scheme=FOUR,
    codes=code_table(
        {
            0: ("fill", NOT_LABELLED),
            64: ("cloud shadow", "cloud-shadow"),
            128: ("clear", "clear"),
            192: ("thin cloud", "thin-cloud"),
            255: ("cloud", "thick-cloud"),
        }
    ),
    layout="*_fixedmask.img with its .hdr (ENVI), or *_fixedmask.TIF; scenes without any shadow "
    "code are scored for cloud alone",
    images=False,
    terms="public domain (USGS)",
    get="https://landsat.usgs.gov/landsat-8-cloud-cover-assessment-validation-data",
    record="\n".join(
        f"https://landsat.usgs.gov/cloud-validation/cca_l8/{name}.tar.gz" for name in BIOMES
    ),
    citation="Foga, S. et al. (2017): Cloud detection algorithm comparison and validation for "
    "operational Landsat data products. Remote Sensing of Environment 194, 379-390.",
    doi="10.1016/j.rse.2017.03.026",
    seen="Programs that read these files; codes also in patches of 16 of its scenes.",
    find=_find_biome,
)
SPARCS = ReferenceFormat(
    id="sparcs",
    title="SPARCS",
    kind="masks",
    sensor=_SENSOR,
    scheme=FOUR,
    codes=code_table(
        {
            0: ("shadow", "cloud-shadow"),
            1: ("shadow over water", "cloud-shadow"),
            2: ("water", "clear"),
            3: ("snow", "clear"),
            4: ("land", "clear"),
            5: ("cloud", "thick-cloud"),
            6: ("flooded", "clear"),
        }
    ),
    layout="*_mask.png beside *_data.tif; *_mtl.txt for the image",
    images=True,
    terms="public domain (USGS)",
    get="https://landsat.usgs.gov/cloud-validation/sparcs/l8cloudmasks.zip",
    record="https://landsat.usgs.gov/cloud-validation/sparcs/l8cloudmasks.zip",
    citation="Hughes, M. J., Hayes, D. J. (2014): Automated detection of cloud and cloud shadow in "
    "single-date Landsat imagery using neural networks and spatial post-processing. Remote "
    "Sensing 6(6), 4907-4926.",
    doi="10.3390/rs6064907",
    seen="Programs that read these files, with codes, colours and the order of the layers of "
    "_data.tif; no file of the data set.",
    find=_find_sparcs,
)
CLOUD38 = ReferenceFormat(
    id="38-cloud",
    title="38-Cloud and 95-Cloud",
    kind="masks",
    sensor=_SENSOR,
    scheme=CLOUD_ONLY,
    codes=code_table(
        {0: ("clear", "non-cloud"), 1: ("cloud", "cloud"), 255: ("cloud, in bytes", "cloud")}
    ),
    layout="Entire_scene_gts/*LC08*.TIF, in folders *_training and *_test",
    images=False,
    terms="as its authors state on the page of the data set",
    get="https://github.com/SorourMo/38-Cloud-A-Cloud-Segmentation-Dataset",
    citation="Mohajerani, S., Saeedi, P. (2019): Cloud-Net: An end-to-end cloud detection "
    "algorithm for Landsat 8 imagery. IGARSS 2019, 1029-1032.",
    doi="10.1109/IGARSS.2019.8898776",
    seen="The page of the data set and programs that read it; no file. Whole scenes are of one bit "
    "per pixel in its authors' program, and may lack a place: masks of the product's own grid fit. "
    "Its patches have neither a place nor a sun elevation and are not read.",
    find=_find_38cloud,
)
FORMATS = (BIOME, SPARCS, CLOUD38)
