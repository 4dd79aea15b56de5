"""Products made on the fly: small rasters with the names and metadata of real ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

S2_RESOLUTION = {
    "B01": 60, "B02": 10, "B03": 10, "B04": 10, "B05": 20, "B06": 20, "B07": 20, "B08": 10,
    "B8A": 20, "B09": 60, "B10": 60, "B11": 20, "B12": 20,
}  # fmt: skip
ULX, ULY = 499980, 5300040

WriteRaster = Callable[..., Path]


@pytest.fixture
def write_raster(tmp_path: Path) -> WriteRaster:
    """Return a function that writes an array (band, y, x) as a GeoTIFF."""

    def write(
        pixels: NDArray[Any],
        name: str = "scene.tif",
        *,
        labels: Sequence[str] | None = None,
        resolution: float = 10,
        georeferenced: bool = True,
        scales: float | None = None,
        offsets: float | None = None,
        **profile: Any,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        bands, height, width = pixels.shape
        settings = {
            "driver": "GTiff",
            "count": bands,
            "height": height,
            "width": width,
            "dtype": pixels.dtype.name,
        } | profile
        if georeferenced:
            settings |= {
                "crs": "EPSG:32632",
                "transform": from_origin(ULX, ULY, resolution, resolution),
            }
        with rasterio.open(path, "w", **settings) as dataset:
            dataset.write(pixels)
            for number, label in enumerate(labels or (), start=1):
                dataset.set_band_description(number, label)
            if scales is not None:
                dataset.scales = [scales] * bands
            if offsets is not None:
                dataset.offsets = [offsets] * bands
        return path

    return write


@pytest.fixture
def digits() -> Callable[..., NDArray[np.uint16]]:
    """Return a function that makes an image of counts 1..9000 from a seed."""

    def make(height: int, width: int, seed: int = 0, *, bands: int = 1) -> NDArray[np.uint16]:
        generator = np.random.default_rng(seed)
        return generator.integers(1, 9000, (bands, height, width)).astype(np.uint16)

    return make


def _write_image(path: Path, pixels: NDArray[Any], resolution: int, driver: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"QUALITY": "100", "REVERSIBLE": "YES", "YCBCR420": "NO"}
    with rasterio.open(
        path,
        "w",
        driver=driver,
        count=1,
        height=pixels.shape[0],
        width=pixels.shape[1],
        dtype=pixels.dtype.name,
        crs="EPSG:32632",
        transform=from_origin(ULX, ULY, resolution, resolution),
        **(settings if driver == "JP2OpenJPEG" else {}),
    ) as dataset:
        dataset.write(pixels, 1)


@pytest.fixture
def write_image() -> Callable[[Path, NDArray[Any], int, str], None]:
    """Return a function that writes one plane as JPEG 2000 or GeoTIFF."""
    return _write_image


def _product_xml(level: str, offset: int | None, product_type: str | None) -> str:
    tag = "QUANTIFICATION_VALUE" if level == "L1C" else "BOA_QUANTIFICATION_VALUE"
    outer, inner = (
        ("Radiometric_Offset_List", "RADIO_ADD_OFFSET")
        if level == "L1C"
        else ("BOA_ADD_OFFSET_VALUES_LIST", "BOA_ADD_OFFSET")
    )
    offsets = ""
    if offset is not None:
        rows = "".join(f'<{inner} band_id="{n}">{offset}</{inner}>' for n in range(13))
        offsets = f"<{outer}>{rows}</{outer}>"
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<n1:Product xmlns:n1="urn:test"><n1:General_Info><Product_Info>
<PRODUCT_START_TIME>2023-06-25T10:20:30.024Z</PRODUCT_START_TIME>
<PRODUCT_URI>S2A_TEST.SAFE</PRODUCT_URI>
<PRODUCT_TYPE>{product_type or f"S2MSI{level[1:]}"}</PRODUCT_TYPE>
<PROCESSING_BASELINE>05.09</PROCESSING_BASELINE></Product_Info>
<Product_Image_Characteristics>
<Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT>
<SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX></Special_Values>
<{tag} unit="none">10000</{tag}>{offsets}
</Product_Image_Characteristics></n1:General_Info></n1:Product>"""


