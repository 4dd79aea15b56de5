"""OmniCloudMask run by its authors' package, to compare with or where it is installed anyway."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import FOUR_CLASS, ClassScheme
from openeo_cloudmask.errors import InputError, MissingExtraError
from openeo_cloudmask.inference import Window
from openeo_cloudmask.models.entry import Family, LoadRequest, ModelKind
from openeo_cloudmask.models.families.omnicloudmask import OMNICLOUDMASK, find_files

_SMALLEST_PX = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageDetector:
    """A ``Detector``: each window is a scene to the package."""

    networks: list[Any]
    device: str
    band_names: tuple[str, ...]
    window: Window
    scheme: ClassScheme = FOUR_CLASS

    def predict_windows(
        self,
        windows: NDArray[np.float32],
        valid: NDArray[np.bool_],  # noqa: ARG002 - the package sees 0 there
    ) -> NDArray[np.float32]:
        """Return class probabilities; see ``Detector``.

        Raises:
            InputError: a window is smaller than the package takes.
        """
        from omnicloudmask import predict_from_array

        height, width = windows.shape[2:]
        if min(height, width) < _SMALLEST_PX:
            raise InputError(
                f"the scene has {height} x {width} pixels; the package omnicloudmask takes "
                f"{_SMALLEST_PX} at least"
            )
        found = np.empty((len(windows), len(self.scheme.classes), height, width), np.float32)
        with warnings.catch_warnings():  # it says that a window is smaller than its patches
            warnings.simplefilter("ignore", UserWarning)
            for window, answer in zip(windows, found, strict=True):
                answer[...] = predict_from_array(
                    window,
                    patch_size=min(height, width),
                    patch_overlap=min(height, width) // 2,
                    inference_device=self.device,
                    export_confidence=True,
                    apply_no_data_mask=False,
                    custom_models=self.networks,
                )
        # It keeps probabilities off 0 and 1, so that they sum to a little more than 1.
        found /= found.sum(axis=1, keepdims=True)
        return found


def _load(request: LoadRequest) -> PackageDetector:
    """The detector with the published weights.

    Raises:
        MissingExtraError: omnicloudmask is not installed.
        WeightsError: the files of weights cannot be had, or are others.
    """
    if find_spec("omnicloudmask") is None:
        raise MissingExtraError.for_extra("omnicloudmask", f"The model {request.entry.id!r}")
    from omnicloudmask.model_utils import (
        load_model_from_weights,
    )

    from openeo_cloudmask.models.networks.prepare import resolve_device

    device = resolve_device(request.device)
    files = find_files(request.weights_file, request.entry)
    return PackageDetector(
        networks=[
            load_model_from_weights(f"tu-{member}", path, "smp", device)
            for member, path in files.items()
        ],
        device=str(device),
        band_names=request.model_input.band_names,
        window=request.entry.window,
    )


KIND = ModelKind(
    id="omnicloudmask-package",
    architecture="Ensemble of U-Nets with RegNetY and EdgeNeXt encoders",
    load=_load,
    extra="omnicloudmask",
)

FAMILY = Family(
    order=26,
    models=(
        replace(
            OMNICLOUDMASK,
            id="omnicloudmask-package",
            title="OmniCloudMask, by its authors' package",
            kind=KIND,
            summary="The same networks and weights as `omnicloudmask`, run by the package "
            "omnicloudmask itself: slower, in fp32, and its authors' own code. Each window of 512 "
            "pixels is a scene to it.",
        ),
    ),
)
