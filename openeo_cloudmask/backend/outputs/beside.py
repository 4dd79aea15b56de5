"""What is saved beside a mask so that it can be judged: its percentages, and the image it is of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from rasterio.windows import Window

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.cubes.masking import MaskSource, source_of
from openeo_cloudmask.backend.jobs import runtime
from openeo_cloudmask.backend.jobs.runtime import Run
from openeo_cloudmask.backend.outputs.strips import Strip, read_strips
from openeo_cloudmask.backend.processes.dims import grid_of
from openeo_cloudmask.datacube import CubeReader, nodata_values
from openeo_cloudmask.models import ModelInput
from openeo_cloudmask.products.cog import BLOCK_PX, KEPT_VALUES, open_percentages, publish_cog
from openeo_cloudmask.sensors import BandKind, Sensor

IMAGE_VALUES = 750_000_000
"""Values of an image beside a mask at most: those of six bands of a full Sentinel-2 scene."""
SCALE, OFFSET = 1e-4, -0.1
"""Reflectance is ``count * SCALE + OFFSET``: counts of 1 to 65535 hold -0.0999 to 6.4535."""
IMAGE_ROLE, PERCENTAGES_ROLE = "overview", "percentages"
OPTIONS: dict[str, dict[str, Any]] = {
    "percentages": {
        "type": "boolean",
        "subtype": "with-percentages",
        "default": False,
        "description": (
            "Whether a second file holds the percentages that the classes of a mask were chosen "
            "from, before threshold, smallest area and buffer; of the same run of the model. Batch "
            "jobs only, and at most 600 million values a file."
        ),
    },
    "image": {
        "type": "array",
        "subtype": "band-names",
        "items": {"type": "string"},
        "default": [],
        "description": (
            "Names of bands: a third file holds them as reflectance, to look at beside a mask. "
            "Batch jobs only, and at most 750 million values a file."
        ),
    },
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Beside:
    """What is to be saved beside the masks of a cube."""

    source: MaskSource
    percentages: xr.DataArray | None
    """(t?, bands, y, x) uint8, lazy: the mask, and after it a band for each class."""
    bands: tuple[str, ...]
    """Of the image; empty for none."""

    def keeping(
        self, write: Callable[..., None], date: int, tags: Mapping[str, Any]
    ) -> Callable[[Path], None]:
        """Return what writes a mask by ``write`` and, of the same strips, its percentages.

        Args:
            write: takes the path, and the strips of the mask as ``strips``.
            date: which of the dates it is.
            tags: of the file of percentages.
        """
        if self.percentages is None:
            return write
        both = _of_date(self.percentages, date)

        def write_both(path: Path) -> None:
            target = _percent_path(path)
            scheme = self.source.scheme
            with open_percentages(target, grid=grid_of(both), scheme=scheme, metadata=tags) as put:

                def strips() -> Iterator[Strip]:
                    for row, values in read_strips(both):
                        put((row, values[1:]))
                        yield row, values[:1]

                write(path, strips=strips())

        return write_both

    def finish(self, path: Path, date: int, when: str | None) -> Iterator[tuple[Path, str]]:
        """Yield the files beside the mask ``path`` and their roles; the image is written now."""
        if self.percentages is not None:
            yield _percent_path(path), PERCENTAGES_ROLE
        if self.bands:
            image = path.with_name(f"{path.stem}-image.tif")
            write_image(image, _of_date(self.source.cube, date), self, when)
            yield image, IMAGE_ROLE


def parse_beside(options: Mapping[str, Any], cube: xr.DataArray, run: Run) -> Beside | None:
    """Return what ``options`` of ``save_result`` ask for beside the masks of ``cube``.

    What would be too large is left out, and the job's log says so.

    Raises:
        ApiError: the cube is no mask as it was made, somebody waits for the one file of the
            answer, or the cube that was masked lacks a band.
    """
    wanted, bands = options.get("percentages") or False, options.get("image") or []
    if not isinstance(wanted, bool):
        raise _refuse("percentages", wanted, "true or false")
    if not isinstance(bands, list) or not all(isinstance(name, str) for name in bands):
        raise _refuse("image", bands, "a list of names of bands")
    if not wanted and not bands:
        return None
    source = source_of(cube)
    if source is None or not source.options.categorise or run.spec.synchronous:
        raise _refuse(
            "percentages and image", [wanted, bands],
            "them only where a batch job saves a mask of classes as it was made",
        )  # fmt: skip
    _check_bands(bands, source)
    pixels = math.prod(grid_of(cube).shape_yx)
    if wanted and pixels * len(source.scheme.classes) > KEPT_VALUES:
        runtime.log(run.spec, "warning", f"no percentages: more than {KEPT_VALUES} values a file")
        wanted = False
    if pixels * len(bands) > IMAGE_VALUES:
        runtime.log(
            run.spec, "warning",
            f"no image: {len(bands)} bands of {pixels} pixels are more than {IMAGE_VALUES} values; "
            "ask for fewer bands",
        )  # fmt: skip
        bands = []
    return Beside(
        source=source,
        percentages=source.with_percentages() if wanted else None,
        bands=tuple(dict.fromkeys(bands)),
    )


def write_image(path: Path, scene: xr.DataArray, beside: Beside, when: str | None) -> None:
    """Write the bands of one date of what was masked as a COG of counts, 0 where no-data.

    Args:
        path: the file to write.
        scene: (bands, y, x), one date of ``beside.source.cube``.
        beside: says which bands.
        when: its time.
    """
    source, grid = beside.source, grid_of(scene)
    inputs = ModelInput(sensor=source.sensor, band_names=beside.bands)
    chosen = scene.sel(bands=list(beside.bands)).data
    pixels = CubeReader(chosen, inputs, source.options, nodata_values(source.cube))
    height, width = grid.shape_yx
    profile = {
        "driver": "GTiff", **grid.profile(), "count": len(beside.bands), "dtype": "uint16",
        "nodata": 0, "tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX,
        "interleave": "band", "compress": "deflate", "zlevel": 1, "bigtiff": "IF_SAFER",
    }  # fmt: skip
    with publish_cog(path, profile, average=True, level=1) as dataset:
        dataset.descriptions = beside.bands
        dataset.scales = [SCALE] * len(beside.bands)
        dataset.offsets = [OFFSET] * len(beside.bands)
        dataset.update_tags(SENSOR=source.sensor.id, **({"ACQUIRED": when} if when else {}))
        for row in range(0, height, BLOCK_PX):
            runtime.check_cancelled()
            strip = pixels[:, row : row + BLOCK_PX, 0:width]
            dataset.write(_counts(strip), window=Window(0, row, width, strip.shape[1]))


def _of_date(cube: xr.DataArray, date: int) -> xr.DataArray:
    return cube.isel(t=date) if "t" in cube.dims else cube


def _percent_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}-percent.tif")


def _counts(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    seen = np.isfinite(values)
    counts = np.rint((np.where(seen, values, 0) - OFFSET) / SCALE)
    return np.where(seen, np.clip(counts, 1, 65535), 0).astype(np.uint16)


def _check_bands(bands: Sequence[str], source: MaskSource) -> None:
    there = [str(label) for label in source.cube["bands"].to_numpy()]
    fit = [name for name in there if _is_image(name, source.sensor)]
    if wrong := [name for name in bands if name not in fit]:
        raise _refuse("image", wrong, f"bands of the cube that was masked: {', '.join(fit)}")


def _is_image(name: str, sensor: Sensor) -> bool:
    band = sensor.find_band(name)
    return band is not None and band.kind is not BandKind.QUALITY


def _refuse(name: str, given: object, expected: str) -> ApiError:
    return ApiError(
        "ProcessParameterInvalid", f"options {name} of save_result: {given!r}; expected {expected}"
    )
