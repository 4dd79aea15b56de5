"""CloudSEN12 and CloudSEN12+: images with labels, as folders and as TACO files."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from openeo_cloudmask.errors import MissingExtraError, ReferenceDataError
from openeo_cloudmask.evaluation.evaluate import Reference
from openeo_cloudmask.evaluation.labelled import LabelledScene
from openeo_cloudmask.evaluation.reference_format import (
    FOUR,
    NOT_LABELLED,
    ReferenceFormat,
    ReferenceScene,
    code_table,
    labelled,
    read_plane,
    read_planes,
)
from openeo_cloudmask.sensors import get_sensor

_SPLITS = {"0": "train", "1": "validation", "2": "test"}
"""Column ``test`` of ``cloudsen12_metadata.csv``."""
_MAGIC = (b"#y", b"WX")
"""First bytes of a tortilla and of a TACO file."""
_HEADER = 18
_CODES = code_table(
    {
        0: ("clear", "clear"),
        1: ("thick cloud", "thick-cloud"),
        2: ("thin cloud", "thin-cloud"),
        3: ("cloud shadow", "cloud-shadow"),
        99: ("not labelled", NOT_LABELLED),
    }
)
_CITATION = (
    "Aybar, C. et al. (2022): CloudSEN12, a global dataset for semantic understanding of cloud and "
    "cloud shadow in Sentinel-2. Scientific Data 9, 782."
)
_LEVELS = {"l1c": "sentinel-2-l1c", "l2a": "sentinel-2-l2a"}


def _image(form: ReferenceFormat, name: str, image: str | Path, label: str | Path) -> LabelledScene:
    counts, _ = read_planes(image)
    bands = get_sensor(form.sensor).band_names
    if len(counts) < len(bands):
        raise ReferenceDataError(
            f"{image} has {len(counts)} bands; expected {', '.join(bands)} and perhaps more"
        )
    codes, _ = read_plane(label)
    return labelled(
        form,
        name,
        bands=bands,
        cube=counts[: len(bands)].astype(np.float32) / np.float32(10000),
        label=form.recode(codes, str(label)),
        pixel_m=10.0,
    )


def _find_folders(path: Path) -> list[ReferenceScene]:
    if not path.is_dir():
        return []
    splits = _read_splits(path)
    scenes = []
    for label in sorted(path.rglob("labels/manual_hq.tif")):
        folder = label.parents[1]
        name = f"{folder.parent.name}__{folder.name}"
        image = folder / "S2L1C.tif"
        scenes.append(
            ReferenceScene(
                name=name,
                reference=partial(FOLDERS.read, name, label),
                image=partial(_image, FOLDERS, name, image, label) if image.is_file() else None,
                split=splits.get((folder.parent.name, folder.name), ""),
            )
        )
    return scenes


def _read_splits(path: Path) -> dict[tuple[str, str], str]:
    table = path / "cloudsen12_metadata.csv"
    if not table.is_file():
        return {}
    with table.open(encoding="utf-8", newline="") as file:
        return {
            (row.get("roi_id", ""), row.get("s2_id_gee", "")): _SPLITS.get(row.get("test", ""), "")
            for row in csv.DictReader(file)
        }


def _find_taco(level: str, path: Path) -> list[ReferenceScene]:
    pattern = f"cloudsen12-{level}*.taco"
    files = [path] if path.is_file() and path.match(pattern) else []
    files = files or (sorted(path.glob(pattern)) if path.is_dir() else [])
    form = TACO[level]
    scenes = []
    for file in files:
        for row in _rows(file, 0):
            if row.get("label_type", "high") != "high":
                continue
            name = str(row["tortilla:id"])
            start = int(row["tortilla:offset"])
            scenes.append(
                ReferenceScene(
                    name=name,
                    reference=partial(_taco_reference, form, name, file, start),
                    image=partial(_taco_image, form, name, file, start),
                    split=str(row.get("tortilla:data_split") or ""),
                )
            )
    return scenes


def _rows(path: Path, start: int) -> list[dict[str, Any]]:
    """Return the table of the tortilla that begins at byte ``start`` of a file."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as err:
        raise MissingExtraError.for_extra("server", "Reading TACO files") from err
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(start)
        head = file.read(_HEADER)
        offset = int.from_bytes(head[2:10], "little")
        length = int.from_bytes(head[10:18], "little")
        if head[:2] not in _MAGIC or start + offset + length > size:
            raise ReferenceDataError(
                f"{path} is no TACO file, or is cut off (at byte {start}); download it again"
            )
        file.seek(start + offset)
        footer = file.read(length)
    try:
        rows: list[dict[str, Any]] = parquet.read_table(pa.BufferReader(footer)).to_pylist()
    except pa.ArrowException as err:
        raise ReferenceDataError(f"{path} has a table that cannot be read: {err}") from err
    if rows and not {"tortilla:id", "tortilla:offset", "tortilla:length"} <= rows[0].keys():
        raise ReferenceDataError(f"{path} has a table without tortilla:id, :offset and :length")
    return rows


