"""s2cloudless of Sentinel Hub: gradient boosting on single pixels of Sentinel-2 Level-1C.

Only its model file is used, through LightGBM; the package itself needs a Sentinel Hub client.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import FOUR_CLASS, ClassScheme
from openeo_cloudmask.errors import MissingExtraError
from openeo_cloudmask.inference import Window

if TYPE_CHECKING:
    from openeo_cloudmask.models.entry import ModelEntry

_CLEAR, _CLOUD = FOUR_CLASS.index("clear"), FOUR_CLASS.index("thick-cloud")


@dataclass(frozen=True, slots=True, kw_only=True)
class S2CloudlessDetector:
    """A ``Detector``; thin cloud and shadow always have probability 0."""

    booster: Any
    band_names: tuple[str, ...]
    window: Window
    scheme: ClassScheme = FOUR_CLASS

    def predict_windows(
        self, windows: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return class probabilities; see ``Detector``. Pixels not valid are called clear."""
        out = np.zeros((len(windows), len(self.scheme.classes), *windows.shape[2:]), np.float32)
        cloud = np.zeros(valid.shape, np.float32)
        if valid.any():
            cloud[valid] = self.booster.predict(np.moveaxis(windows, 1, -1)[valid])
        out[:, _CLOUD] = cloud
        out[:, _CLEAR] = 1.0 - cloud
        return out


def load_s2cloudless(entry: ModelEntry, band_names: tuple[str, ...]) -> S2CloudlessDetector:
    """The detector with the package's own model.

    Raises:
        MissingExtraError: s2cloudless or lightgbm is not installed.
    """
    spec = find_spec("s2cloudless")
    if spec is None or spec.origin is None or find_spec("lightgbm") is None:
        raise MissingExtraError.for_extra("s2cloudless", "The model 's2cloudless'")
    import lightgbm

    path = Path(spec.origin).parent / "models" / "pixel_s2_cloud_detector_lightGBM_v0.1.txt"
    return S2CloudlessDetector(
        booster=lightgbm.Booster(model_file=str(path)),
        band_names=band_names,
        window=entry.window,
    )
