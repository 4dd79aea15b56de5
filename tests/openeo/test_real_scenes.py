"""Real scenes with reference labels, all the way through graph and UDF."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import openeo
import pytest
import xarray as xr

from openeo_cloudmask.backend import run_local
from openeo_cloudmask.evaluation.labelled import read_labelled
from openeo_cloudmask.evaluation.rates import rate_scene
from openeo_cloudmask.openeo.client import cloud_mask

# What ukis-csmask's own code reaches on these scenes in one call of 512 x 512 pixels.
PUBLISHED = {
    "sentinel2": {"cloud": 0.959, "shadow": 0.959, "invalid": 0.935},
    "landsat5": {"cloud": 0.943, "shadow": 0.901, "invalid": 0.824},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_ukis_is_as_good_as_its_own_code(name: str, shared: Callable[[str], Path]) -> None:
    pytest.importorskip("ukis_csmask")
    labelled = read_labelled(shared("real") / f"{name}.npz")
    cube = xr.DataArray(
        labelled.cube, dims=("bands", "y", "x"), coords={"bands": list(labelled.bands)}
    )
    scene = openeo.DataCube.load_collection("SCENE", connection=None, fetch_metadata=False)
    graph = cloud_mask(scene, model="ukis-csmask", sensor=labelled.sensor, stride=512)
    mask = run_local(graph.save_result("GTiff").flat_graph(), {"SCENE": cube}).to_numpy()[0]
    found = {about: rates.balanced for about, rates in rate_scene(labelled, mask).items()}
    assert found == pytest.approx(PUBLISHED[name], abs=0.01)
