"""DL-L8S2-UV: the small networks of Lopez-Puigdollers et al. (2021), cloud/non-cloud."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openeo_cloudmask.inference import Window
from openeo_cloudmask.models.entry import Family, Licence, LoadRequest, ModelEntry, WeightsSource
from openeo_cloudmask.models.kinds import network_kind
from openeo_cloudmask.sensors import CommonBands

if TYPE_CHECKING:
    from torch import nn

_REPOSITORY = "IPL-UV/DL-L8S2-UV"
_COMMIT = "05c91ab118e5f3289db1cf172cf847322f2e3424"
_VISIBLE_NIR = ("blue", "green", "red", "nir")


def _read_network(request: LoadRequest) -> nn.Module:
    """The network with the weights of a published file, or of a state dict with its names."""
    from openeo_cloudmask.models.keras_weights import is_hdf5
    from openeo_cloudmask.models.networks.dl_l8s2_uv import read_published
    from openeo_cloudmask.models.state_dict import load_network_strict, load_tensors_strict

    path = request.weights_file
    if not is_hdf5(path):
        return load_network_strict(request)
    network = request.entry.kind.build(request.entry.config)
    load_tensors_strict(network, read_published(path), path)
    return network


SEPARABLE_UNET = network_kind(
    "dl-l8s2-uv",
    "U-Net of depthwise separable convolutions",
    "dl_l8s2_uv",
    read=_read_network,
)


def _entry(
    name: str, bands: str, file: str, sha256: str, size_bytes: int, takes: tuple[str, ...]
) -> ModelEntry:
    return ModelEntry(
        id=name,
        title=f"DL-L8S2-UV, {bands}",
        family="DL-L8S2-UV",
        kind=SEPARABLE_UNET,
        summary=f"A U-Net of 0.1 million parameters on {bands}, trained on Landsat 8 scenes of the "
        "L8 Biome data set: its scores there are no independent ones. Cloud/non-cloud: what it "
        "calls cloud is reported as thick cloud; it has no thin cloud and no shadow. Made for "
        "top-of-atmosphere reflectance at pixels of 30 m; its authors tried it on Landsat 8 and "
        "Sentinel-2.",
        inputs=CommonBands(takes=takes, first="landsat-8-9-l1").inputs,
        config={"bands": len(takes)},
        window=Window(size_px=512, multiple_px=4),
        weights=WeightsSource(
            host="github",
            repo=_REPOSITORY,
            revision=_COMMIT,
            file=f"dl_l8s2_uv/weights/{file}",
            sha256=sha256,
            size_bytes=size_bytes,
        ),
        licence=Licence(spdx="MIT", url=f"https://github.com/{_REPOSITORY}/blob/{_COMMIT}/LICENSE"),
        citation="López-Puigdollers, D., Mateo-García, G., Gómez-Chova, L. (2021): Benchmarking "
        "Deep Learning Models for Cloud Detection in Landsat-8 and Sentinel-2 Images. Remote "
        "Sensing 13(5), 992.",
        doi="10.3390/rs13050992",
        source_url=f"https://github.com/{_REPOSITORY}",
        trained_on=("L8 Biome",),
        untold=("thin-cloud", "cloud-shadow"),
    )


_MODELS = (
    _entry(
        "dl-l8s2-uv-rgbi",
        "blue, green, red and near infrared",
        "landsatbiomeRGBI6.hdf5",
        "6ca3a18f5d8e916a41853961beb74de860af6ca369e0a824f68d63c745a4bf16",
        1_418_400,
        _VISIBLE_NIR,
    ),
    _entry(
        "dl-l8s2-uv-rgbiswir",
        "blue, green, red, near and both short-wave infrared",
        "landsatbiomeRGBISWIR7.hdf5",
        "ed8cf5ea52353fd4712010e2c0af3bf638b35b7dfd3b4d9297a76f85b43d97a1",
        1_418_160,
        (*_VISIBLE_NIR, "swir16", "swir22"),
    ),
)

FAMILY = Family(order=45, models=_MODELS, aliases={"dl-l8s2-uv": "dl-l8s2-uv-rgbiswir"})
