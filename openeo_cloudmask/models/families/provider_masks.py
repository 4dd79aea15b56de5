"""Masks that providers ship with their products, as models that read instead of computing.

A row of the table below says which quality layers are read and what their codes, bits or shares
mean. Codes that say nothing of a pixel are no-data before a row is asked (``sensors.layers``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import FLAGS_SIX, FOUR_CLASS, ClassScheme
from openeo_cloudmask.errors import InputError
from openeo_cloudmask.inference import Window
from openeo_cloudmask.models.devices import choose_device
from openeo_cloudmask.models.entry import Family, Licence, LoadRequest, ModelEntry, ModelKind

_ELSE = 0
"""Position of the class of pixels without any flag; clear, in every scheme of flags."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderMaskDetector:
    """A ``Detector`` whose planes are quality layers; each pixel stands for itself.

    ``rule["read"]`` is ``codes`` (a class per code), ``flags`` (the first of those with ``class``,
    ``layer`` and ``bits`` whose bits are all set, else clear) or ``share`` (cloud goes from 0 at
    ``clear`` to 1 at ``cloud``); ``rule["layer"]`` names the layer of codes or shares.
    """

    band_names: tuple[str, ...]
    scheme: ClassScheme
    window: Window
    rule: Mapping[str, Any]

    def predict_windows(
        self, windows: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return class probabilities; see ``Detector``.

        Raises:
            InputError: a layer holds values that it cannot hold.
        """
        stored = dict(zip(self.band_names, np.moveaxis(windows, 1, 0), strict=True))
        if self.rule["read"] == "share":
            return self._share(stored[self.rule["layer"]], valid)
        labels = self._codes(stored, valid) if self.rule["read"] == "codes" else self._flags(stored)
        planes = np.arange(len(self.scheme.classes), dtype=np.intp)[:, np.newaxis, np.newaxis]
        one_hot: NDArray[np.float32] = (labels[:, np.newaxis] == planes).astype(np.float32)
        return one_hot

    def _codes(
        self, stored: Mapping[str, NDArray[np.float32]], valid: NDArray[np.bool_]
    ) -> NDArray[np.intp]:
        layer = self.rule["layer"]
        codes = np.where(valid, stored[layer], self.scheme.values[_ELSE])
        values = np.asarray(self.scheme.values)
        places = np.searchsorted(values, codes).clip(max=len(values) - 1)
        if (strange := codes[values[places] != codes]).size:
            raise InputError(
                f"layer {layer} holds {_few(strange)}; expected the codes {values.tolist()} of "
                f"{self.scheme.name!r}. Was it resampled or scaled?"
            )
        return places

    def _flags(self, stored: Mapping[str, NDArray[np.float32]]) -> NDArray[np.intp]:
        bits = {}
        for name in {flag["layer"] for flag in self.rule["flags"]}:
            values = stored[name]
            if (strange := values[(values != np.rint(values)) | (values < 0)]).size:
                raise InputError(
                    f"layer {name} holds {_few(strange)}; expected whole numbers of bit flags. Was "
                    "it resampled or scaled?"
                )
            bits[name] = values.astype(np.int64)
        rows = [
            (self.scheme.index(flag["class"]), flag["layer"], flag["bits"])
            for flag in self.rule["flags"]
        ]
        found: NDArray[np.intp] = np.select(
            [bits[layer] & mask == mask for _, layer, mask in rows],
            [np.intp(place) for place, _, _ in rows],
            np.intp(_ELSE),
        ).astype(np.intp)
        return found

    def _share(self, values: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
        clear, cloud = self.rule["clear"], self.rule["cloud"]
        share = np.where(valid, (values - clear) / (cloud - clear), 0.0).astype(np.float32)
        if (strange := values[(share < -1e-3) | (share > 1 + 1e-3)]).size:
            raise InputError(
                f"layer {self.rule['layer']} holds {_few(strange)}; expected numbers from {clear} "
                f"(clear) to {cloud} (cloud). Was it scaled?"
            )
        out = np.zeros((len(values), len(self.scheme.classes), *values.shape[1:]), np.float32)
        out[:, self.scheme.index("thick-cloud")] = np.clip(share, 0, 1)
        out[:, self.scheme.index("clear")] = 1 - np.clip(share, 0, 1)
        return out


def _few(values: NDArray[np.float32]) -> str:
    found = np.unique(values)
    return ", ".join(f"{value:g}" for value in found[:5]) + (" ..." if found.size > 5 else "")


def load_provider_mask(request: LoadRequest) -> ProviderMaskDetector:
    """Return the detector that reads what the model's entry says.

    Raises:
        OptionError: a GPU was asked for.
    """
    choose_device(request.device, gpus=0, runtime=request.entry.id)
    return ProviderMaskDetector(
        band_names=request.model_input.band_names,
        scheme=request.entry.scheme,
        window=request.entry.window,
        rule=request.entry.config,
    )


READS = ModelKind(
    id="provider-mask",
    architecture="None: reads a mask that is there",
    load=load_provider_mask,
    framework="NumPy",
    extra=None,
    accelerator="amd64",
    artifact="python",
    asset_title="A mask that comes with the product, read by the function",
)

_COPERNICUS = Licence(
    spdx="other",
    url="https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice",
)
_USGS = Licence(spdx="other", url="https://www.usgs.gov/emergency-operations-portal/data-policy")
_S2 = ("sentinel-2-l1c", "sentinel-2-l2a")
_LANDSAT_L1 = ("landsat-8-9-l1", "landsat-7-l1", "landsat-4-5-l1")
_LANDSAT = (*_LANDSAT_L1, "landsat-8-9-l2", "landsat-7-l2", "landsat-4-5-l2")
_SEN2COR = (
    "Main-Knorn, M. et al. (2017): Sen2Cor for Sentinel-2. Proc. SPIE 10427.",
    "10.1117/12.2278218",
)
_S2CLOUDLESS = ("Sentinel Hub's cloud detector for Sentinel-2 imagery: s2cloudless.", None)
_CLOUD_SCORE = (
    (
        "Pasquarella, V. J. et al. (2023): Comprehensive Quality Assessment of Optical Satellite "
        "Imagery Using Weakly Supervised Video Learning. CVPR Workshops, 2125-2135."
    ),
    "10.1109/CVPRW59228.2023.00206",
)
_MAJA = (
    "Hagolle, O. et al. (2017): MAJA Algorithm Theoretical Basis Document. Zenodo.",
    "10.5281/zenodo.1209633",
)
_FMASK = (
    (
        "Qiu, S., Zhu, Z., He, B. (2019): Fmask 4.0: Improved cloud and cloud shadow detection in "
        "Landsats 4-8 and Sentinel-2 imagery. Remote Sensing of Environment 231, 111205."
    ),
    "10.1016/j.rse.2019.05.024",
)
_CFMASK = (
    (
        "Foga, S. et al. (2017): Cloud detection algorithm comparison and validation for "
        "operational Landsat data products. Remote Sensing of Environment 194, 379-390."
    ),
    "10.1016/j.rse.2017.03.026",
)
_HLS = (
    (
        "Claverie, M. et al. (2018): The Harmonized Landsat and Sentinel-2 surface reflectance "
        "data set. Remote Sensing of Environment 219, 145-161."
    ),
    "10.1016/j.rse.2018.09.002",
)


def _model(  # noqa: PLR0913 - a row of a table
    name: str,
    title: str,
    summary: str,
    *,
    bands: tuple[str, ...],
    sensors: tuple[str, ...],
    rule: dict[str, Any],
    cite: tuple[str, str | None],
    source_url: str,
    scheme: str = FOUR_CLASS.name,
    licence: Licence = _COPERNICUS,
) -> ModelEntry:
    return ModelEntry(
        id=name,
        title=title,
        family="ProviderMasks",
        kind=READS,
        summary=f"{summary} Read from the product, not computed.",
        inputs=dict.fromkeys(sensors, bands),
        scheme_name=scheme,
        window=Window(size_px=512, multiple_px=1, pixelwise=True),
        config=rule,
        licence=licence,
        citation=cite[0],
        doi=cite[1],
        source_url=source_url,
    )


def _codes(layer: str) -> dict[str, Any]:
    return {"read": "codes", "layer": layer}


def _flags(*rows: tuple[str, str, int]) -> dict[str, Any]:
    """Return a rule of rows (class, layer, number of the bit), the first that holds counting."""
    flags = [{"class": key, "layer": layer, "bits": 1 << bit} for key, layer, bit in rows]
    return {"read": "flags", "flags": flags}


def _share(layer: str, clear: float, cloud: float) -> dict[str, Any]:
    return {"read": "share", "layer": layer, "clear": clear, "cloud": cloud}


_MODELS = (
    _model(
        "scl",
        "Sen2Cor scene classification (SCL)",
        "The scene classification of Sentinel-2 Level-2A. Medium and high probability are thick "
        "cloud, cirrus is thin cloud; dark areas and unclassified pixels are clear; no data and "
        "defective pixels are no-data.",
        bands=("SCL",),
        sensors=("sentinel-2-l2a",),
        rule=_codes("SCL"),
        scheme="scl",
        cite=_SEN2COR,
        source_url="https://step.esa.int/main/snap-supported-plugins/sen2cor/",
    ),
    _model(
        "msk-cldprb",
        "Sen2Cor cloud probability (MSK_CLDPRB)",
        "The cloud percentages of Sentinel-2 Level-2A: cloud/non-cloud, no shadow; what is cloud "
        "is reported as thick cloud. They are 0 where there is no data, which SCL tells.",
        bands=("CLDPRB", "SCL"),
        sensors=("sentinel-2-l2a",),
        rule=_share("CLDPRB", 0, 100),
        cite=_SEN2COR,
        source_url="https://step.esa.int/main/snap-supported-plugins/sen2cor/",
    ),
    _model(
        "msk-classi",
        "Sentinel-2 cloud mask of the product (MSK_CLASSI)",
        "Opaque cloud, cirrus and snow at 60 m in products of processing baseline 04.00 and later; "
        "no shadow. It is 0 where there is no data, which B01 tells.",
        bands=("MSK_CLASSI_OPAQUE", "MSK_CLASSI_CIRRUS", "MSK_CLASSI_SNOW_ICE", "B01"),
        sensors=_S2,
        rule=_flags(
            ("cloud", "MSK_CLASSI_OPAQUE", 0),
            ("cirrus", "MSK_CLASSI_CIRRUS", 0),
            ("snow", "MSK_CLASSI_SNOW_ICE", 0),
        ),
        scheme=FLAGS_SIX.name,
        cite=("ESA: Sentinel-2 Products Specification Document, MSK_CLASSI.", None),
        source_url="https://sentiwiki.copernicus.eu/web/s2-products",
    ),
    _model(
        "qa-pixel",
        "Landsat Collection 2 pixel quality (QA_PIXEL)",
        "CFMask as the USGS ships it: cloud, cirrus (Landsat 8 and 9, high confidence), cloud "
        "shadow, snow, water. The bit of dilated cloud is left out: masks are compared as they "
        "are, before any buffer.",
        bands=("QA_PIXEL",),
        sensors=_LANDSAT,
        rule=_flags(
            ("cloud", "QA_PIXEL", 3),
            ("cirrus", "QA_PIXEL", 2),
            ("cloud-shadow", "QA_PIXEL", 4),
            ("snow", "QA_PIXEL", 5),
            ("water", "QA_PIXEL", 7),
        ),
        scheme=FLAGS_SIX.name,
        licence=_USGS,
        cite=_CFMASK,
        source_url="https://www.usgs.gov/landsat-missions/landsat-collection-2-quality-assessment-bands",
    ),
    _model(
        "fmask-4",
        "Fmask 4 rasters",
        "Masks written by Fmask 4 beside a product (``*_Fmask4.tif``): land, water, cloud shadow, "
        "snow, cloud. All cloud is reported as thick cloud. Fmask dilates its clouds by itself.",
        bands=("FMASK4",),
        sensors=(*_S2, *_LANDSAT_L1),
        rule=_codes("FMASK4"),
        scheme="fmask-5-class",
        licence=Licence(spdx="other", url="https://github.com/GERSL/Fmask"),
        cite=_FMASK,
        source_url="https://github.com/GERSL/Fmask",
    ),
    _model(
        "hls-fmask",
        "HLS quality layer (Fmask)",
        "The bits of HLS version 2 (L30 and S30): cloud, cloud shadow, snow, water. The bit of "
        "pixels next to cloud or shadow is left out, and that of cirrus, which version 2 does not "
        "set.",
        bands=("HLS_FMASK",),
        sensors=("sentinel-2-l2a", "landsat-8-9-l2"),
        rule=_flags(
            ("cloud", "HLS_FMASK", 1),
            ("cloud-shadow", "HLS_FMASK", 3),
            ("snow", "HLS_FMASK", 4),
            ("water", "HLS_FMASK", 5),
        ),
        scheme=FLAGS_SIX.name,
        licence=_USGS,
        cite=_HLS,
        source_url="https://lpdaac.usgs.gov/products/hlss30v002/",
    ),
    _model(
        "maja",
        "MAJA cloud and geophysical masks (CLM, MG2)",
        "Masks of Theia's Sentinel-2 Level-2A: cloud (CLM bit 1), cirrus (CLM bit 7), cloud "
        "shadow, snow and water (MG2 bits 3, 2, 0). Its border mask (EDG) tells no-data. MAJA "
        "dilates its clouds by itself.",
        bands=("MAJA_CLM", "MAJA_MG2", "MAJA_EDG"),
        sensors=("sentinel-2-l2a",),
        rule=_flags(
            ("cloud", "MAJA_CLM", 1),
            ("cirrus", "MAJA_CLM", 7),
            ("cloud-shadow", "MAJA_MG2", 3),
            ("snow", "MAJA_MG2", 2),
            ("water", "MAJA_MG2", 0),
        ),
        scheme=FLAGS_SIX.name,
        licence=Licence(
            spdx="etalab-2.0", url="https://www.etalab.gouv.fr/licence-ouverte-open-licence/"
        ),
        cite=_MAJA,
        source_url="https://www.cesbio.cnrs.fr/maja/sentinel-2-output-format/",
    ),
    _model(
        "sentinelhub-clp",
        "s2cloudless at Sentinel Hub (CLP)",
        "Cloud probability of s2cloudless as Sentinel Hub ships it, 0-255; no shadow.",
        bands=("CLP",),
        sensors=_S2,
        rule=_share("CLP", 0, 255),
        licence=Licence(spdx="CC-BY-SA-4.0", url="https://creativecommons.org/licenses/by-sa/4.0/"),
        cite=_S2CLOUDLESS,
        source_url="https://docs.sentinel-hub.com/api/latest/user-guides/cloud-masks/",
    ),
    _model(
        "sentinelhub-clm",
        "s2cloudless at Sentinel Hub (CLM)",
        "Cloud mask of s2cloudless as Sentinel Hub ships it, 0 or 1, 255 for no data; no shadow.",
        bands=("CLM",),
        sensors=_S2,
        rule=_share("CLM", 0, 1),
        licence=Licence(spdx="CC-BY-SA-4.0", url="https://creativecommons.org/licenses/by-sa/4.0/"),
        cite=_S2CLOUDLESS,
        source_url="https://docs.sentinel-hub.com/api/latest/user-guides/cloud-masks/",
    ),
    _model(
        "s2cloudless-raster",
        "s2cloudless percentages (Earth Engine)",
        "Rasters of the cloud percentages of s2cloudless (COPERNICUS/S2_CLOUD_PROBABILITY), 0-100; "
        "no shadow. No-data are the pixels the file masks.",
        bands=("S2CLOUDLESS",),
        sensors=_S2,
        rule=_share("S2CLOUDLESS", 0, 100),
        cite=_S2CLOUDLESS,
        source_url="https://developers.google.com/earth-engine/datasets/catalog/COPERNICUS_S2_CLOUD_PROBABILITY",
    ),
    _model(
        "cloud-score-plus",
        "Cloud Score+ (cs)",
        "How usable Cloud Score+ finds a pixel, 1 (clear) to 0: cloud, cirrus and shadow are one, "
        "reported as thick cloud below 0.5.",
        bands=("CLOUD_SCORE",),
        sensors=_S2,
        rule=_share("CLOUD_SCORE", 1, 0),
        licence=Licence(spdx="CC-BY-4.0", url="https://creativecommons.org/licenses/by/4.0/"),
        cite=_CLOUD_SCORE,
        source_url="https://developers.google.com/earth-engine/datasets/catalog/GOOGLE_CLOUD_SCORE_PLUS_V1_S2_HARMONIZED",
    ),
    _model(
        "cloud-score-plus-cdf",
        "Cloud Score+ (cs_cdf)",
        "As ``cloud-score-plus``, from the score's place among all scores of the pixel.",
        bands=("CLOUD_SCORE_CDF",),
        sensors=_S2,
        rule=_share("CLOUD_SCORE_CDF", 1, 0),
        licence=Licence(spdx="CC-BY-4.0", url="https://creativecommons.org/licenses/by/4.0/"),
        cite=_CLOUD_SCORE,
        source_url="https://developers.google.com/earth-engine/datasets/catalog/GOOGLE_CLOUD_SCORE_PLUS_V1_S2_HARMONIZED",
    ),
)

FAMILY = Family(order=90, models=_MODELS, aliases={"sen2cor": "scl"})
