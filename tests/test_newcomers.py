"""What others add takes one file. A sensor: tests/sensors/test_common.py; a family of models:
tests/models/test_families.py."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

ROOT = Path(__file__).resolve().parents[1]

PROCESS = '''
"""Twice as bright."""

from openeo_cloudmask.backend.graph.process import openeo_process


def _describe(_):
    cube = {"type": "object", "subtype": "datacube"}
    return {
        "id": "brighten",
        "description": "Doubles all values.",
        "parameters": [{"name": "data", "description": "A datacube.", "schema": cube}],
        "returns": {"description": "A datacube.", "schema": cube},
    }


@openeo_process(_describe)
def brighten(data):
    """Return the cube, twice as bright."""
    return 2 * data
'''

PAGE = '''
"""A page of somebody else's."""

import streamlit as st

PAGE = {"title": "Mine", "icon": ":material/star:", "place": 9}
st.title("A page of mine")
'''


def test_a_new_process_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openeo_processes_dask")
    from openeo_cloudmask.backend import processes, run_local
    from openeo_cloudmask.backend.processes import registry

    caches = (registry._own_functions, registry.predefined_specs, registry.predefined_processes)
    (tmp_path / "brighten.py").write_text(PROCESS, encoding="utf-8")
    monkeypatch.setattr(processes, "__path__", [*processes.__path__, str(tmp_path)])
    cube = xr.DataArray(
        np.ones((1, 2, 2), np.float32), dims=("bands", "y", "x"), coords={"bands": ["B02"]}
    )
    graph = {
        "load": {"process_id": "load_collection",
                 "arguments": {"id": "S2", "spatial_extent": None, "temporal_extent": None}},
        "mine": {"process_id": "brighten", "arguments": {"data": {"from_node": "load"}},
                 "result": True},
    }  # fmt: skip
    for cache in caches:
        cache.cache_clear()
    try:
        assert (run_local(graph, {"S2": cube}) == 2).all()
        assert registry.predefined_specs()["brighten"]["id"] == "brighten"
    finally:
        for cache in caches:
            cache.cache_clear()


def test_a_new_page_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    testing = pytest.importorskip("streamlit.testing.v1")
    shutil.copytree(ROOT / "viewer", tmp_path / "viewer", ignore=shutil.ignore_patterns("vendor"))
    (tmp_path / "viewer" / "vendor").mkdir()
    shutil.copy(ROOT / "viewer" / "vendor" / "icon.png", tmp_path / "viewer" / "vendor")
    (tmp_path / "viewer" / "screens" / "mine.py").write_text(PAGE, encoding="utf-8")
    app = testing.AppTest.from_file(str(tmp_path / "viewer" / "app.py"), default_timeout=60)
    app.switch_page("screens/mine.py").run()
    assert not app.exception
    assert [title.value for title in app.title] == ["A page of mine"]


def test_a_new_format_of_references_is_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import rasterio

    from openeo_cloudmask.evaluation import formats as folder
    from openeo_cloudmask.evaluation.evaluate import Reference
    from openeo_cloudmask.evaluation.reference_format import find_scenes, formats

    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (text,) = (block for block in blocks if "FORMATS = " in block)
    (tmp_path / "our_archive.py").write_text(text, encoding="utf-8")
    with rasterio.open(
        tmp_path / "A_cm.tif", "w", driver="GTiff", width=2, height=2, count=1, dtype="uint8"
    ) as raster:
        raster.write(np.array([[[0, 1], [2, 3]]], np.uint8))
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])
    formats.cache_clear()
    try:
        found = find_scenes(tmp_path)
        assert found is not None
        assert found[0].id == "our-archive"
        reference = found[1][0].reference()
        assert isinstance(reference, Reference)
        assert reference.labels.tolist() == [[255, 0], [1, 3]]
    finally:
        formats.cache_clear()
        sys.modules.pop(f"{folder.__name__}.our_archive", None)
