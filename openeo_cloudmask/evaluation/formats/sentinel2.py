"""Sentinel-2 references with rasters: WHUS2-CD+ and On Cloud N."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.evaluation.evaluate import Reference
from openeo_cloudmask.evaluation.labelled import LabelledScene
from openeo_cloudmask.evaluation.reference_format import (
    CLOUD_ONLY,
    NOT_LABELLED,
    ReferenceFormat,
    ReferenceScene,
    code_table,
    get_format,
    labelled,
    read_plane,
)

_CHIP_BANDS = ("B02", "B03", "B04", "B08")
_WHUS2_TEST = """
S2A_MSIL1C_20180930T030541_N0206_R075_T49QDD_20180930T060706
S2A_MSIL1C_20191105T023901_N0208_R089_T51STR_20191105T054744
S2A_MSIL1C_20190812T032541_N0208_R018_T48RXU_20190812T070322
S2A_MSIL1C_20190602T021611_N0207_R003_T52TES_20190602T042019
S2A_MSIL1C_20190328T033701_N0207_R061_T49TCF_20190328T071457
S2A_MSIL1C_20191001T050701_N0208_R019_T45TXN_20191002T142939
S2A_MSIL1C_20200416T042701_N0209_R133_T46SFE_20200416T074050
S2A_MSIL1C_20200528T050701_N0209_R019_T44SPC_20200528T082127
S2A_MSIL1C_20210207T023851_N0209_R089_T52UCU_20210207T040210
S2A_MSIL1C_20210126T052111_N0209_R062_T44SNE_20210126T063836
S2A_MSIL1C_20210102T054231_N0209_R005_T43SFB_20210102T065941
S2A_MSIL1C_20201206T041141_N0209_R047_T47SMV_20201206T053320
"""
"""The test part of WHUS2-CD+, by its authors' list; the other 24 products are for training."""


def _reference(form: str, name: str, path: Path) -> Reference:
    return get_format(form).read(name, path)


def _find_whus2(path: Path) -> list[ReferenceScene]:
    if not path.is_dir():
        return []
    files = sorted(
        file for file in path.rglob("*_Mask.tif") if file.name.startswith(("S2A_", "S2B_"))
    )
    return [
        ReferenceScene(
            name=name,
            reference=partial(_reference, "whus2-cd", name, file),
            split="test" if f"{name}\n" in _WHUS2_TEST else "train",
        )
        for file in files
        for name in (file.name.removesuffix("_Mask.tif").removesuffix(".SAFE"),)
    ]


def _find_chips(path: Path) -> list[ReferenceScene]:
    """Return the chips; labels and bands lie in ``train_labels`` and ``train_features``."""
    scenes = []
    for folder in sorted(path.rglob("*_labels")) if path.is_dir() else []:
        if folder.name not in ("train_labels", "test_labels"):
            continue
        features = folder.with_name(folder.name.replace("_labels", "_features"))
        for file in sorted(folder.glob("*.tif")):
            bands = features / file.stem
            name = f"oncloudn_{file.stem}"
            scenes.append(
                ReferenceScene(
                    name=name,
                    reference=partial(_reference, "on-cloud-n", name, file),
                    image=partial(_chip, name, bands, file) if bands.is_dir() else None,
                    split=folder.name.split("_")[0],
                )
            )
    return scenes


def _chip(name: str, folder: Path, label: Path) -> LabelledScene:
    planes = [read_plane(folder / f"{band}.tif")[0] for band in _CHIP_BANDS]
    shapes = {plane.shape for plane in planes}
    reference = _reference("on-cloud-n", name, label)
    if shapes != {reference.labels.shape}:
        raise ReferenceDataError(
            f"{folder} has bands of {sorted(shapes)} pixels, its label {reference.labels.shape}"
        )
    return labelled(
        FORMATS[1],
        name,
        bands=_CHIP_BANDS,
        cube=np.stack(planes).astype(np.float32) / np.float32(10000),
        label=reference.labels,
        pixel_m=10.0,
    )


FORMATS = (
    ReferenceFormat(
        id="whus2-cd",
        title="WHUS2-CD and WHUS2-CD+",
        kind="masks",
        sensor="sentinel-2-l1c",
        scheme=CLOUD_ONLY,
        codes=code_table(
            {
                0: ("no data", NOT_LABELLED),
                128: ("clear", "non-cloud"),
                255: ("cloud", "cloud"),
            }
        ),
        layout="<product>_Mask.tif, such as in <product>/REFERENCE",
        images=False,
        terms="as its authors state on the page of the data set",
        get="https://doi.org/10.5281/zenodo.5511792",
        record="zenodo:5511792",
        citation="Li, J. et al. (2021): A lightweight deep learning-based cloud detection method "
        "for Sentinel-2A imagery fusing multiscale spectral and spatial features. IEEE "
        "Transactions on Geoscience and Remote Sensing 60, 5401219.",
        doi="10.1109/TGRS.2021.3069641",
        seen="The page of the data set with codes and parts, and programs that read these masks; "
        "no file of the data set.",
        find=_find_whus2,
    ),
    ReferenceFormat(
        id="on-cloud-n",
        title="On Cloud N",
        kind="masks",
        sensor="sentinel-2-l2a",
        scheme=CLOUD_ONLY,
        codes=code_table({0: ("clear or shadow", "non-cloud"), 1: ("cloud", "cloud")}),
        layout="train_labels/<chip>.tif with train_features/<chip>/B02.tif, B03, B04, B08",
        images=True,
        terms="CC-BY-4.0 (from memory)",
        get="https://www.drivendata.org/competitions/83/cloud-cover/",
        citation="Radiant Earth Foundation (2022): Sentinel-2 Cloud Cover Segmentation Dataset.",
        doi="10.34911/rdnt.hfq6m7",
        seen="Two chips, kept in another layout; the names of the folders are from memory.",
        find=_find_chips,
    ),
)
