"""``cloudmask serve`` says its address when it answers, and not before."""

from __future__ import annotations

import pytest
import typer
import urllib3

from openeo_cloudmask.cli.serve import _run_server
from tests.ports import free_port

uvicorn = pytest.importorskip("uvicorn", reason="the extra server is not installed")


def test_the_address_is_said_once_it_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def app(_scope: object, _receive: object, _send: object) -> None:
        return

    port, found = free_port(), []
    server = uvicorn.Server(uvicorn.Config(app, port=port, lifespan="off", log_level="error"))

    def said(text: str, **_: object) -> None:
        with urllib3.util.connection.create_connection(("127.0.0.1", port), timeout=5):
            found.append(text)
        server.should_exit = True

    monkeypatch.setattr(typer, "echo", said)
    _run_server(server, "it is there")
    assert found == ["it is there"]


def test_a_server_that_does_not_start_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    class Failing:
        started = False

        async def startup(self) -> None: ...

        def run(self) -> None: ...

    with pytest.raises(typer.Exit):
        _run_server(Failing(), "it is there")
    assert "it is there" not in capsys.readouterr().err
