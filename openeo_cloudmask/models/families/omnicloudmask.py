"""OmniCloudMask: an ensemble of two networks for red, green and near infrared of any sensor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.inference import Window
from openeo_cloudmask.models.entry import Family, Licence, LoadRequest, ModelEntry, WeightsSource
from openeo_cloudmask.models.kinds import network_kind

if TYPE_CHECKING:
    from torch import nn

    from openeo_cloudmask.models.omnicloudmask_layout import Logits

_FILES = {
    name: f"PM_model_OCM_7.97_R_G_NIR_3_smp_{published}_PT_state.safetensors"
    for name, published in (
        ("regnety_004", "regnety_004.pycls_in1k"),
        ("edgenext_small", "edgenext_small.usi_in1k"),
    )
}
"""Member of the ensemble -> its file; both lie in one folder."""


def _source(member: str) -> WeightsSource:
    # No commit and no digest of this repository is known to us; first downloads are recorded.
    return WeightsSource(repo="NickWright/OmniCloudMask", file=_FILES[member], revision="main")


def find_files(first: Path, entry: ModelEntry) -> dict[str, Path]:
    """Return the files of both members: beside the first one, or downloaded.

    Raises:
        WeightsError: the other file cannot be had.
    """
    from openeo_cloudmask.models.weights import find_weights

    found = {}
    for member, name in _FILES.items():
        beside = first.with_name(name)
        found[member] = (
            beside if beside.is_file() else find_weights(replace(entry, weights=_source(member)))
        )
    return found


def _read_network(path: Path, entry: ModelEntry) -> nn.Module:
    """The ensemble with its weights: of both published files, or of one that holds both."""
    from openeo_cloudmask.models.state_dict import load_state_dict_strict

    network: Any = entry.kind.build(entry.config)
    if path.name not in _FILES.values():  # somebody's own training run
        load_state_dict_strict(network, path)
        return network  # type: ignore[no-any-return]
    files = find_files(path, entry)
    for member, file in zip(network.members, files.values(), strict=True):
        load_state_dict_strict(member, file)
    return network  # type: ignore[no-any-return]


def _read(request: LoadRequest) -> nn.Module:
    return _read_network(request.weights_file, request.entry)


def open_logits(weights: str | Path | None = None, device: str = "auto") -> Logits:
    """Return the ensemble for `omnicloudmask_layout.mask_scene`, in the arithmetic of its package.

    Args:
        weights: a folder with both files; None finds them as ``cloudmask run`` does.
        device: a torch device, or ``auto``.

    Raises:
        WeightsError: they cannot be had, or are not these networks'.
        OptionError: there is no such device.
    """
    from openeo_cloudmask.models.networks.prepare import prepare
    from openeo_cloudmask.models.omnicloudmask_layout import network_logits
    from openeo_cloudmask.models.weights import find_weights

    network = _read_network(find_weights(OMNICLOUDMASK, weights), OMNICLOUDMASK)
    return network_logits(prepare(network, device, "fp32"))


KIND = network_kind(
    "omnicloudmask",
    "Ensemble of U-Nets with RegNetY and EdgeNeXt encoders",
    "omnicloudmask",
    read=_read,
)

OMNICLOUDMASK = ModelEntry(
    id="omnicloudmask",
    title="OmniCloudMask, red, green and near infrared of any sensor",
    family="OmniCloudMask",
    kind=KIND,
    summary="Two U-Nets whose answers are averaged, on red, green and near infrared alone, of "
    "version 4 of the published weights. Each window is normalised by itself, so that reflectance "
    "need not be calibrated. Made for pixels of 10 to 50 m. The package of its authors lays out "
    "windows of 1000 pixels from the scene's corner and moves those with no-data; here windows of "
    "512 pixels lie on the grid of all other models, so masks differ a little.",
    inputs={
        "sentinel-2-l1c": ("B04", "B03", "B8A"),
        "sentinel-2-l2a": ("B04", "B03", "B8A"),
        "landsat-8-9-l1": ("B4", "B3", "B5"),
        "landsat-8-9-l2": ("B4", "B3", "B5"),
        "landsat-7-l1": ("B3", "B2", "B4"),
        "landsat-7-l2": ("B3", "B2", "B4"),
        "landsat-4-5-l1": ("B3", "B2", "B4"),
        "landsat-4-5-l2": ("B3", "B2", "B4"),
    },
    window=Window(size_px=512, multiple_px=32),
    weights=_source("regnety_004"),
    licence=Licence(spdx="MIT", url="https://github.com/DPIRD-DMA/OmniCloudMask/blob/main/LICENSE"),
    citation="Wright, N., Duncan, J. M. A., Callow, J. N., Thompson, S. E., George, R. J. (2025): "
    "Training sensor-agnostic deep learning models for remote sensing: Achieving state-of-the-art "
    "cloud and cloud shadow identification with OmniCloudMask. Remote Sensing of Environment 322, "
    "114694.",
    doi="10.1016/j.rse.2025.114694",
    source_url="https://github.com/DPIRD-DMA/OmniCloudMask",
    trained_on=("CloudSEN12", "KappaSet", "labels of its authors"),
)

FAMILY = Family(order=25, models=(OMNICLOUDMASK,), aliases={"ocm": "omnicloudmask"})
