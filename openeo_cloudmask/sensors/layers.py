"""Quality layers that providers ship with their products, as tables.

Names of files, codes for no-data and bits are those of the providers' guides: ESA (Sen2Cor, product
specification of Sentinel-2), USGS (Landsat Collection 2), LP DAAC (HLS version 2), CESBIO (MAJA).
What the codes mean for a mask stands in ``models/families/provider_masks.py``.
"""

from __future__ import annotations

from openeo_cloudmask.sensors.bands import Band, BandKind


def _layer(
    name: str,
    pattern: str,
    resolution_m: float,
    *,
    aliases: tuple[str, ...] = (),
    index: int = 1,
    nodata: tuple[int, ...] = (),
    nodata_bits: int = 0,
) -> Band:
    return Band(
        name=name,
        kind=BandKind.QUALITY,
        resolution_m=resolution_m,
        aliases=aliases,
        file_pattern=pattern,
        file_index=index,
        nodata_codes=nodata,
        nodata_bits=nodata_bits,
    )


_CLASSI = "MSK_CLASSI_B00"

SENTINEL_2_LAYERS = (
    _layer("MSK_CLASSI_OPAQUE", _CLASSI, 60, index=1),
    _layer("MSK_CLASSI_CIRRUS", _CLASSI, 60, index=2),
    _layer("MSK_CLASSI_SNOW_ICE", _CLASSI, 60, index=3),
    _layer("FMASK4", r".*_Fmask4", 20, nodata=(255,)),
    _layer("CLM", r"(?:.*_)?CLM", 10, nodata=(255,)),
    _layer("CLP", r"(?:.*_)?CLP", 10),
    _layer("S2CLOUDLESS", r"(?:.*_)?(?:s2cloudless|probability)", 10, aliases=("probability",)),
    _layer("CLOUD_SCORE", r"(?:.*_)?(?:cloud_score|cs)", 10, aliases=("cs",)),
    _layer("CLOUD_SCORE_CDF", r"(?:.*_)?cs_cdf", 10, aliases=("cs_cdf",)),
)
SENTINEL_2_L2A_LAYERS = (
    _layer("SCL", r"(?:.*_)?SCL(?:_L2A_.*)?(?:_[126]0m)?", 20, nodata=(0, 1)),
    _layer("CLDPRB", r"MSK_CLDPRB(?:_[126]0m)?|.*_CLD(?:_[126]0m)?", 20, aliases=("MSK_CLDPRB",)),
    _layer("MAJA_CLM", r".*_CLM_R[12]", 10),
    _layer("MAJA_MG2", r".*_MG2_R[12]", 10),
    _layer("MAJA_EDG", r".*_EDG_R[12]", 10, nodata_bits=1),
)
LANDSAT_LAYERS = (
    _layer("QA_PIXEL", r".*_QA_PIXEL", 30, nodata_bits=1),
    _layer("FMASK4", r".*_Fmask4", 30, nodata=(255,)),
)
HLS_LAYERS = (_layer("HLS_FMASK", r"(?:.*[._])?Fmask", 30, aliases=("Fmask",), nodata=(255,)),)
