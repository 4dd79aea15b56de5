"""Quality layers of products: found by their names, and never interpolated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from typer.testing import CliRunner

from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import BandError, ProductError
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products import mask_product, open_product
from openeo_cloudmask.products.layers import layer_of_file

CODES = np.random.default_rng(3).integers(0, 12, (120, 150)).astype(np.uint8)
"""SCL of the test's SAFE at 20 m."""


def write(path: Path, planes, resolution=20, crs="EPSG:32632", **profile):
    path.parent.mkdir(parents=True, exist_ok=True)
    planes = np.atleast_3d(planes) if planes.ndim == 3 else planes[np.newaxis]
    with rasterio.open(
        path, "w", driver="GTiff", count=len(planes), height=planes.shape[1],
        width=planes.shape[2], dtype=planes.dtype.name, crs=crs,
        transform=from_origin(499980, 5300040, resolution, resolution), **profile,
    ) as dataset:  # fmt: skip
        dataset.write(planes)
    return path


def granule_of(safe: Path) -> Path:
    return next((safe / "GRANULE").iterdir())


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def expected(codes):
    table = np.array([255, 255, 0, 3, 0, 0, 0, 0, 1, 1, 2, 0], np.uint8)
    return table[codes].repeat(2, axis=0).repeat(2, axis=1)


def test_scl_of_a_safe_is_its_mask(write_safe, tmp_path):
    safe, _ = write_safe("L2A", granules=("L2A_T32TTT_A000001_20230625T102030",))
    folder = granule_of(safe)
    write(folder / "IMG_DATA/R60m/T32TTT_20230625T102030_SCL_60m.jp2", CODES[::3, ::3] * 0, 60)
    write(folder / "IMG_DATA/R20m/T32TTT_20230625T102030_SCL_20m.jp2", CODES)
    report = mask_product(safe, tmp_path / "mask.tif", MaskOptions(model="scl"))
    np.testing.assert_array_equal(read(tmp_path / "mask.tif"), expected(CODES))
    assert report.band_names == ("SCL",)
    with open_product(safe) as plain, open_product(safe, layers=["scl"]) as scene:
        assert "SCL" not in plain.band_labels
        assert scene.band_labels == (*plain.band_labels, "SCL")
        parts = [scene.cube(["SCL"])[:, y : y + 7, 3:90] for y in range(0, 70, 7)]
        whole = scene.cube(["SCL"])[:, 0:70, 3:90]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_the_granules_own_layer_is_taken(write_safe, tmp_path):
    names = ("L2A_T32TTT_A1", "L2A_T32TTT_A2")
    safe, _ = write_safe("L2A", granules=names)
    for number, name in enumerate(names):
        codes = np.full((120, 150), 4 + 5 * number, np.uint8)
        write(safe / "GRANULE" / name / "IMG_DATA/R20m/T32TTT_SCL_20m.jp2", codes)
    with open_product(safe, granule="A2", layers=["SCL"]) as scene:
        assert (scene.cube(["SCL"])[:, 0:9, 0:9] == 9).all()


def test_three_masks_in_one_file_and_zero_where_nothing_was_seen(write_safe, tmp_path):
    b01 = np.full((40, 50), 3000, np.uint16)
    b01[:5] = 0
    safe, _ = write_safe("L1C", counts={"B01": b01})
    planes = np.zeros((3, 40, 50), np.uint8)
    planes[0, 10:20], planes[1, 15:30], planes[2, 35:] = 1, 1, 1
    write(granule_of(safe) / "QI_DATA/MSK_CLASSI_B00.jp2", planes, 60)
    target = tmp_path / "mask.tif"
    mask_product(safe, target, MaskOptions(model="msk-classi", output_style="native"))
    rows = read(target)[::6, 150]
    names = {0: range(5, 10), 4: range(10, 20), 3: range(20, 30), 2: range(35, 40)}
    for value, where in names.items():
        assert (rows[list(where)] == value).all(), value
    assert (read(target)[:24] == 255).all()


def test_landsat_folders(write_landsat, tmp_path):
    product, _ = write_landsat()
    folder = product if product.is_dir() else product.parent
    bands = next(folder.glob("*_B4.TIF"))
    quality = folder / bands.name.replace("_B4", "_QA_PIXEL")
    with rasterio.open(bands) as dataset:
        profile = dataset.profile | {"dtype": "uint16", "count": 1}
        shape = dataset.shape
    flags = np.full(shape, 21824, np.uint16)  # clear land, as Collection 2 has it
    flags[:10], flags[10:20], flags[20:25] = 22280, 23888, 1
    with rasterio.open(quality, "w", **profile) as dataset:
        dataset.write(flags, 1)
    mask_product(product, tmp_path / "mask.tif", MaskOptions(model="qa-pixel"))
    rows = read(tmp_path / "mask.tif")[:, 0]
    assert [rows[5], rows[15], rows[22], rows[30]] == [1, 3, 255, 0]


