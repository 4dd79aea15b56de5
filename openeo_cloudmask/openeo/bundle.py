"""The archive that brings this package and what it needs to a back end's UDF runtime.

A zip with Python packages at its top: this package, the runtime of a model, and, in the folder
``cloudmask_weights``, the model's weights. The same inputs give the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from openeo_cloudmask.errors import OptionError, OutputError
from openeo_cloudmask.models.entry import ModelEntry
from openeo_cloudmask.models.own import own_weights
from openeo_cloudmask.models.registry import get_model
from openeo_cloudmask.models.sensei_entries import CONFIG_NAME
from openeo_cloudmask.models.weights import find_weights
from openeo_cloudmask.openeo.jobs import BUNDLE_FOLDER

RUNTIMES: dict[str, tuple[str, ...]] = {
    # name: what pip is asked for, beside what back ends have
    "none": (),
    "torch": (
        "torch>=2.6,<2.14",
        "threadpoolctl>=3.0",
        "safetensors>=0.4.5",
        "huggingface-hub>=0.26",
        "pyyaml>=6",
    ),
    "onnx": ("onnxruntime>=1.19", "huggingface-hub>=0.26"),
    "ukis": ("ukis-csmask>=1.0",),
    "s2cloudless": ("s2cloudless>=1.7",),
}

_BACKEND_HAS = (
    "numpy pandas xarray scipy shapely pyproj rasterio requests urllib3 certifi idna "
    "charset-normalizer python-dateutil pytz tzdata six setuptools pip wheel openeo pystac"
)
BACKEND_HAS = frozenset(_BACKEND_HAS.split())
"""Packages of openEO UDF runtimes. A second copy of a compiled one would break both."""

WEIGHTS_FOLDER = "cloudmask_weights"
"""Part of ``udf/cloud_mask.py``."""

_OLDEST = (1980, 1, 1, 0, 0, 0)
_NOT_SHIPPED = re.compile(
    r"^bin/|(^|/)__pycache__/|\.py[co]$|^openeo_cloudmask/_assets/"
    r"|\.dist-info/(INSTALLER|REQUESTED|direct_url\.json)$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """An archive that was written."""

    path: Path
    size_bytes: int
    unpacked_bytes: int
    sha256: str
    weights: str | None
    """What to pass as the option ``weights``; None where the model's own are found without."""


def write_bundle(
    path: Path,
    *,
    model: str | None = None,
    runtime: str | None = None,
    weights: Path | None = None,
    python_version: str | None = None,
    pip_args: Sequence[str] = (),
) -> Bundle:
    """Write the archive, atomically, and return what it is.

    Args:
        path: the zip file.
        model: the model whose weights are put in and whose runtime is the default; None for an
            archive without weights.
        runtime: a key of ``RUNTIMES``; None for what the model needs, torch without a model.
        weights: a weights file or folder that replaces the published one.
        python_version: Python of the back end, e.g. ``3.11``; None for the one running now.
        pip_args: further arguments of ``pip install``, e.g. ``--index-url`` of the CPU builds of
            torch, which bring no CUDA libraries.

    Raises:
        OptionError: the runtime is unknown, or pip found no wheels for what was asked.
        UnknownModelError: no model of that name.
        WeightsError: the weights cannot be found.
        OutputError: the archive cannot be written there.
    """
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} of {path.name} is not there; make it first")
    entry = None if model is None else get_model(model)
    chosen = runtime or (((entry.extra or "none") if entry else None) or "torch")
    if chosen not in RUNTIMES:
        raise OptionError(f"runtime is {chosen!r}; expected one of {', '.join(RUNTIMES)}")
    with tempfile.TemporaryDirectory(prefix="cloudmask-bundle-") as folder:
        stage = Path(folder)
        if RUNTIMES[chosen]:
            _install(RUNTIMES[chosen], stage, python_version, pip_args)
            _remove_known(stage)
        package = Path(__file__).resolve().parents[1]
        shutil.copytree(package, stage / package.name, dirs_exist_ok=True)
        shipped = None if entry is None else _copy_weights(entry, weights, stage)
        return _write_zip(stage, path, shipped)


