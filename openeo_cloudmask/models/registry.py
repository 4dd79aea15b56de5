"""All models, by name. Adding a model is adding an entry here."""

from __future__ import annotations

import difflib

from openeo_cloudmask.errors import UnknownModelError
from openeo_cloudmask.inference import Window
from openeo_cloudmask.models.entry import Licence, ModelEntry, WeightsSource
from openeo_cloudmask.models.own_entries import OWN_MODELS
from openeo_cloudmask.models.sensei_entries import SENSEI_ALIASES, SENSEI_MODELS
from openeo_cloudmask.sensors import SENSORS

_L1C = SENSORS["sentinel-2-l1c"].band_names
_L2A = SENSORS["sentinel-2-l2a"].band_names

_CC_BY_NC_4 = Licence(
    spdx="CC-BY-NC-4.0",
    url="https://creativecommons.org/licenses/by-nc/4.0/",
    non_commercial=True,
)
_APACHE_2 = Licence(spdx="Apache-2.0", url="https://www.apache.org/licenses/LICENSE-2.0")
_CC_BY_SA_4 = Licence(spdx="CC-BY-SA-4.0", url="https://creativecommons.org/licenses/by-sa/4.0/")

_CLOUDSEN12_SOURCE = "https://github.com/IPL-UV/cloudsen12_models"
_AYBAR_2022 = (
    "Aybar, C. et al. (2022): CloudSEN12, a global dataset for semantic understanding of cloud "
    "and cloud shadow in Sentinel-2. Scientific Data 9, 782."
)
_AYBAR_2024 = (
    "Aybar, C. et al. (2024): CloudSEN12+: The largest dataset of expert-labeled pixels for cloud "
    "and cloud shadow detection in Sentinel-2. Data in Brief, 110852."
)
_HOLLSTEIN_2016 = (
    "Hollstein, A. et al. (2016): Ready-to-Use Methods for the Detection of Clouds, Cirrus, Snow, "
    "Shadow, Water and Clear Sky Pixels in Sentinel-2 MSI Images. Remote Sensing 8(8), 666."
)
_WIELAND_2022 = (
    "Wieland, M., Fichtner, F., Martinis, S. (2022): UKIS-CSMASK: A Python package for "
    "multi-sensor cloud and cloud shadow segmentation. Int. Arch. Photogramm. Remote Sens. "
    "Spatial Inf. Sci. XLIII-B3-2022, 217-222."
)


def _cloudsen12_weights(
    file: str, *, sha256: str | None = None, size_bytes: int | None = None
) -> WeightsSource:
    # No commit of this repository is known to us, so the branch is named and the digest decides.
    return WeightsSource(
        repo="isp-uv-es/cloudsen12_models",
        file=file,
        revision="main",
        sha256=sha256,
        size_bytes=size_bytes,
    )


def _cloudsen12_unet(
    name: str, title: str, summary: str, weights: WeightsSource, *, plus: bool = False
) -> ModelEntry:
    return ModelEntry(
        id=name,
        title=title,
        family="CloudSEN12",
        kind="unet-mobilenet-v2",
        summary=summary,
        inputs={"sentinel-2-l1c": _L1C},
        config={"bands": 13, "classes": 4},
        weights=weights,
        licence=_CC_BY_NC_4,
        citation=_AYBAR_2024 if plus else _AYBAR_2022,
        doi="10.1016/j.dib.2024.110852" if plus else "10.1038/s41597-022-01878-2",
        source_url=_CLOUDSEN12_SOURCE,
        trained_on=("CloudSEN12+" if plus else "CloudSEN12",),
    )


def _cloudsen12_script(
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
        kind="torchscript",
        summary=summary,
        inputs=inputs,
        weights=weights,
        licence=_CC_BY_NC_4,
        citation=_AYBAR_2022,
        doi="10.1038/s41597-022-01878-2",
        source_url=_CLOUDSEN12_SOURCE,
        trained_on=("CloudSEN12",),
    )


