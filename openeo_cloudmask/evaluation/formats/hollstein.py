"""S2-Hollstein: labelled pixels of Sentinel-2 products in one HDF5 file."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.evaluation.points import Points
from openeo_cloudmask.evaluation.reference_format import (
    FOUR,
    ReferenceFormat,
    ReferenceScene,
    code_table,
    read_hdf5,
)

_KEYS = ("classes", "latitude", "longitude", "product_id")
_TILE_KEY = "granule_id"
_TILE = re.compile(r"T?(\d\d[A-Z]{3})")
"""Files of 2016 have the ``T``, later ones do not."""


def _find(path: Path) -> list[ReferenceScene]:
    pattern = "*s2_manual_classification_data.h5"
    files = [path] if path.is_file() and path.match(pattern) else []
    files = files or (sorted(path.glob(pattern)) if path.is_dir() else [])
    scenes = []
    for file in files:
        content = _read(file)
        names = _names(content)
        labels = HOLLSTEIN.recode(content["classes"].astype(np.int64), str(file))
        for name in np.unique(names):
            here = names == name
            points = partial(
                Points,
                name=str(name),
                labels=labels[here],
                scheme=FOUR,
                x=content["longitude"][here].astype(np.float64),
                y=content["latitude"][here].astype(np.float64),
                crs="EPSG:4326",
            )
            scenes.append(ReferenceScene(name=str(name), reference=points))
    return scenes


def _names(content: dict[str, NDArray[Any]]) -> NDArray[np.str_]:
    """Return the name of each point's scene, (n,): its product, and its tile where not in that.

    Products before December 2016 hold many tiles, and the name of none.
    """
    products = np.array([_text(item).removesuffix(".SAFE") for item in content["product_id"]])
    if _TILE_KEY not in content:
        return products
    names = []
    for product, granule in zip(products, content[_TILE_KEY], strict=True):
        tile = _TILE.fullmatch(_text(granule))
        known = tile is None or f"_T{tile[1]}" in product
        names.append(product if known or tile is None else f"{product}_T{tile[1]}")
    return np.array(names)


def _read(path: Path) -> dict[str, NDArray[Any]]:
    content = read_hdf5(path, _KEYS, also=(_TILE_KEY,))
    if len({len(values) for values in content.values()}) != 1:
        sizes = {key: len(values) for key, values in content.items()}
        raise ReferenceDataError(f"{path} has arrays of different lengths: {sizes}")
    return content


def _text(item: object) -> str:
    return item.decode("utf-8") if isinstance(item, bytes) else str(item)


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
    layout="*s2_manual_classification_data.h5 with classes, latitude, longitude, product_id, "
    "granule_id (tile)",
    images=False,
    terms="as its authors state on the page of the data set",
    get="https://git.gfz-potsdam.de/EnMAP/sentinel2_manual_classification_clouds",
    citation="Hollstein, A. et al. (2016): Ready-to-Use Methods for the Detection of Clouds, "
    "Cirrus, Snow, Shadow, Water and Clear Sky Pixels in Sentinel-2 MSI Images. Remote Sensing "
    "8(8), 666.",
    doi="10.3390/rs8080666",
    seen="Programs of its authors and users that read the file; not the file.",
    find=_find,
)
FORMATS = (HOLLSTEIN,)
