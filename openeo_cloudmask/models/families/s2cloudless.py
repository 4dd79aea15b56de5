"""s2cloudless of Sentinel Hub: gradient boosting on single pixels of Sentinel-2 Level-1C.

Only its model file is used, through LightGBM; the package itself needs a Sentinel Hub client.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import FOUR_CLASS, ClassScheme
from openeo_cloudmask.errors import MissingExtraError
from openeo_cloudmask.inference import Window
from openeo_cloudmask.models.devices import choose_device
from openeo_cloudmask.models.entry import (
    Family,
    Licence,
    LoadRequest,
    ModelEntry,
    ModelKind,
    WeightsSource,
)

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


def load_s2cloudless(request: LoadRequest) -> S2CloudlessDetector:
    """The detector with the package's own model.

    Raises:
        MissingExtraError: s2cloudless or lightgbm is not installed.
        OptionError: A GPU was asked for.
    """
    choose_device(request.device, gpus=0, runtime="s2cloudless")
    spec = find_spec("s2cloudless")
    if spec is None or spec.origin is None or find_spec("lightgbm") is None:
        raise MissingExtraError.for_extra("s2cloudless", "The model 's2cloudless'")
    import lightgbm

    path = Path(spec.origin).parent / "models" / "pixel_s2_cloud_detector_lightGBM_v0.1.txt"
    return S2CloudlessDetector(
        booster=lightgbm.Booster(model_file=str(path)),
        band_names=request.model_input.band_names,
        window=request.entry.window,
    )


BOOSTING = ModelKind(
    id="s2cloudless",
    architecture="Gradient-boosted decision trees",
    load=load_s2cloudless,
    framework="LightGBM",
    extra="s2cloudless",
    accelerator="amd64",
    artifact="lightgbm",
    asset_title="Weights, which the package s2cloudless brings along",
    brought=WeightsSource(
        host="github",
        repo="sentinel-hub/sentinel2-cloud-detector",
        revision="711d86176416b5afc2960963777407062adf852f",
        file="s2cloudless/models/pixel_s2_cloud_detector_lightGBM_v0.1.txt",
        sha256="0f92b6822cc0ad42982f55bab9b1688329e119451ad9a9e0a56384b9f37bc61d",
        size_bytes=10975392,
    ),
)

_S2CLOUDLESS = ModelEntry(
    id="s2cloudless",
    title="s2cloudless",
    family="s2cloudless",
    kind=BOOSTING,
    summary="Gradient boosting (LightGBM) on single pixels of 10 bands of Sentinel-2 Level-1C; its "
    "weights come with the package s2cloudless, so it works offline. Cloud/non-cloud: it has no "
    "shadow and no thin cloud, and what it calls cloud is reported as thick cloud. The package's "
    "own masks add averaging, a threshold of 0.4 and a dilation, which are not applied here.",
    inputs={
        "sentinel-2-l1c": (
            "B01",
            "B02",
            "B04",
            "B05",
            "B08",
            "B8A",
            "B09",
            "B10",
            "B11",
            "B12",
        ),
    },
    window=Window(size_px=512, multiple_px=1, pixelwise=True),
    untold=("thin-cloud", "cloud-shadow"),
    licence=Licence(spdx="CC-BY-SA-4.0", url="https://creativecommons.org/licenses/by-sa/4.0/"),
    citation="Sentinel Hub's cloud detector for Sentinel-2 imagery: s2cloudless.",
    source_url="https://github.com/sentinel-hub/sentinel2-cloud-detector",
)

FAMILY = Family(order=60, models=(_S2CLOUDLESS,))
