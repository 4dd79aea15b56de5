"""SEnSeIv2 on real scenes, from cube to mask; the weights are synthetic, and so are the classes."""

import numpy as np
import pytest
import xarray as xr

from openeo_cloudmask.datacube import mask_datacube
from openeo_cloudmask.options import MaskOptions

SCENES = {
    "sentinel2": ("sentinel-2-l1c", ("B02", "B03", "B04", "B08", "B11", "B12")),
    "landsat5": ("landsat-4-5-l1", ("B1", "B2", "B3", "B4", "B5", "B7")),
}


@pytest.fixture
def read_scene(shared):
    """Return the factory of a real scene (bands, y, x) with a hole of no data."""

    def read(name):
        with np.load(shared(f"real/{name}.npz")) as file:
            image = np.moveaxis(file["img"], -1, 0).astype(np.float32)
        image[:, 100:200, 50:90] = np.nan
        sensor, bands = SCENES[name]
        cube = xr.DataArray(image, dims=("bands", "y", "x"), coords={"bands": list(bands)})
        return sensor, cube

    return read


@pytest.mark.parametrize("name", sorted(SCENES))
@pytest.mark.parametrize("categorise", [True, False])
def test_real_scene_is_masked(read_scene, hub_folder, name, categorise):
    sensor, cube = read_scene(name)
    mask = mask_datacube(
        cube,
        MaskOptions(
            model="senseiv2",
            sensor=sensor,
            weights=str(hub_folder()),
            stride=512,
            categorise=categorise,
            precision="fp32",
        ),
    )
    assert mask.shape == ((1 if categorise else 4), 512, 512)
    assert mask.dtype == np.uint8
    hole = np.zeros((512, 512), bool)
    hole[100:200, 50:90] = True
    assert (mask.to_numpy()[:, hole] == 255).all()
    assert mask.to_numpy()[:, ~hole].max() <= (3 if categorise else 100)


def test_mask_does_not_depend_on_the_order_of_bands(read_scene, hub_folder):
    sensor, cube = read_scene("sentinel2")
    options = MaskOptions(
        model="senseiv2", sensor=sensor, weights=str(hub_folder()), stride=512, categorise=False
    )
    one = mask_datacube(cube, options)
    other = mask_datacube(cube[::-1], options)
    np.testing.assert_array_equal(one, other)
