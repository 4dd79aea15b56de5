"""Masks while one pans: the bits of the batch, by the route that the map asks."""

import io
from pathlib import Path
from threading import Event, Lock, Thread
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from openeo_cloudmask.classes import NODATA
from openeo_cloudmask.errors import BandError, ProductError
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products import mask_product
from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.products.stack import raster_grid
from openeo_cloudmask.products.xyz import MAX_SOURCE_PX, Region, Tile
from openeo_cloudmask.simulator.products import write_geotiff
from openeo_cloudmask.simulator.scene import simulate_scene
from openeo_cloudmask.viewer import live as module
from openeo_cloudmask.viewer.live import (
    MAX_LAYERS,
    OPEN_LAYERS,
    LiveStore,
    fast_live,
    live_routes,
    open_live,
)
from openeo_cloudmask.viewer.panels import live_data, plan_panels

SENSOR = "sentinel-2-l1c"
ZOOM = 14


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    made = simulate_scene(3, size=(200, 230), nodata_fraction=0.1)
    return write_geotiff(made, tmp_path_factory.mktemp("live") / "scene.tif")


@pytest.fixture
def store():
    return LiveStore()


@pytest.fixture
def client(store):
    return TestClient(Starlette(routes=live_routes(store)))


def tiles_over(bounds, zoom=ZOOM):
    """Return the tiles of a zoom that touch bounds in degrees."""
    size = 2**zoom
    columns = [int((longitude + 180) / 360 * size) for longitude in bounds[::2]]
    rows = [
        int((1 - np.arcsinh(np.tan(np.radians(latitude))) / np.pi) / 2 * size)
        for latitude in bounds[1::2]
    ]
    return [
        Tile(z=zoom, x=x, y=y)
        for x in range(columns[0], columns[1] + 1)
        for y in range(rows[1], rows[0] + 1)
    ]


@pytest.mark.parametrize("model", ["mini", "hollstein"])
def test_tiles_hold_the_bits_of_the_batch_mask(scene, store, client, tmp_path, model):
    live = open_live(scene, MaskOptions(model=model), sensor=SENSOR, store=store)
    mask_product(scene, tmp_path / "mask.tif", MaskOptions(model=model, sensor=SENSOR))
    with open_raster(tmp_path / "mask.tif") as source:
        batch, grid = source.read(1), raster_grid(source)
    seen = 0
    for tile in tiles_over(live.bounds):
        answer = client.get(live.tile_url.format(z=tile.z, x=tile.x, y=tile.y))
        region = Region.of(grid, tile)
        if region is None:
            assert answer.status_code == 404
            continue
        rows, columns = (np.where(region.inside, at, 0) for at in region.places)
        wanted = np.where(region.inside, batch[rows, columns], NODATA)
        grey, alpha = np.moveaxis(np.asarray(Image.open(io.BytesIO(answer.content))), 2, 0)
        assert np.array_equal(np.where(alpha == 0, NODATA, grey), wanted)
        seen += int((alpha > 0).sum())
    assert seen > batch.size / 4


def test_a_tile_is_computed_once(scene, store, client, monkeypatch):
    live = open_live(scene, MaskOptions(model="hollstein"), sensor=SENSOR, store=store)
    tile = tiles_over(live.bounds)[0]
    address = live.tile_url.format(z=tile.z, x=tile.x, y=tile.y)
    first = client.get(address)
    monkeypatch.setattr(store, "render", lambda *_: pytest.fail("computed again"))
    assert client.get(address).content == first.content


def test_a_tile_of_too_much_data_is_refused_with_the_reason(scene, store, client):
    live = open_live(scene, MaskOptions(model="hollstein"), sensor=SENSOR, store=store)
    assert client.get(live.tile_url.format(z=30, x=0, y=0)).status_code == 400
    answer = client.get(live.tile_url.format(z="9" * 5000, x=0, y=0))
    assert answer.status_code == 400
    assert "there is no tile 9" in answer.text
    assert client.get("/live/unknown/3/1/1.png").status_code == 404
    side_m = 40_075_016.7 / 2**live.min_zoom
    latitude = np.radians(live.bounds[3])
    assert side_m * np.cos(latitude) / 10 <= MAX_SOURCE_PX


def test_fast_models_are_offered_where_the_bands_are_there(scene, store, tmp_path):
    found = fast_live(scene, sensor=SENSOR, store=store)
    assert list(found) == ["mini", "hollstein"]
    few = simulate_scene(3, size=64, bands=("B02", "B03", "B04", "B8A"))
    path = write_geotiff(few, tmp_path / "few.tif")
    assert "hollstein" not in fast_live(path, sensor=SENSOR, store=store)
    with pytest.raises(BandError, match="missing bands B01"):
        open_live(path, MaskOptions(model="hollstein"), sensor=SENSOR, store=store)


def test_a_live_mask_is_a_layer_that_is_off_at_first(scene, store):
    layer = live_data(open_live(scene, MaskOptions(model="mini"), sensor=SENSOR, store=store))
    assert layer["live"]
    assert layer["id"] == "live mini"
    assert [item["value"] for item in layer["classes"]] == [0, 1, 2, 3]
    image = {"id": "image", "kind": "image"}
    assert plan_panels([image, layer]) == [["image"]]


def test_a_scene_that_is_read_is_not_closed(store, monkeypatch):
    begun, go, closed_at_work = Event(), Event(), []
    at_work = set()

    def opened(self, live):
        close = lambda: closed_at_work.append(live.token in at_work)  # noqa: E731
        self.scene = SimpleNamespace(grid=None, close=close)
        self.masker, self.cube, self.lock = None, live.token, Lock()

    def slow(cube, *_):
        at_work.add(cube)
        if cube == "slow":
            begun.set()
            go.wait(10)
        at_work.discard(cube)

    monkeypatch.setattr(module._Open, "__init__", opened)
    monkeypatch.setattr(module, "mask_tile", slow)
    tile = Tile(z=0, x=0, y=0)

    def render(*tokens):
        for token in tokens:
            store.render(SimpleNamespace(token=token), tile)

    first = Thread(target=render, args=("slow",))
    first.start()
    assert begun.wait(10)
    others = Thread(target=render, args=[f"other {n}" for n in range(OPEN_LAYERS)])
    others.start()
    others.join(0.3)
    go.set()
    first.join(10)
    others.join(10)
    assert closed_at_work == [False]


def test_an_error_does_not_tell_the_folders_of_the_server(scene, store, client, monkeypatch):
    live = open_live(scene, MaskOptions(model="hollstein"), sensor=SENSOR, store=store)

    def fail(*_):
        raise ProductError(f"cannot read {Path('/srv/viewer/sessions/secret/scene.tif')}")

    monkeypatch.setattr(store, "render", fail)
    assert client.get(live.tile_url.format(z=0, x=0, y=0)).text == "cannot read scene.tif"


def test_many_new_layers_do_not_end_one_in_use(store):
    first = store.add(SimpleNamespace(token="first"))
    for number in range(2 * MAX_LAYERS):
        store.add(SimpleNamespace(token=f"other {number}"))
        assert store.get("first") is first
    assert store.get("other 0") is None
