"""From windows of pixels to class probabilities of a scene."""

from openeo_cloudmask.inference.batches import Cube
from openeo_cloudmask.inference.detector import Detector, Window
from openeo_cloudmask.inference.kernel import Progress, Watch, predict, predict_strips
from openeo_cloudmask.inference.seams import Seam, join_seam
from openeo_cloudmask.inference.windows import Layout

__all__ = [
    "Cube",
    "Detector",
    "Layout",
    "Progress",
    "Seam",
    "Watch",
    "Window",
    "join_seam",
    "predict",
    "predict_strips",
]
