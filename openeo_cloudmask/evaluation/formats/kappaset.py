"""KappaSet: NetCDF files of 512 x 512 pixels with a label and the bands of Level-1C."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.evaluation.evaluate import Reference
from openeo_cloudmask.evaluation.labelled import LabelledScene
from openeo_cloudmask.evaluation.reference_format import (
    FOUR,
    NOT_LABELLED,
    ReferenceFormat,
    ReferenceScene,
    code_table,
    labelled,
    read_hdf5,
)
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.sensors import get_sensor

_LABEL = "Label"
_LARGEST_COUNT, _QUANTIFICATION = 65535, 10000
_BANDS = get_sensor("sentinel-2-l1c").band_names


def _find(path: Path) -> list[ReferenceScene]:
    files = [path] if path.is_file() and path.match("*_tile_*.nc") else []
    files = files or (sorted(path.rglob("*_tile_*.nc")) if path.is_dir() else [])
    scenes = []
    for file in files:
        # Sub-tiles of all products are called alike; their folder is that of the product.
        product = next((p.name for p in file.parents if p.name.startswith("S2")), "")
        name = f"{product.split('.')[0]}__{file.stem}" if product else file.stem
        split = next((p.name for p in file.parents if p.name in ("train", "test")), "")
        scenes.append(
            ReferenceScene(
                name=name,
                reference=partial(_reference, name, file),
                image=partial(_image, name, file),
                split=split,
            )
        )
    return scenes


def _reference(name: str, path: Path) -> Reference:
    codes = read_hdf5(path, (_LABEL,))[_LABEL]
    labels = KAPPASET.recode(codes, str(path))
    grid = Grid(shape_yx=(labels.shape[0], labels.shape[1]), transform=None, crs=None)
    return Reference(name=name, labels=labels, scheme=FOUR, grid=grid)


def _image(name: str, path: Path) -> LabelledScene:
    content = read_hdf5(path, (_LABEL,), also=_BANDS)
    bands = [band for band in _BANDS if band in content]
    if not bands:
        raise ReferenceDataError(f"{path} has no band; expected some of {', '.join(_BANDS)}")
    cube = np.stack([_reflectance(content[band], f"{path}: {band}") for band in bands])
    return labelled(
        KAPPASET,
        name,
        bands=bands,
        cube=cube,
        label=KAPPASET.recode(content[_LABEL], str(path)),
        pixel_m=10.0,
    )


def _reflectance(stored: NDArray[Any], where: str) -> NDArray[np.float32]:
    """Return reflectance 0-1; floating numbers are counts divided by 65535."""
    if stored.dtype.kind in "ui":
        return stored.astype(np.float32) / np.float32(_QUANTIFICATION)
    values = stored.astype(np.float32)
    if not (values >= 0).all() or values.max() > 1:
        raise ReferenceDataError(
            f"{where} holds numbers from {values.min():g} to {values.max():g}; expected counts, or "
            f"counts divided by {_LARGEST_COUNT}"
        )
    return values * np.float32(_LARGEST_COUNT / _QUANTIFICATION)


KAPPASET = ReferenceFormat(
    id="kappaset",
    title="KappaSet",
    kind="masks",
    sensor="sentinel-2-l1c",
    scheme=FOUR,
    codes=code_table(
        {
            0: ("undefined", NOT_LABELLED),
            1: ("clear", "clear"),
            2: ("cloud shadow", "cloud-shadow"),
            3: ("semi-transparent cloud", "thin-cloud"),
            4: ("cloud", "thick-cloud"),
            5: ("missing", NOT_LABELLED),
        }
    ),
    layout="*_tile_*.nc with Label and B01, B02, ..., each (y, x); parts in folders train and test",
    images=True,
    terms="as its authors state on the page of the data set",
    get="https://zenodo.org/records/7100327",
    record="zenodo:7100327",
    citation="Domnich, M. et al. (2021): KappaMask: AI-Based Cloudmask Processor for Sentinel-2. "
    "Remote Sensing 13(20), 4100; KappaSet, Zenodo (2022).",
    doi="10.5281/zenodo.7100327",
    seen="The program of its authors that writes such files, and programs that read them, with "
    "names, codes and scale; no file of the data set. Counts are taken to have no offset, as those "
    "of products before baseline 04.00.",
    find=_find,
)
FORMATS = (KAPPASET,)
