"""The scenes of the ALCD reference masks (Baetens and Hagolle, doi:10.5281/zenodo.1460961).

The archive has 38 folders for 37 scenes: one of the seven scenes of Hollstein et al. is also
among the 31 of the reference data set. Products before December 2016 had names without a tile;
they are listed with the name under which the same scene can be downloaded now.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from openeo_cloudmask.fetch.files import RemoteFile
from openeo_cloudmask.fetch.names import SentinelName, choose_sentinel, parse_scene_name

REFERENCE_GROUP, HOLLSTEIN_GROUP = "Reference_dataset", "Hollstein"
GROUPS = (REFERENCE_GROUP, HOLLSTEIN_GROUP)
ARCHIVE_FOLDER = "SENTINEL_2_reference_cloud_masks_Baetens_Hagolle"
ALCD_ARCHIVE = RemoteFile(
    url=f"https://zenodo.org/records/1460961/files/{ARCHIVE_FOLDER}.tgz?download=1",
    name=f"{ARCHIVE_FOLDER}.tgz",
    digest="sha256:5912fbcfe9edbc1c2cdffbb7ef0119ffdb3099bc9eec37efe301929008bf966d",
)
"""doi:10.5281/zenodo.1460961, Baetens and Hagolle, "Sentinel-2 reference cloud masks"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlcdSceneInfo:
    """What is known of a scene without opening the archive."""

    archive_name: str
    """Name of its folder: the product's name when the masks were made."""
    product_name: str
    """Name of the same Level-1C product under which it can be downloaded, without .SAFE."""
    tile: str
    """MGRS tile, such as ``32TMR``."""
    date: str
    """Day of the image, ``YYYYMMDD``."""
    location: str
    groups: tuple[str, ...]
    """Folders of the archive that hold it; two for the scene that is there twice."""


