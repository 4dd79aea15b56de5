"""Map tiles: exact colours, and only what a session opened."""

import io

import numpy as np
import pytest
import rasterio.shutil
from PIL import Image
from rasterio.enums import Interleaving
from starlette.applications import Starlette
from starlette.testclient import TestClient

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.errors import ProductError
from openeo_cloudmask.grid import overlap
from openeo_cloudmask.sensors import SENSORS
from openeo_cloudmask.viewer.layers import LayerStore, class_colors, open_layer
from openeo_cloudmask.viewer.scenes import draw_picture, open_scene
from openeo_cloudmask.viewer.tiles import build_routes, choose_overview
from tests.viewer.conftest import TRANSFORM


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


def test_raw_tiles_hold_the_class_values(client, layer):
    z, x, y = tile_at(layer.bounds)
    answer = client.get(layer.tile_url.format(z=z, x=x, y=y) + "?raw=1")
    grey, alpha = np.moveaxis(
        np.asarray(Image.open(io.BytesIO(answer.content)).convert("LA")), 2, 0
    )
    assert {0, 1, 2, 3} >= set(np.unique(grey[alpha > 0])) >= {1, 2}


@pytest.fixture
def image(tmp_path, store):
    path = tmp_path / "image.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=256, width=256, count=4, dtype="uint8",
        crs="EPSG:32631", transform=TRANSFORM, nodata=0, photometric="MINISBLACK",
    ) as out:  # fmt: skip
        for band in (1, 2, 3, 4):
            out.write(np.full((256, 256), 10 * band, np.uint8), band)
    return open_layer(path, title="image", indexes=(1, 2, 3), store=store)


def test_bands_of_an_image_are_chosen_in_the_address(client, image):
    z, x, y = tile_at(image.bounds)
    address = image.tile_url.format(z=z, x=x, y=y)
    for query, color in (("", (10, 20, 30)), ("?bands=4,1,1", (40, 10, 10))):
        picture = Image.open(io.BytesIO(client.get(address + query).content)).convert("RGBA")
        middle = picture.getpixel((128, 128))
        assert middle == (*color, 255)


def test_a_tile_of_the_whole_world_is_made_of_the_coarsest_overview(client, write_classes, store):
    path = write_classes(np.ones((2048, 2048)), "plain.tif")
    cog = path.with_name("cog.tif")
    rasterio.shutil.copy(path, cog, driver="COG", overview_resampling="nearest")
    layer = open_layer(cog, title="mask", colors=class_colors(FOUR_CLASS), store=store)
    overview, rest = choose_overview(layer, 6)
    assert overview == len(layer.overviews) - 1
    assert rest > 2
    for zoom in (6, 9):
        z, x, y = tile_at(layer.bounds, zoom)
        answer = client.get(layer.tile_url.format(z=z, x=x, y=y))
        pixels = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA"))
        seen = {tuple(map(int, pixel)) for pixel in pixels[pixels[..., 3] > 0]}
        assert seen == {FOUR_CLASS.classes[1].rgba}


@pytest.mark.parametrize(
    "query", ["bands=5,1,1", "bands=1,2", "bands=0,1,2", "bands=1;2;3", "raw=1", "raw=yes"]
)
def test_an_address_that_makes_no_sense_is_refused(client, image, query):
    z, x, y = tile_at(image.bounds)
    assert client.get(f"{image.tile_url.format(z=z, x=x, y=y)}?{query}").status_code == 400


@pytest.mark.parametrize("number", ["9" * 5000, "9" * 400, "-1", "1_0", "x"])
@pytest.mark.parametrize("place", range(3))
def test_numbers_that_name_no_tile_are_refused(client, image, number, place):
    zxy = list(map(str, tile_at(image.bounds)))
    zxy[place] = number
    answer = client.get(image.tile_url.format(**dict(zip("zxy", zxy, strict=True))))
    assert answer.status_code == 400
    assert "there is no tile" in answer.text
    assert len(answer.text) < 300


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
    assert client.get(layer.tile_url.format(z=99, x=x, y=y)).status_code == 400


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


def test_a_pixel_is_drawn_where_one_of_the_drawn_bands_was_seen(tmp_path, store, client):
    values = np.full((4, 256, 256), 50, np.uint8)
    values[:2, :, :128] = 0  # of the bands that are drawn
    values[2:, :, 128:] = 0  # of the others
    path = tmp_path / "image.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=256, width=256, count=4, dtype="uint8",
        crs="EPSG:32631", transform=TRANSFORM, nodata=0, photometric="MINISBLACK",
    ) as out:  # fmt: skip
        out.write(values)
    left = open_layer(path, title="left", indexes=(1, 2, 1), store=store)
    both = open_layer(path, title="both", indexes=(1, 2, 3), store=store)
    z, x, y = tile_at(left.bounds, 10)
    shares = []
    for layer in (left, both):
        answer = client.get(layer.tile_url.format(z=z, x=x, y=y))
        alpha = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA"))[..., 3]
        shares.append((alpha > 0).sum())
    assert 0.4 < shares[0] / shares[1] < 0.6


def test_a_picture_lies_band_by_band_in_blocks_of_a_tile(tmp_path):
    size = 1100
    values = np.random.default_rng(0).uniform(0, 1, (13, size, size)).astype(np.float32)
    path = tmp_path / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=size, width=size, count=13, dtype="float32",
        crs="EPSG:32631", transform=TRANSFORM,
    ) as out:  # fmt: skip
        out.write(values)
        out.descriptions = SENSORS["sentinel-2-l1c"].band_names
    with open_scene(path, sensor="sentinel-2-l1c") as scene:
        picture = draw_picture(scene, tmp_path)
    with rasterio.open(picture.path) as drawn:
        assert drawn.interleaving is Interleaving.band
        assert drawn.block_shapes[0] == (256, 256)
        assert drawn.overviews(1) == [2, 4, 8]
        assert drawn.overviews(13) == [2, 4, 8]
        assert drawn.nodata == 0
    with rasterio.open(picture.path, overview_level=2) as coarse:
        assert coarse.block_shapes[0] == (256, 256)
        assert (coarse.read() > 0).all()
    assert [found.name for found in tmp_path.iterdir() if found.is_dir()] == []


def test_a_raster_without_georeference_has_no_place(tmp_path):
    path = tmp_path / "plain.tif"
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    with pytest.raises(ProductError, match="no coordinate reference system"):
        open_layer(path, title="t", store=LayerStore())


def test_overlap_of_boxes():
    assert overlap((0, 0, 2, 2), (1, 1, 3, 3))
    assert not overlap((0, 0, 1, 1), (1, 0, 2, 1))
