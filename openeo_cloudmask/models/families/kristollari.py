"""The patch CNN of Kristollari and Karathanassi (2020), for users to train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openeo_cloudmask.inference import Window
from openeo_cloudmask.models.entry import Family, Licence, LoadRequest, ModelEntry
from openeo_cloudmask.models.kinds import network_kind

if TYPE_CHECKING:
    from openeo_cloudmask.models.networks.exported import ExportedForm


def _export(request: LoadRequest) -> ExportedForm:
    from openeo_cloudmask.models.networks.exported import ExportedForm
    from openeo_cloudmask.models.state_dict import load_network_strict

    network: Any = load_network_strict(request)
    return ExportedForm(network.inference_form("fp32"), softmax=True)


PATCH_CNN = network_kind(
    "kristollari-cnn",
    "Convolutional network on patches",
    "patch_cnn",
    export=_export,
    artifact="safetensors.torch.save_file",
    own_weights=True,
    asset_title="Weights, which each user trains: none are published",
)

KRISTOLLARI_CNN = ModelEntry(
    id="kristollari-cnn",
    title="Patch CNN of Kristollari and Karathanassi (2020)",
    family="kristollari-cnn",
    kind=PATCH_CNN,
    summary="A convolutional network of 6,363 parameters that looks at 16 x 16 pixels of 60 m "
    "around each pixel and tells cloud/non-cloud. No weights are published: train them with "
    "`cloudmask train kristollari-cnn` and pass the file as the option 'weights'. What it calls "
    "cloud is reported as such; it has no shadow.",
    inputs={
        "sentinel-2-l1c": (
            "B01",
            "B02",
            "B03",
            "B04",
            "B05",
            "B06",
            "B07",
            "B08",
            "B09",
            "B10",
            "B11",
            "B12",
            "B8A",
        ),
    },
    window=Window(size_px=512, multiple_px=1, rim_px=8, mirrored=False),
    config={"bands": 13},
    untold=("thin-cloud", "cloud-shadow"),
    licence=Licence(spdx="Apache-2.0", url="https://www.apache.org/licenses/LICENSE-2.0"),
    citation="Kristollari, V., Karathanassi, V. (2020): Convolutional neural networks for "
    "detecting challenging cases in cloud masking using Sentinel-2 imagery. Proc. SPIE 11524, "
    "115240K.",
    doi="10.1117/12.2571111",
    source_url="https://doi.org/10.1117/12.2571111",
)

FAMILY = Family(order=31, models=(KRISTOLLARI_CNN,))
