"""Datacubes as openEO back ends really pass them."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.datacube import mask_datacube, output_labels, pixel_origin
from openeo_cloudmask.errors import BandError, InputError, SensorError
from openeo_cloudmask.inference import Window
from openeo_cloudmask.models import registry
from openeo_cloudmask.models.entry import Licence, ModelEntry
from openeo_cloudmask.models.families.hollstein import RULE
from openeo_cloudmask.options import MaskOptions, parse_context

BANDS = ("B02", "B03", "B04")
SIZE = 64


@pytest.fixture
def toy(monkeypatch, make_detector):
    """A model of the registry whose windows are small, and how to load it."""
    entry = ModelEntry(
        id="toy",
        title="Toy",
        family="toy",
        kind=RULE,
        summary="For tests.",
        inputs={"sentinel-2-l1c": BANDS, "landsat-8-9-l1": ("B2", "B3", "B10")},
        window=Window(size_px=SIZE, multiple_px=1),
        licence=Licence(spdx="Apache-2.0", url="https://www.apache.org/licenses/LICENSE-2.0"),
        citation="",
        source_url="",
    )
    monkeypatch.setitem(registry.MODELS, "toy", entry)
    requests = []

    def load(name, **options):
        requests.append((name, options))
        detector = make_detector()
        detector.band_names = options["bands"]
        return detector

    load.requests = requests
    return load


def options(**keys):
    return parse_context({"model": "toy", "stride": 64, **keys})


@pytest.fixture
def make_cube(reflectance):
    def make(shape=(2, 3, 90, 80), *, dtype=np.float32, coordinates=np.float32, bands=BANDS):
        values = reflectance(1, shape)
        y = (4900020 - 5 - 10 * np.arange(shape[-2])).astype(coordinates)
        x = (399960 + 5 + 10 * np.arange(shape[-1])).astype(coordinates)
        coords = {"bands": list(bands), "y": y, "x": x}
        dims = ["bands", "y", "x"]
        if len(shape) == 4:
            coords["t"] = np.array(["2024-05-01", "2024-05-06"], "datetime64[ns]")[: shape[0]]
            dims = ["t", *dims]
        if np.dtype(dtype).kind in "iu":
            values = np.rint(values * 10000)
        return xr.DataArray(values.astype(dtype), dims=dims, coords=coords, name="cube")

    return make


def test_mask_keeps_dimensions_and_coordinates(toy, make_cube):
    cube = make_cube()
    mask = mask_datacube(cube, options(), load=toy)
    assert mask.dims == cube.dims
    assert mask.shape == (2, 1, 90, 80)
    assert mask.dtype == np.uint8
    assert mask.bands.values.tolist() == ["mask"]
    for dim in "tyx":
        np.testing.assert_array_equal(mask[dim], cube[dim])
    assert set(np.unique(mask)) <= set(FOUR_CLASS.values)
    assert toy.requests[0][1]["sensor"].id == "sentinel-2-l1c"
    assert len(toy.requests) == 1


def test_order_of_dimensions_and_bands_and_extra_bands_change_nothing(toy, make_cube):
    cube = make_cube()
    expected = mask_datacube(cube, options(), load=toy)
    extra = xr.full_like(cube.isel(bands=[0]), np.nan).assign_coords(bands=["SCL"])
    shuffled = xr.concat([extra, cube], "bands").isel(bands=[2, 0, 3, 1])
    shuffled = shuffled.transpose("x", "bands", "t", "y")
    got = mask_datacube(shuffled, options(), load=toy)
    assert got.dims == shuffled.dims
    np.testing.assert_array_equal(got.transpose(*expected.dims), expected)


def test_no_time_dimension_and_other_names(toy, make_cube):
    cube = make_cube()
    expected = mask_datacube(cube, options(), load=toy)
    renamed = cube.isel(t=1, drop=True).rename(bands="band", y="lat", x="lon")
    got = mask_datacube(renamed, options(), load=toy)
    assert got.dims == ("band", "lat", "lon")
    np.testing.assert_array_equal(got.values, expected.values[1])


def test_probabilities_are_percentages_with_class_names(toy, make_cube):
    cube = make_cube((3, 70, 70))
    cube[:, 3, 4] = np.nan
    percent = mask_datacube(cube, options(categorise=False), load=toy)
    assert percent.bands.values.tolist() == list(FOUR_CLASS.names)
    assert output_labels(options(categorise=False)) == FOUR_CLASS.names
    assert (percent[:, 3, 4] == 255).all()
    seen = percent.values.reshape(4, -1)[:, [0, 100]].astype(int)
    assert (abs(seen.sum(axis=0) - 100) <= 2).all()
    mask = mask_datacube(cube, options(output_style="valid-invalid"), load=toy)
    assert set(np.unique(mask)) == {0, 1, 255}


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32])
def test_scaled_integers_give_the_same_mask(toy, make_cube, dtype):
    expected = mask_datacube(make_cube(), options(), load=toy)
    got = mask_datacube(make_cube(dtype=dtype), options(scale=0.0001), load=toy)
    assert (got == expected).mean() > 0.99  # rounded to 0.0001
    raw = make_cube(dtype=dtype) + np.array(1000, dtype)
    shifted = mask_datacube(raw, options(scale=0.0001, offset=-0.1), load=toy)
    np.testing.assert_array_equal(shifted, got)


def test_integers_without_scale_are_refused(toy, make_cube):
    with pytest.raises(InputError, match=r"pass scale=0\.0001"):
        mask_datacube(make_cube(dtype=np.int16), options(), load=toy)


def test_no_data_by_nan_zero_and_attribute(toy, make_cube):
    cube = make_cube((3, 70, 70), dtype=np.int16)
    cube[:, 0, 0] = 0
    cube[0, 1, 1] = 0  # one dark band is no hole
    cube[2, 2, 2] = -999
    cube.attrs["_FillValue"] = -999
    mask = mask_datacube(cube, options(scale=0.0001), load=toy)[0]
    assert int((mask == 255).sum()) == 2
    assert mask[0, 0] == mask[2, 2] == 255


def test_all_no_data_never_loads_a_model(toy, make_cube):
    cube = xr.full_like(make_cube(), np.nan)
    assert (mask_datacube(cube, options(), load=toy) == 255).all()
    assert toy.requests == []


def test_dask_equals_numpy(toy, make_cube):
    pytest.importorskip("dask")
    cube = make_cube()
    expected = mask_datacube(cube, options(), load=toy)
    lazy = cube.chunk({"t": 1, "bands": 2, "y": 33, "x": 41})
    np.testing.assert_array_equal(mask_datacube(lazy, options(), load=toy), expected)


def test_kelvin_and_normalised_temperature_are_the_same(toy, make_cube):
    cube = make_cube((3, 70, 70), bands=("B2", "B3", "B10"))
    wanted = options(sensor="landsat-8-9-l1")
    expected = mask_datacube(cube, wanted, load=toy)
    warm = cube.copy()
    warm[2] = 132 + warm[2] * (249 - 132)
    got = mask_datacube(warm, wanted, load=toy)
    assert (got == expected).mean() > 0.999


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), coordinates=st.sampled_from([np.float32, np.float64]))
def test_chunks_with_overlap_give_the_whole_scene(toy, make_cube, data, coordinates):
    cube = make_cube((3, 150, 140), coordinates=coordinates)
    cube[:, 60:90, 100:] = np.nan
    whole = mask_datacube(cube, options(categorise=False), load=toy)
    size, overlap = data.draw(st.integers(20, 120)), SIZE
    y = data.draw(st.integers(0, 149))
    x = data.draw(st.integers(0, 139))
    top, left = max(y - overlap, 0), max(x - overlap, 0)
    chunk = cube[:, top : y + size + overlap, left : x + size + overlap]
    got = mask_datacube(chunk, options(categorise=False), load=toy)
    core = got[:, y - top : y - top + size, x - left : x - left + size].astype(int)
    expected = whole[:, y : y + size, x : x + size].astype(int)
    # Percentages are rounded: a difference of 1e-7 may tip one of them.
    assert int(abs(core - expected).max()) <= 1
    assert float((core == expected).mean()) > 0.999


@pytest.mark.parametrize("edge", [399960, 399975, 399967.5])
@pytest.mark.parametrize("step", [10.0, 30.0, -10.0, -30.0])
def test_origin_counts_pixels_for_any_cut(edge, step):
    centres = edge + step * (np.arange(1000) + 0.5)
    cube = xr.DataArray(np.zeros(1000), dims="x", coords={"x": centres})
    base = pixel_origin(cube, "x")
    for start in (1, 2, 3, 7, 500, 998):
        assert pixel_origin(cube[start:], "x") == base + start
        single = cube.assign_coords(x=centres.astype(np.float32))
        assert pixel_origin(single[start:], "x") == base + start


def test_origin_without_coordinates():
    cube = xr.DataArray(np.zeros((1, 5)), dims=("y", "x"), coords={"y": [3.0]})
    assert pixel_origin(cube, "x") == 0
    assert pixel_origin(cube, "y") == 0
    labels = cube.assign_coords(x=list("abcde"))
    assert pixel_origin(labels, "x") == 0


def test_wrong_cubes(toy, make_cube):
    cube = make_cube()
    with pytest.raises(InputError, match=r"dimensions t, bands, y; expected bands, y, x"):
        mask_datacube(cube.isel(x=0, drop=True), options(), load=toy)
    with pytest.raises(InputError, match=r"dimensions t, bands, y, x, z"):
        mask_datacube(cube.expand_dims("z", axis=-1), options(), load=toy)
    with pytest.raises(InputError, match=r"a ndarray; expected an xarray\.DataArray"):
        mask_datacube(cube.values, options(), load=toy)
    with pytest.raises(BandError, match="has no labels"):
        mask_datacube(cube.drop_vars("bands"), options(), load=toy)
    with pytest.raises(BandError, match="missing band B04 of sentinel-2-l1c"):
        mask_datacube(cube.isel(bands=[0, 1]), options(), load=toy)
    with pytest.raises(SensorError, match="unknown sensor 'modis'"):
        mask_datacube(cube, options(sensor="modis"), load=toy)
    with pytest.raises(InputError, match="at least one pixel"):
        mask_datacube(cube.isel(x=slice(0, 0)), options(), load=toy)
    with pytest.raises(InputError, match="no time step"):
        mask_datacube(cube.isel(t=slice(0, 0)), options(), load=toy)
    with pytest.raises(InputError, match="values of type complex64"):
        mask_datacube(cube.astype(np.complex64), options(), load=toy)


def test_progress_runs_over_all_dates(toy, make_cube):
    seen = []
    mask_datacube(
        make_cube(), options(), load=toy, progress=lambda done, total: seen.append((done, total))
    )
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert {total for _, total in seen} == {len(seen)}


def test_defaults_are_the_processors():
    assert MaskOptions().output_style == "4-class"
    assert MaskOptions().categorise
