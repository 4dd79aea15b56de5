"""The rules of the package as a whole: floors, light imports; ruff holds those of single lines."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

from openeo_cloudmask import errors

PACKAGE = Path(errors.__file__).parent
FLOORS = {
    **dict.fromkeys(
        (
            "__init__",
            "errors",
            "class_schemes",
            "classes",
            "amounts",
            "hdf5",
            "options",
            "sensors",
            "assets",
            "version",
            "publish",
            "digits",
            "grid",
        ),
        1,
    ),
    **dict.fromkeys(("inference", "models", "guard", "cleaning"), 2),
    "masking": 2.5,
    "datacube": 2.6,
    "lazy": 2.7,
    "labels": 2.7,
    "front": 4.5,
    **dict.fromkeys(("products", "fetch", "simulator", "alcd", "evaluation"), 3),
    **dict.fromkeys(("stac", "openeo", "training"), 4),
    "backend": 5,
    **dict.fromkeys(("cli", "viewer"), 6),
}
SAME_FLOOR = {
    # The registry and the networks stand on the kernel's types; scores need products, ALCD's
    # references, and simulated scenes.
    ("models", "inference"),
    ("fetch", "products"),
    ("alcd", "fetch"),
    ("simulator", "products"),
    ("simulator", "alcd"),
    ("alcd", "products"),
    ("evaluation", "products"),
    ("evaluation", "simulator"),
    ("evaluation", "alcd"),
    ("evaluation", "fetch"),
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "_assets" not in path.parts)


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def dotted(node: ast.expr) -> str:
    """The name that an expression is, as in ``torch.load``; empty where it is something else."""
    if isinstance(node, ast.Name):
        return node.id
    within = dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{within}.{node.attr}" if within else ""


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def graph_of_imports() -> dict[str, set[str]]:
    """Module -> modules of the package it imports, anywhere in it: in functions and for types too.

    A module that is imported from its own package by name counts as that module.
    """
    paths = {module_name(path): path for path in MODULES}
    graph = {}
    for name, path in paths.items():
        found = set()
        for node in nodes(path):
            if isinstance(node, ast.ImportFrom) and node.module:
                full = {f"{node.module}.{item.name}" for item in node.names}
                found |= full & paths.keys() or {node.module}
            elif isinstance(node, ast.Import):
                found |= {item.name for item in node.names}
        graph[name] = (found & paths.keys()) - {name}
    return graph


def find_circle(graph: dict[str, set[str]]) -> list[str]:
    """A way from a module back to itself, or nothing."""
    left = {name: set(there) for name, there in graph.items()}
    while True:  # take away what imports nothing that is left
        ends = {name for name, there in left.items() if not there & left.keys()}
        if not ends:
            break
        left = {name: there - ends for name, there in left.items() if name not in ends}
    way: list[str] = []
    here = min(left, default=None)
    while here is not None and here not in way:
        way.append(here)
        here = min(left[here] & left.keys())
    return [] if here is None else [*way[way.index(here) :], here]


def test_no_circles():
    assert find_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert find_circle({"a": {"b"}, "b": set()}) == []
    circle = find_circle(graph_of_imports())
    assert not circle, "modules import each other: " + " -> ".join(circle)


def test_every_exception_is_needed():
    used = {(room(path), there) for path in MODULES for there in imported(path)}
    assert used >= SAME_FLOOR, f"nobody needs {SAME_FLOOR - used}: remove it"
    assert FLOORS.keys() == {room(path) for path in MODULES}


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imported(path: Path) -> set[str]:
    names = set()
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {item.name for item in node.names}
    rooms = set()
    for name in names:
        if match := re.match(r"openeo_cloudmask(?:\.(\w+))?", name):
            rooms.add(match.group(1) or "__init__")
    return rooms


def test_modules_import_from_their_floor_or_below():
    for path in MODULES:
        here = room(path)
        if here == "__init__":
            continue  # re-exports the client's function, lazily
        for there in imported(path) - {here}:
            assert there in FLOORS, f"{there} has no floor: add it to FLOORS"
            below = FLOORS[there] < FLOORS[here] or FLOORS[here] == FLOORS[there] in (1, 6)
            assert below or (here, there) in SAME_FLOOR, f"{path}: {here} may not import {there}"


def places() -> set[str]:
    """Return the modules, their functions and classes, and the methods of these, by dotted name."""
    found = set()
    for path in [*MODULES, PACKAGE.parent / "udf" / "cloud_mask.py"]:
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        found.add(module)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(f"{module}.{node.name}")
                inner = node.body if isinstance(node, ast.ClassDef) else ()
                found |= {
                    f"{module}.{node.name}.{item.name}"
                    for item in inner
                    if isinstance(item, ast.FunctionDef)
                }
    return found


def test_the_hops_that_are_told_are_there():
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    told = page.partition("## A datacube, hop by hop")[2].partition("\n## ")[0]
    hops = re.findall(r"`([^`]+)`", " ".join(re.findall(r"^\|([^|]+)\|", told, re.MULTILINE)))
    assert len(hops) > 25
    known = {f".{name}." for name in places()}
    for hop in hops:
        parts = re.sub(r"\.py(?:: )?", ".", hop).replace("/", ".").strip(".").split(".")
        ends = f".{parts[0]}.", f".{parts[-1]}."
        assert any(ends[0] in name and name.endswith(ends[1]) for name in known), hop


def test_pickles_are_not_loaded():
    for path in MODULES:
        for node in nodes(path):
            if isinstance(node, ast.Call) and dotted(node.func) == "torch.load":
                keywords = {item.arg: ast.unparse(item.value) for item in node.keywords}
                assert keywords.get("weights_only") == "True", f"{path}:{node.lineno}"


OPENERS = {
    "rasterio.open", "rasterio.io.DatasetReader", "DatasetReader", "memory.open", "MemoryFile.open",
    "WarpedVRT", "rasterio.vrt.WarpedVRT", "xr.open_dataset", "xarray.open_dataset", "xr.open_zarr",
    "xr.open_mfdataset", "rioxarray.open_rasterio", "gdal.Open", "gdal.OpenEx", "h5py.File",
    "h5netcdf.File", "odc.stac.load", "stackstac.stack", "COGReader", "STACReader",
}  # fmt: skip
"""Whatever opens a raster by a name."""
OPENING_MODULES = {
    *("products/drivers.py", "products/netcdf.py", "products/eopf.py"),
    "models/keras_weights.py",  # opens weights
    "evaluation/reference_format.py",  # opens HDF5 of references
}
VIEWER = sorted((PACKAGE.parent / "viewer").rglob("*.py"))


def test_rasters_are_opened_in_one_place():
    elsewhere = {PACKAGE / name for name in OPENING_MODULES}
    for path in {*MODULES, *VIEWER} - elsewhere:
        for node in nodes(path):
            if isinstance(node, ast.Call) and dotted(node.func) in OPENERS:
                writes = any(
                    isinstance(item, ast.Constant) and item.value == "w" for item in node.args
                )
                assert writes, f"{path}:{node.lineno}: use products.drivers"


def test_reference_systems_of_users_are_parsed_in_one_place():
    trusted = {"products/crs.py", "simulator/products.py", "cli/demo_run.py", "stac/examples.py",
               "evaluation/compare_scenes.py"}  # fmt: skip
    for path in {*MODULES, *VIEWER} - {PACKAGE / name for name in trusted}:
        for node in nodes(path):
            name = dotted(node.func) if isinstance(node, ast.Call) else ""
            opens = name.endswith(("CRS.from_user_input", "CRS.from_string"))
            assert not opens, f"{path}:{node.lineno}: use products.crs, GDAL opens what it names"


def test_importing_the_package_is_light():
    code = (
        "import sys; before = set(sys.modules); import openeo_cloudmask; "
        "import openeo_cloudmask.classes, openeo_cloudmask.options, openeo_cloudmask.sensors; "
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "heavy = new & {'torch', 'openeo', 'pystac', 'xarray', 'rasterio', 'dask', 'streamlit'}; "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_one_place_writes_cogs():
    found = [path.name for path in MODULES if 'driver="COG"' in path.read_text(encoding="utf-8")]
    assert found == ["cog.py"]
