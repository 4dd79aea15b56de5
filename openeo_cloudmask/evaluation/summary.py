"""A mask against the truth, in a few numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import CLOUD_NONCLOUD, FOUR_CLASS, VALID_INVALID, map_labels
from openeo_cloudmask.evaluation.scores import Confusion, count_confusion


def balanced_accuracies(truth: NDArray[np.uint8], mask: NDArray[np.uint8]) -> dict[str, float]:
    """Return the balanced accuracy of cloud, of shadow and of invalid pixels.

    The mean of the share of pixels found and the share of other pixels left alone; cloud is thick
    and thin cloud together, invalid is cloud and shadow together.

    Args:
        truth: (y, x) uint8, the four classes, 255 no-data.
        mask: same shape and meaning.
    """
    cloud = count_confusion(
        map_labels(truth, FOUR_CLASS, CLOUD_NONCLOUD),
        map_labels(mask, FOUR_CLASS, CLOUD_NONCLOUD),
        CLOUD_NONCLOUD,
    )
    invalid = count_confusion(
        map_labels(truth, FOUR_CLASS, VALID_INVALID),
        map_labels(mask, FOUR_CLASS, VALID_INVALID),
        VALID_INVALID,
    )
    return {
        "cloud": cloud.scores().of("cloud").balanced_accuracy,
        "shadow": four_classes(truth, mask).scores().of("cloud-shadow").balanced_accuracy,
        "valid/invalid": invalid.scores().of("invalid").balanced_accuracy,
    }


def four_classes(truth: NDArray[np.uint8], mask: NDArray[np.uint8]) -> Confusion:
    """Return the confusion matrix of two four-class masks."""
    return count_confusion(truth, mask, FOUR_CLASS)