_CLOUDSEN12 = (
    _cloudsen12_unet(
        "cloudsen12",
        "CloudSEN12, 13 bands, Level-1C",
        "U-Net with a MobileNetV2 encoder on all 13 bands of Sentinel-2 Level-1C.",
        _cloudsen12_weights(
            "cloudsen12.pt",
            sha256="0bc75f66c7bacab864dcc23ba8e5eb7def2468f4094374ff4497ff97a5461fb4",
        ),
    ),
    _cloudsen12_script(
        "cloudsen12l2a",
        "CloudSEN12, 12 bands, Level-2A",
        "Network on the 12 bands of Sentinel-2 Level-2A (no B10), published as TorchScript.",
        {"sentinel-2-l2a": _L2A},
        _cloudsen12_weights("cloudsen12l2a.pt"),
    ),
    _cloudsen12_script(
        "dtacs4bands",
        "CloudSEN12, near infrared, red, green, blue",
        "Network on B08, B04, B03 and B02 of Sentinel-2 Level-1C, published as TorchScript.",
        {"sentinel-2-l1c": ("B08", "B04", "B03", "B02")},
        _cloudsen12_weights("dtacs4bands.pt"),
    ),
    _cloudsen12_script(
        "landsat30",
        "CloudSEN12, the bands that Landsat 8/9 and Sentinel-2 share",
        "Network on coastal, blue, green, red, near infrared, cirrus and both short-wave infrared "
        "bands, trained on Sentinel-2 for use on Landsat 8 and 9; published as TorchScript.",
        {
            # The published code names the bands after Sentinel-2; these are the same ones.
            "landsat-8-9-l1": ("B1", "B2", "B3", "B4", "B5", "B9", "B6", "B7"),
            "sentinel-2-l1c": ("B01", "B02", "B03", "B04", "B08", "B10", "B11", "B12"),
        },
        _cloudsen12_weights(
            "landsat30.pt",
            sha256="473ad34007c4ae13cc04a5e71313f86bc5562148f6038407250541f44bdf7ba6",
        ),
    ),
    _cloudsen12_unet(
        "UNetMobV2_V1",
        "CloudSEN12 U-Net, first version",
        "U-Net with a MobileNetV2 encoder on all 13 bands of Sentinel-2 Level-1C; its masks are "
        "part of the CloudSEN12+ data set.",
        _cloudsen12_weights(
            "UNetMobV2_V1.pt",
            sha256="bcb6db6a592143b43363ba655f46924487a9d5488b49913126424beffeed8d1a",
        ),
    ),
    _cloudsen12_unet(
        "UNetMobV2_V2",
        "CloudSEN12+ U-Net, second version",
        "U-Net with a MobileNetV2 encoder on all 13 bands of Sentinel-2 Level-1C, trained on "
        "CloudSEN12+.",
        _cloudsen12_weights(
            "UNetMobV2_V2.pt",
            sha256="218fa69aa3c7212d4e690b48af88ac6f3c976fc50d07f275b8fd623909183d7a",
            size_bytes=26_796_072,
        ),
        plus=True,
    ),
)

_HOLLSTEIN = ModelEntry(
    id="hollstein",
    title="Hollstein et al. (2016) decision tree",
    family="Hollstein",
    kind="rule",
    summary="A decision tree on single pixels with six classes: clear, water, snow, cirrus, cloud, "
    "shadow. No weights. Without B10 (Level-2A) its two tests on B10 are replaced by tests on B02 "
    "and B11. Each pixel has one class for certain, so its probabilities are 0 or 1.",
    inputs={
        "sentinel-2-l1c": (
            "B01",
            "B02",
            "B03",
            "B05",
            "B06",
            "B07",
            "B8A",
            "B09",
            "B10",
            "B11",
        ),
        "sentinel-2-l2a": ("B01", "B02", "B03", "B05", "B06", "B07", "B8A", "B09", "B11"),
    },
    scheme_name="hollstein-6-class",
    window=Window(size_px=512, multiple_px=1, pixelwise=True),
    extra=None,
    licence=_APACHE_2,
    citation=_HOLLSTEIN_2016,
    doi="10.3390/rs8080666",
    source_url="https://doi.org/10.3390/rs8080666",
)

