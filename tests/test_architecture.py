"""The rules of the package as a whole: floors, light imports, no asserts."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from openeo_cloudmask import errors

PACKAGE = Path(errors.__file__).parent
FLOORS = {
    **dict.fromkeys(("__init__", "errors", "classes", "options", "sensors", "assets"), 1),
    **dict.fromkeys(("inference", "models", "guard"), 2),
    **dict.fromkeys(("products", "simulator", "alcd", "evaluation", "datacube"), 3),
    **dict.fromkeys(("stac", "openeo", "training"), 4),
    "backend": 5,
    **dict.fromkeys(("cli", "viewer"), 6),
}
SAME_FLOOR = {
    # The registry and the networks stand on the kernel's types; datacubes are the common currency
    # of the third floor; scores need products, ALCD's references, and simulated scenes.
    ("models", "inference"),
    ("products", "datacube"),
    ("simulator", "products"),
    ("simulator", "alcd"),
    ("alcd", "products"),
    ("alcd", "evaluation"),
    ("evaluation", "datacube"),
    ("evaluation", "products"),
    ("evaluation", "simulator"),
    ("evaluation", "alcd"),
    ("training", "openeo"),
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "_assets" not in path.parts)


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {item.name for item in node.names}
    rooms = set()
    for name in names:
        if match := re.match(r"openeo_cloudmask(?:\.(\w+))?", name):
            rooms.add(match.group(1) or "__init__")
    return rooms


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_import_from_their_floor_or_below(path):
    here = room(path)
    if here == "__init__":
        return  # re-exports the client's function, lazily
    for there in imported(path):
        assert there in FLOORS, f"{there} has no floor: add it to FLOORS"
        if there == here:
            continue
        below = FLOORS[there] < FLOORS[here] or FLOORS[here] == FLOORS[there] in (1, 6)
        assert below or (here, there) in SAME_FLOOR, f"{here} may not import {there}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_asserts_and_no_unsafe_loading(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = ast.unparse(node.func)
            assert called not in ("pickle.load", "pickle.loads", "yaml.load"), called
            if called == "torch.load":
                keywords = {item.arg: ast.unparse(item.value) for item in node.keywords}
                assert keywords.get("weights_only") == "True", f"{path}:{node.lineno}"


OPENERS = {
    "rasterio.open", "rasterio.io.DatasetReader", "DatasetReader", "memory.open", "MemoryFile.open",
    "WarpedVRT", "rasterio.vrt.WarpedVRT", "xr.open_dataset", "xarray.open_dataset", "xr.open_zarr",
    "xr.open_mfdataset", "rioxarray.open_rasterio", "gdal.Open", "gdal.OpenEx", "h5py.File",
    "h5netcdf.File", "odc.stac.load", "stackstac.stack", "COGReader", "STACReader",
}  # fmt: skip
"""Whatever opens a raster by a name."""
OPENING_MODULES = {"products/drivers.py", "products/netcdf.py"}
VIEWER = sorted((PACKAGE.parent / "viewer").rglob("*.py"))


@pytest.mark.parametrize("path", [*MODULES, *VIEWER], ids=lambda path: str(path)[-40:])
def test_rasters_are_opened_in_one_place(path):
    if path.is_relative_to(PACKAGE) and path.relative_to(PACKAGE).as_posix() in OPENING_MODULES:
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tiler = any(
        isinstance(node, ast.ImportFrom) and node.module == "rio_tiler.io"
        for node in ast.walk(tree)
    )
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            writes = any(isinstance(item, ast.Constant) and item.value == "w" for item in node.args)
            assert called not in OPENERS or writes, f"{path}:{node.lineno}: use products.drivers"
            if tiler and called == "Reader":
                assert "dataset" in {item.arg for item in node.keywords}, f"{path}:{node.lineno}"


def test_importing_the_package_is_light():
    code = (
        "import sys; before = set(sys.modules); import openeo_cloudmask; "
        "import openeo_cloudmask.classes, openeo_cloudmask.options, openeo_cloudmask.sensors; "
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "heavy = new & {'torch', 'openeo', 'pystac', 'xarray', 'rasterio', 'dask', 'streamlit'}; "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
