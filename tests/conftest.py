"""Fixtures that all tests share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.errors import MissingExtraError
from openeo_cloudmask.inference import Window
from openeo_cloudmask.stac.schemas import read_schemas

StacCheck = Callable[[Mapping[str, str]], dict[str, Any]]
"""Name and text of files -> name and what is found."""

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "data" / "golden"

# More threads than cores only slow small networks down; test processes side by side have one each.
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")

if find_spec("hypothesis") is not None:
    from hypothesis import settings

    # The same examples on every machine, be it slow or fast: what fails, fails for everybody.
    settings.register_profile("repeatable", deadline=None, derandomize=True)
    settings.load_profile("repeatable")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    yield from _skip_without_torch()


_MAIN = sys.modules["__main__"]


def pytest_runtest_teardown() -> None:
    """Put the main module back, for which Streamlit's AppTest puts its page.

    A process that is spawned would run that page first.
    """
    sys.modules["__main__"] = _MAIN


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    yield from _skip_without_torch()


def _skip_without_torch() -> Generator[None]:
    """Skip a test that needs torch where it is missing; any other missing extra is a failure."""
    try:
        yield
    except MissingExtraError as err:
        if find_spec("torch") is None and "'torch'" in str(err):
            pytest.skip(str(err))
        raise


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """Return a file of the folder ``shared/`` beside the checkout, or skip where it is missing."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("OPENEO_CLOUDMASK_SHARED", ROOT.parent / "shared"))
        path = folder / name
        if not path.exists():
            pytest.skip(f"shared/{name} is not there (other projects' data, not redistributed)")
        return path

    return find


@pytest.fixture
def stac_check(shared: Callable[[str], Path], tmp_path: Path) -> StacCheck:
    """Return what stac-check finds, with the published schemas; skip where it is not installed."""
    own = ROOT / ".venv" / "stac-check" / "bin" / "python"
    python = os.environ.get("STAC_CHECK_PYTHON") or (str(own) if own.exists() else "")
    if not python:
        pytest.skip("stac-check is not installed (sh tests/stac/make_checker.sh)")
    schemas = read_schemas(shared("schemas"))
    folder = tmp_path / "schemas"
    folder.mkdir()
    for number, (uri, schema) in enumerate(schemas.items()):
        (folder / f"{number}.json").write_text(json.dumps(schema | {"$id": uri}))

    def check(documents: Mapping[str, str]) -> dict[str, Any]:
        for name, text in documents.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        script = ROOT / "tests" / "stac" / "check_offline.py"
        files = [tmp_path / name for name in documents]
        answer = subprocess.run(
            [python, script, folder, *files], capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, answer.stderr
        found = json.loads(answer.stdout)
        return {name: found[str(tmp_path / name)] for name in documents}

    return check


@pytest.fixture
def golden() -> Path:
    """Return the folder with the answers of the published networks."""
    return GOLDEN


class ContextDetector:
    """A fast detector whose answer depends on the whole window and on the place in it.

    Any slip in where windows sit, how they are filled or averaged changes its answer.
    """

    scheme = FOUR_CLASS

    def __init__(self, bands: int = 3, size_px: int = 64) -> None:
        self.band_names = tuple(f"B{index + 1:02d}" for index in range(bands))
        self.window = Window(size_px=size_px, multiple_px=1)
        self.calls = 0
        place = np.random.default_rng(0).normal(size=(4, size_px, size_px))
        self._place = place.astype(np.float32)

    def predict_windows(
        self, windows: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        self.calls += 1
        out = []
        for pixels, seen in zip(windows, valid, strict=True):
            mean = pixels.sum(axis=(1, 2)) / max(int(seen.sum()), 1)
            score = self._place + np.float32(3) * pixels.mean(axis=0) * np.arange(4)[:, None, None]
            score = score + mean[:1, None, None] * np.arange(4)[::-1, None, None]
            power = np.exp(score - score.max(axis=0))
            out.append(power / power.sum(axis=0))
        return np.stack(out).astype(np.float32)


@pytest.fixture
def make_detector() -> Callable[..., ContextDetector]:
    """Return the factory of ``ContextDetector``."""
    return ContextDetector


def fill_reflectance(seed: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return reflectance 0-1 of any shape, smooth enough to have structure."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.02, 0.6, shape)
    rows = np.sin(np.arange(shape[-2]) / 7)[:, np.newaxis]
    return (values + 0.2 * rows + 0.2).astype(np.float32)


@pytest.fixture
def reflectance() -> Callable[[int, tuple[int, ...]], NDArray[np.float32]]:
    """Return the factory of seeded reflectance."""
    return fill_reflectance
