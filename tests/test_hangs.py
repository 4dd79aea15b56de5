"""A test that hangs fails, with its name and where it hung, and the others go on."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

HANGS = """
import threading
import pytest

def wait_for_another():
    threading.Event().wait()

def test_hangs():
    wait_for_another()

@pytest.mark.timeout(60)
def test_goes_on():
    pass
"""


def test_tests_have_a_limit_of_time(pytestconfig, tmp_path):
    assert 300 <= float(pytestconfig.getini("timeout")) <= 900
    (tmp_path / "test_it.py").write_text(HANGS)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-n", "1",
               "-p", "no:cacheprovider", "-o", "timeout=1", str(tmp_path)]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "test_hangs - Failed: Timeout" in done.stdout
    assert "in wait_for_another" in done.stdout or "wait_for_another()" in done.stdout
