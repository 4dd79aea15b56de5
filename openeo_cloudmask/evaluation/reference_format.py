"""What a format of references is: how its scenes are found and read, and what its codes mean.

A format, or some that belong together, is one file in ``evaluation/formats`` with its entries in
``FORMATS``; nothing else has to be changed. Readers give codes of the format; ``recode`` makes
them classes by the format's table and refuses codes that are not in it.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import CLOUD_NONCLOUD, FOUR_CLASS, NODATA, ClassScheme
from openeo_cloudmask.errors import (
    InputError,
    MissingExtraError,
    OptionError,
    ProductError,
    ReferenceDataError,
)
from openeo_cloudmask.evaluation.evaluate import Reference
from openeo_cloudmask.evaluation.labelled import LabelledScene
from openeo_cloudmask.evaluation.points import Points
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.hdf5 import own_arrays
from openeo_cloudmask.products.drivers import open_raster

NOT_LABELLED = ""
"""In tables of codes: such a pixel is not compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What one code of a format means."""

    code: int
    meaning: str
    """As the format's authors call it."""
    target: str
    """Name of the class it counts as, or ``NOT_LABELLED``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceScene:
    """One scene of a format. Nothing is read before a function is called."""

    name: str
    """That of the product where the format tells it; masks are found by it."""
    reference: Callable[[], Reference | Points]
    image: Callable[[], LabelledScene] | None = None
    """The image with its label, where the format brings images along."""
    split: str = ""
    """``train``, ``validation`` or ``test``, where the format has such parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceFormat:
    """One data set of references, or several in one layout."""

    id: str
    title: str
    kind: str
    """``masks`` or ``points``."""
    sensor: str
    scheme: ClassScheme
    """The classes that its codes are brought to."""
    codes: tuple[Code, ...]
    layout: str
    """Which files are read, in one line."""
    images: bool
    """Whether its images are read too (``cloudmask evaluate``)."""
    terms: str
    get: str
    """Where it is to be had."""
    citation: str
    doi: str
    seen: str
    """What the reader was made from: a layout that was not seen is not certain."""
    find: Callable[[Path], list[ReferenceScene]]
    """The scenes in a folder or file; empty where there is nothing of this format."""
    record: str = ""
    """What ``references download`` fetches: ``zenodo:<record>``, ``hub:<data set>`` of the Hugging
    Face hub, or addresses, one per line (``fetch.records``); empty: it has to be got by hand."""

    def recode(self, codes: NDArray[Any], where: str) -> NDArray[np.uint8]:
        """Return classes of ``scheme`` for codes of any shape; 255 where not labelled.

        Raises:
            ReferenceDataError: a code is not in the table.
        """
        known = {item.code: item for item in self.codes}
        out = np.full(codes.shape, NODATA, np.uint8)
        found = np.unique(codes).tolist()
        if strange := [code for code in found if code not in known]:
            raise ReferenceDataError(
                f"{where} holds {strange[:5]}, which are no codes of {self.title}; expected "
                + ", ".join(f"{code} ({item.meaning})" for code, item in known.items())
            )
        values = dict(zip(self.scheme.names, self.scheme.values, strict=True))
        for code in found:
            if (target := known[code].target) != NOT_LABELLED:
                out[codes == code] = values[target]
        return out

    def read(self, name: str, path: str | Path) -> Reference:
        """Return the reference called ``name`` in a raster of this format's codes.

        Raises:
            ReferenceDataError: it cannot be read, or a code is not in the table.
        """
        codes, grid = read_plane(path)
        return Reference(
            name=name, labels=self.recode(codes, str(path)), scheme=self.scheme, grid=grid
        )


def code_table(rows: Mapping[int, tuple[str, str]]) -> tuple[Code, ...]:
    """Return codes from ``{code: (meaning, class)}``."""
    return tuple(Code(code=code, meaning=text, target=to) for code, (text, to) in rows.items())


@cache
def formats() -> dict[str, ReferenceFormat]:
    """Return every format by its id."""
    from openeo_cloudmask.evaluation import formats as folder

    modules = (item.name for item in pkgutil.iter_modules(folder.__path__))
    found = (import_module(f"{folder.__name__}.{name}").FORMATS for name in modules)
    return {item.id: item for several in found for item in several}


def get_format(name: str) -> ReferenceFormat:
    """Return the format called ``name``.

    Raises:
        OptionError: no format has that name.
    """
    if name not in formats():
        raise OptionError(
            f"unknown format of references {name!r}; expected one of {', '.join(formats())}"
        )
    return formats()[name]


