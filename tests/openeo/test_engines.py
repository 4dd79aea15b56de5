"""Other engines, and the table of them in the documentation."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from openeo_cloudmask import cloud_mask
from openeo_cloudmask.datacube import mask_datacube
from openeo_cloudmask.options import MaskOptions

ROOT = Path(__file__).resolve().parents[2]
BANDS = ("B01", "B02", "B03", "B05", "B06", "B07", "B8A", "B09", "B10", "B11")


def test_clients_local_engine_runs_the_udf_on_the_cube(tmp_path: Path) -> None:
    pytest.importorskip("openeo_processes_dask")
    values = np.random.default_rng(3).random((len(BANDS), 20, 30), np.float32)
    axes = {"y": 5_000_000.0 - 10 * np.arange(20), "x": 300_000.0 + 10 * np.arange(30)}
    dataset = xr.Dataset(
        {name: (("y", "x"), plane) for name, plane in zip(BANDS, values, strict=True)}, axes
    )
    path = tmp_path / "scene.nc"
    dataset.to_netcdf(path, engine="h5netcdf")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own, at import and on use
        from openeo.local import LocalConnection

        cube = LocalConnection(str(tmp_path)).load_collection(str(path))
        mask = cloud_mask(cube, model="hollstein")
        assert "apply_neighborhood" not in str(mask.flat_graph())
        answer = mask.execute()
    whole = mask_datacube(dataset.to_array(dim="bands"), MaskOptions(model="hollstein"))
    np.testing.assert_array_equal(answer, whole)
    assert answer.bands.to_numpy().tolist() == ["mask"]


def test_the_table_of_engines_names_a_test_or_a_reason_in_each_cell() -> None:
    page = (ROOT / "docs" / "openeo.md").read_text(encoding="utf-8")
    table = page.split("## What was run where")[1].split("\n## ")[0]
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("|")
    ]
    models = [name.strip("`") for name in head[1:-1]]
    assert {"mini", "hollstein", "ukis-csmask", "cloudsen12"} <= set(models)
    assert len(rows) > 5
    reasons = set(re.findall(r"^\((\w)\)", table, flags=re.MULTILINE))
    for engine, *cells, tests in rows:
        assert len(cells) == len(models), engine
        for model, cell in zip(models, cells, strict=True):
            if cell.startswith("equal"):
                path = ROOT / tests.strip("`")
                assert f'"{model}"' in path.read_text(encoding="utf-8"), (engine, model)
            else:
                reason = re.fullmatch(r"not run \((\w)\)", cell)
                assert reason, (engine, cell)
                assert reason[1] in reasons
