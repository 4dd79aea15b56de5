"""Install the wheel with each extra alone, in a new environment, and do what the extra is for.

    python requirements/check_extras.py WORKDIR [--uv] [--oldest] [EXTRAS ...]

EXTRAS are keys of ``CHECKS``, e.g. ``torch`` or ``server,postgresql``; all of them by default. The
bare install is called ``base``. ``--uv`` installs with ``uv`` in place of pip. ``--oldest`` takes
the lowest version of each direct dependency that ``pyproject.toml`` allows (``oldest.sh``, which
needs ``uv``). With an empty PostgreSQL database in ``CHECK_DATABASE`` the server runs on that too.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 120

COMMON = ("python -c 'import openeo_cloudmask'", "cloudmask --help", "cloudmask models")
TO_NETCDF = """
import numpy, rasterio, xarray
with rasterio.open("scene_324.tif") as scene:
    cube = xarray.DataArray(
        scene.read() * scene.scales[0],
        dims=("bands", "y", "x"),
        coords={
            "bands": list(scene.descriptions),
            "y": scene.transform.f + scene.transform.e * (0.5 + numpy.arange(scene.height)),
            "x": scene.transform.c + scene.transform.a * (0.5 + numpy.arange(scene.width)),
        },
        name="reflectance",
    )
    place = xarray.DataArray(0, attrs={"crs_wkt": scene.crs.to_wkt()})
