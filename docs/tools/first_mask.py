"""Time the way of a newcomer: a fresh clone, a fresh environment, the mask of a SAFE.

    python docs/tools/first_mask.py [SAFE]

Without SAFE, one of 1098 x 1098 pixels is simulated. Prints the seconds of the two commands that
README gives, and the size of the environment. The first depends on the line to the package index.
"""

# ruff: noqa: S603, S607 - the commands are those of README
from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PIXELS = "1098"


def main() -> None:
    """Run and time them."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        environment = clone / ".venv"
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        programs = environment / "bin"
        install_s = seconds([programs / "pip", "install", "--quiet", "."], clone)
        size = subprocess.run(
            ["du", "-sm", environment], check=True, capture_output=True, text=True
        ).stdout.split()[0]
        print(f"pip install .: {install_s:.0f} s, {size} MB (du -sm .venv)")
        command = programs / "cloudmask"
        if len(sys.argv) > 1:
            safe = Path(sys.argv[1]).resolve()
        else:
            seconds([command, "simulate", "s", "--format", "product", "--size", PIXELS], clone)
            (safe,) = clone.glob("s/*.SAFE")
        print(f"cloudmask run {safe.name} mask.tif")
        mask_s = seconds([command, "run", safe, "mask.tif"], clone)
        print(f"{mask_s:.0f} s; from nothing to the first mask {install_s + mask_s:.0f} s")


def seconds(command: list[str | Path], folder: Path) -> float:
    """Run a command in a folder and return how long it took."""
    begin = time.monotonic()
    subprocess.run(command, cwd=folder, check=True)
    return time.monotonic() - begin


if __name__ == "__main__":
    main()