TILE_XML = f"""<?xml version="1.0" encoding="UTF-8"?>
<n1:Tile xmlns:n1="urn:test"><n1:Geometric_Info><Tile_Geocoding>
<HORIZONTAL_CS_CODE>EPSG:32632</HORIZONTAL_CS_CODE>
<Geoposition resolution="10"><ULX>{ULX}</ULX><ULY>{ULY}</ULY></Geoposition></Tile_Geocoding>
<Tile_Angles><Mean_Sun_Angle><ZENITH_ANGLE unit="deg">30</ZENITH_ANGLE>
<AZIMUTH_ANGLE unit="deg">140</AZIMUTH_ANGLE></Mean_Sun_Angle></Tile_Angles>
</n1:Geometric_Info></n1:Tile>"""


@pytest.fixture
def write_safe(tmp_path: Path) -> Callable[..., tuple[Path, dict[str, NDArray[np.uint16]]]]:
    """Return a function that writes a SAFE of 240 x 300 pixels (y, x) at 10 m, and its counts."""

    def write(
        level: str = "L1C",
        *,
        offset: int | None = -1000,
        name: str = "S2A_TEST.SAFE",
        granules: Sequence[str] = ("L1C_T32TTT_A000001_20230625T102030",),
        driver: str = "GTiff",
        without: Sequence[str] = (),
        counts: Mapping[str, NDArray[np.uint16]] | None = None,
        product_type: str | None = None,
    ) -> tuple[Path, dict[str, NDArray[np.uint16]]]:
        top = tmp_path / name
        top.mkdir()
        (top / f"MTD_MSI{level}.xml").write_text(_product_xml(level, offset, product_type))
        generator = np.random.default_rng(7)
        written: dict[str, NDArray[np.uint16]] = {}
        for granule in granules:
            folder = top / "GRANULE" / granule
            (folder / "QI_DATA").mkdir(parents=True)
            (folder / "MTD_TL.xml").write_text(TILE_XML)
            for band, resolution in S2_RESOLUTION.items():
                if band in without or (level == "L2A" and band == "B10"):
                    continue
                shape = (2400 // resolution, 3000 // resolution)
                pixels = generator.integers(1001, 9000, shape).astype(np.uint16)
                if counts is not None and band in counts:
                    pixels = counts[band]
                written[band] = pixels
                path = folder / "IMG_DATA" / f"T32TTT_20230625T102030_{band}.jp2"
                if level == "L2A":
                    path = path.parent / f"R{resolution}m" / f"{path.stem}_{resolution}m.jp2"
                _write_image(path, pixels, resolution, driver)
        return top, written

    return write


MTL_GROUPS: dict[str, dict[str, str]] = {
    "PRODUCT_CONTENTS": {
        "LANDSAT_PRODUCT_ID": "LC08_L1TP_TEST",
        "PROCESSING_LEVEL": "L1TP",
    },
    "IMAGE_ATTRIBUTES": {
        "SPACECRAFT_ID": "LANDSAT_8",
        "SENSOR_ID": "OLI_TIRS",
        "DATE_ACQUIRED": "2022-01-29",
        "SCENE_CENTER_TIME": "15:28:34.3964289Z",
        "SUN_AZIMUTH": "112.2",
        "SUN_ELEVATION": "30.0",
    },
    "LEVEL1_RADIOMETRIC_RESCALING": {
        **{f"REFLECTANCE_MULT_BAND_{n}": "2.0000E-05" for n in range(1, 10)},
        **{f"REFLECTANCE_ADD_BAND_{n}": "-0.100000" for n in range(1, 10)},
        "RADIANCE_MULT_BAND_10": "3.3420E-04",
        "RADIANCE_MULT_BAND_11": "3.3420E-04",
        "RADIANCE_ADD_BAND_10": "0.10000",
        "RADIANCE_ADD_BAND_11": "0.10000",
    },
    "LEVEL1_THERMAL_CONSTANTS": {
        "K1_CONSTANT_BAND_10": "774.8853",
        "K2_CONSTANT_BAND_10": "1321.0789",
        "K1_CONSTANT_BAND_11": "480.8883",
        "K2_CONSTANT_BAND_11": "1201.1442",
    },
}


def _mtl_text(groups: Mapping[str, Mapping[str, str]], form: str) -> str:
    if form == "json":
        return json.dumps({"LANDSAT_METADATA_FILE": groups})
    if form == "xml":
        body = "".join(
            "".join((f"<{group}>", *(f"<{k}>{v}</{k}>" for k, v in items.items()), f"</{group}>"))
            for group, items in groups.items()
        )
        return f"<LANDSAT_METADATA_FILE>{body}</LANDSAT_METADATA_FILE>"
    lines = ["GROUP = LANDSAT_METADATA_FILE"]
    for group, items in groups.items():
        lines.append(f"  GROUP = {group}")
        lines += [f'    {key} = "{value}"' for key, value in items.items()]
        lines.append(f"  END_GROUP = {group}")
    return "\n".join([*lines, "END_GROUP = LANDSAT_METADATA_FILE", "END"])


@pytest.fixture
def write_landsat(tmp_path: Path) -> Callable[..., tuple[Path, dict[str, NDArray[np.uint16]]]]:
    """Return a function that writes a Level-1 product of 40 x 50 pixels (y, x), and its counts."""

    def write(
        *,
        form: str = "txt",
        changes: Mapping[str, Mapping[str, str | None]] | None = None,
        bands: Sequence[int] = tuple(range(1, 12)),
        counts: Mapping[int, NDArray[np.uint16]] | None = None,
        name: str = "LC08_L1TP_TEST",
    ) -> tuple[Path, dict[str, NDArray[np.uint16]]]:
        folder = tmp_path / name
        folder.mkdir()
        groups = {group: dict(items) for group, items in MTL_GROUPS.items()}
        groups["PRODUCT_CONTENTS"] |= {f"FILE_NAME_BAND_{n}": f"{name}_B{n}.TIF" for n in bands}
        for group, items in (changes or {}).items():
            for key, value in items.items():
                groups[group].pop(key, None)
                if value is not None:
                    groups[group][key] = value
        (folder / f"{name}_MTL.{form}").write_text(_mtl_text(groups, form))
        generator = np.random.default_rng(3)
        written = {}
        for number in bands:
            # The panchromatic image begins half of its pixel beside the others and is one shorter.
            size, shape = (15, (79, 99)) if number == 8 else (30, (40, 50))
            edge = 7.5 if number == 8 else 15
            pixels = generator.integers(6000, 30000, shape).astype(np.uint16)
            if counts is not None and number in counts:
                pixels = counts[number]
            written[f"B{number}"] = pixels
            with rasterio.open(
                folder / f"{name}_B{number}.TIF",
                "w",
                driver="GTiff",
                count=1,
                height=pixels.shape[0],
                width=pixels.shape[1],
                dtype="uint16",
                crs="EPSG:32617",
                transform=from_origin(492000 - edge, -683700 + edge, size, size),
            ) as dataset:
                dataset.write(pixels, 1)
        return folder, written

    return write


@pytest.fixture
def pack(tmp_path: Path) -> Callable[[Path, str], Path]:
    """Return a function that packs a product folder as ``zip`` or ``tar``."""

    def make(folder: Path, form: str) -> Path:
        flat = form == "tar"
        target = tmp_path / f"packed-{folder.name}"
        root, base = (folder, ".") if flat else (folder.parent, folder.name)
        return Path(shutil.make_archive(str(target), form, root, base))

    return make
