"""Sessions are apart from each other, and found again by their own browser only."""

import os
import time

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from openeo_cloudmask.viewer.cookies import COOKIE, build_middleware, find_name, new_name
from openeo_cloudmask.viewer.session import KEEP_SECONDS, begin_session
from openeo_cloudmask.viewer.session_store import SessionStore


def test_sessions_have_folders_of_their_own(tmp_path):
    one, other = begin_session(tmp_path), begin_session(tmp_path)
    assert one.folder != other.folder
    assert one.folder.stat().st_mode & 0o077 == 0
    one.scenes["a"] = None
    assert not other.scenes


def test_old_folders_go(tmp_path):
    old = begin_session(tmp_path).folder
    past = time.time() - KEEP_SECONDS - 60
    os.utime(old, (past, past))
    fresh = begin_session(tmp_path).folder
    assert not old.exists()
    assert fresh.exists()


def test_who_comes_back_after_days_begins_anew(tmp_path):
    store, key = SessionStore(), "m" * 32
    first = store.find(key, lambda: begin_session(tmp_path))
    first.folder.rmdir()
    later = store.find(key, lambda: begin_session(tmp_path))
    assert later is not first
    assert store.find(key, lambda: begin_session(tmp_path)) is later


def test_a_browser_finds_its_session_again_and_no_other(tmp_path):
    store = SessionStore()

    def begin():
        return begin_session(tmp_path)

    mine, yours = "m" * 32, "y" * 32
    first = store.find(mine, begin)
    assert store.find(mine, begin) is first
    assert store.find(yours, begin) is not first
    assert store.find(None, begin) is not store.find(None, begin)
    assert store.find("short", begin) is not store.find("short", begin)


def test_the_store_forgets_the_session_unused_for_longest(tmp_path):
    store = SessionStore(capacity=1)
    first = store.find("a" * 32, lambda: begin_session(tmp_path))
    store.find("b" * 32, lambda: begin_session(tmp_path))
    assert store.find("a" * 32, lambda: begin_session(tmp_path)) is not first


@pytest.fixture
def client():
    routes = [
        Route("/", lambda _: HTMLResponse("page")),
        Route("/data", lambda _: PlainTextResponse("data")),
    ]
    return TestClient(
        Starlette(routes=routes, middleware=build_middleware()), base_url="http://localhost"
    )


def test_pages_give_a_cookie_that_scripts_cannot_read(client):
    header = client.get("/").headers["set-cookie"]
    assert header.startswith(f"{COOKIE}=")
    assert "HttpOnly" in header
    assert "SameSite=Lax" in header
    assert "set-cookie" not in client.get("/").headers  # it has one now


def test_a_name_that_the_visitor_chose_is_no_session(client):
    chosen = "c" * 32
    for value in (chosen, f"{chosen}.", f"{chosen}.{'0' * 64}", ""):
        assert find_name({COOKIE: value}) is None
        answer = client.get("/", headers={"cookie": f"{COOKIE}={value}"})
        assert find_name({COOKIE: answer.headers["set-cookie"].split("=")[1].split(";")[0]})
    given = new_name()
    assert find_name({COOKIE: given}) == given.partition(".")[0]
    assert find_name({COOKIE: f"x{given}"}) is None


def test_over_https_no_other_server_can_set_the_cookie(client):
    header = client.get("https://localhost/").headers["set-cookie"]
    assert header.startswith(f"__Host-{COOKIE}=")
    assert header.endswith("Path=/; Secure")


def test_only_pages_give_a_cookie(client):
    assert "set-cookie" not in client.get("/data").headers


def test_credentials_are_not_shown_by_repr(tmp_path):
    session = begin_session(tmp_path)
    session.connection = "token-of-the-connection"
    assert "token-of-the-connection" not in repr(session)


def test_names_of_files_may_be_long(tmp_path, write_classes):
    labels = np.zeros((20, 20))
    labels[5:9] = 1
    one, other = (write_classes(labels, f"{x * 240}.tif", CLASS_SCHEME="4-class") for x in "ab")
    session = begin_session(tmp_path / "data")
    mask, reference = session.add_mask(one), session.add_reference(other)
    found = session.findings.compare(mask.title, reference.title)
    assert found.error_path.is_file()
    for scene in (one, tmp_path / f"{chr(0x4E91) * 80}.tif"):  # 240 bytes in UTF-8
        session.name_mask("hollstein", scene).with_suffix(".percent.tif").touch()
