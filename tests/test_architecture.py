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
    **dict.fromkeys(("inference", "models"), 2),
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


def test_importing_the_package_is_light():
    code = (
        "import sys; before = set(sys.modules); import openeo_cloudmask; "
        "import openeo_cloudmask.classes, openeo_cloudmask.options, openeo_cloudmask.sensors; "
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "heavy = new & {'torch', 'openeo', 'pystac', 'xarray', 'rasterio', 'dask', 'streamlit'}; "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
