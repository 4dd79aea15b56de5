"""The viewer logs in through OpenID Connect's device flow."""

import threading

import pytest

pytest.importorskip("fastapi", reason="the extra server is not installed")

import requests

from openeo_cloudmask.errors import BackendError
from openeo_cloudmask.viewer import backends
from tests.backend.conftest import Server
from tests.backend.oidc_issuer import DEVICE_USER, make_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A back end whose users are those of an issuer on loopback."""
    issuer = make_server()
    thread = threading.Thread(target=issuer.serve_forever, daemon=True)
    thread.start()
    running = Server(tmp_path_factory.mktemp("oidc") / "data")
    try:
        address = f"http://127.0.0.1:{issuer.server_port}"
        running.start("--oidc-issuer", address, "--oidc-client", "viewer")
        yield running
    finally:
        running.stop()
        issuer.shutdown()
        issuer.server_close()
        thread.join()


def test_the_device_flow_logs_in(server):
    connection = backends.connect(server.url)
    shown = []

    def agree(text):
        shown.append(text)
        address = next(word for word in text.split() if word.startswith("http"))
        requests.get(address, timeout=10).raise_for_status()

    backends.log_in_oidc(connection, agree, client="viewer")
    assert len(shown) == 1  # no progress bar over the link
    assert backends.list_jobs(connection) == []
    assert connection.get("/me").json()["name"].startswith(DEVICE_USER)


def test_a_back_end_that_names_no_client_says_so(server):
    connection = backends.connect(server.url)
    with pytest.raises(BackendError, match="without a client id of your own"):
        backends.log_in_oidc(connection, pytest.fail)
