"""Processes that run beside this one: started, waited for, and stopped at the end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from openeo_cloudmask.errors import BackendError

COMMAND = (sys.executable, "-c", "from openeo_cloudmask.cli import main; main()")
"""The command ``cloudmask``, whether or not it is on the path."""
START_SECONDS = 120
STOP_SECONDS = 15


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as found:
        found.bind((host, 0))
        return int(found.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str], env: Mapping[str, str], *, log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command beside this process and stop it at the end.

    Args:
        command: what to run.
        env: its environment.
        log: gets what it says, after what is there; None for where this process's own goes.
    """
    out = None if log is None else log.open("ab")
    process = subprocess.Popen(list(command), env=dict(env), stdout=out, stderr=out)  # noqa: S603
    if out is not None:
        out.close()
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_up(
    url: str, process: subprocess.Popen[bytes], name: str, *, advice: str = ""
) -> None:
    """Wait until ``url`` answers.

    Raises:
        BackendError: the process ends before that, or takes too long.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BackendError(
                f"{name} stopped with status {process.returncode} before it answered; {advice}"
            )
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - our own address
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise BackendError(f"{name} did not answer within {START_SECONDS} s at {url}; {advice}")
