"""Files that are there whole or not at all, whatever their name and whenever the process dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.errors import OutputError
from openeo_cloudmask.products import Grid, write_cog
from openeo_cloudmask.publish import publish_file, publish_folder, publish_text, scratch_beside

GRID = Grid(shape_yx=(8, 8), transform=Affine(10, 0, 5e5, 0, -10, 5e6), crs=CRS.from_epsg(32631))


def write(path: Path) -> Path:
    return write_cog(path, [(0, np.zeros((1, 8, 8), np.uint8))], grid=GRID, scheme=FOUR_CLASS)


def test_any_name_the_file_system_allows_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / f"{'n' * 251}.tif"
    assert write(path).stat().st_size
    folder = publish_folder(tmp_path / ("f" * 255), lambda made: (made / "a").touch())
    assert (folder / "a").is_file()
    assert sorted(tmp_path.iterdir()) == [folder, path]


def test_what_killed_processes_left_is_removed_by_the_next(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; "
        "from openeo_cloudmask.publish import scratch_beside\n"
        "with scratch_beside(Path(sys.argv[1])) as made:\n"
        "    (made / 'half.tif').write_bytes(bytes(1000)); print('ready', flush=True)\n"
        "    time.sleep(600)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.stdout.close()
    killed, living = processes
    killed.send_signal(signal.SIGKILL)
    killed.wait(timeout=30)
    assert len(list(tmp_path.iterdir())) == 2
    path = write(tmp_path / "mask.tif")
    left = [item for item in tmp_path.iterdir() if item != path]
    assert len(left) == 1, "the folder of the living process stays, that of the killed one goes"
    assert (left[0] / "new" / "half.tif").is_file()
    living.kill()
    living.wait(timeout=30)


@pytest.fixture
def usual_rights() -> Iterator[None]:
    """New files are for all to read, whatever whoever runs the tests has set."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("usual_rights")
def test_a_private_text_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = publish_text(tmp_path / "new" / "login", "first\n", private=True)
    assert publish_text(path, "second\n", private=True).read_bytes() == b"second\n"
    assert path.stat().st_mode & 0o077 == 0
    assert list(path.parent.iterdir()) == [path]
    assert publish_text(tmp_path / "open", "").stat().st_mode & 0o044 == 0o044
    with pytest.raises(OutputError, match="cannot write"):
        publish_text(path / "below a file", "")


def test_nothing_is_left_of_what_failed(tmp_path: Path) -> None:
    def fail() -> None:
        with publish_file(tmp_path / "a.txt") as part:
            part.write_text("half")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write in"), scratch_beside(tmp_path / "none"):
        pass