_UKIS = ModelEntry(
    id="ukis-csmask",
    title="UKIS cloud and shadow mask",
    family="ukis-csmask",
    kind="adapter",
    summary="U-Net with an EfficientNet-B4 encoder for Sentinel-2 and Landsat, of the German "
    "Aerospace Center; its weights come with the package ukis-csmask, so it works offline. Clear, "
    "cloud and shadow; it has no thin cloud. Made for pixels of about 30 m.",
    inputs={
        "sentinel-2-l1c": ("B02", "B03", "B04", "B08", "B11", "B12"),
        "sentinel-2-l2a": ("B02", "B03", "B04", "B08", "B11", "B12"),
        "landsat-8-9-l1": ("B2", "B3", "B4", "B5", "B6", "B7"),
        "landsat-7-l1": ("B1", "B2", "B3", "B4", "B5", "B7"),
        "landsat-4-5-l1": ("B1", "B2", "B3", "B4", "B5", "B7"),
    },
    alternatives={
        "sentinel-2-l1c": (("B02", "B03", "B04", "B08"),),
        "sentinel-2-l2a": (("B02", "B03", "B04", "B08"),),
        "landsat-8-9-l1": (("B2", "B3", "B4", "B5"),),
        "landsat-7-l1": (("B1", "B2", "B3", "B4"),),
        "landsat-4-5-l1": (("B1", "B2", "B3", "B4"),),
    },
    window=Window(size_px=512, multiple_px=256),
    extra="ukis",
    licence=_APACHE_2,
    citation=_WIELAND_2022,
    doi="10.5194/isprs-archives-XLIII-B3-2022-217-2022",
    source_url="https://github.com/dlr-eoc/ukis-csmask",
    trained_on=("SPARCS", "CloudSEN12+"),
)

_S2CLOUDLESS = ModelEntry(
    id="s2cloudless",
    title="s2cloudless",
    family="s2cloudless",
    kind="adapter",
    summary="Gradient boosting (LightGBM) on single pixels of 10 bands of Sentinel-2 Level-1C; its "
    "weights come with the package s2cloudless, so it works offline. Cloud or not: it has no "
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
    extra="s2cloudless",
    licence=_CC_BY_SA_4,
    citation="Sentinel Hub's cloud detector for Sentinel-2 imagery: s2cloudless.",
    source_url="https://github.com/sentinel-hub/sentinel2-cloud-detector",
)

MODELS: dict[str, ModelEntry] = {
    entry.id: entry
    for entry in (
        *SENSEI_MODELS,
        *_CLOUDSEN12,
        *OWN_MODELS,
        _HOLLSTEIN,
        _UKIS,
        _S2CLOUDLESS,
    )
}
"""Model name -> entry, in the order they are listed to users."""

ALIASES: dict[str, str] = {**SENSEI_ALIASES}
"""Other names of models: short name -> name in ``MODELS``."""


def get_model(name: str) -> ModelEntry:
    """Return the model called ``name`` (or known by that alias; case does not matter).

    Raises:
        UnknownModelError: there is none; the message lists the nearest names.
    """
    names = {key.lower(): key for key in MODELS} | {
        key.lower(): target for key, target in ALIASES.items()
    }
    wanted = str(name).strip().lower()
    if wanted in names:
        return MODELS[names[wanted]]
    known = [*ALIASES, *MODELS]
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(repr(names[item]) for item in near)}?" if near else "."
    raise UnknownModelError(f"unknown model {name!r}{hint} Known are: {', '.join(known)}")
