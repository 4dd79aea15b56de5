"""GeoTIFF: masks with their classes, other cubes as they are; always cloud optimized."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from openeo_cloudmask.backend.cubes.masking import MASK_ATTRIBUTE
from openeo_cloudmask.backend.outputs.strips import Strip, read_strips
from openeo_cloudmask.backend.processes.dims import grid_of
from openeo_cloudmask.classes import SCHEMES
from openeo_cloudmask.errors import InputError, OutputError
from openeo_cloudmask.models import get_model
from openeo_cloudmask.products.cog import BLOCK_PX, publish_cog, write_cog
from openeo_cloudmask.version import __version__

_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def write_geotiff(
    path: Path,
    scene: xr.DataArray,
    when: str | None,
    find_warnings: Callable[[], Sequence[str]] = tuple,
    strips: Iterable[Strip] | None = None,
) -> None:
    """Write a scene (bands, y, x) to ``path`` as a COG.

    A mask gets its class names, values and colours; 255 is its no-data. Other cubes keep their
    type and have the band labels as descriptions; no data is NaN, or the cube's ``nodata``.

    Args:
        path: the file to write.
        scene: dimensions bands, y and x.
        when: its time.
        find_warnings: gives what to tell of a mask, when its last strip is computed.
        strips: of a mask, where somebody reads them already; None reads those of ``scene``.

    Raises:
        OutputError: it cannot be written, e.g. because the disk is full.
        InputError: its type has no counterpart in a GeoTIFF.
    """
    mask = find_mask(scene)
    if mask is not None:
        write_cog(
            path,
            read_strips(scene) if strips is None else strips,
            grid=grid_of(scene),
            scheme=SCHEMES[mask["scheme"]],
            categorise=mask["categorise"],
            metadata=mask_tags(mask, when),
            overwrite=True,
            closing=lambda: {"WARNING": "; ".join(find_warnings())},
        )
        return
    _write_plain(path, scene)


def find_mask(scene: xr.DataArray) -> dict[str, Any] | None:
    """Return what a scene is a mask of, None where it is not a mask (any longer)."""
    mask = scene.attrs.get(MASK_ATTRIBUTE)
    if mask is None or scene.dtype != np.uint8:
        return None
    labels = [str(label) for label in scene["bands"].to_numpy()]
    names = ["mask"] if mask["categorise"] else list(SCHEMES[mask["scheme"]].names)
    return dict(mask) if labels == names else None


def mask_tags(mask: Mapping[str, Any], when: str | None) -> dict[str, object]:
    """Return what the file of a mask says of how it was made."""
    entry = get_model(mask["model"])
    return {
        "SOFTWARE": f"openeo-cloudmask {__version__}",
        "MODEL": entry.id,
        "MODEL_LICENCE": entry.licence.spdx,
        "MODEL_CITATION": entry.citation,
        "OUTPUT_STYLE": mask["style"],
        "STRIDE": mask["stride"],
        "CATEGORISE": str(mask["categorise"]).lower(),
        "PRECISION": mask["precision"],
        "SENSOR": mask["sensor"],
        "BANDS": ",".join(mask["bands"]),
        "ACQUIRED": when,
    }


def _write_plain(path: Path, scene: xr.DataArray) -> None:
    dtype = np.dtype("uint8") if scene.dtype == bool else scene.dtype
    if dtype.kind == "f" and dtype.itemsize not in (4, 8):
        dtype = np.dtype("float32")
    if dtype.name in ("int64", "uint64"):
        dtype = np.dtype("float64")  # GeoTIFF readers seldom know 64-bit integers
    if dtype.name not in _TYPES:
        raise InputError(f"values of type {scene.dtype} cannot be written to a GeoTIFF")
    average = dtype.kind == "f"
    with (
        _as_output_error(path.name),
        publish_cog(path, _profile(scene, dtype), average=average) as dataset,
    ):
        for number, label in enumerate(scene["bands"].to_numpy(), start=1):
            dataset.set_band_description(number, str(label))
        for row, values in read_strips(scene):
            height, width = values.shape[1:]
            dataset.write(values.astype(dtype), window=Window(0, row, width, height))


def _profile(scene: xr.DataArray, dtype: np.dtype[Any]) -> dict[str, Any]:
    nodata = scene.attrs.get("nodata", float("nan"))
    fits = isinstance(nodata, int | float) and (dtype.kind == "f" or float(nodata).is_integer())
    return {
        "driver": "GTiff", "count": scene.sizes["bands"], "dtype": dtype.name,
        "nodata": nodata if fits else None, "tiled": True, "blockxsize": BLOCK_PX,
        "blockysize": BLOCK_PX, "interleave": "band", "compress": "deflate", "zlevel": 1,
        "bigtiff": "IF_SAFER", **grid_of(scene).profile(),
    }  # fmt: skip


@contextmanager
def _as_output_error(name: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            yield
    except RasterioError as err:
        raise OutputError(f"cannot write {name}: is the disk of the results full?") from err