def test_maja_product(tmp_path):
    folder = tmp_path / "SENTINEL2A_20170706-090107-511_L2A_T33KWP_C_V1-0"
    name = folder.name
    image = np.full((60, 80), 2500, np.int16)
    image[0] = -10000
    for band in ("B2", "B3", "B4", "B8"):
        write(folder / f"{name}_FRE_{band}.tif", image, 10)
    write(folder / f"{name}_FRE_B5.tif", image[::2, ::2], 20)
    clm, mg2, edge = (np.zeros((60, 80), np.uint8) for _ in range(3))
    clm[10:20], mg2[20:30], edge[0] = 0b10, 0b1000, 1
    for mask, values in (("CLM", clm), ("MG2", mg2), ("EDG", edge)):
        write(folder / f"MASKS/{name}_{mask}_R1.tif", values, 10)
        write(folder / f"MASKS/{name}_{mask}_R2.tif", values[::2, ::2] * 0, 20)
    mask_product(folder, tmp_path / "mask.tif", MaskOptions(model="maja"))
    rows = read(tmp_path / "mask.tif")[:, 0]
    assert [rows[0], rows[5], rows[15], rows[25]] == [255, 0, 1, 3]
    with open_product(folder) as scene:
        assert scene.sensor.id == "sentinel-2-l2a"
        pixels = scene.cube(["blue"])[:, 0:2, 0:2]
    assert np.isnan(pixels[0, 0]).all()
    np.testing.assert_allclose(pixels[0, 1], 0.25)


def test_a_single_raster_named_like_a_layer(tmp_path):
    path = write(tmp_path / "T32TTT_20230625T102030_SCL_20m.jp2", CODES)
    mask_product(path, tmp_path / "mask.tif", MaskOptions(model="scl"))
    np.testing.assert_array_equal(read(tmp_path / "mask.tif"), expected(CODES)[::2, ::2])


def test_names_of_files():
    layers = {
        "T32TMR_20210101T102019_SCL_20m.jp2": "SCL",
        "S2A_USER_SCL_L2A_TL_SGS__20160101T153210_A002755_T32TMR_20m.jp2": "SCL",
        "MSK_CLDPRB_20m.jp2": "CLDPRB",
        "HLS.S30.T32TMR.2021001T102019.v2.0.Fmask.tif": "HLS_FMASK",
        "LC08_L1TP_047027_20201204_20210313_02_T1_QA_PIXEL.TIF": "QA_PIXEL",
        "L1C_T32TMR_A012345_20210101T102019_Fmask4.tif": "FMASK4",
    }
    for name, layer in layers.items():
        found = layer_of_file(name)
        assert found is not None
        assert found.name == layer
    for name in ("T32TMR_B02.jp2", "SCL.txt", "MSK_CLASSI_B00.jp2", "muscl.tif"):
        assert layer_of_file(name) is None, name


def test_what_is_missing_is_said(write_safe, tmp_path):
    safe, _ = write_safe("L2A", granules=("L2A_T32TTT_A1",))
    with pytest.raises(BandError, match=r"has no quality layer SCL; expected a file called"):
        mask_product(safe, tmp_path / "mask.tif", MaskOptions(model="scl"))
    with pytest.raises(BandError, match=r"no quality layer 'QA_PIXEL' of sentinel-2-l2a"):
        open_product(safe, layers=["QA_PIXEL"])
    path = granule_of(safe) / "IMG_DATA/R20m/T32TTT_SCL_20m.jp2"
    write(path, CODES[:60])
    with pytest.raises(ProductError, match="do not cover"):
        open_product(safe, layers=["SCL"])
    write(path, CODES, crs="EPSG:32633")
    with pytest.raises(ProductError, match="expected one"):
        open_product(safe, layers=["SCL"])


def test_compare_ranks_a_providers_mask_beside_a_model(write_safe, tmp_path):
    safe, _ = write_safe("L2A", granules=("L2A_T32TTT_A1",))
    write(granule_of(safe) / "IMG_DATA/R20m/T32TTT_SCL_20m.jp2", CODES)
    reference = write(tmp_path / "reference.tif", expected(CODES), 10)
    words = [
        "compare",
        safe,
        "--reference",
        reference,
        "--models",
        "scl,hollstein",
        "--output",
        tmp_path / "out",
    ]
    run = CliRunner().invoke(build_app(), [str(word) for word in words])
    assert run.exit_code == 0, run.output
    content = json.loads((tmp_path / "out/compare.json").read_text())
    assert [item["model"] for item in content["leaderboard"]] == ["scl", "hollstein"]
    read_mask_again = read(tmp_path / "out/masks/S2A_TEST/scl.tif")
    np.testing.assert_array_equal(read_mask_again, expected(CODES))