def _parts(path: Path, start: int) -> tuple[str, str]:
    """Return what GDAL opens as the image and as the label of the sample at ``start``."""
    rows = _rows(path, start)
    if len(rows) < 2:
        raise ReferenceDataError(
            f"{path}: the sample at byte {start} has {len(rows)} parts; expected image and label"
        )
    first, second = (
        f"/vsisubfile/{start + int(row['tortilla:offset'])}_{int(row['tortilla:length'])},{path}"
        for row in rows[:2]
    )
    return first, second


def _taco_reference(form: ReferenceFormat, name: str, path: Path, start: int) -> Reference:
    return form.read(name, _parts(path, start)[1])


def _taco_image(form: ReferenceFormat, name: str, path: Path, start: int) -> LabelledScene:
    image, label = _parts(path, start)
    return _image(form, name, image, label)


FOLDERS = ReferenceFormat(
    id="cloudsen12",
    title="CloudSEN12 (folders)",
    kind="masks",
    sensor="sentinel-2-l1c",
    scheme=FOUR,
    codes=_CODES,
    layout="<ROI>/<image>/labels/manual_hq.tif beside S2L1C.tif; cloudsen12_metadata.csv tells the "
    "test part",
    images=True,
    terms="CC-BY-NC-4.0 (the data set's card)",
    get="https://huggingface.co/datasets/csaybar/CloudSEN12-high",
    citation=_CITATION,
    doi="10.1038/s41597-022-01878-2",
    seen="Programs of its authors and users that read these files; no file of the data set.",
    find=_find_folders,
)
TACO = {
    level: ReferenceFormat(
        id=f"cloudsen12plus-{level}",
        title=f"CloudSEN12+ ({level.upper()}, TACO files)",
        kind="masks",
        sensor=sensor,
        scheme=FOUR,
        codes=_CODES,
        layout=f"cloudsen12-{level}.*.part.taco; samples whose label_type is high",
        images=True,
        terms="CC0-1.0 (the data set's card)",
        get="https://huggingface.co/datasets/tacofoundation/cloudsen12",
        record=f"hub:tacofoundation/cloudsen12#*{level}*",
        citation="Aybar, C. et al. (2024): CloudSEN12+: The largest dataset of expert-labeled "
        "pixels for cloud and cloud shadow detection in Sentinel-2. Data in Brief 56, 110852.",
        doi="10.1016/j.dib.2024.110852",
        seen="The TACO specification and programs that read these files; no file of the data set. "
        "That label is the second part of a sample, and code 99 for pixels without a label.",
        find=partial(_find_taco, level),
    )
    for level, sensor in _LEVELS.items()
}
FORMATS = (FOLDERS, *TACO.values())