_REFERENCE = {
    "Ispra": """
        S2B_MSIL1C_20171009T102009_N0205_R065_T32TMR_20171009T102008
        S2B_MSIL1C_20171111T103239_N0206_R108_T32TMR_20171111T124420
        S2A_MSIL1C_20170815T102021_N0205_R065_T32TMR_20170815T102513""",
    "Marrakech": """
        S2A_MSIL1C_20170621T110651_N0205_R137_T29RPQ_20170621T111222
        S2A_MSIL1C_20171218T111451_N0206_R137_T29RPQ_20171218T132926
        S2A_OPER_PRD_MSIL1C_PDMC_20160417T203056_R137_V20160417T111159_20160417T111159""",
    "Pretoria": """
        S2A_MSIL1C_20170820T074941_N0205_R135_T35JPM_20170820T081632
        S2B_MSIL1C_20171014T074849_N0205_R135_T35JPM_20171014T081232
        S2B_MSIL1C_20171213T075319_N0206_R135_T35JPM_20171213T112619
        S2A_MSIL1C_20170313T074931_N0204_R135_T35JPM_20170313T081339""",
    "RailroadValley": """
        S2B_MSIL1C_20170827T182909_N0205_R027_T11SPC_20170827T183954
        S2A_MSIL1C_20170501T183311_N0205_R127_T11SPC_20170501T183311
        S2B_MSIL1C_20180213T183449_N0206_R027_T11SPC_20180213T214845""",
    "Orleans": """
        S2B_MSIL1C_20170819T105029_N0205_R051_T31UDP_20170819T105403
        S2A_MSIL1C_20170516T105031_N0205_R051_T31UDP_20170516T105322
        S2B_MSIL1C_20180218T110109_N0206_R094_T31UDP_20180218T162525""",
    "Arles": """
        S2B_MSIL1C_20171221T103429_N0206_R108_T31TFJ_20171221T123944
        S2A_MSIL1C_20170917T103021_N0205_R108_T31TFJ_20170917T103018
        S2B_MSIL1C_20171002T103009_N0205_R108_T31TFJ_20171002T103209""",
    "Mongu": """
        S2B_MSIL1C_20171013T081959_N0205_R121_T34LGJ_20171013T083556
        S2B_MSIL1C_20170804T081559_N0205_R121_T34LGJ_20170804T083419
        S2A_OPER_PRD_MSIL1C_PDMC_20161112T162504_R121_V20161112T082202_20161112T082202""",
    "Alta_Floresta_Brazil": """
        S2B_MSIL1C_20180609T141049_N0206_R110_T21LWK_20180609T173247
        S2A_MSIL1C_20180813T141051_N0206_R110_T21LWK_20180813T174352
        S2A_MSIL1C_20180714T141051_N0206_R110_T21LWK_20180714T155753
        S2A_MSIL1C_20180505T141051_N0206_R110_T21LWK_20180505T160911""",
    "Munich": """
        S2B_MSIL1C_20180424T101029_N0206_R022_T32UPU_20180424T124227
        S2A_MSIL1C_20180422T102031_N0206_R065_T32UPU_20180422T141352""",
    "Gobabeb": """
        S2B_MSIL1C_20170909T084009_N0205_R064_T33KWP_20170909T090455
        S2A_MSIL1C_20161221T085352_N0204_R107_T33KWP_20161221T091140
        S2B_MSIL1C_20180209T085109_N0206_R107_T33KWP_20180209T123639""",
}
_HOLLSTEIN = """
    S2A_OPER_PRD_MSIL1C_PDMC_20151206T123732_R092_V20151206T080705_20151206T080705
    S2A_OPER_PRD_MSIL1C_PDMC_20161109T224916_R065_V20161108T102232_20161108T102232
    S2A_OPER_PRD_MSIL1C_PDMC_20160323T192233_R065_V20160323T102143_20160323T102143
    S2A_OPER_PRD_MSIL1C_PDMC_20160901T191510_R079_V20160831T095032_20160831T095217
    S2A_OPER_PRD_MSIL1C_PDMC_20160817T230018_R022_V20160817T101032_20160817T101559
    S2A_OPER_PRD_MSIL1C_PDMC_20160417T203056_R137_V20160417T111159_20160417T111159
    S2A_OPER_PRD_MSIL1C_PDMC_20160128T055708_R103_V20160126T023520_20160126T023520
"""
# Days of the old names, each day once, and the products that took their place.
_RENAMED = {
    name.split("_")[2][:8]: name
    for name in (
        "S2A_MSIL1C_20160417T110652_N0201_R137_T29RPQ_20160417T111159",
        "S2A_MSIL1C_20161112T082202_N0204_R121_T34LGJ_20161112T083553",
        "S2A_MSIL1C_20151206T075212_N0204_R092_T37PGQ_20151206T075547",
        "S2A_MSIL1C_20160126T023442_N0201_R103_T49JGL_20160126T023437",
        "S2A_MSIL1C_20160323T102022_N0201_R065_T32TMR_20160323T102143",
        "S2A_MSIL1C_20160817T101032_N0204_R022_T33UUU_20160817T101559",
        "S2A_MSIL1C_20160831T095032_N0204_R079_T35VLJ_20160831T095217",
        "S2A_MSIL1C_20161108T102232_N0204_R065_T32TNR_20161108T102425",
    )
}


def _info(archive_name: str, location: str | None, groups: tuple[str, ...]) -> AlcdSceneInfo:
    product = archive_name
    if old := re.search(r"_OPER_.*_V(\d{8})T", archive_name):
        product = _RENAMED[old[1]]
    _, _, sensed, _, _, tile, _ = product.split("_")
    date = sensed[:8]
    return AlcdSceneInfo(
        archive_name=archive_name,
        product_name=product,
        tile=tile[1:],
        date=date,
        # The Hollstein scenes carry tile and date where the others have a place.
        location=location or f"{tile[1:]}_{date}",
        groups=groups,
    )


def _table() -> tuple[AlcdSceneInfo, ...]:
    hollstein = _HOLLSTEIN.split()
    scenes = [
        _info(name, location, GROUPS if name in hollstein else (REFERENCE_GROUP,))
        for location, names in _REFERENCE.items()
        for name in names.split()
    ]
    known = {scene.archive_name for scene in scenes}
    scenes += [_info(name, None, (HOLLSTEIN_GROUP,)) for name in hollstein if name not in known]
    return tuple(scenes)


ALCD_SCENES = _table()
"""The 37 scenes."""


def find_scene_info(name: str) -> AlcdSceneInfo | None:
    """Return the scene of a folder's or product's name; None for any other name.

    Args:
        name: old or new, or that of the same scene processed again: same satellite, tile and pass.
    """
    plain = name.removesuffix("/").removesuffix(".SAFE")
    for scene in ALCD_SCENES:
        if plain in (scene.archive_name, scene.product_name):
            return scene
    for scene in ALCD_SCENES:
        wanted = parse_scene_name(scene.product_name)
        if isinstance(wanted, SentinelName) and choose_sentinel(wanted, [plain]) is not None:
            return scene
    return None
