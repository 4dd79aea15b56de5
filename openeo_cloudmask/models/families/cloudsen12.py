"""CloudSEN12: the networks of the data set's authors for Sentinel-2 and Landsat."""

from __future__ import annotations

from openeo_cloudmask.models.entry import Family, Licence, ModelEntry, WeightsSource
from openeo_cloudmask.models.kinds import TORCHSCRIPT, network_kind
from openeo_cloudmask.sensors import SENSORS, CommonBands

_L1C = SENSORS["sentinel-2-l1c"].band_names
_L2A = SENSORS["sentinel-2-l2a"].band_names

_CC_BY_NC_4 = Licence(
    spdx="CC-BY-NC-4.0",
    url="https://creativecommons.org/licenses/by-nc/4.0/",
    non_commercial=True,
)
_SOURCE = "https://github.com/IPL-UV/cloudsen12_models"
_AYBAR_2022 = (
    "Aybar, C. et al. (2022): CloudSEN12, a global dataset for semantic understanding of cloud "
    "and cloud shadow in Sentinel-2. Scientific Data 9, 782."
)
_AYBAR_2024 = (
    "Aybar, C. et al. (2024): CloudSEN12+: The largest dataset of expert-labeled pixels for cloud "
    "and cloud shadow detection in Sentinel-2. Data in Brief, 110852."
)


UNET = network_kind("unet-mobilenet-v2", "U-Net with MobileNetV2 encoder", "unet")


def _weights(
    file: str,
    *,
    sha256: str | None = None,
    size_bytes: int | None = None,
    also_named: tuple[str, ...] = (),
) -> WeightsSource:
    # No commit of this repository is known to us, so the branch is named and the digest decides.
    return WeightsSource(
        repo="isp-uv-es/cloudsen12_models",
        file=file,
        revision="main",
        sha256=sha256,
        size_bytes=size_bytes,
        also_named=also_named,
    )


def _unet(
    name: str, title: str, summary: str, weights: WeightsSource, *, plus: bool = False
) -> ModelEntry:
    return ModelEntry(
        id=name,
        title=title,
        family="CloudSEN12",
        kind=UNET,
        summary=summary,
        inputs={"sentinel-2-l1c": _L1C},
        config={"bands": 13, "classes": 4},
        weights=weights,
        licence=_CC_BY_NC_4,
        citation=_AYBAR_2024 if plus else _AYBAR_2022,
        doi="10.1016/j.dib.2024.110852" if plus else "10.1038/s41597-022-01878-2",
        source_url=_SOURCE,
        trained_on=("CloudSEN12+" if plus else "CloudSEN12",),
    )


def _script(
    name: str,
    title: str,
    summary: str,
    inputs: dict[str, tuple[str, ...]],
    weights: WeightsSource,
) -> ModelEntry:
    return ModelEntry(
        id=name,
        title=title,
        family="CloudSEN12",
        kind=TORCHSCRIPT,
        summary=summary,
        inputs=inputs,
        weights=weights,
        licence=_CC_BY_NC_4,
        citation=_AYBAR_2022,
        doi="10.1038/s41597-022-01878-2",
        source_url=_SOURCE,
        trained_on=("CloudSEN12",),
    )


_MODELS = (
    _unet(
        "cloudsen12",
        "CloudSEN12, 13 bands, Level-1C",
        "U-Net with a MobileNetV2 encoder on all 13 bands of Sentinel-2 Level-1C.",
        _weights(
            "cloudsen12.pt",
            sha256="0bc75f66c7bacab864dcc23ba8e5eb7def2468f4094374ff4497ff97a5461fb4",
        ),
    ),
    _script(
        "cloudsen12l2a",
        "CloudSEN12, 12 bands, Level-2A",
        "Network on the 12 bands of Sentinel-2 Level-2A (no B10), published as TorchScript.",
        {"sentinel-2-l2a": _L2A},
        # The package cloudsen12-models 1.0.2 has it by the second name.
        _weights("cloudsen12l2a.pt", also_named=("cloudsen12-s2-l2a-1.0.0.pt",)),
    ),
    _script(
        "dtacs4bands",
        "CloudSEN12, near infrared, red, green, blue",
        "Network on B08, B04, B03 and B02 of Sentinel-2 Level-1C, published as TorchScript.",
        {"sentinel-2-l1c": ("B08", "B04", "B03", "B02")},
        _weights("dtacs4bands.pt"),
    ),
    _script(
        "landsat30",
        "CloudSEN12, the bands that Landsat 8/9 and Sentinel-2 share",
        "Network on coastal, blue, green, red, near infrared, cirrus and both short-wave infrared "
        "bands, trained on Sentinel-2 for use on Landsat 8 and 9; published as TorchScript.",
        CommonBands(
            takes=("coastal", "blue", "green", "red", "nir", "cirrus", "swir16", "swir22"),
            first="landsat-8-9-l1",
        ).inputs,
        _weights(
            "landsat30.pt",
            sha256="473ad34007c4ae13cc04a5e71313f86bc5562148f6038407250541f44bdf7ba6",
        ),
    ),
    _unet(
        "UNetMobV2_V1",
        "CloudSEN12 U-Net, first version",
        "U-Net with a MobileNetV2 encoder on all 13 bands of Sentinel-2 Level-1C; its masks are "
        "part of the CloudSEN12+ data set.",
        _weights(
            "UNetMobV2_V1.pt",
            sha256="bcb6db6a592143b43363ba655f46924487a9d5488b49913126424beffeed8d1a",
        ),
    ),
    _unet(
        "UNetMobV2_V2",
        "CloudSEN12+ U-Net, second version",
        "U-Net with a MobileNetV2 encoder on all 13 bands of Sentinel-2 Level-1C, trained on "
        "CloudSEN12+.",
        _weights(
            "UNetMobV2_V2.pt",
            sha256="218fa69aa3c7212d4e690b48af88ac6f3c976fc50d07f275b8fd623909183d7a",
            size_bytes=26_796_072,
        ),
        plus=True,
    ),
)

FAMILY = Family(order=20, models=_MODELS)
