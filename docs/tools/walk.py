"""Walk README, start page and the start of every other page as a newcomer does, in fresh clones.

    python docs/tools/walk.py [ENVIRONMENT]

ENVIRONMENT is a virtual environment with the package, by default ``.venv`` of the checkout: what
``make demo`` sets up. It stands for the one that the pages have their reader make. README and start
page are walked line by line, of the other pages the first block of commands or Python. A server has
to say its address, and is stopped then. Lines that need the reader's own data, an account or a
network are left out and listed, and so is every page of which nothing can be run. (The programs of
all pages are run by ``tests/test_docs.py``.)
"""

# ruff: noqa: S603, S607 - the commands are those of the pages
from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WHOLE = ("README.md", "docs/index.md")
FOLDERS = ("docs/*.md", "*.md", "udf/*.md", "stac_extension/*.md", "docker/*.md")
LEAST_LINES, LEAST_STARTS = 7, 6
"""Fewer lines of the whole pages, or starts of others, that are run mean that the pages or this
script have lost their way."""
OWN_DATA = "the reader's own data"
LEFT_OUT = (
    (r"-m venv\b|\bpip install\b|^make install\b", "the environment is there"),
    (r"^make |^cloudmask demo$", "run on its own"),
    (r"\bdocker\b|^npm |^export ", "other programs"),
    (r"\.\.\.\.|\b[A-Z]{4,}\b(?!_)", OWN_DATA),
    (r"\breferences (?:download|fetch)\b|https?://|&$", "a server or a network"),
)
"""What a command has in it -> why it is left out."""
CONNECTS = re.compile(r"\bopeneo\.connect\(|\bClient\.open\(")
SERVERS = re.compile(r"^cloudmask (?:serve|viewer)\b")
SERVER_SECONDS = 120
LANGUAGES = ("sh", "bash", "console", "python")
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def main() -> int:
    """Run the lines; the exit status is 1 where one fails."""
    given = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".venv").resolve()
    begin, ran, silent = time.monotonic(), {}, []
    with tempfile.TemporaryDirectory() as folder:
        for page in pages():
            clone = Path(folder) / page.replace("/", "-")
            try:
                ran[page] = walk(page, clone, given)
            except RuntimeError as err:
                print(f"FAILS     {err}")
                return 1
            shutil.rmtree(clone, ignore_errors=True)
            if not ran[page] and any(lines(page)):
                silent.append(page)
    print(f"nothing to run at the start of: {', '.join(silent)}")
    whole = sum(ran[page] for page in WHOLE)
    starts = sum(count > 0 for page, count in ran.items() if page not in WHOLE)
    seconds = time.monotonic() - begin
    print(f"{whole} lines of {' and '.join(WHOLE)}, starts of {starts} more pages, {seconds:.0f} s")
    return 0 if whole >= LEAST_LINES and starts >= LEAST_STARTS else 1


def pages() -> list[str]:
    """Return README, start page, and all other pages."""
    found = {path.relative_to(ROOT).as_posix() for item in FOLDERS for path in ROOT.glob(item)}
    return [*WHOLE, *sorted(found - set(WHOLE))]


def environment(given: Path, clone: Path) -> dict[str, str]:
    """Return the variables of a reader who is in the environment, and has a home of their own."""
    path = f"{given / 'bin'}{os.pathsep}{os.environ['PATH']}"
    home = {"HOME": str(clone.parent), "OPENEO_CLOUDMASK_PASSWORD": "walk-through"}
    return {**os.environ, **home, "PATH": path}


def walk(page: str, clone: Path, given: Path) -> int:
    """Return how many lines of a page were run, in a clone that is made for the first of them.

    Raises:
        RuntimeError: one fails.
    """
    ran, env = 0, environment(given, clone)
    for language, line in lines(page):
        shown = f"{page}: {line.strip().splitlines()[0]}"
        reason = why_not(language, line, clone if clone.exists() else ROOT)
        if reason is None and not clone.exists():
            fresh_clone(clone, given)
            reason = why_not(language, line, clone)
        if reason is not None:
            print(f"left out  {shown}  ({reason})", flush=True)
            continue
        start = time.monotonic()
        if SERVERS.match(line):
            said = serve(line, clone, env)
        else:
            command = ["python", "-c", line] if language == "python" else ["bash", "-c", line]
            done = subprocess.run(
                command, cwd=clone, env=env, timeout=300, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            said = done.stdout if done.returncode else None
        if said is not None:
            raise RuntimeError(f"{shown}\n{said[-3000:]}")
        ran += 1
        print(f"works     {shown}  ({time.monotonic() - start:.1f} s)", flush=True)
    return ran


def serve(line: str, clone: Path, env: dict[str, str]) -> str | None:
    """Start a server and stop it when it answers where it says; return what it said if not."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec {line}"], cwd=clone, env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    promised = re.search(r"http://[\w.:-]+", line)
    timer = threading.Timer(SERVER_SECONDS, process.kill)
    timer.start()
    said, answers = [], False
    for text in process.stdout or ():
        said.append(text)
        address = re.search(promised[0] if promised else r"http://[\w.:-]+", text)
        if address:
            answers = _answers(address[0])
            break
    timer.cancel()
    process.terminate()
    process.wait(timeout=60)
    return None if answers else "".join(said)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10):  # noqa: S310 - http, by the caller
            return True
    except OSError:
        return False


def fresh_clone(place: Path, given: Path) -> None:
    """Make a copy of the checkout as committed, or, where it has no history, as it lies there."""
    cloned = subprocess.run(["git", "clone", "--quiet", ROOT, place], check=False)
    if cloned.returncode:
        skipped = shutil.ignore_patterns(".git", ".venv", "*.tif", "__pycache__", "demo", "site")
        shutil.copytree(ROOT, place, ignore=skipped)
    (place / ".venv").symlink_to(given)


def why_not(language: str, line: str, clone: Path) -> str | None:
    """Return why a line is left out, or None where it is to be run."""
    if language == "python":
        return "an account or a server" if CONNECTS.search(line) else None
    plain = re.sub(r"\s#.*", "", line)
    words = plain.split()
    there = [word for word in words if re.match(r"[\w*]", word) and any(clone.glob(word))]
    files = [word for word in words if re.fullmatch(r"[^\s\"']+\.(?:[a-z]{2,4}|SAFE)", word)]
    if files and files[0] not in there:  # what is read stands before what is written
        return OWN_DATA
    for what, reason in LEFT_OUT:
        left = [word for word in words if reason != OWN_DATA or word not in there]
        if re.search(what, " ".join(left)):
            return reason
    return None


def lines(page: str) -> Iterator[tuple[str, str]]:
    """Yield (language, command or program): all of a whole page, the first block of another."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = [item for item in _FENCE.findall(text) if item[0] in LANGUAGES]
    for language, code in blocks if page in WHOLE else blocks[:1]:
        if language == "python":
            yield language, code
        else:
            yield from ((language, line) for line in commands(code, language))


def commands(code: str, language: str) -> Iterator[str]:
    """Yield the commands of a block; of a console only what stands after the prompt."""
    for line in code.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            yield line.removeprefix("$ ")
        elif language != "console" and line.strip() and not line.startswith("#"):
            yield line


if __name__ == "__main__":
    sys.exit(main())
