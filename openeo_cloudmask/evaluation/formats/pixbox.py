"""PixBox: pixels of Sentinel-2 and Landsat 8 products, classified by people, as CSV."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.evaluation.points import Points
from openeo_cloudmask.evaluation.reference_format import (
    FOUR,
    NOT_LABELLED,
    ReferenceFormat,
    ReferenceScene,
    code_table,
)

_PLACE = ("PRODUCT_ID", "PIXEL_X", "PIXEL_Y")
_DEGREES = ("LATITUDE", "LONGITUDE")
_PRODUCTS = """
5472572 S2A_MSIL1C_20171205T143751_N0206_R096_T19KEU_20171205T180316
183807605 S2A_MSIL1C_20170929T211511_N0205_R143_T06VWN_20170929T211510
273136892 S2A_MSIL1C_20180126T182631_N0206_R127_T11SPC_20180126T201415
433871481 S2A_MSIL1C_20180303T140051_N0206_R067_T19FDV_20180303T202004
522655885 S2A_MSIL1C_20171107T150421_N0206_R125_T22WES_20171107T165127
623596858 S2A_MSIL1C_20170629T103021_N0205_R108_T31TFJ_20170629T103020
701404038 S2A_MSIL1C_20170908T100031_N0205_R122_T32SPJ_20170908T100655
784585929 S2B_MSIL1C_20170731T102019_N0205_R065_T33VVE_20170731T102348
872013732 S2A_MSIL1C_20180223T092031_N0206_R093_T36VUM_20180223T113049
885047116 S2B_MSIL1C_20171210T060229_N0206_R091_T42RUN_20171210T071154
960993216 S2A_MSIL1C_20180106T032121_N0206_R118_T48NUG_20180106T083912
1041598282 S2A_MSIL1C_20180222T012651_N0206_R074_T54TWN_20180222T031349
1126775487 S2B_MSIL1C_20170725T183309_N0205_R127_T11SPC_20170725T183309
1211409580 S2A_MSIL1C_20170209T154541_N0204_R111_T17PPK_20170209T154543
1248336059 S2A_MSIL1C_20170725T142751_N0205_R053_T19GBQ_20170725T143854
1309065466 S2B_MSIL1C_20170712T113319_N0205_R080_T28PCV_20170712T114542
1386821964 S2A_MSIL1C_20170726T102021_N0205_R065_T33VVE_20170726T102259
1407300752 S2A_MSIL1C_20170113T072241_N0204_R006_T40UEE_20170113T072238
1470797653 S2A_MSIL1C_20180217T053911_N0206_R005_T44SKJ_20180217T082149
1559102360 S2A_MSIL1C_20170917T052641_N0205_R105_T48XWG_20170917T052642
1650478641 S2A_MSIL1C_20170916T143741_N0205_R096_T19KEU_20170916T143942
1727138395 S2A_MSIL1C_20170620T181921_N0205_R127_T11SPC_20170620T182846
1727140056 S2A_MSIL1C_20180302T142851_N0206_R053_T19GBQ_20180302T192732
1821333386 S2B_MSIL1C_20180302T150259_N0206_R125_T22WES_20180302T183800
1832501017 S2B_MSIL1C_20170728T101029_N0205_R022_T32TPS_20170728T101024
1892503998 S2B_MSIL1C_20170916T101019_N0205_R022_T32SPJ_20170916T101354
1899752240 S2A_MSIL1C_20170712T071621_N0205_R006_T40UEE_20170712T071617
2019111565 S2A_MSIL1C_20170706T051651_N0205_R062_T48XWG_20170706T051649
2065997836 S2A_MSIL1C_20180102T140051_N0206_R067_T21LXK_20180102T154324
1093075446 LC81970222014109LGN00
1113395679 LC81980232014276LGN00
1113398638 LC82030242015058LGN00
1191608737 LC81960302014022LGN00
1278115010 LC81970182015080LGN00
1278117898 LC81970222013186LGN00
1710711454 LC81980222014260LGN00
1797484437 LC81990242014075LGN00
1978132186 LC81990242014107LGN00
2055810806 LC82030242014103LGN00
2055813758 LC82040212013251LGN00
"""
_NAMES = {int(number): name for number, name in map(str.split, _PRODUCTS.split("\n")[1:-1])}
"""The tables know products by numbers; their names are those of the images in the same records."""


def _find_pixbox(form: str, path: Path) -> list[ReferenceScene]:
    found = next(item for item in FORMATS if item.id == form)
    column, shadow = _PIXBOX[form]
    pattern = _PIXBOX_FILES[form]
    files = [path] if path.is_file() and path.match(pattern) else []
    files = files or (sorted(path.rglob(pattern)) if path.is_dir() else [])
    scenes = []
    for file in files:
        table, degrees = _read_table(file, (*_PLACE, column, shadow))
        labels = found.recode(table[column], f"{file}: {column}")
        # Shadow is a layer of its own; a pixel that is both is cloud in the four classes.
        labels[(table[shadow] == _SHADOW_IDS[form]) & (labels == 0)] = 3
        for product in np.unique(table["PRODUCT_ID"]):
            here = table["PRODUCT_ID"] == product
            name = _NAMES.get(int(product), str(product))
            points = partial(
                Points,
                name=name,
                labels=labels[here],
                scheme=FOUR,
                **_places(form, table, degrees, here),
            )
            scenes.append(ReferenceScene(name=name, reference=points))
    return scenes


def _places(
    form: str,
    table: dict[str, NDArray[np.int64]],
    degrees: dict[str, NDArray[np.float64]],
    here: NDArray[np.bool_],
) -> dict[str, Any]:
    """Return where points lie, as ``Points`` takes it.

    The pixels of a Landsat scene are counted from another corner after it was processed again,
    those of a Sentinel-2 tile never are.
    """
    if form == "pixbox-l8" and len(degrees) == len(_DEGREES):
        latitude, longitude = (degrees[name][here] for name in _DEGREES)
        return {"x": longitude, "y": latitude, "crs": "EPSG:4326"}
    x, y = (table[name][here].astype(np.float64) for name in ("PIXEL_X", "PIXEL_Y"))
    return {"x": x, "y": y, "pixel_m": _PIXEL_M[form]}


def _read_table(
    path: Path, columns: tuple[str, ...]
) -> tuple[dict[str, NDArray[np.int64]], dict[str, NDArray[np.float64]]]:
    """Return columns of a CSV file as whole numbers, (n,) each, and those in degrees it has.

    Raises:
        ReferenceDataError: a column is missing, or holds something else.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        start = file.read(4096)
        file.seek(0)
        delimiter = max(",;\t", key=start.count)
        reader = csv.DictReader(file, delimiter=delimiter)
        if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
            raise ReferenceDataError(
                f"{path} has no column {', '.join(missing)}; it has "
                f"{', '.join(reader.fieldnames or ()) or 'none'}"
            )
        rows = list(reader)
    found = [name for name in _DEGREES if name in (reader.fieldnames or ())]
    try:
        return (
            {name: np.array([int(float(row[name])) for row in rows]) for name in columns},
            {name: np.array([float(row[name]) for row in rows]) for name in found},
        )
    except (TypeError, ValueError) as err:
        raise ReferenceDataError(f"{path} holds something else than numbers: {err}") from err


