"""Graphs run here, without a server: any cut of a scene gives the mask of the whole scene."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openeo
import openeo_pg_parser_networkx  # noqa: F401 - sets the recursion limit, which hypothesis watches
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from openeo_cloudmask import datacube
from openeo_cloudmask.backend import run_local
from openeo_cloudmask.errors import BackendError
from openeo_cloudmask.openeo.client import apply_options
from openeo_cloudmask.options import MaskOptions


def build(options: MaskOptions, size_px: int = 1024, **load: Any) -> dict[str, Any]:
    """A graph whose UDF runs on the neighbourhoods: the back end does not know its text."""
    cube = openeo.DataCube.load_collection("S2", connection=None, fetch_metadata=False, **load)
    graph = apply_options(cube, options, size_px=size_px).save_result("GTiff").flat_graph()
    inner = graph["applyneighborhood1"]["arguments"]["process"]["process_graph"]
    inner["runudf1"]["arguments"]["udf"] += "# cut as the graph says\n"
    return graph


@st.composite
def holes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    return tuple(draw(st.integers(0, 200)) for _ in range(4))  # type: ignore[return-value]


@settings(max_examples=20)
@given(
    shape=st.tuples(st.integers(97, 230), st.integers(97, 230)),
    pixels=st.tuples(st.integers(-1000, 1000), st.integers(0, 1000)),
    size_px=st.integers(96, 200),
    hole=holes(),
    seed=st.integers(0, 99),
)
def test_any_cut_through_the_udf_is_the_whole_scene(
    make_cube: Callable[..., xr.DataArray],
    tiny: str,
    shape: tuple[int, int],
    pixels: tuple[int, int],
    size_px: int,
    hole: tuple[int, int, int, int],
    seed: int,
) -> None:
    origin = (5_000_005.0 + 10 * pixels[0], 300_005.0 + 10 * pixels[1])
    cube = make_cube(*shape, seed=seed, origin=origin)
    top, left, height, width = hole
    cube[:, 1, top : top + height // 2, left : left + width // 2] = np.nan
    options = MaskOptions(model=tiny, stride=64, categorise=False)
    whole = datacube.mask_datacube(cube, options)
    cut = run_local(build(options, size_px), {"S2": cube})
    assert cut.dims == whole.dims
    np.testing.assert_array_equal(cut == 255, whole == 255)
    # Percentages are whole numbers: 1e-5 of a probability may tip one over to the next.
    difference = np.abs(cut.astype(int) - whole.astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_a_smaller_overlap_leaves_seams(make_cube: Callable[..., xr.DataArray], tiny: str) -> None:
    cube = make_cube(200, 200)
    options = MaskOptions(model=tiny, stride=64, categorise=False)
    graph = build(options, 96)
    assert run_local(graph, {"S2": cube}).equals(datacube.mask_datacube(cube, options))
    for item in graph["applyneighborhood1"]["arguments"]["overlap"]:
        item["value"] = 16
    assert not run_local(graph, {"S2": cube}).equals(datacube.mask_datacube(cube, options))


def test_a_buffer_in_neighbourhoods_is_that_of_the_scene(
    make_cube: Callable[..., xr.DataArray], tiny: str
) -> None:
    cube = make_cube(330, 300)
    options = MaskOptions(model=tiny, stride=64, min_area="9px", buffer="cloud=120m,shadow=30m")
    graph = build(options, 128)
    overlaps = graph["applyneighborhood1"]["arguments"]["overlap"]
    assert [item["value"] for item in overlaps] == [128, 128]  # 95 for the window, 8 and 12 around
    whole = datacube.mask_datacube(cube, options)
    assert run_local(graph, {"S2": cube}).equals(whole)
    assert not whole.equals(datacube.mask_datacube(cube, MaskOptions(model=tiny, stride=64)))


def test_windows_that_only_touch_the_overlap_are_not_computed(
    make_cube: Callable[..., xr.DataArray], tiny: str
) -> None:
    def windows(neighborhood: tuple[int, int] | None) -> int:
        totals: list[int] = []
        datacube.mask_datacube(
            make_cube(96 * 3, 96 * 3),
            MaskOptions(model=tiny, stride=64),
            neighborhood=neighborhood,
            progress=lambda _, total: totals.append(total),
        )
        return totals[-1]

    # 96 pixels are touched by windows that start in 191 places, every 64 pixels: 2 or 3 of them.
    assert windows((96, 96)) in {4, 6, 9}
    assert windows(None) >= 25
    assert windows((64, 96)) == windows(None)


def test_dates_are_masked_one_by_one(make_cube: Callable[..., xr.DataArray], tiny: str) -> None:
    cube = make_cube(dates=3)
    options = MaskOptions(model=tiny, stride=64)
    mask = run_local(build(options, 96), {"S2": cube})
    assert mask.dims == ("t", "bands", "y", "x")
    assert mask.t.equals(cube.t)
    assert mask.x.equals(cube.x)
    assert mask.bands.to_numpy().tolist() == ["mask"]
    for index in range(3):
        alone = datacube.mask_datacube(cube.isel(t=[index]), options)
        np.testing.assert_array_equal(mask.isel(t=[index]), alone)


def test_a_graph_of_any_processes_and_its_files(
    make_cube: Callable[..., xr.DataArray], tmp_path: Path
) -> None:
    cube = make_cube(64, 64, dates=3)
    loaded = openeo.DataCube.load_collection(
        "S2",
        connection=None,
        fetch_metadata=False,
        temporal_extent=["2026-06-02", None],
        bands=["B03"],
        spatial_extent={"west": 300_000, "south": 4_999_800, "east": 300_100, "north": 5_000_010,
                        "crs": 32631},
    )  # fmt: skip
    graph = loaded.max_time().save_result("netCDF").flat_graph()
    with pytest.raises(BackendError, match="no georeference"):
        run_local(graph, {"S2": cube})
    cube.attrs["crs"] = 32631
    found = run_local(graph, {"S2": cube}, folder=tmp_path)
    wanted = cube.isel(t=slice(1, 3), y=slice(0, 21), x=slice(0, 10)).sel(bands=["B03"]).max("t")
    np.testing.assert_array_equal(found, wanted)
    [file] = tmp_path.glob("*.nc")
    with xr.open_dataset(file, engine="h5netcdf") as stored:
        np.testing.assert_array_equal(stored["B03"], wanted[0])


def test_bands_of_the_collection_are_chosen(
    make_cube: Callable[..., xr.DataArray], tiny: str
) -> None:
    cube = make_cube(bands=("B04", "SCL", "B03", "B02"))
    options = MaskOptions(model=tiny, stride=64)
    chosen = run_local(build(options, bands=["B02", "B03", "B04"]), {"S2": cube})
    np.testing.assert_array_equal(chosen, datacube.mask_datacube(cube, options))
    with pytest.raises(BackendError, match="B04"):
        run_local(build(options, bands=["B02", "B03"]), {"S2": cube})


def test_what_a_local_run_cannot_do_is_said(make_cube: Callable[..., xr.DataArray]) -> None:
    cube, options = make_cube(), MaskOptions(model="hollstein")
    with pytest.raises(BackendError, match="no collection 'S2'; there are S3"):
        run_local(build(options), {"S3": cube})
    loaded = openeo.DataCube.load_collection("S2", connection=None, fetch_metadata=False)
    with pytest.raises(BackendError, match="no_such_process"):
        run_local(loaded.process("no_such_process", data=loaded).flat_graph(), {"S2": cube})
    graph = build(options)
    graph["loadcollection1"]["arguments"]["properties"] = {"eo:cloud_cover": {}}
    with pytest.raises(BackendError, match="properties"):
        run_local(graph, {"S2": cube})
    graph = build(options)
    run = graph["applyneighborhood1"]["arguments"]["process"]["process_graph"]["runudf1"]
    run["arguments"]["udf"] = "https://example.org/udf.py"
    with pytest.raises(BackendError, match="udf is a URL or path"):
        run_local(graph, {"S2": cube})


def test_a_udf_that_changes_the_size_is_refused(make_cube: Callable[..., xr.DataArray]) -> None:
    graph = build(MaskOptions(model="hollstein"), 64)
    run = graph["applyneighborhood1"]["arguments"]["process"]["process_graph"]["runudf1"]
    run["arguments"]["udf"] = (
        "import xarray\n"
        "def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:\n"
        "    return cube.isel(x=slice(1, None))\n"
    )
    with pytest.raises(BackendError, match="returned 63 pixels along x; expected 64"):
        run_local(graph, {"S2": make_cube(64, 64)})
