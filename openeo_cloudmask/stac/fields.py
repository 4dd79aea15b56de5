"""How facts of the registry are said in fields that other extensions define.

Tables that both directions need: ``model_item`` writes with them, ``reader`` reads with them.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from openeo_cloudmask.errors import CatalogError
from openeo_cloudmask.models.entry import WEIGHTS_URLS, ModelEntry, WeightsSource
from openeo_cloudmask.sensors import Band, BandKind
from openeo_cloudmask.sensors.radiometry import THERMAL_RANGE_K

MLM_URI = "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"
ML_MODEL_URI = "https://stac-extensions.github.io/ml-model/v1.0.0/schema.json"
CLASSIFICATION_URI = "https://stac-extensions.github.io/classification/v1.1.0/schema.json"
EO_URI = "https://stac-extensions.github.io/eo/v2.0.0/schema.json"
FILE_URI = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
SCIENTIFIC_URI = "https://stac-extensions.github.io/scientific/v1.0.0/schema.json"
PROCESSING_URI = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"
RENDER_URI = "https://stac-extensions.github.io/render/v2.0.0/schema.json"
PROJECTION_URI = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"

_ARTIFACTS: dict[str, str] = {
    # Suffix of the weights file -> how it was written.
    ".pt": "torch.save",
    ".pth": "torch.save",
    ".safetensors": "safetensors.torch.save_file",
    ".onnx": "onnx",
    ".hdf5": "tf.keras.Model.save",
}
_MEDIA_TYPES: dict[str, str] = {
    "torch.save": "application/octet-stream; application=pytorch",
    "torch.jit.save": "application/octet-stream; application=pytorch",
    "safetensors.torch.save_file": "application/octet-stream; application=safetensors",
    "onnx": "application/octet-stream; application=onnx",
    "tf.keras.Model.save": "application/vnd.hdfgroup.hdf5",
    "lightgbm": "text/plain",
    "python": "text/x-python",
}

SHA2_256 = "1220"
"""Multihash prefix: SHA2-256, 32 bytes."""

_PARTS = {
    "repo": "(?P<repo>[^/]+/[^/]+)",
    "revision": "(?P<revision>[^/]+)",
    "file": "(?P<file>.+)",
}
_WEIGHTS = {
    host: re.compile(template.replace(".", r"\.").format(**_PARTS))
    for host, template in WEIGHTS_URLS.items()
}


def artifact_type(entry: ModelEntry) -> str:
    """Return how the model's file was written (``mlm:artifact_type``)."""
    if entry.kind.artifact is not None or entry.weights is None:
        return entry.kind.artifact or "other"
    return _ARTIFACTS.get(PurePosixPath(entry.weights.file).suffix, "other")


def media_type(artifact: str) -> str:
    """Return the media type of a file written as ``artifact``."""
    return _MEDIA_TYPES.get(artifact, "application/octet-stream")


def multihash(sha256: str) -> str:
    """Return the digest as ``file:checksum`` wants it."""
    return SHA2_256 + sha256


def parse_multihash(value: str, where: str) -> str:
    """Return the SHA-256 in a ``file:checksum``.

    Raises:
        CatalogError: it is no multihash of SHA2-256.
    """
    if not re.fullmatch(SHA2_256 + "[0-9a-f]{64}", value):
        raise CatalogError(
            f"{where} is {value!r}; expected a multihash of SHA2-256: {SHA2_256} and 64 "
            "hexadecimal digits"
        )
    return value.removeprefix(SHA2_256)


def parse_weights_url(url: str, where: str) -> WeightsSource:
    """Return the weights source (without digest and size) at ``url``.

    Raises:
        CatalogError: weights are fetched from the Hugging Face hub and GitHub only, and this is
            elsewhere.
    """
    for host, pattern in _WEIGHTS.items():
        if found := pattern.fullmatch(url):
            repo, revision, file = found["repo"], found["revision"], found["file"]
            return WeightsSource(host=host, repo=repo, revision=revision, file=file)
    named = {"repo": "<owner>/<repository>", "revision": "<revision>", "file": "<file>"}
    places = " or ".join(template.format(**named) for template in WEIGHTS_URLS.values())
    raise CatalogError(
        f"{where} is {url!r}; expected a file of the Hugging Face hub or GitHub, {places}"
    )


def stac_band(band: Band) -> dict[str, object]:
    """Return the band as STAC's core and ``eo`` fields describe it; what a model is fed with.

    Reflectance has the unit 1, thermal bands are kelvin (``value_scaling`` makes them 0-1). Where
    nothing was seen there is 0.
    """
    described: dict[str, object] = {"name": band.name, "gsd": band.resolution_m}
    if band.common_name:
        described["eo:common_name"] = band.common_name
    if band.min_nm is not None and band.max_nm is not None:
        described["eo:center_wavelength"] = round((band.min_nm + band.max_nm) / 2000, 6)
        described["eo:full_width_half_max"] = round((band.max_nm - band.min_nm) / 1000, 6)
    described["unit"] = "K" if band.kind is BandKind.THERMAL else "1"
    described["data_type"] = "float32"
    described["nodata"] = 0
    return described


def value_scaling(bands: list[Band]) -> list[dict[str, object]]:
    """Return MLM's scaling from the bands' units to what the model takes.

    One entry for all bands where all are reflectance (taken as it is), else one per band.
    """
    as_is: dict[str, object] = {"type": "scale", "value": 1}
    if all(band.kind is not BandKind.THERMAL for band in bands):
        return [as_is]
    scalings = []
    for band in bands:
        if band.kind is BandKind.THERMAL:
            low, high = THERMAL_RANGE_K[band.name]
            scalings.append({"type": "min-max", "minimum": low, "maximum": high})
        else:
            scalings.append(as_is)
    return scalings
