"""Walk README and start page as a newcomer does: line by line, in a fresh clone.

    python docs/tools/walk.py [ENVIRONMENT]

ENVIRONMENT is a virtual environment with the package, by default ``.venv`` of the checkout: what
``make demo`` sets up. It stands for the one that the pages have their reader make. Lines that need
the reader's own data, an account or a network, or that never end, are left out and listed. (The
programs of all pages are run by ``tests/test_docs.py``.)
"""

# ruff: noqa: S603, S607 - the commands are those of the pages
from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/index.md")
LEAST_LINES = 7
"""Fewer that are run mean that the pages or this script have lost their way."""
LEFT_OUT = (
    (r"-m venv\b|\bpip install\b", "the environment is there"),
    (r"^make |^cloudmask demo$", "run on its own"),
    (r"\.\.\.\.|\b[A-Z]{4,}\b(?!_)", "the reader's own data"),
    (r"\bserve\b|\bviewer\b|https?://", "a server or a network"),
)
"""What a line has in it -> why it is left out."""
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def main() -> int:
    """Run the lines; the exit status is 1 where one fails."""
    given = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".venv").resolve()
    begin, ran, left, last = time.monotonic(), 0, 0, ""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder)
        for page, language, line in lines():
            if page != last:  # a reader begins with a page, not with what another one made
                clone, last = fresh_clone(Path(folder) / Path(page).stem, given), page
                env = {**os.environ, "PATH": f"{given / 'bin'}{os.pathsep}{os.environ['PATH']}"}
            reason = why_not(line, clone)
            shown = line.strip().splitlines()[0]
            if reason is not None:
                left += 1
                print(f"left out  {page}: {shown}  ({reason})", flush=True)
                continue
            command = [str(given / "bin" / "python"), "-c", line]
            if language != "python":
                command = ["bash", "-c", line]
            start = time.monotonic()
            done = subprocess.run(
                command, cwd=clone, env=env, timeout=300, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            if done.returncode:
                print(f"FAILS     {page}: {shown}\n{done.stdout[-3000:]}")
                return 1
            ran += 1
            print(f"works     {page}: {shown}  ({time.monotonic() - start:.1f} s)", flush=True)
    print(f"{ran} run, {left} left out, {time.monotonic() - begin:.0f} s")
    return 0 if ran >= LEAST_LINES else 1


def fresh_clone(place: Path, environment: Path) -> Path:
    """Return a copy of the checkout as committed, or, where it has no history, as it lies there."""
    cloned = subprocess.run(["git", "clone", "--quiet", ROOT, place], check=False)
    if cloned.returncode:
        skipped = shutil.ignore_patterns(".git", ".venv", "*.tif", "__pycache__", "demo", "site")
        shutil.copytree(ROOT, place, ignore=skipped)
    (place / ".venv").symlink_to(environment)
    return place


def why_not(line: str, clone: Path) -> str | None:
    """Return why a line is left out, or None where it is to be run."""
    inputs = re.findall(r"[^\s\"']+\.(?:tif|nc|zarr|zip|npz|tgz|onnx|yaml)\b", line)
    if inputs and not (clone / inputs[0]).exists():
        return "the reader's own data"
    return next((reason for what, reason in LEFT_OUT if re.search(what, line)), None)


def lines() -> Iterator[tuple[str, str, str]]:
    """Yield (page, language, command or program) in the order of the pages."""
    for page in PAGES:
        for language, code in _FENCE.findall((ROOT / page).read_text(encoding="utf-8")):
            if language in ("sh", "bash", "console"):
                yield from ((page, language, line) for line in commands(code, language))
            elif language == "python":
                yield page, language, code


def commands(code: str, language: str) -> Iterator[str]:
    """Yield the commands of a block; of a console only what stands after the prompt."""
    for line in code.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            yield line.removeprefix("$ ")
        elif language != "console" and line.strip() and not line.startswith("#"):
            yield line


if __name__ == "__main__":
    sys.exit(main())
