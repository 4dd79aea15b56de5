"""Products as they should not be, through ``cloudmask run``: a mask, or one line and status 2."""

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import CloudMaskError

OLD = "S2A_OPER_MSI_L1C_TL_EPA__1_T32TTT_N02.04"


@pytest.fixture
def run(tmp_path):
    """Return a function that masks a product with the decision tree (or another model)."""

    def invoke(source, *arguments, model="hollstein"):
        output = tmp_path / "mask.tif"
        line = ["run", source, output, "--model", model, "--stride", 512, *arguments]
        result = CliRunner().invoke(build_app(), list(map(str, line)))
        if result.exception is not None:
            assert not output.exists()
            raise result.exception
        with rasterio.open(output) as dataset:
            return dataset.read(1)

    return invoke


def refused(run, *arguments, **options):
    """Return the message, which is one line."""
    with pytest.raises(CloudMaskError) as caught:
        run(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_landsat_without_sun_elevation(run, write_landsat):
    path, _ = write_landsat(changes={"IMAGE_ATTRIBUTES": {"SUN_ELEVATION": None}})
    assert "no SUN_ELEVATION in the group IMAGE_ATTRIBUTES" in refused(run, path, model="mini")


def test_landsat_without_thermal_bands(run, write_landsat):
    path, _ = write_landsat(
        changes={"IMAGE_ATTRIBUTES": {"SENSOR_ID": "OLI"}}, bands=tuple(range(1, 10))
    )
    message = refused(run, path, "--bands", "B2,B3,B4,B5,B10", model="mini")
    assert "SENSOR_ID is OLI" in message
    assert run(path, model="mini").shape == (40, 50)


def test_safe_without_a_band(run, write_safe):
    path, _ = write_safe(without=["B10"])
    assert "missing band B10" in refused(run, path)


@pytest.mark.parametrize("name", ["MTD_MSIL1C.xml", "MTD_TL.xml"])
def test_safe_with_broken_metadata(run, write_safe, name):
    path, _ = write_safe()
    (file,) = path.rglob(name)
    file.write_text(file.read_text()[:200])
    assert f"{name} is not readable XML" in refused(run, path)


def test_safe_with_the_names_before_december_2016_and_zipped(run, write_safe, pack):
    path, _ = write_safe(offset=None)
    new = run(path)
    (path / "MTD_MSIL1C.xml").rename(path / "S2A_OPER_MTD_SAFL1C_PDMC_20160605T113933.xml")
    (granule,) = (path / "GRANULE").iterdir()
    folder = granule.rename(granule.with_name(OLD))
    (folder / "MTD_TL.xml").rename(folder / f"{OLD.replace('_MSI_', '_MTD_')[:-7]}.xml")
    for image in list((folder / "IMG_DATA").iterdir()):
        image.rename(image.with_name(f"{OLD[:-7]}_{image.name[-7:]}"))
    for source in (path, pack(path, "zip")):
        np.testing.assert_array_equal(run(source, "--overwrite"), new)
    assert len(np.unique(new)) > 1
