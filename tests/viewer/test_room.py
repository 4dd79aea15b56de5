"""One visitor can take no more of the machine than leaves it working."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from openeo_cloudmask import publish
from openeo_cloudmask.errors import OptionError, OutputError
from openeo_cloudmask.viewer import room
from openeo_cloudmask.viewer.local import State
from openeo_cloudmask.viewer.session import begin_session


def test_uploads_of_one_name_are_kept_side_by_side(write_classes, tmp_path):
    """The second was written over the first, which was open."""
    session = begin_session(tmp_path)
    contents = [write_classes(np.full((8, 8), value)).read_bytes() for value in (0, 1)]
    paths = [session.keep_upload(io.BytesIO(c), "scene.tif", len(c)) for c in contents]
    assert [path.read_bytes() for path in paths] == contents
    assert {path.name for path in paths} == {"scene.tif"}


def test_a_session_keeps_no_more_than_its_share(write_classes, tmp_path, monkeypatch):
    session = begin_session(tmp_path)
    content = write_classes(np.zeros((8, 8))).read_bytes()
    session.keep_upload(io.BytesIO(content), "a.tif", len(content))
    monkeypatch.setattr(room, "MAX_SESSION_BYTES", len(content) + 10)
    with pytest.raises(OutputError, match=r"this session has .* GB of files"):
        session.keep_upload(io.BytesIO(content), "b.tif", len(content))
    session.check_work()
    monkeypatch.setattr(room, "MAX_SESSION_BYTES", len(content) - 1)
    with pytest.raises(OutputError, match="this session has"):
        session.check_work()
    with pytest.raises(OutputError, match="this session has"):
        session.make_demo()


def test_the_disk_is_not_filled(tmp_path, monkeypatch):
    session = begin_session(tmp_path)
    monkeypatch.setattr(publish.shutil, "disk_usage", lambda _: SimpleNamespace(free=3 * room.GIB))
    session.check_work()
    with pytest.raises(OutputError, match=r"disk is full: 3\.0 GB are free, expected 4\.0 GB"):
        session.keep_upload(io.BytesIO(), "a.tif", 2 * room.GIB)


def test_a_session_has_few_tasks_at_a_time(tmp_path):
    session = begin_session(tmp_path)
    session.tasks = [SimpleNamespace(state=State.RUNNING) for _ in range(room.MAX_TASKS)]
    with pytest.raises(OptionError, match="4 tasks of this session are at work"):
        session.check_work()
    session.tasks[0].state = State.FINISHED
    session.check_work()


@pytest.fixture
def uploads():
    """Return a client of a server that takes uploads as Streamlit does."""

    async def take(request):
        return PlainTextResponse(str(len(await request.body())))

    route = Route("/_stcore/upload_file/{session}/{file}", take, methods=["PUT"])
    return TestClient(room.UploadRoom(Starlette(routes=[route])))


def test_an_upload_needs_memory(uploads, monkeypatch):
    """Uploads are held in memory until their page has them: a few could take all of it."""
    assert uploads.put("/_stcore/upload_file/s/f", content=b"x" * 100).text == "100"
    monkeypatch.setattr(room, "available_memory", lambda: room.SPARE_MEMORY_BYTES + 99)
    answer = uploads.put("/_stcore/upload_file/s/f", content=b"x" * 100)
    assert (answer.status_code, "no memory" in answer.text) == (507, True)
    assert uploads.put("/_stcore/upload_file/s/f", content=b"x" * 99).text == "99"
    # One that does not say how large it is may be as large as any.
    assert uploads.put("/_stcore/upload_file/s/f", content=iter([b"x"])).status_code == 507


def test_memory_is_what_the_container_has_left(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    2000 kB\n")
    monkeypatch.setattr(room, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(room, "_GROUP", tmp_path)
    assert room.available_memory() == 2000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert room.available_memory() == 2000 * 1024
    (tmp_path / "memory.max").write_text("1000\n")
    assert room.available_memory() == 600
    (tmp_path / "meminfo").unlink()
    (tmp_path / "memory.max").unlink()
    assert room.available_memory() is None
