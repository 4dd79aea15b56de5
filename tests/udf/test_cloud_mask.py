"""The UDF file through the runner of the openEO client, on cubes as back ends pass them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openeo
import pytest
import xarray as xr
from openeo.metadata import Band, BandDimension, CollectionMetadata, CubeMetadata
from openeo.udf import UdfData, XarrayDataCube, execute_local_udf, run_udf_code
from openeo.udf.run_code import extract_udf_dependencies, load_module_from_string

from openeo_cloudmask import assets
from openeo_cloudmask.classes import OutputStyle
from openeo_cloudmask.datacube import mask_datacube, output_labels
from openeo_cloudmask.errors import BandError, InputError, OptionError
from openeo_cloudmask.models import ALIASES, MODELS
from openeo_cloudmask.options import MaskOptions, parse_context

UDF = assets.path("udf/cloud_mask.py").read_text(encoding="utf-8")
TREE = MaskOptions(model="hollstein")


def run(cube: xr.DataArray, **context: Any) -> xr.DataArray:
    """Return what a back end's worker gets: the runner is openeo.udf's own."""
    given = {"model": "hollstein", **context}
    data = UdfData(datacube_list=[XarrayDataCube(cube)], user_context=given)
    return run_udf_code(UDF, data).get_datacube_list()[0].get_array()


@pytest.fixture(autouse=True)
def _restored_path() -> Iterator[None]:
    before, load_module_from_string_cache = list(sys.path), load_module_from_string
    yield
    sys.path[:] = before
    load_module_from_string_cache.cache_clear()


def test_header_names_python_and_nothing_that_jobs_would_install() -> None:
    assert not extract_udf_dependencies(UDF)  # back ends pip install what stands there, each time
    assert UDF.startswith("# /// script\n")
    header = [line.removeprefix("#").strip() for line in UDF.split("# ///\n")[0].splitlines()[1:]]
    assert tomllib.loads("\n".join(header)) == {"requires-python": ">=3.11"}


def test_runner_takes_apply_datacube(
    make_cube: Callable[..., xr.DataArray], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "openeo.udf.run_code"):
        mask = run(make_cube())
    assert "datacube mapping UDF `apply_datacube`" in caplog.text
    assert (mask.dims, mask.shape, mask.dtype) == (("bands", "y", "x"), (1, 40, 50), np.uint8)
    assert mask.bands.to_numpy().tolist() == ["mask"]
    np.testing.assert_array_equal(mask, mask_datacube(make_cube(), TREE))
    assert set(np.unique(mask)) <= {0, 1, 2, 3}
    assert len(np.unique(mask)) > 1


def test_execute_local_udf_with_dates(make_cube: Callable[..., xr.DataArray]) -> None:
    dates = np.array(["2026-06-01", "2026-06-06"], "datetime64[ns]")
    cube = xr.concat([make_cube(seed=1), make_cube(seed=2)], dim="t").assign_coords(t=dates)
    udf = openeo.UDF(UDF, context={"model": "hollstein"})
    mask = execute_local_udf(udf, cube.transpose("y", "t", "x", "bands"))
    array = mask.get_datacube_list()[0].get_array()
    assert array.dims == ("t", "bands", "y", "x")
    np.testing.assert_array_equal(array.isel(t=1), mask_datacube(make_cube(seed=2), TREE))


def test_percentages_have_a_band_a_class(make_cube: Callable[..., xr.DataArray]) -> None:
    mask = run(make_cube(), categorise=False, output_style="cloud-noncloud")
    assert mask.bands.to_numpy().tolist() == ["non-cloud", "cloud"]
    assert set(np.unique(mask.sum("bands"))) == {100}


def test_other_order_extra_bands_and_aliases(make_cube: Callable[..., xr.DataArray]) -> None:
    cube = make_cube()
    labels = [label.replace("B0", "B") for label in cube.bands.to_numpy()]
    renamed = cube.assign_coords(bands=labels)
    extra = xr.full_like(cube.isel(bands=[0]), np.nan).assign_coords(bands=["sunAzimuthAngles"])
    shuffled = xr.concat([extra, renamed.isel(bands=slice(None, None, -1))], dim="bands")
    np.testing.assert_array_equal(run(shuffled), run(cube))


def test_y_may_ascend(make_cube: Callable[..., xr.DataArray]) -> None:
    cube = make_cube()
    flipped = cube.isel(y=slice(None, None, -1))
    np.testing.assert_array_equal(run(flipped).isel(y=slice(None, None, -1)), run(cube))


def test_without_coordinates(make_cube: Callable[..., xr.DataArray]) -> None:
    cube = make_cube()
    bare = cube.drop_vars(["x", "y"])
    assert not set(run(bare).coords) & {"x", "y"}
    np.testing.assert_array_equal(run(bare), run(cube))


def test_integers_with_scale(make_cube: Callable[..., xr.DataArray]) -> None:
    stored = (make_cube() * 10_000).round().astype(np.int16)
    scaled = stored.astype(np.float32) * np.float32(0.0001)
    np.testing.assert_array_equal(run(stored, scale=0.0001), run(scaled))
    with pytest.raises(InputError, match=r"do not look like reflectance.*scale=0\.0001"):
        run(stored)


def test_no_data_is_never_clear(make_cube: Callable[..., xr.DataArray]) -> None:
    cube = make_cube()
    cube[3, :, :10] = np.nan
    mask = run(cube)[0]
    assert (mask[:, :10] == 255).all()
    assert (mask[:, 10:] != 255).all()
    assert (run(xr.full_like(cube, np.nan)) == 255).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 2)])
def test_chunks_at_the_edge(make_cube: Callable[..., xr.DataArray], shape: tuple[int, int]) -> None:
    mask = run(make_cube(*shape))
    assert mask.shape == (1, *shape)
    assert (mask != 255).all()


def test_overlap_of_a_neighbourhood_is_not_computed(
    make_cube: Callable[..., xr.DataArray],
) -> None:
    cube = make_cube(48, 48)
    around = {"size": 32, "overlap": 8}
    mask, whole = run(cube, neighborhood=around), run(cube)
    inner = {"y": slice(8, 40), "x": slice(8, 40)}
    np.testing.assert_array_equal(mask.isel(inner), whole.isel(inner))
    assert (mask != 255).sum() == 32 * 32
    wider = make_cube(48, 50)  # along x it is no whole neighbourhood: nothing is left out there
    assert (run(wider, neighborhood=around) != 255).sum() == 32 * 50


@pytest.mark.parametrize(
    "around",
    [[32, 8], {"size": 32}, {"size": 0, "overlap": 8}, {"size": 32, "overlap": 8.5}, "32"],
)
def test_neighbourhoods_that_are_none_are_refused(
    make_cube: Callable[..., xr.DataArray], around: object
) -> None:
    with pytest.raises(OptionError, match=r"neighborhood is .*expected whole numbers of pixels"):
        run(make_cube(), neighborhood=around)


def test_mistakes_are_named(make_cube: Callable[..., xr.DataArray]) -> None:
    cube = make_cube()
    with pytest.raises(OptionError, match="unknown option 'strides'; did you mean 'stride'"):
        run(cube, strides=64)
    with pytest.raises(BandError, match="missing band B8A"):
        run(cube.drop_sel(bands="B8A"), sensor="sentinel-2-l1c")
    with pytest.raises(InputError, match="expected bands, y, x and perhaps t"):
        run(cube.isel(x=0))


def apply_metadata() -> Callable[..., Any]:
    return load_module_from_string(UDF)["apply_metadata"]


def test_metadata_gets_the_labels_of_the_mask() -> None:
    bands = BandDimension(name="spectral", bands=[Band("B02"), Band("B03")])
    metadata = apply_metadata()(CubeMetadata([bands]), {"model": "hollstein"})
    assert metadata.band_names == ["mask"]
    collection = CollectionMetadata(
        {"cube:dimensions": {"bands": {"type": "bands", "values": ["B02", "B03"]}}}
    )
    context = {"model": "hollstein", "categorise": False}
    renamed = apply_metadata()(collection, context)
    assert isinstance(renamed, CollectionMetadata)
    assert renamed.band_names == ["clear", "thick-cloud", "thin-cloud", "cloud-shadow"]
    with pytest.raises(ValueError, match="output_style is '5-class'; expected one of 4-class"):
        apply_metadata()(collection, {"categorise": False, "output_style": "5-class"})


class Metadata:
    """As much of a back end's class as is used."""

    band_dimension = type("Bands", (), {"name": "bands"})

    def rename_labels(self, dimension: str, target: list[str]) -> list[str]:
        assert dimension == "bands"
        return target


