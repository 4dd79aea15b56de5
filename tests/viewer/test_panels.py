"""What the map of the page Compare is told, and that it is made from its sources."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from openeo_cloudmask.classes import ALCD, FOUR_CLASS, HOLLSTEIN_SIX, VALID_INVALID
from openeo_cloudmask.evaluation.error_map import ERROR_CLASSES
from openeo_cloudmask.viewer.layers import LayerStore, open_layer
from openeo_cloudmask.viewer.panels import (
    Look,
    classes_data,
    clear_values,
    image_data,
    map_data,
    plan_panels,
)

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "viewer" / "vendor" / "map"
SOURCES = ROOT / "webmap"


def test_the_map_is_made_from_its_sources():
    names = ["build.mjs", "package.json", "package-lock.json", "tsconfig.json"]
    names += sorted(f"src/{path.name}" for path in (SOURCES / "src").iterdir())
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + b"\0" + (SOURCES / name).read_bytes() + b"\0")
    said = re.match(r"/\* Made from webmap, (\w+);", (BUILT / "map.js").read_text("utf-8"))
    assert said is not None
    assert said[1] == digest.hexdigest(), "run `make map`: the map is older than its sources"


def test_the_map_can_be_made_again(tmp_path):
    node = shutil.which("node")
    if node is None or not (SOURCES / "node_modules").is_dir():
        pytest.skip("no node, or `npm ci` was not run in webmap/")
    subprocess.run([node, "build.mjs", str(tmp_path)], cwd=SOURCES, check=True)
    for name in ("map.js", "LICENSE", "land-50m.json"):
        assert (tmp_path / name).read_bytes() == (BUILT / name).read_bytes()


def test_the_map_asks_no_other_host_by_itself():
    hosts = set(re.findall(r"https?://[\w.-]+", (BUILT / "map.js").read_text("utf-8")))
    # Names of XML vocabularies, and links to OpenLayers' own explanations.
    assert {host.removeprefix("http://").removeprefix("https://") for host in hosts} <= {
        "www.w3.org", "openlayers.org", "www.opengis.net", "github.com",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("scheme", "values"),
    [
        (FOUR_CLASS, {0}),
        (VALID_INVALID, {0}),
        (HOLLSTEIN_SIX, {0, 1, 2}),
        (ALCD, {0, 1, 5, 6, 7}),
        (ERROR_CLASSES, {0, 1}),
    ],
)
def test_what_hide_clear_hides(scheme, values):
    assert clear_values(scheme) == values


@pytest.fixture
def layer(write_classes):
    return open_layer(write_classes(np.zeros((8, 8))), title="one", store=LayerStore())


def test_layers_are_told_without_paths(layer, demo_session):
    scene = next(iter(demo_session.scenes.values()))
    image = image_data(next(iter(scene.layers.values())), scene.picture)
    mask = classes_data(layer, FOUR_CLASS, identity="mask one", title="one")
    told = map_data("a scene", [image, mask], Look(point=(45.0, 3.0)))
    assert told["point"] == [45.0, 3.0]
    assert len(image["bands"]) == 13
    assert "B04 red" in [band["title"] for band in image["bands"]]
    text = repr(told)
    assert str(layer.path.parent) not in text
    assert str(scene.path.parent) not in text


def test_panels_begin_with_mask_reference_errors_and_image():
    kinds = {"image": "image", "errors a": "classes", "reference": "classes"}
    kinds |= {"mask b": "classes", "mask a": "classes"}
    layers = [{"id": name, "kind": kind} for name, kind in kinds.items()]
    assert plan_panels(layers) == [
        ["image", "mask a"], ["image", "reference"], ["image", "mask b"], ["image", "errors a"],
        ["image"],
    ]  # fmt: skip
    assert plan_panels(layers[:1]) == [["image"]]
    lit = [*layers[:2], {"id": "cells", "kind": "classes"}]
    assert plan_panels(lit) == [["image", "errors a", "cells"], ["image", "cells"]]
    assert plan_panels([]) == [[]]
