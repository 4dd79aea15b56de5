from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.errors import InputError, OutputError
from openeo_cloudmask.products import Grid, check_output, write_cog

SHAPE = (1300, 900)
GRID = Grid(
    shape_yx=SHAPE,
    transform=from_origin(499980, 5300040, 10, 10),
    crs=rasterio.CRS.from_epsg(32632),
)


@pytest.fixture
def mask():
    values = np.random.default_rng(0).choice([0, 1, 2, 3, 255], SHAPE).astype(np.uint8)
    return values[np.newaxis]


def _strips(pixels, *edges):
    edges = (0, *edges, pixels.shape[1])
    for top, bottom in pairwise(edges):
        yield top, pixels[:, top:bottom]


def test_classes_colours_names_and_layout(tmp_path, mask):
    path = tmp_path / "mask.tif"
    write_cog(
        path,
        _strips(mask, 1, 700, 701),
        grid=GRID,
        scheme=FOUR_CLASS,
        metadata={"MODEL": "some-model", "STRIDE": 384, "ABSENT": None},
    )
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(), mask)
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.nodata == 255
        assert dataset.crs == GRID.crs
        assert dataset.transform == GRID.transform
        assert dataset.colormap(1)[1] == (0xE6, 0x9F, 0x00, 255)
        assert dataset.colormap(1)[255][3] == 0
        assert dataset.descriptions == ("mask",)
        tags = dataset.tags()
        assert tags["CLASS_NAMES"] == "0=clear, 1=thick-cloud, 2=thin-cloud, 3=cloud-shadow"
        assert tags["MODEL"] == "some-model"
        assert tags["STRIDE"] == "384"
        assert "ABSENT" not in tags
        # Overviews pick pixels: a mean of classes would be another class.
        assert dataset.overviews(1) == [2, 4]
        small = dataset.read(1, out_shape=(650, 450))
        np.testing.assert_array_equal(np.isin(small, [0, 1, 2, 3, 255]), True)
    assert [item.name for item in tmp_path.iterdir()] == ["mask.tif"]


def test_the_validator_of_rio_cogeo_agrees(tmp_path, mask):
    cogeo = pytest.importorskip("rio_cogeo.cogeo", reason="rio-cogeo is not installed")
    path = write_cog(tmp_path / "mask.tif", _strips(mask), grid=GRID, scheme=FOUR_CLASS)
    valid, errors, warnings = cogeo.cog_validate(path, quiet=True)
    assert (valid, errors, warnings) == (True, [], [])


def test_percentages_have_a_named_band_each_and_averaged_overviews(tmp_path):
    values = np.full((4, *SHAPE), 20, np.uint8)
    values[:, :, 1::2] = 40
    values[:, 600:] = 255
    path = tmp_path / "mask.tif"
    write_cog(path, _strips(values, 512), grid=GRID, scheme=FOUR_CLASS, categorise=False)
    with rasterio.open(path) as dataset:
        assert dataset.descriptions == FOUR_CLASS.names
        assert set(dataset.units) == {"percent"}
        np.testing.assert_array_equal(dataset.read(), values)
        assert dataset.read(2, out_shape=(650, 450))[10, 10] == 30
        assert dataset.read(2, out_shape=(650, 450))[640, 10] == 255


def test_without_georeference(tmp_path, mask):
    path = tmp_path / "mask.tif"
    write_cog(path, _strips(mask), grid=Grid(shape_yx=SHAPE), scheme=FOUR_CLASS)
    with rasterio.open(path) as dataset:
        assert dataset.crs is None
        np.testing.assert_array_equal(dataset.read(), mask)


@pytest.mark.parametrize(
    ("strips", "message"),
    [
        (lambda mask: [(0, mask[:, :600])], "strips end at row 600; expected 1300"),
        (lambda mask: [(0, mask[:, :600]), (601, mask[:, 601:])], "row 601 .*expected row 600"),
        (lambda mask: [(0, mask.astype(np.int16))], "int16; expected"),
        (lambda mask: [(0, mask[:, :, :800])], "expected row 0 and"),
    ],
)
def test_strips_that_do_not_fit_leave_no_file(tmp_path, mask, strips, message):
    with pytest.raises(InputError, match=message):
        write_cog(tmp_path / "mask.tif", strips(mask), grid=GRID, scheme=FOUR_CLASS)
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, mask):
    path = tmp_path / "mask.tif"
    path.write_text("old")

    def failing():
        yield 0, mask[:, :700]
        raise RuntimeError("the detector failed")

    with pytest.raises(RuntimeError, match="the detector failed"):
        write_cog(path, failing(), grid=GRID, scheme=FOUR_CLASS)
    assert [item.name for item in tmp_path.iterdir()] == ["mask.tif"]
    assert path.read_text() == "old"


WRITE_AND_HANG = """
import sys
import numpy as np
from pathlib import Path
from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.products import Grid, write_cog

def strips():
    yield 0, np.ones((1, 1024, 900), np.uint8)
    print("half written", flush=True)
    sys.stdin.read()  # until killed

write_cog(Path(sys.argv[1]), strips(), grid=Grid(shape_yx=(1300, 900)), scheme=FOUR_CLASS)
"""


def test_killing_the_process_leaves_no_half_file(tmp_path):
    path = tmp_path / "mask.tif"
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_AND_HANG, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "half written\n"
        process.kill()
        assert process.wait() == -9
    assert not path.exists()


def test_places_where_nothing_can_be_written(tmp_path, mask):
    source = tmp_path / "scene.tif"
    source.write_text("pixels")
    with pytest.raises(OutputError, match=r"folder .*absent is not there; create it"):
        write_cog(tmp_path / "absent/mask.tif", _strips(mask), grid=GRID, scheme=FOUR_CLASS)
    with pytest.raises(OutputError, match=r"'mask\.png'; expected a name that ends in \.tif"):
        check_output(tmp_path / "mask.png")
    with pytest.raises(OutputError, match=r"scene\.tif exists; pass --overwrite"):
        check_output(source)
    with pytest.raises(OutputError, match="is the input; choose another name"):
        check_output(tmp_path / "." / "scene.tif", source=source, overwrite=True)
    (tmp_path / "folder.tif").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        check_output(tmp_path / "folder.tif", overwrite=True)
    check_output(source, overwrite=True)


def test_memory_does_not_grow_with_the_number_of_rows(tmp_path):
    # Strips are buffered to whole rows of tiles, never more.
    import tracemalloc

    def strips(rows):
        for top in range(0, rows, 100):
            yield top, np.zeros((1, min(100, rows - top), 2000), np.uint8)

    peaks = []
    for rows in (2000, 12000):
        grid = Grid(shape_yx=(rows, 2000))
        tracemalloc.start()
        write_cog(tmp_path / "mask.tif", strips(rows), grid=grid, scheme=FOUR_CLASS)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_the_last_row_of_tiles_is_there(tmp_path, mask):
    path = write_cog(tmp_path / "mask.tif", _strips(mask), grid=GRID, scheme=FOUR_CLASS)
    with rasterio.open(path) as dataset:
        last = dataset.read(1, window=Window(0, 1299, 900, 1))
    np.testing.assert_array_equal(last[0], mask[0, -1])
