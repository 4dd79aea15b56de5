"""Small rasters and an app without a back end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from openeo_cloudmask.viewer import names

pytest.importorskip("streamlit", reason="the extra viewer is not installed")
pytest.importorskip("leafmap", reason="the extra viewer is not installed")

ROOT = Path(__file__).resolve().parents[2]
TRANSFORM = Affine(60.0, 0.0, 500_000.0, 0.0, -60.0, 5_000_000.0)


@pytest.fixture
def write_classes(tmp_path):
    """Return the writer of a raster of class values (y, x) uint8 in UTM zone 31."""

    def write(labels: np.ndarray, name: str = "classes.tif", **tags: str) -> Path:
        path = tmp_path / name
        with rasterio.open(
            path, "w", driver="GTiff", height=labels.shape[0], width=labels.shape[1], count=1,
            dtype="uint8", crs="EPSG:32631", transform=TRANSFORM, nodata=255,
        ) as out:  # fmt: skip
            out.write(labels.astype(np.uint8), 1)
            out.update_tags(**tags)
        return path

    return write


@pytest.fixture
def no_backend(monkeypatch, tmp_path):
    """Settings of a viewer that has no back end and keeps its files in ``tmp_path``."""
    for name in (
        names.BACKEND_VARIABLE, names.LOGIN_VARIABLE, names.BACKEND_DATA_VARIABLE,
        names.CATALOG_VARIABLE, names.ALLOW_PATHS_VARIABLE,
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(names.DATA_VARIABLE, str(tmp_path / "data"))


@pytest.fixture
def app(no_backend):
    """Return the app on its first page, not run yet."""
    from streamlit.testing.v1 import AppTest

    return AppTest.from_file(str(ROOT / "viewer" / "app.py"), default_timeout=120)


@pytest.fixture(scope="session")
def demo_session(tmp_path_factory):
    """A session with a small demo scene and its reference."""
    from openeo_cloudmask.viewer import session as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "DEMO_SIZE_PX", 256)
        session = module.begin_session(tmp_path_factory.mktemp("viewer"))
        session.make_demo()
    return session
