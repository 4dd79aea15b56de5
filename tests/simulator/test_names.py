"""Simulated products of different seeds have different names, and are kept beside each other."""

import pytest

from openeo_cloudmask.simulator.products import write_product
from openeo_cloudmask.simulator.scene import simulate_scene


@pytest.mark.parametrize("sensor", ["sentinel-2-l1c", "landsat-8-9-l1"])
def test_products_of_different_seeds_have_different_names(tmp_path, sensor):
    names = {
        write_product(simulate_scene(seed, size=48, sensor=sensor), tmp_path).name
        for seed in (1, 2, 70_000)
    }
    assert len(names) == len(list(tmp_path.iterdir())) == 3


def test_a_truth_file_is_no_scene(tmp_path):
    pytest.importorskip("pystac")
    from openeo_cloudmask.backend.cubes.collections import CollectionStore
    from openeo_cloudmask.backend.cubes.ingest import ingest_product
    from openeo_cloudmask.errors import BandError
    from openeo_cloudmask.simulator.products import write_truth

    path = write_truth(simulate_scene(1, size=48), tmp_path / "truth.tif")
    store = CollectionStore(tmp_path / "collections")
    with pytest.raises(BandError, match=r"has the bands truth, none of which sentinel-2-l1c has"):
        ingest_product(path, store, sensor="sentinel-2-l1c")
    assert store.ids() == []
