"""References that are single pixels: S2-Hollstein (HDF5) and PixBox (CSV)."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.evaluation.points import Points
from openeo_cloudmask.evaluation.reference_format import (
    FOUR,
    NOT_LABELLED,
    ReferenceFormat,
    ReferenceScene,
    code_table,
    read_hdf5,
)

_HOLLSTEIN_KEYS = ("classes", "latitude", "longitude", "product_id")
_PLACE = ("PRODUCT_ID", "PIXEL_X", "PIXEL_Y")


def _find_hollstein(path: Path) -> list[ReferenceScene]:
    pattern = "*s2_manual_classification_data.h5"
    files = [path] if path.is_file() and path.match(pattern) else []
    files = files or (sorted(path.glob(pattern)) if path.is_dir() else [])
    scenes = []
    for file in files:
        content = _read_hdf5(file)
        products = np.array([_text(item) for item in content["product_id"]])
        labels = HOLLSTEIN.recode(content["classes"].astype(np.int64), str(file))
        for name in np.unique(products):
            here = products == name
            points = partial(
                Points,
                name=str(name).removesuffix(".SAFE"),
                labels=labels[here],
                scheme=FOUR,
                x=content["longitude"][here].astype(np.float64),
                y=content["latitude"][here].astype(np.float64),
                crs="EPSG:4326",
            )
            scenes.append(ReferenceScene(name=str(name).removesuffix(".SAFE"), reference=points))
    return scenes


def _read_hdf5(path: Path) -> dict[str, NDArray[Any]]:
    content = read_hdf5(path, _HOLLSTEIN_KEYS)
    if len({len(values) for values in content.values()}) != 1:
        sizes = {key: len(values) for key, values in content.items()}
        raise ReferenceDataError(f"{path} has arrays of different lengths: {sizes}")
    return content


def _text(item: object) -> str:
    return item.decode("utf-8") if isinstance(item, bytes) else str(item)


def _find_pixbox(form: str, path: Path) -> list[ReferenceScene]:
    found = next(item for item in FORMATS if item.id == form)
    column, shadow = _PIXBOX[form]
    pattern = _PIXBOX_FILES[form]
    files = [path] if path.is_file() and path.match(pattern) else []
    files = files or (sorted(path.rglob(pattern)) if path.is_dir() else [])
    scenes = []
    for file in files:
        table = _read_table(file, (*_PLACE, column, shadow))
        labels = found.recode(table[column], f"{file}: {column}")
        # Shadow is a layer of its own; a pixel that is both is cloud in the four classes.
        labels[(table[shadow] == _SHADOW_IDS[form]) & (labels == 0)] = 3
        for product in np.unique(table["PRODUCT_ID"]):
            here = table["PRODUCT_ID"] == product
            points = partial(
                Points,
                name=str(product),
                labels=labels[here],
                scheme=FOUR,
                x=table["PIXEL_X"][here].astype(np.float64),
                y=table["PIXEL_Y"][here].astype(np.float64),
                pixel_m=_PIXEL_M[form],
            )
            scenes.append(ReferenceScene(name=str(product), reference=points))
    return scenes


def _read_table(path: Path, columns: tuple[str, ...]) -> dict[str, NDArray[np.int64]]:
    """Return the columns of a CSV file as whole numbers, (n,) each.

    Raises:
        ReferenceDataError: a column is missing, or holds something else.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        start = file.read(4096)
        file.seek(0)
        delimiter = max(",;\t", key=start.count)
        reader = csv.DictReader(file, delimiter=delimiter)
        if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
            raise ReferenceDataError(
                f"{path} has no column {', '.join(missing)}; it has "
                f"{', '.join(reader.fieldnames or ()) or 'none'}"
            )
        rows = list(reader)
    try:
        return {name: np.array([int(float(row[name])) for row in rows]) for name in columns}
    except (TypeError, ValueError) as err:
        raise ReferenceDataError(f"{path} holds something else than numbers: {err}") from err


