"""Real scenes to train ``mini`` with, as its planes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.evaluation import labelled as files
from openeo_cloudmask.sensors import find_common, get_sensor
from openeo_cloudmask.training.scenes import (
    ANY_CLOUD,
    CLEAR,
    CLEAR_OR_SHADOW,
    PLANE_COUNT,
    UNSEEN,
)

if TYPE_CHECKING:
    Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledScene:
    """A scene labelled by hand."""

    name: str
    planes: Floats
    """(7, y, x) float32, reflectance, 0 where no-data or not given."""
    present: Floats
    """(7,) float32, 1 where the plane is given."""
    truth: NDArray[np.uint8]
    """(y, x) uint8, the labels of ``scenes``."""
    corrected: bool
    """Whether it is corrected to the ground."""

    @property
    def group(self) -> str:
        """The scenes it belongs to: what comes before the first ``_`` of its name."""
        return self.name.split("_")[0]


def read_labelled(path: Path, *, labelled: bool = True) -> LabelledScene:
    """Return the scene in a file that ``cloudmask evaluate`` reads, as planes of ``mini``.

    Args:
        path: the file.
        labelled: whether it holds labels.

    Raises:
        ReferenceDataError: the file is no such scene.
    """
    from openeo_cloudmask.models.networks.mini import PLANES

    scene = files.read_labelled(path, labelled=labelled)
    planes = np.zeros((PLANE_COUNT, *scene.label.shape), np.float32)
    present = np.zeros(PLANE_COUNT, np.float32)
    seen = np.isfinite(scene.cube).all(axis=0)
    for name, band in find_common(get_sensor(scene.sensor), scene.bands).items():
        if name not in PLANES:
            continue
        place = PLANES.index(name)
        planes[place] = np.maximum(np.where(seen, scene.cube[band], 0), 1e-4) * seen
        present[place] = 1
    truth = np.where(seen, scene.label, np.uint8(UNSEEN))
    if not scene.thin_labelled:
        truth[truth == 1] = ANY_CLOUD
    if not scene.shadow_labelled:
        truth[truth == CLEAR] = CLEAR_OR_SHADOW
    return LabelledScene(
        name=scene.name,
        planes=planes,
        present=present,
        truth=truth,
        corrected=get_sensor(scene.sensor).level.startswith("L2"),
    )
