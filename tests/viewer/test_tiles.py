"""Map tiles: exact colours, and only what a session opened."""

import io

import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.errors import ProductError
from openeo_cloudmask.grid import overlap
from openeo_cloudmask.viewer.layers import LayerStore, class_colors, open_layer
from openeo_cloudmask.viewer.tiles import build_routes


@pytest.fixture
def store():
    return LayerStore()


@pytest.fixture
def client(store, tmp_path):
    return TestClient(Starlette(routes=build_routes(tmp_path, store)))


def tile_at(bounds, zoom=12):
    """Return z, x, y of the web map tile over the middle of the bounds."""
    longitude, latitude = (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2
    size = 2**zoom
    x = int((longitude + 180) / 360 * size)
    y = int((1 - np.arcsinh(np.tan(np.radians(latitude))) / np.pi) / 2 * size)
    return zoom, x, y


@pytest.fixture
def layer(write_classes, store):
    labels = np.arange(4).repeat(64)[np.newaxis].repeat(256, axis=0)
    colors = class_colors(FOUR_CLASS)
    return open_layer(write_classes(labels), title="mask", colors=colors, store=store)


def test_tiles_have_exactly_the_class_colours(client, layer):
    z, x, y = tile_at(layer.bounds)
    answer = client.get(layer.tile_url.format(z=z, x=x, y=y))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "private"
    pixels = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA")).reshape(-1, 4)
    seen = {tuple(map(int, pixel)) for pixel in np.unique(pixels, axis=0) if pixel[3]}
    assert seen <= {item.rgba for item in FOUR_CLASS.classes}
    assert len(seen) >= 2


@pytest.mark.parametrize("token", ["unknown", "..%2F..%2Fetc%2Fpasswd", "%2Fetc%2Fpasswd"])
def test_only_opened_layers_are_served(client, layer, token):
    z, x, y = tile_at(layer.bounds)
    assert client.get(f"/tiles/{token}/{z}/{x}/{y}.png").status_code == 404


def test_closed_and_missing_layers_are_not_served(client, layer, store):
    z, x, y = tile_at(layer.bounds)
    url = layer.tile_url.format(z=z, x=x, y=y)
    layer.path.unlink()
    assert client.get(url).status_code == 404
    store.close(layer.token)
    assert client.get(url).status_code == 404


def test_outside_of_a_layer_there_is_nothing(client, layer):
    z, x, y = tile_at(layer.bounds)
    assert client.get(layer.tile_url.format(z=z, x=x + 100, y=y)).status_code == 404
    assert client.get(layer.tile_url.format(z=99, x=x, y=y)).status_code == 404


def test_names_of_layers_cannot_be_guessed(write_classes, store):
    path = write_classes(np.zeros((8, 8)))
    tokens = {open_layer(path, title="t", store=store).token for _ in range(20)}
    assert len(tokens) == 20
    assert min(map(len, tokens)) >= 22  # 128 bits


def test_the_store_forgets_the_layer_unused_for_longest(write_classes):
    store = LayerStore(capacity=2)
    path = write_classes(np.zeros((8, 8)))
    first, second = (open_layer(path, title="t", store=store) for _ in range(2))
    assert store.get(first.token) is first
    third = open_layer(path, title="t", store=store)
    assert store.get(second.token) is None
    assert store.get(first.token) is first
    assert store.get(third.token) is third


def test_a_raster_without_georeference_has_no_place(tmp_path):
    path = tmp_path / "plain.tif"
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    with pytest.raises(ProductError, match="no coordinate reference system"):
        open_layer(path, title="t", store=LayerStore())


def test_overlap_of_boxes():
    assert overlap((0, 0, 2, 2), (1, 1, 3, 3))
    assert not overlap((0, 0, 1, 1), (1, 0, 2, 1))