HOLLSTEIN = ReferenceFormat(
    id="s2-hollstein",
    title="S2-Hollstein",
    kind="points",
    sensor="sentinel-2-l1c",
    scheme=FOUR,
    codes=code_table(
        {
            10: ("clear", "clear"),
            20: ("water", "clear"),
            30: ("shadow", "cloud-shadow"),
            40: ("cirrus", "thin-cloud"),
            50: ("cloud", "thick-cloud"),
            60: ("snow", "clear"),
        }
    ),
    layout="*s2_manual_classification_data.h5 with classes, latitude, longitude, product_id",
    images=False,
    terms="as its authors state on the page of the data set",
    get="https://git.gfz-potsdam.de/EnMAP/sentinel2_manual_classification_clouds",
    citation="Hollstein, A. et al. (2016): Ready-to-Use Methods for the Detection of Clouds, "
    "Cirrus, Snow, Shadow, Water and Clear Sky Pixels in Sentinel-2 MSI Images. Remote Sensing "
    "8(8), 666.",
    doi="10.3390/rs8080666",
    seen="Programs of its authors and users that read the file; not the file.",
    find=_find_hollstein,
)
_PIXBOX = {
    "pixbox-s2": ("CLOUD_CHARACTERISTICS_ID", "SHADOW_ID"),
    # The column of that name tells the kind of a cloud here, not whether there is one.
    "pixbox-l8": ("PIXEL_SURFACE_TYPE_ID", "CLOUD_SHADOW_ID"),
}
_PIXBOX_FILES = {"pixbox-s2": "pixbox_sentinel2*.csv", "pixbox-l8": "pixbox_landsat8*.csv"}
_SHADOW_IDS = {"pixbox-s2": 3, "pixbox-l8": 1}
_PIXEL_M = {"pixbox-s2": 10.0, "pixbox-l8": 30.0}
_PIXBOX_NOTE = (
    " Of both cloud and shadow it is cloud. Products are known by numbers only: name masks by them."
)
FORMATS = (
    HOLLSTEIN,
    ReferenceFormat(
        id="pixbox-s2",
        title="PixBox Sentinel-2 (CMIX)",
        kind="points",
        sensor="sentinel-2-l1c",
        scheme=FOUR,
        codes=code_table(
            {
                **dict.fromkeys((0, 1, 7), ("not cloud", "clear")),
                2: ("opaque cloud", "thick-cloud"),
                **dict.fromkeys((3, 4, 5, 6), ("semi-transparent cloud", "thin-cloud")),
                8: ("spatially mixed cloud", "thick-cloud"),
                9: ("condensation trail", "thin-cloud"),
                **dict.fromkeys((10, 11, 12), ("fog, haze and other cloud", "thin-cloud")),
            }
        ),
        layout="pixbox_sentinel2*.csv with PRODUCT_ID, PIXEL_X, PIXEL_Y (10 m), "
        "CLOUD_CHARACTERISTICS_ID, SHADOW_ID",
        images=False,
        terms="as its authors state on the page of the data set",
        get="https://zenodo.org/records/5036991",
        record="zenodo:5036991",
        citation="Paperin, M. et al. (2021): PixBox Sentinel-2 pixel collection for CMIX. Zenodo.",
        doi="10.5281/zenodo.5036991",
        seen="Programs that read the table, with columns and codes; not the table. Which of codes "
        "10 to 12 is fog or haze was not seen for certain." + _PIXBOX_NOTE,
        find=partial(_find_pixbox, "pixbox-s2"),
    ),
    ReferenceFormat(
        id="pixbox-l8",
        title="PixBox Landsat 8 (CMIX)",
        kind="points",
        sensor="landsat-8-9-l1",
        scheme=FOUR,
        codes=code_table(
            {
                **dict.fromkeys((0, 1), ("cloud", "thick-cloud")),
                **dict.fromkeys((2, 3, 4, 5, 6, 7, 11, 12), ("not cloud", "clear")),
                **dict.fromkeys((8, 9, 10), ("partly cloud", NOT_LABELLED)),
                13: ("other", NOT_LABELLED),
            }
        ),
        layout="pixbox_landsat8*.csv with PRODUCT_ID, PIXEL_X, PIXEL_Y (30 m), "
        "PIXEL_SURFACE_TYPE_ID, CLOUD_SHADOW_ID",
        images=False,
        terms="as its authors state on the page of the data set",
        get="https://doi.org/10.5281/zenodo.5040271 (from memory)",
        citation="Paperin, M. et al. (2021): PixBox Landsat 8 pixel collection for CMIX. Zenodo.",
        doi="10.5281/zenodo.5040271",
        seen="A program that reads the table, with columns and codes; not the table, its name or "
        "its record." + _PIXBOX_NOTE,
        find=partial(_find_pixbox, "pixbox-l8"),
    ),
)
