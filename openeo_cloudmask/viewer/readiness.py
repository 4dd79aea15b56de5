"""Whether a model can run on this machine now; nothing is downloaded to find out."""

from __future__ import annotations

from importlib.util import find_spec

from openeo_cloudmask.models.entry import ModelEntry
from openeo_cloudmask.models.onnx_detector import packaged_onnx
from openeo_cloudmask.models.weights import packaged_weights, weights_here

_MODULES = {
    "torch": ("torch",),
    "ukis": ("ukis_csmask", "onnxruntime"),
    "s2cloudless": ("s2cloudless", "lightgbm"),
}
"""What has to be there for each extra."""
READY = "yes"


def readiness(entry: ModelEntry) -> str:
    """Return ``READY``, or what is missing: an extra, weights to be fetched, or to be trained."""
    if packaged_onnx(entry).is_file():
        return READY
    lacks = [name for name in _MODULES.get(entry.extra or "", ()) if find_spec(name) is None]
    if lacks:
        return f"needs the extra {entry.extra}"
    if entry.weights is not None and not weights_here(entry):
        size = entry.weights.size_bytes
        text = "" if size is None else f" ({size / 1e6:.0f} MB)"
        return f"fetches its weights first{text}"
    if entry.weights is None and entry.kind.own_weights and not packaged_weights(entry).is_file():
        return "needs weights that you train"
    return READY
