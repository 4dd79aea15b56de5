"""Ports for servers of tests."""

from __future__ import annotations

import itertools
import os
import socket

_FIRST, _END = 20_000, 32_768
"""Below those that Linux, macOS and Windows hand out to who asks for any port."""
_PROCESSES = 16
_COUNT = (_END - _FIRST) // _PROCESSES


def _own_ports() -> itertools.cycle[int]:
    """Return the ports of this test process; which is the first depends on its number."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PROCESSES
    begin, turn = _FIRST + worker * _COUNT, os.getpid() % _COUNT
    return itertools.cycle([begin + (turn + step) % _COUNT for step in range(_COUNT)])


_ports = _own_ports()


def free_port() -> int:
    """Return a port that nothing listens on, and that nobody takes until a server starts there.

    A server needs seconds to start. Of the ports that the system hands out, it would give the same
    one to another program meanwhile, and the test processes beside this one ask often.
    """
    for port in itertools.islice(_ports, _COUNT):
        with socket.socket() as found:
            try:
                found.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise OSError(f"all ports of this test process are taken; expected one of {_COUNT}")