def find_scenes(
    path: Path, *, name: str | None = None, split: str | None = None
) -> tuple[ReferenceFormat, list[ReferenceScene]] | None:
    """Return the format of what lies at ``path`` and its scenes, or None where no format fits.

    Args:
        path: folder or file.
        name: the format, where it is known; else all are tried.
        split: only scenes of this part; None takes the test part of formats that have one.

    Raises:
        ReferenceDataError: the format named finds nothing, several formats fit, or there are no
            scenes of that part.
    """
    tried = formats().values() if name is None else [get_format(name)]
    fitting = [(item, scenes) for item in tried if (scenes := item.find(path))]
    if not fitting:
        if name is None:
            return None
        raise ReferenceDataError(
            f"{path} holds nothing of {get_format(name).title}; expected {get_format(name).layout}"
        )
    if len(fitting) > 1:
        raise ReferenceDataError(
            f"{path} fits the formats {', '.join(item.id for item, _ in fitting)}; say which with "
            "--reference-format"
        )
    found, scenes = fitting[0]
    return found, _of_split(path, scenes, split)


def _of_split(path: Path, scenes: list[ReferenceScene], split: str | None) -> list[ReferenceScene]:
    there = sorted({scene.split for scene in scenes} - {""})
    wanted = split or ("test" if "test" in there else None)
    if wanted is None or wanted == "all":
        return scenes
    chosen = [scene for scene in scenes if scene.split == wanted]
    if not chosen:
        raise ReferenceDataError(
            f"{path} has no scenes of the part {wanted!r}; it has {', '.join(there) or 'no parts'}"
        )
    return chosen


def read_plane(path: str | Path) -> tuple[NDArray[Any], Grid]:
    """Return the only band of a raster, (y, x), and its grid.

    Raises:
        ReferenceDataError: it cannot be read, or has several bands.
    """
    planes, grid = read_planes(path)
    if len(planes) != 1:
        raise ReferenceDataError(f"{path} has {len(planes)} bands; expected one of class codes")
    return planes[0], grid


def read_planes(path: str | Path) -> tuple[NDArray[Any], Grid]:
    """Return all bands of a raster, (band, y, x), and their grid.

    Raises:
        ReferenceDataError: it cannot be read.
    """
    from rasterio.errors import RasterioError

    try:
        with open_raster(path) as data:
            grid = Grid(
                shape_yx=data.shape,
                transform=data.transform if data.crs is not None else None,
                crs=data.crs,
            )
            return data.read(), grid
    except (RasterioError, ProductError) as err:
        raise ReferenceDataError(f"{path} cannot be read: {err}") from err


def read_hdf5(
    path: Path, needed: Iterable[str], *, also: Iterable[str] = ()
) -> dict[str, NDArray[Any]]:
    """Return arrays of an HDF5 or NetCDF-4 file by name.

    Args:
        path: the file.
        needed: names of arrays that have to be there.
        also: names of arrays that are read where they are there.

    Raises:
        ReferenceDataError: it cannot be read, or has no such array.
        MissingExtraError: h5py is not installed.
    """
    try:
        import h5py
    except ModuleNotFoundError as err:
        raise MissingExtraError.for_extra("netcdf", "Reading HDF5") from err
    needed = tuple(needed)
    wanted = {*needed, *also}
    try:
        with h5py.File(path, "r") as file:
            content = {
                key: np.asarray(data[()])
                for place, data in own_arrays(file)
                if (key := place.strip("/")) in wanted
            }
    except (OSError, InputError) as err:
        raise ReferenceDataError(f"{path} cannot be read as HDF5: it {err}") from err
    if missing := [key for key in needed if key not in content]:
        raise ReferenceDataError(
            f"{path} has no {', '.join(missing)}; expected {', '.join(needed)}"
        )
    return content


def labelled(
    found: ReferenceFormat,
    name: str,
    *,
    bands: Iterable[str],
    cube: NDArray[np.float32],
    label: NDArray[np.uint8],
    pixel_m: float,
) -> LabelledScene:
    """Return an image with its label; the table of codes says which classes are labelled.

    Args:
        found: the format.
        name: of the scene.
        bands: names of the planes of ``cube``.
        cube: (band, y, x) float32, reflectance 0-1; pixels that are 0 in all bands are no-data.
        label: (y, x) uint8, classes of the format's scheme, 255 not labelled.
        pixel_m: size of a pixel, metres.
    """
    targets = {item.target for item in found.codes}
    nodata = (cube == 0).all(axis=0)
    return LabelledScene(
        name=name,
        sensor=found.sensor,
        bands=tuple(bands),
        cube=np.where(nodata, np.float32(np.nan), cube).astype(np.float32),
        label=label,  # cloud is 1 in both schemes
        pixel_m=pixel_m,
        shadow_labelled="cloud-shadow" in targets,
        thin_labelled="thin-cloud" in targets,
    )


CLOUD_ONLY = CLOUD_NONCLOUD
FOUR = FOUR_CLASS