cube.to_dataset("bands").assign(crs=place).to_netcdf("scene.nc", engine="h5netcdf")
"""

CHECKS: dict[str, tuple[str, ...]] = {
    "base": (
        "cloudmask simulate . --size 256",
        "cloudmask run scene_324.tif mask.tif",
        "cloudmask run scene_324.tif mask.tif --model hollstein --overwrite",
        "cloudmask score mask.tif truth_324.tif",
    ),
    "torch": ("cloudmask run scene_324.tif mask.tif --runtime torch",),
    "torch,onnx": ("cloudmask export mini ../mini.onnx --overwrite",),
    "onnx": ("cloudmask run scene_324.tif mask.tif --model mini --weights ../mini.onnx",),
    "netcdf": (
        f"python -c {shlex.quote(TO_NETCDF)}",
        "cloudmask run scene.nc mask.tif --model hollstein",
    ),
    "s3": ("python -c 'import s3fs'",),
    "ukis": ("cloudmask run scene_324.tif mask.tif --model ukis-csmask",),
    "s2cloudless": ("cloudmask run scene_324.tif mask.tif --model s2cloudless",),
    "server": ("cloudmask demo", "cloudmask demo --serve second"),
    "viewer": (),
    "docs": (),
}
"""Extras -> what they are for, as commands in an empty folder with a simulated scene."""

SERVICES: dict[str, tuple[tuple[str, str], ...]] = {
    "server": (
        ("cloudmask serve --port {port}", "/"),
        ("cloudmask serve --port {port}", "/health"),
    ),
    "server,postgresql": (("cloudmask serve --port {port} --database {database}", "/health"),),
    "viewer": (("cloudmask viewer --no-backend --port {port}", "/_stcore/health"),),
}
"""Extras -> (command, path that then answers with 200)."""

REFUSALS: tuple[tuple[str, str], ...] = (
    ("cloudmask run scene_324.tif other.tif --runtime torch", "torch"),
    ("cloudmask run scene_324.tif other.tif --model ukis-csmask", "ukis"),
    ("cloudmask run scene_324.tif other.tif --model s2cloudless", "s2cloudless"),
    ("cloudmask run empty.nc other.tif --model hollstein", "netcdf"),
    ("cloudmask run s3://bucket/folder/ other.tif", "s3"),
    ("cloudmask export mini mini.onnx", "onnx"),
    ("cloudmask train mini trained", "torch"),
    ("cloudmask train kristollari-cnn trained --simulate 2", "torch"),
    ("cloudmask catalog build built", "torch"),
    ("cloudmask catalog examples", "torch"),
    ("cloudmask demo", "server"),
    ("cloudmask demo --serve", "server"),
    ("cloudmask serve", "server"),
    ("cloudmask ingest scene_324.tif", "server"),
    ("cloudmask users add ann --password secret", "server"),
    ("cloudmask viewer", "viewer"),
)
"""What the bare install cannot do, and the extra that it has to name."""


def main() -> None:
    """Check the extras that are named, or all; ends with status 1 at the first that fails."""
    options = {word for word in sys.argv[1:] if word.startswith("--")}
    folder, *wanted = [word for word in sys.argv[1:] if word not in options] or [""]
    unknown = set(wanted) - {*CHECKS, *SERVICES} | options - {"--uv", "--oldest"}
    if not folder or unknown:
        what = f"unknown: {', '.join(sorted(unknown))}; " if unknown else ""
        sys.exit(f"{what}usage: check_extras.py WORKDIR [--uv] [--oldest] [EXTRAS ...]")
    work = Path(folder).resolve()
    work.mkdir(parents=True, exist_ok=True)
    wheel = build_wheel(work)
    for extras in [name for name in {**CHECKS, **SERVICES} if not wanted or name in wanted]:
        print(f"=== {extras}", flush=True)
        environment = make_environment(work, wheel, extras, options)
        try:
            check(work, environment, extras)
        finally:
            shutil.rmtree(environment)
    print("all well")


def build_wheel(work: Path) -> Path:
    """Build the wheel of this checkout."""
    folder = work / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, f"--wheel-dir={folder}", str(ROOT)], check=True)
    return next(folder.glob("*.whl"))


def make_environment(work: Path, wheel: Path, extras: str, options: set[str]) -> Path:
    """Return a new environment with the wheel and these extras, and nothing else."""
    place = work / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
    python = str(place / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet"]
    if "--uv" in options:
        install = ["uv", "pip", "install", "--quiet", f"--python={python}"]
    install.append(f"{wheel}[{extras}]" if extras != "base" else str(wheel))
    if "--oldest" in options:
        names = [] if extras == "base" else extras.split(",")
        script = [str(ROOT / "requirements" / "oldest.sh"), str(work / "oldest.txt"), *names]
        subprocess.run(["sh", *script], check=True)
        install += ["--only-binary=:all:", f"--constraint={work / 'oldest.txt'}"]
    subprocess.run(install, check=True)
    return place


def check(work: Path, environment: Path, extras: str) -> None:
    """Run the commands and services of these extras in a new folder."""
    folder = work / extras.replace(",", "-")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    scene = work / "base" / "scene_324.tif"
    if extras != "base" and scene.exists():
        shutil.copy(scene, folder)
    env = {**os.environ, "PATH": f"{environment / 'bin'}:{os.environ['PATH']}"}
    commands = [(command, folder) for command in (*COMMON, *CHECKS.get(extras, ()))]
    if extras == "docs":
        commands.append((f"mkdocs build --quiet --strict --site-dir {folder / 'site'}", ROOT))
    for command, place in commands:
        done = run(command, place, env)
        if done.returncode:
            sys.exit(f"FAILED with status {done.returncode}: {command}\n{done.stdout[-2000:]}")
        print(f"works    {command.splitlines()[0]}", flush=True)
    if extras == "base":
        check_refusals(folder, env)
    for command, path in SERVICES.get(extras, ()):
        if "{database}" in command and "CHECK_DATABASE" not in os.environ:
            print(f"NOT RUN  {command}: CHECK_DATABASE names no database", flush=True)
            continue
        serve(command, path, folder, env)


def check_refusals(folder: Path, env: dict[str, str]) -> None:
    """Check that what needs an extra says which."""
    for name in ("empty.onnx", "empty.nc"):
        (folder / name).touch()
    for command, missing in REFUSALS:
        said = run(command, folder, env)
        if problem := find_problem(said, missing):
            sys.exit(f"FAILED, {problem}: {command}\n{said.stdout[-2000:]}")
        print(f"refuses  {command}: names the extra {missing}", flush=True)


def run(command: str, folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its two outputs come as one."""
    return subprocess.run(
        shlex.split(command), cwd=folder, env=env, check=False, timeout=600,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def find_problem(said: subprocess.CompletedProcess[str], extra: str) -> str:
    """Say what is wrong with a refusal for want of ``extra``; empty where nothing is."""
    if said.returncode != 2:
        return f"status {said.returncode} in place of 2"
    if "Traceback" in said.stdout:
        return "a traceback"
    if f'pip install ".[{extra}]"' not in said.stdout:
        return f"the extra {extra!r} is not named"
    return ""


def serve(command: str, path: str, folder: Path, env: dict[str, str]) -> None:
    """Start a service, wait until ``path`` answers with 200, and stop it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = shlex.split(command.format(port=port, database=os.environ.get("CHECK_DATABASE")))
    log = folder / "service.log"
    with log.open("w") as out:
        service = subprocess.Popen(words, cwd=folder, env=env, stdout=out, stderr=out)
    deadline = time.monotonic() + START_SECONDS
    try:
        while not answers(f"http://127.0.0.1:{port}{path}"):
            if service.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"FAILED, {path} does not answer: {command}\n{log.read_text()[-2000:]}")
            time.sleep(0.5)
        print(f"answers  {path} of {command}", flush=True)
    finally:
        service.terminate()
        service.wait(60)


def answers(url: str) -> bool:
    """Say whether the service answers with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    main()
