"""A mask with other thresholds and a buffer, from the percentages that were kept: no model runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling

from openeo_cloudmask.classes import NODATA, SCHEMES, ClassScheme
from openeo_cloudmask.cleaning import plan_cleaning
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.evaluation.cases import plan_cases
from openeo_cloudmask.evaluation.evaluate import Evaluation, Reference, ScoreSettings, evaluate_mask
from openeo_cloudmask.evaluation.grids import GridMask
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products.cog import write_cog
from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.products.stack import raster_grid

TRIAL_PX = 2048
"""A trial has at most so many pixels along a side; larger masks are tried on coarser ones."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Percentages:
    """What the classes of a mask were chosen from."""

    values: NDArray[np.uint8]
    """(class, y, x) uint8, 0-100, 255 where no-data; in the order of ``scheme``."""
    scheme: ClassScheme
    grid: Grid
    step: int
    """Pixels of the file per pixel here, along a side; averaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is tried: probabilities 0-1 from which on a pixel is cloud or shadow, and a buffer."""

    cloud: float | None = None
    shadow: float | None = None
    buffer_m: int = 0

    def options(self) -> dict[str, str]:
        """Return it as options of a mask."""
        parts = {"cloud": self.cloud, "shadow": self.shadow}
        threshold = ",".join(f"{kind}={share:g}" for kind, share in parts.items() if share)
        found = {"threshold": threshold} if threshold else {}
        return found | ({"buffer": f"{self.buffer_m}m"} if self.buffer_m else {})

    def __bool__(self) -> bool:
        """Return whether it changes anything."""
        return bool(self.options())


def read_percentages(path: Path) -> Percentages:
    """Return the percentages kept beside a mask; of a large one coarser, averaged by its overviews.

    Raises:
        ProductError: they cannot be read.
        OptionError: the file does not say its classes.
    """
    with open_raster(path) as source:
        scheme = SCHEMES.get(source.tags().get("CLASS_SCHEME", ""))
        if scheme is None or source.count != len(scheme.classes):
            raise OptionError(f"{path.name} holds no percentages of known classes")
        grid = raster_grid(source)
        step = max(1, -(-max(grid.shape_yx) // TRIAL_PX))
        shape = tuple(max(length // step, 1) for length in grid.shape_yx)
        values = source.read(
            out_shape=(source.count, *shape),
            resampling=Resampling.average if step > 1 else Resampling.nearest,
        )
    affine = grid.transform
    if step > 1 and affine is not None:
        scale = (grid.shape_yx[1] / shape[1], grid.shape_yx[0] / shape[0])
        grid = Grid(
            shape_yx=(shape[0], shape[1]), crs=grid.crs, transform=affine * affine.scale(*scale)
        )
    return Percentages(values=values, scheme=scheme, grid=grid, step=step)


def try_mask(kept: Percentages, trial: Trial) -> GridMask:
    """Return the mask that a run with these options gives, up to the rounding to whole percents.

    Raises:
        OptionError: the classes have no shadow, or pixels are not in metres.
    """
    options: dict[str, Any] = dict(trial.options())
    cleaning = plan_cleaning(MaskOptions(**options), kept.scheme, kept.grid.pixel_m)
    styled = kept.values.astype(np.float32) / np.float32(100)
    styled[:, (kept.values == NODATA).any(axis=0)] = np.nan
    planes = cleaning.classify(styled)
    labels = np.concatenate([part for _, part in cleaning.finish(iter([(0, planes)]))], axis=1)[0]
    return GridMask(labels=labels, scheme=kept.scheme, grid=kept.grid, name="the trial")


def score_trial(mask: GridMask, reference: Reference) -> Evaluation:
    """Return how a trial compares with a reference, without any further dilation.

    Raises:
        ReferenceDataError: the two do not overlap or have no classes in common.
    """
    return evaluate_mask(mask, reference, ScoreSettings(cases=plan_cases()))


def write_trial(mask: GridMask, path: Path) -> Path:
    """Return ``path`` after writing a trial for the map."""
    return write_cog(path, [(0, mask.labels[np.newaxis])], grid=mask.grid, scheme=mask.scheme)