@pytest.mark.parametrize("model", [*MODELS, *ALIASES, "HOLLSTEIN", None])
@pytest.mark.parametrize("style", [*OutputStyle, None])
@pytest.mark.parametrize("categorise", [True, False, None])
def test_metadata_has_the_labels_that_the_mask_has(
    model: str | None, style: str | None, *, categorise: bool | None
) -> None:
    context = {"model": model, "output_style": style, "categorise": categorise}
    around = {"neighborhood": {"size": 64, "overlap": 0}}
    labels = apply_metadata()(Metadata(), context | around)
    assert labels == list(output_labels(parse_context(context)))


def test_metadata_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    # openeo.udf itself brings xarray, which the UDF's annotations name; a stand-in will do here.
    (tmp_path / "xarray.py").write_text("class DataArray: pass\n")
    (tmp_path / "cloud_mask.py").write_text(UDF)
    code = (
        "import sys; before = set(sys.modules); import cloud_mask\n"
        "class M:\n"
        "  band_dimension = type('B', (), {'name': 'bands'})\n"
        "  def rename_labels(self, dimension, target): return target\n"
        "context = {'model': 'hollstein', 'categorise': False, 'output_style': 'native'}\n"
        "assert len(cloud_mask.apply_metadata(M(), context)) == 6\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "assert new - set(sys.stdlib_module_names) == {'cloud_mask', 'xarray'}, new\n"
    )
    command = [sys.executable, "-S", "-c", code]
    environment = {"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=60)


def test_shipped_folder_is_found_once(
    make_cube: Callable[..., xr.DataArray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENEO_CLOUDMASK_WEIGHTS", "")
    monkeypatch.delenv("OPENEO_CLOUDMASK_WEIGHTS")
    monkeypatch.chdir(tmp_path)
    run(make_cube())
    assert "OPENEO_CLOUDMASK_WEIGHTS" not in os.environ
    weights = tmp_path / "cloudmask_deps" / "cloudmask_weights"
    weights.mkdir(parents=True)
    run(make_cube())
    run(make_cube())
    assert sys.path.count(str(weights.parent)) == 1
    assert os.environ["OPENEO_CLOUDMASK_WEIGHTS"] == str(weights)