_PIXBOX = {
    "pixbox-s2": ("CLOUD_CHARACTERISTICS_ID", "SHADOW_ID"),
    # The column of that name tells the kind of a cloud here, not whether there is one.
    "pixbox-l8": ("PIXEL_SURFACE_TYPE_ID", "CLOUD_SHADOW_ID"),
}
_PIXBOX_FILES = {"pixbox-s2": "pixbox_sentinel2*.csv", "pixbox-l8": "pixbox_landsat8*.csv"}
_SHADOW_IDS = {"pixbox-s2": 3, "pixbox-l8": 1}
_PIXEL_M = {"pixbox-s2": 10.0, "pixbox-l8": 30.0}
_PIXBOX_NOTE = (
    " Of both cloud and shadow it is cloud. The names of the products come from such a program, "
    "too; a number without one stays a number."
)
FORMATS = (
    ReferenceFormat(
        id="pixbox-s2",
        title="PixBox Sentinel-2 (CMIX)",
        kind="points",
        sensor="sentinel-2-l1c",
        scheme=FOUR,
        codes=code_table(
            {
                **dict.fromkeys((0, 1, 7), ("not cloud", "clear")),
                2: ("opaque cloud", "thick-cloud"),
                **dict.fromkeys((3, 4, 5, 6), ("semi-transparent cloud", "thin-cloud")),
                8: ("spatially mixed cloud", "thick-cloud"),
                9: ("condensation trail", "thin-cloud"),
                **dict.fromkeys((10, 11, 12), ("fog, haze and other cloud", "thin-cloud")),
            }
        ),
        layout="pixbox_sentinel2*.csv with PRODUCT_ID, PIXEL_X, PIXEL_Y (10 m), "
        "CLOUD_CHARACTERISTICS_ID, SHADOW_ID",
        images=False,
        terms="as its authors state on the page of the data set",
        get="https://zenodo.org/records/5036991",
        record="zenodo:5036991",
        citation="Paperin, M. et al. (2021): PixBox Sentinel-2 pixel collection for CMIX. Zenodo.",
        doi="10.5281/zenodo.5036991",
        seen="Programs that read the table, with columns and codes; not the table. Which of codes "
        "10 to 12 is fog or haze was not seen for certain." + _PIXBOX_NOTE,
        find=partial(_find_pixbox, "pixbox-s2"),
    ),
    ReferenceFormat(
        id="pixbox-l8",
        title="PixBox Landsat 8 (CMIX)",
        kind="points",
        sensor="landsat-8-9-l1",
        scheme=FOUR,
        codes=code_table(
            {
                **dict.fromkeys((0, 1), ("cloud", "thick-cloud")),
                **dict.fromkeys((2, 3, 4, 5, 6, 7, 11, 12), ("not cloud", "clear")),
                **dict.fromkeys((8, 9, 10), ("partly cloud", NOT_LABELLED)),
                13: ("other", NOT_LABELLED),
            }
        ),
        layout="pixbox_landsat8*.csv with PRODUCT_ID, PIXEL_X, PIXEL_Y (30 m, of the product "
        "before collections), LATITUDE, LONGITUDE (which count where they are there), "
        "PIXEL_SURFACE_TYPE_ID, CLOUD_SHADOW_ID",
        images=False,
        terms="as its authors state on the page of the data set",
        get="https://zenodo.org/records/5040271",
        record="zenodo:5040271",
        citation="Paperin, M. et al. (2021): PixBox Landsat 8 pixel collection for CMIX. Zenodo.",
        doi="10.5281/zenodo.5040271",
        seen="Programs that read the table, with columns and codes; not the table." + _PIXBOX_NOTE,
        find=partial(_find_pixbox, "pixbox-l8"),
    ),
)