def _copy_weights(entry: ModelEntry, given: Path | None, stage: Path) -> str | None:
    """Copy the weights of ``entry`` and return the option that finds them, None if none is needed.

    Published files keep their names, by which they are found. Weights that replace them would be
    refused under such a name, as they are not what was published.
    """
    if given is not None:
        source = find_weights(entry, given) if entry.weights else own_weights(entry, given)
        target = stage / WEIGHTS_FOLDER / "own" / source.name
    elif entry.weights is not None:
        source = find_weights(entry)
        target = stage / WEIGHTS_FOLDER / entry.weights.repo / entry.weights.file
    else:
        return None  # there are none, or they are files of this package or of the runtime's
    target.parent.mkdir(parents=True)
    shutil.copyfile(source, target)
    settings = source.parent / CONFIG_NAME
    if settings.is_file():
        shutil.copyfile(settings, target.parent / CONFIG_NAME)
    return None if given is None else f"{BUNDLE_FOLDER}/{target.relative_to(stage).as_posix()}"


def _install(
    requirements: Sequence[str], folder: Path, python_version: str | None, pip_args: Sequence[str]
) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-compile", "--only-binary=:all:", "--target", str(folder)]
    if python_version is not None:
        if not re.fullmatch(r"3\.\d+", python_version):
            raise OptionError(f"python_version is {python_version!r}; expected e.g. 3.11")
        command += ["--python-version", python_version]
        for tag in ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"):
            command += ["--platform", tag]
    done = subprocess.run(  # noqa: S603 - our own interpreter, no shell
        [*command, *pip_args, *requirements], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = lines[-1] if lines else (done.stderr.strip() or "pip gave no reason")
        raise OptionError(
            f"pip could not install {', '.join(requirements)}: {reason}. Name an index or a folder "
            "of wheels with --pip-arg, or another --python-version"
        )


def _remove_known(stage: Path) -> None:
    """Remove the packages that back ends have."""
    for info in sorted(stage.glob("*.dist-info")):
        name = info.name.split("-")[0].lower().replace("_", "-")
        if name not in BACKEND_HAS:
            continue
        for line in (info / "RECORD").read_text(encoding="utf-8").splitlines():
            file = (stage / line.split(",")[0]).resolve()
            if file.is_file() and file.is_relative_to(stage.resolve()):
                file.unlink()


def _write_zip(stage: Path, path: Path, weights: str | None) -> Bundle:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    part = Path(name)
    unpacked = 0
    try:
        with (
            os.fdopen(handle, "wb") as stream,
            zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive,
        ):
            for file in _files(stage):
                # Times and owners of the files would make each archive another one.
                item = zipfile.ZipInfo(file.relative_to(stage).as_posix(), _OLDEST)
                item.create_system = 3  # Unix, or the mode below means nothing
                item.external_attr = (0o755 if file.stat().st_mode & 0o100 else 0o644) << 16
                item.compress_type = zipfile.ZIP_DEFLATED
                item.file_size = file.stat().st_size
                unpacked += item.file_size
                with file.open("rb") as source, archive.open(item, "w") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
        with part.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        part.chmod(0o644)
        part.replace(path)
    except OSError as err:
        raise OutputError(f"cannot write the bundle {path}: {err}") from err
    finally:
        part.unlink(missing_ok=True)
    return Bundle(
        path=path,
        size_bytes=path.stat().st_size,
        unpacked_bytes=unpacked,
        sha256=digest,
        weights=weights,
    )


def _files(stage: Path) -> Iterator[Path]:
    for file in sorted(stage.rglob("*")):
        if file.is_file() and not _NOT_SHIPPED.search(file.relative_to(stage).as_posix()):
            yield file
