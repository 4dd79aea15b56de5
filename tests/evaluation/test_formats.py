"""References in the layouts of others: small copies with traps, read code by code."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rasterio.io import MemoryFile
from rasterio.transform import from_origin
from typer.testing import CliRunner

from openeo_cloudmask.classes import NODATA
from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import OptionError, ReferenceDataError
from openeo_cloudmask.evaluation.evaluate import Reference
from openeo_cloudmask.evaluation.grids import read_mask
from openeo_cloudmask.evaluation.points import Points, sample_mask
from openeo_cloudmask.evaluation.reference_format import find_scenes, formats, get_format
from openeo_cloudmask.evaluation.score_files import find_mask

SIDE = (24, 30)
CLEAR, THICK, THIN, SHADOW = 0, 1, 2, 3


def codes_of(values: list[int], seed: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).choice(np.array(values, np.uint8), SIDE)


def tif(path: Path, planes: NDArray[Any], *, pixel: float = 10, crs: str = "EPSG:32632") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tif_bytes(planes, pixel=pixel, crs=crs))
    return path


def tif_bytes(planes: NDArray[Any], *, pixel: float = 10, crs: str = "EPSG:32632") -> bytes:
    planes = planes if planes.ndim == 3 else planes[np.newaxis]
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", count=len(planes), height=planes.shape[1], width=planes.shape[2],
            dtype=planes.dtype.name, crs=crs, transform=from_origin(499980, 5300040, pixel, pixel),
        ) as dataset:  # fmt: skip
            dataset.write(planes)
        content: bytes = memory.read()
        return content


def mapped(codes: NDArray[Any], table: dict[int, int]) -> NDArray[np.uint8]:
    out: NDArray[np.uint8] = np.vectorize(table.__getitem__)(codes).astype(np.uint8)
    return out


def only(path: Path, **how: Any) -> Any:
    found = find_scenes(path, **how)
    assert found is not None
    (scene,) = found[1]
    return scene


# CloudSEN12

CLOUDSEN12 = {0: CLEAR, 1: THICK, 2: THIN, 3: SHADOW, 99: NODATA}


def write_cloudsen12(root: Path) -> dict[str, NDArray[np.uint8]]:
    labels = {}
    rows = ["roi_id,s2_id_gee,test"]
    for number, (roi, split) in enumerate((("ROI_0001", 0), ("ROI_0002", 2), ("ROI_0003", 1))):
        image = f"20200101T10000{number}_T32TMR"
        folder = root / "high" / roi / image
        labels[f"{roi}__{image}"] = codes = codes_of(list(CLOUDSEN12), seed=number)
        tif(folder / "labels" / "manual_hq.tif", codes)
        tif(folder / "labels" / "sen2cor.tif", codes * 0)
        counts = np.random.default_rng(number).integers(1, 9000, (15, *SIDE)).astype(np.uint16)
        counts[:, :2] = 0
        tif(folder / "S2L1C.tif", counts)
        rows.append(f"{roi},{image},{split}")
    (root / "cloudsen12_metadata.csv").write_text("\n".join(rows))
    return labels


def test_cloudsen12_folders_keep_the_test_part_apart(tmp_path: Path) -> None:
    labels = write_cloudsen12(tmp_path)
    scene = only(tmp_path)
    assert scene.name.startswith("ROI_0002")
    np.testing.assert_array_equal(scene.reference().labels, mapped(labels[scene.name], CLOUDSEN12))
    image = scene.image()
    assert image.bands[-1] == "B12"
    assert np.isnan(image.cube[:, :2]).all()
    assert image.shadow_labelled
    assert image.thin_labelled
    everything = find_scenes(tmp_path, split="all")
    assert everything is not None
    assert len(everything[1]) == 3
    with pytest.raises(ReferenceDataError, match="no scenes of the part 'dev'; it has test, train"):
        find_scenes(tmp_path, split="dev")


def tortilla(rows: list[tuple[dict[str, Any], bytes]]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    body, table = b"", []
    for about, content in rows:
        table.append({**about, "tortilla:offset": 50 + len(body), "tortilla:length": len(content)})
        body += content
    out = BytesIO()
    parquet.write_table(pa.Table.from_pylist(table), out)
    footer = out.getvalue()
    head = b"#y" + (50 + len(body)).to_bytes(8, "little") + len(footer).to_bytes(8, "little")
    return head.ljust(50, b"\0") + body + footer


def test_cloudsen12plus_taco_files(tmp_path: Path) -> None:
    samples, labels = [], {}
    parts = [("a", "high", "test"), ("b", "scribble", "test"), ("c", "high", "train")]
    for number, (name, kind, split) in enumerate(parts):
        labels[name] = codes = codes_of(list(CLOUDSEN12), seed=number)
        counts = np.random.default_rng(number).integers(1, 9000, (13, *SIDE)).astype(np.uint16)
        inner = tortilla(
            [
                ({"tortilla:id": "s2l1c"}, tif_bytes(counts)),
                ({"tortilla:id": "target"}, tif_bytes(codes)),
            ]
        )
        about = {"tortilla:id": name, "label_type": kind, "tortilla:data_split": split}
        samples.append((about, inner))
    path = tmp_path / "cloudsen12-l1c.0000.part.taco"
    path.write_bytes(tortilla(samples))
    scene = only(tmp_path)
    assert (scene.name, scene.split) == ("a", "test")
    np.testing.assert_array_equal(scene.reference().labels, mapped(labels["a"], CLOUDSEN12))
    np.testing.assert_array_equal(scene.image().label, mapped(labels["a"], CLOUDSEN12))
    assert only(path, split="train").name == "c"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ReferenceDataError, match="is no TACO file, or is cut off"):
        find_scenes(tmp_path)


# L8 Biome

BIOME = {0: NODATA, 64: SHADOW, 128: CLEAR, 192: THIN, 255: THICK}


def write_envi(path: Path, codes: NDArray[np.uint8], corner: str = "1.000, 1.000") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(codes.tobytes())
    path.with_suffix(".hdr").write_text(
        f"ENVI\ndescription = {{\n  fixed mask}}\nsamples = {codes.shape[1]}\n"
        f"lines = {codes.shape[0]}\nbands = 1\nheader offset = 0\nfile type = ENVI Standard\n"
        "data type = 1\ninterleave = bsq\nbyte order = 0\n"
        f"map info = {{UTM, {corner}, 499980.000, 5300040.000, 3.0000000000e+001, "
        "3.0000000000e+001, 32, North, WGS-84, units=Meters}}\n"
    )
    return path


@pytest.mark.parametrize(("corner", "moved"), [("1.000, 1.000", 0), ("1.500, 1.500", 15)])
def test_biome_in_envi_and_its_half_pixel(tmp_path: Path, corner: str, moved: float) -> None:
    codes = codes_of(list(BIOME))
    name = "LC80010732013109LGN00"
    write_envi(tmp_path / "barren" / name / f"{name}_fixedmask.img", codes, corner)
    scene = only(tmp_path)
    reference = scene.reference()
    assert scene.name == name
    np.testing.assert_array_equal(reference.labels, mapped(codes, BIOME))
    assert str(reference.grid.crs) == "EPSG:32632"
    assert reference.grid.transform[:6] == (30, 0, 499980 - moved, 0, -30, 5300040 + moved)


def test_biome_without_shadow_says_nothing_of_shadow(tmp_path: Path) -> None:
    codes = codes_of([0, 128, 192, 255])
    tif(tmp_path / "LC80010732013109LGN00_fixedmask.TIF", codes, pixel=30)
    reference = only(tmp_path).reference()
    assert reference.scheme.name == "cloud-noncloud"
    np.testing.assert_array_equal(
        reference.labels, mapped(codes, {0: NODATA, 128: 0, 192: 1, 255: 1})
    )


def test_biome_refuses_what_it_cannot_be(tmp_path: Path) -> None:
    path = write_envi(tmp_path / "LC8_fixedmask.img", codes_of([0, 64, 100]))
    with pytest.raises(ReferenceDataError, match=r"holds \[100\], which are no codes of L8 Biome"):
        only(tmp_path).reference()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ReferenceDataError, match="719 bytes; expected 24 x 30"):
        only(tmp_path).reference()
    path.with_suffix(".hdr").unlink()
    with pytest.raises(ReferenceDataError, match=r"with its header LC8_fixedmask\.hdr"):
        only(tmp_path).reference()


# SPARCS, 38-Cloud, WHUS2-CD, On Cloud N

SPARCS = {0: SHADOW, 1: SHADOW, 2: CLEAR, 3: CLEAR, 4: CLEAR, 5: THICK, 6: CLEAR}


def test_sparcs(tmp_path: Path) -> None:
    codes = codes_of(list(SPARCS))
    picture = Image.fromarray(codes, mode="P")
    picture.putpalette([9, 9, 9] * 256)  # all codes of one colour: colours are not what is read
    picture.save(tmp_path / "LC80010812013365LGN00_18_mask.png")
    counts = np.random.default_rng(2).integers(6000, 30000, (10, *SIDE)).astype(np.uint16)
    counts[:, 0] = 0
    tif(tmp_path / "LC80010812013365LGN00_18_data.tif", counts, pixel=30)
    (tmp_path / "LC80010812013365LGN00_18_mtl.txt").write_text("  SUN_ELEVATION = 30.0\n")
    scene = only(tmp_path)
    np.testing.assert_array_equal(scene.reference().labels, mapped(codes, SPARCS))
    image = scene.image()
    assert scene.reference().sun_elevation_deg == image.sun_elevation_deg == 30
    assert image.bands == ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B9")
    assert not image.thin_labelled
    expected = (counts[3, 1:] * 2e-5 - 0.1) / 0.5  # the sine of 30 degrees
    np.testing.assert_allclose(image.cube[3, 1:], expected, atol=1e-6)
    cirrus = (counts[7, 1:] * 2e-5 - 0.1) / 0.5  # no panchromatic band lies between
    np.testing.assert_allclose(image.cube[7, 1:], cirrus, atol=1e-6)
    assert np.isnan(image.cube[:, 0]).all()
    tif(tmp_path / "LC80010812013365LGN00_18_data.tif", counts[:, 1:], pixel=30)
    with pytest.raises(ReferenceDataError, match=r"mask.png has \(24, 30\) pixels"):
        scene.reference()


@pytest.mark.parametrize("cloud", [1, 255])  # bits, as in its authors' program, or bytes
def test_38_cloud(tmp_path: Path, cloud: int) -> None:
    codes = codes_of([0, cloud])
    product = "LC08_L1TP_003052_20160120_20170405_01_T1"
    for part in ("38-Cloud_training", "38-Cloud_test"):
        name = f"edited_corrected_gts_{product}.TIF"
        tif(tmp_path / part / "Entire_scene_gts" / name, codes, pixel=30)
    scene = only(tmp_path)
    assert (scene.name, scene.split) == (product, "test")
    np.testing.assert_array_equal(scene.reference().labels, codes // cloud)


def test_whus2_cd(tmp_path: Path) -> None:
    codes = codes_of([0, 128, 255])
    product = "S2A_MSIL1C_20180930T030541_N0206_R075_T49QDD_20180930T060706"
    trained = "S2A_MSIL1C_20180429T032541_N0206_R018_T49SCV_20180429T062304"
    for name in (product, trained):
        tif(tmp_path / name / "REFERENCE" / f"{name}_Mask.tif", codes)
    scene = only(tmp_path)  # the test part by its authors' list
    assert scene.name == product
    assert only(tmp_path, split="train").name == trained
    np.testing.assert_array_equal(
        scene.reference().labels, mapped(codes, {0: NODATA, 128: 0, 255: 1})
    )


def write_chips(root: Path) -> None:
    for number, chip in enumerate(("adwp", "adwu")):
        label = codes_of([0, 1], seed=number)
        tif(root / "train_labels" / f"{chip}.tif", label)
        for band in ("B02", "B03", "B04", "B08"):
            tif(
                root / "train_features" / chip / f"{band}.tif",
                500 + 6000 * label.astype(np.uint16),
            )


def test_on_cloud_n_is_evaluated_with_its_images(tmp_path: Path) -> None:
    write_chips(tmp_path / "data")
    words = ["evaluate", str(tmp_path / "data"), "--model", "mini", "--output", str(tmp_path / "e")]
    run = CliRunner().invoke(build_app(), words)
    assert run.exit_code == 0, run.output
    content = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert list(content["masks"][0]["scenes"]) == ["oncloudn_adwp", "oncloudn_adwu"]
    assert "shadow" not in content["masks"][0]["groups"]["all"]


# Points


def write_hollstein(path: Path) -> tuple[NDArray[np.uint8], Path]:
    import h5py

    classes = np.array([10, 20, 30, 40, 50, 60, 10, 50], np.uint8)
    with h5py.File(path, "w") as file:
        file["classes"] = classes
        file["class_ids"] = np.array([10, 20, 30, 40, 50, 60])
        file["latitude"] = np.linspace(47.80, 47.81, 8)
        file["longitude"] = np.full(8, 9.001)
        file["spectra"] = np.zeros((8, 13), np.float32)
        file["product_id"] = np.array([b"S2A_ONE.SAFE"] * 6 + [b"S2A_TWO.SAFE"] * 2)
    return classes, path


def test_hollstein_is_points_of_products(tmp_path: Path) -> None:
    write_hollstein(tmp_path / "20170710_s2_manual_classification_data.h5")
    found = find_scenes(tmp_path)
    assert found is not None
    assert [scene.name for scene in found[1]] == ["S2A_ONE", "S2A_TWO"]
    points = found[1][0].reference()
    assert isinstance(points, Points)
    np.testing.assert_array_equal(points.labels, [CLEAR, CLEAR, SHADOW, THIN, THICK, CLEAR])
    assert points.crs == "EPSG:4326"


def test_hollstein_keeps_the_tiles_of_a_product_apart(tmp_path: Path) -> None:
    import h5py

    product = "S2A_OPER_PRD_MSIL1C_PDMC_20160817T230018_R022_V20160817T101032_20160817T101559"
    path = tmp_path / "20170710_s2_manual_classification_data.h5"
    write_hollstein(path)
    with h5py.File(path, "a") as file:
        del file["product_id"]
        file["product_id"] = np.array([f"{product}.SAFE".encode()] * 8)
        file["granule_id"] = np.array([b"33UUU"] * 5 + [b"T32TMR"] * 3)
    found = find_scenes(path)
    assert found is not None
    names = [scene.name for scene in found[1]]
    assert names == [f"{product}_T32TMR", f"{product}_T33UUU"]
    assert [len(scene.reference().labels) for scene in found[1]] == [3, 5]
    # Masks of the tile under the name that the product has today.
    today = "S2A_MSIL1C_20160817T101032_N0204_R022_T33UUU_20160817T101559"
    mask = tif(tmp_path / "masks" / f"{today}.tif", codes_of([0, 1]))
    assert find_mask(mask.parent, names[1]) == mask


def test_hollstein_that_takes_values_from_elsewhere_is_refused(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "20170710_s2_manual_classification_data.h5"
    with h5py.File(path, "w") as file:
        file["classes"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/x")
    with pytest.raises(ReferenceDataError, match="a link; expected a file of its own values"):
        find_scenes(tmp_path)


PIXBOX_S2 = """PIXEL_ID,PRODUCT_ID,PIXEL_X,PIXEL_Y,CLOUD_CHARACTERISTICS_ID,SHADOW_ID
1,77,0,0,1,0
2,77,5,0,2,3
3,77,5,1,3,0
4,77,6,1,7,3
5,77,7,1,0,4
6,88,9,9,2,0
"""
PIXBOX_L8 = """PRODUCT_ID;PIXEL_X;PIXEL_Y;PIXEL_SURFACE_TYPE_ID;CLOUD_SHADOW_ID;\
CLOUD_CHARACTERISTICS_ID
5;1;1;0;1;0
5;2;1;7;1;2
5;3;1;9;0;2
5;4;1;4;0;2
"""


def test_pixbox_tables_and_the_column_that_means_something_else(tmp_path: Path) -> None:
    (tmp_path / "pixbox_sentinel2_cmix_20180425.csv").write_text(PIXBOX_S2)
    found = find_scenes(tmp_path)
    assert found is not None
    points = found[1][0].reference()
    # Cloud and shadow at once is cloud; shadow of terrain (4) is not cloud shadow.
    np.testing.assert_array_equal(points.labels, [CLEAR, THICK, THIN, SHADOW, CLEAR])
    other = tmp_path / "l8"
    other.mkdir()
    (other / "pixbox_landsat8_cmix.csv").write_text(PIXBOX_L8)
    points = only(other).reference()
    np.testing.assert_array_equal(points.labels, [THICK, SHADOW, NODATA, CLEAR])
    (other / "pixbox_landsat8_cmix.csv").write_text(PIXBOX_L8.replace("CLOUD_SHADOW_ID", "SHADOW"))
    with pytest.raises(ReferenceDataError, match="no column CLOUD_SHADOW_ID; it has PRODUCT_ID"):
        find_scenes(other)


PRODUCT = "S2A_MSIL1C_20170629T103021_N0205_R108_T31TFJ_20170629T103020"


@pytest.mark.parametrize(
    "mask",
    [
        f"{PRODUCT}.tif",
        PRODUCT.replace("N0205", "N0500").replace("T103020", "T20230714T000000"),
        "31TFJ_20170629_mask.tif",
    ],
)
def test_pixbox_products_have_their_names(tmp_path: Path, mask: str) -> None:
    (tmp_path / "pixbox_sentinel2_cmix_20180425.csv").write_text(
        PIXBOX_S2.replace(",77,", ",623596858,")
    )
    found = find_scenes(tmp_path)
    assert found is not None
    assert sorted(scene.name for scene in found[1]) == ["88", PRODUCT]
    path = tif(tmp_path / "masks" / f"{mask.removesuffix('.tif')}.tif", codes_of([0, 1]))
    assert find_mask(path.parent, PRODUCT) == path


def test_pixbox_of_landsat_is_placed_by_degrees(tmp_path: Path) -> None:
    """Pixels of a scene that was processed again are counted from another corner."""
    head, *rows = PIXBOX_L8.splitlines()
    table = [f"{head};LATITUDE;LONGITUDE", *(f"{row};47.8{n};9.1{n}" for n, row in enumerate(rows))]
    (tmp_path / "pixbox_landsat8_cmix_20150527.csv").write_text("\n".join(table))
    points = only(tmp_path).reference()
    assert points.crs == "EPSG:4326"
    np.testing.assert_allclose(points.y, [47.80, 47.81, 47.82, 47.83])
    np.testing.assert_allclose(points.x, [9.10, 9.11, 9.12, 9.13])
    np.testing.assert_array_equal(points.labels, [THICK, SHADOW, NODATA, CLEAR])


def test_masks_of_landsat_scenes_go_by_today_s_names_too(tmp_path: Path) -> None:
    (tmp_path / "pixbox_landsat8_cmix_20150527.csv").write_text(
        PIXBOX_L8.replace("\n5;", "\n1093075446;")
    )
    scene = only(tmp_path)
    assert scene.name == "LC81970222014109LGN00"
    path = tif(tmp_path / "m" / "LC08_L1TP_197022_20140419_20170423_01_T1.tif", codes_of([0]))
    assert find_mask(path.parent, scene.name) == path


def write_tarrio(folder: Path, *fields: tuple[str, str, list[Any]]) -> Path:
    """Points as a shapefile; the names of the fields are ours."""
    import shapefile
    from rasterio.crs import CRS

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "samples.shp"
    with shapefile.Writer(str(path), shapeType=shapefile.POINT) as writer:
        for name, kind, _ in fields:
            writer.field(name, kind, size=20)
        for place in range(len(fields[0][2])):
            writer.point(500000 + 10 * place, 5300000 - 10 * place)
            writer.record(*(values[place] for _, _, values in fields))
    path.with_suffix(".prj").write_text(CRS.from_epsg(32632).to_wkt())
    return path


TARRIO_FIELDS = (
    ("MGRS", "C", ["32TLT", "32TLT", "32TLT", "31TCJ", "32TLT"]),
    ("YEARDOY", "N", [2016351, 2016351, 2016351, 2017001, 2016351]),
    ("INTERP", "C", ["clear land", "cloud", "Cloud shadow", "cloud", "snow/ice"]),
    ("NOTE", "C", ["a", "b", "c", "d", "e"]),
)


def test_tarrio_points_are_told_by_what_their_fields_hold(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_tarrio(folder, *TARRIO_FIELDS)
    assert find_scenes(folder) is None  # a shapefile alone may be anything
    tif(folder / "M10T32TLT2016351TMASK.tif", codes_of([0, 1, 2, 3, 4]))
    found = find_scenes(folder)
    assert found is not None
    assert [scene.name for scene in found[1]] == ["T31TCJ2017001", "T32TLT2016351"]
    points = found[1][1].reference()
    assert isinstance(points, Points)
    np.testing.assert_array_equal(points.labels, [CLEAR, THICK, SHADOW, CLEAR])
    np.testing.assert_allclose(points.x, [500000, 500010, 500020, 500040])
    # The mask of an algorithm, and one of our own named by tile and day, are found.
    assert find_mask(folder, "T32TLT2016351").name == "M10T32TLT2016351TMASK.tif"
    own = tif(tmp_path / "own" / "S2A_MSIL1C_20161216T102432_T32TLT.tif", codes_of([0, 1]))
    assert find_mask(own.parent, "T32TLT2016351") == own
    two = (*TARRIO_FIELDS, ("AGREE", "N", [1, 2, 3, 4, 0]))
    write_tarrio(folder, *two)
    with pytest.raises(ReferenceDataError, match=r"have 2 with codes 0 to 4 .*INTERP, AGREE"):
        find_scenes(folder)
    write_tarrio(folder, *TARRIO_FIELDS[1:])
    with pytest.raises(ReferenceDataError, match="have 0 with a tile"):
        find_scenes(folder)


def test_kappaset_keeps_parts_and_products_apart(tmp_path: Path) -> None:
    import h5py

    codes = codes_of([0, 1, 2, 3, 4, 5])
    for part, product in (("train", "S2A_ONE"), ("test", "S2B_TWO")):
        folder = tmp_path / part / f"{product}.CVAT" / "tile_2_3"
        folder.mkdir(parents=True)
        with h5py.File(folder / "T35VLF_tile_2_3.nc", "w") as file:
            file["Label"] = codes
            for place, band in enumerate(("B02", "B03", "B04")):
                file[band] = np.full(SIDE, 1000 * (place + 1), np.uint16)
    scene = only(tmp_path)
    assert scene.name == "S2B_TWO__T35VLF_tile_2_3"  # the test part alone
    expected = mapped(codes, {0: NODATA, 1: CLEAR, 2: SHADOW, 3: THIN, 4: THICK, 5: NODATA})
    np.testing.assert_array_equal(scene.reference().labels, expected)
    image = scene.image()
    assert image.bands == ("B02", "B03", "B04")
    np.testing.assert_allclose(image.cube[:, 0, 0], [0.1, 0.2, 0.3], atol=1e-7)
    assert image.shadow_labelled
    found = find_scenes(tmp_path, split="all")
    assert found is not None
    assert len({item.name for item in found[1]}) == 2
    with h5py.File(next(tmp_path.rglob("test/**/*.nc")), "a") as file:
        for place, band in enumerate(("B02", "B03", "B04")):  # as its authors' program writes them
            del file[band]
            file[band] = np.full(SIDE, 1000 * (place + 1) / 65535, np.float32)
    np.testing.assert_allclose(scene.image().cube[:, 0, 0], [0.1, 0.2, 0.3], atol=1e-7)
    with h5py.File(next(tmp_path.rglob("test/**/*.nc")), "a") as file:
        file["B02"][0, 0] = 1.5
    with pytest.raises(
        ReferenceDataError, match=r"B02 holds numbers from .* to 1\.5; expected counts"
    ):
        scene.image()


def test_points_take_the_pixel_under_them_in_any_reference_system(tmp_path: Path) -> None:
    labels = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20) % 4
    mask = read_mask(tif(tmp_path / "mask.tif", labels, pixel=60))
    from rasterio.warp import transform

    rows, columns = np.array([0, 3, 11, 11]), np.array([0, 7, 19, 25])
    eastings, northings = 499980 + 60 * (columns + 0.99), 5300040 - 60 * (rows + 0.01)
    lon, lat = transform("EPSG:32632", "EPSG:4326", eastings.tolist(), northings.tolist())
    points = Points(
        name="p", labels=np.zeros(4, np.uint8), scheme=mask.scheme, x=np.array(lon),
        y=np.array(lat), crs="EPSG:4326",
    )  # fmt: skip
    np.testing.assert_array_equal(
        sample_mask(mask, points), [labels[0, 0], labels[3, 7], labels[11, 19], NODATA]
    )
    # Pixels of 10 m on a mask of 60 m: the first six are the first of the mask.
    fine = Points(
        name="p", labels=np.zeros(3, np.uint8), scheme=mask.scheme, x=np.array([5.0, 6.0, 119.0]),
        y=np.array([0.0, 0.0, 71.0]), pixel_m=10,
    )  # fmt: skip
    np.testing.assert_array_equal(sample_mask(mask, fine), labels[[0, 0, 11], [0, 1, 19]])


def test_points_are_scored_with_their_weights(tmp_path: Path) -> None:
    from sklearn.metrics import accuracy_score

    from openeo_cloudmask.evaluation.evaluate import ScoreSettings
    from openeo_cloudmask.evaluation.points import score_points

    chance = np.random.default_rng(4)
    mask = read_mask(tif(tmp_path / "mask.tif", chance.integers(0, 4, SIDE).astype(np.uint8)))
    x, y = chance.integers(0, 30, 200).astype(float), chance.integers(0, 24, 200).astype(float)
    truth = chance.integers(0, 4, 200).astype(np.uint8)
    weights = chance.random(200)
    points = Points(name="p", labels=truth, scheme=mask.scheme, x=x, y=y, weights=weights)
    result = score_points(mask, points, ScoreSettings())
    found = {item.case.name: item.confusion.scores().overall_accuracy for item in result.results}
    given = mask.labels[y.astype(int), x.astype(int)]
    assert found["4-class"] == pytest.approx(accuracy_score(truth, given), abs=1e-12)
    assert found["4-class, weighted by the reference"] == pytest.approx(
        accuracy_score(truth, given, sample_weight=weights), abs=1e-12
    )
    with pytest.raises(ReferenceDataError, match="expected numbers of 0 or more"):
        Points(name="p", labels=truth, scheme=mask.scheme, x=x, y=y, weights=-weights)


# Commands


def test_score_takes_a_folder_of_references_and_points(tmp_path: Path) -> None:
    labels = write_cloudsen12(tmp_path / "reference")
    name = next(key for key in labels if "ROI_0002" in key)
    codes = mapped(labels[name], CLOUDSEN12)
    tif(tmp_path / "masks" / f"{name}.tif", codes)
    words = ["score", str(tmp_path / "masks"), str(tmp_path / "reference"), "--json"]
    run = CliRunner().invoke(build_app(), words)
    assert run.exit_code == 0, run.output
    content = json.loads(run.stdout)
    assert [item["scene"] for item in content["scenes"]] == [name]
    assert content["pooled"][0]["scores"]["overall_accuracy"] == 1
    (tmp_path / "points").mkdir()
    (tmp_path / "points" / "pixbox_sentinel2_cmix.csv").write_text(PIXBOX_S2)
    tif(tmp_path / "77.tif", np.ones(SIDE, np.uint8))
    words = ["score", str(tmp_path / "77.tif"), str(tmp_path / "points"), "--json", "--output"]
    run = CliRunner().invoke(build_app(), [*words, str(tmp_path / "out")])
    assert run.exit_code == 0, run.output
    cloud = json.loads(run.stdout)["pooled"][1]
    assert cloud["case"] == "cloud-noncloud"
    assert cloud["confusion"] == [[0, 3], [0, 2]]


def test_the_protocol_comes_with_words_and_bibtex(tmp_path: Path) -> None:
    labels = write_cloudsen12(tmp_path / "reference")
    for name, codes in labels.items():
        tif(tmp_path / "masks" / f"{name}.tif", np.roll(mapped(codes, CLOUDSEN12), 1, axis=1))
    out = tmp_path / "out"
    words = ["score", tmp_path / "masks", tmp_path / "reference", "--split", "all", "--protocol"]
    run = CliRunner().invoke(build_app(), [*map(str, words), "--output", str(out)])
    assert run.exit_code == 0, run.output
    (view,) = json.loads((out / "protocol.json").read_text())["views"]
    assert view["scenes"] == 3
    whole, *strata = view["strata"]
    for kind in ("distance to the border of cloud", "cover of the scene"):
        parts = [item["pixels"] for item in strata if item["kind"] == kind]
        assert sum(parts) == whole["pixels"]
    assert "2 (thin cloud) as thin-cloud" in (out / "methods.md").read_text()
    assert "doi = {10.1038/s41597-022-01878-2}" in (out / "references.bib").read_text()
    assert "| all | 3 |" in (out / "protocol.md").read_text()
    table = (out / "protocol.tex").read_text()
    assert table.count(r"\begin{tabular}{lrrrrrrr}") == table.count(r"\bottomrule") == 1
    rows = [line for line in table.splitlines() if line.endswith(r" \\")]
    assert len(rows) == 1 + len(view["strata"])
    assert all(row.count(" & ") == 7 for row in rows)
    assert f"{whole['numbers']['f1']['value']:.3f} {{\\scriptsize (" in rows[1]
    assert r"10 to 50 \%" in table or r"50 to 90 \%" in table or r"below 10 \%" in table
    run = CliRunner().invoke(build_app(), [*map(str, words)])
    assert "say where to with --output" in str(run.exception)


def test_formats_are_listed_and_shown() -> None:
    run = CliRunner().invoke(build_app(), ["references", "formats"])
    assert [line.split("\t")[0] for line in run.output.splitlines()] == list(formats())
    run = CliRunner().invoke(build_app(), ["references", "formats", "l8-biome"])
    assert "64 cloud shadow = cloud-shadow" in run.output
    assert "seen: " in run.output
    with pytest.raises(OptionError, match="unknown format of references 'l8'; expected one of"):
        get_format("l8")


def test_two_formats_in_a_folder_want_to_be_told_apart(tmp_path: Path) -> None:
    write_chips(tmp_path)
    write_envi(tmp_path / "LC8_fixedmask.img", codes_of(list(BIOME)))
    with pytest.raises(ReferenceDataError, match="l8-biome, on-cloud-n; say which with --ref"):
        find_scenes(tmp_path)
    assert isinstance(only(tmp_path, name="l8-biome").reference(), Reference)
    with pytest.raises(ReferenceDataError, match=r"holds nothing of SPARCS; expected \*_mask.png"):
        find_scenes(tmp_path, name="sparcs")
    assert find_scenes(tmp_path / "train_labels") is None
