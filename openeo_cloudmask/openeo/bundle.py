"""The archive that brings this package and what it needs to a back end's UDF runtime.

A zip with Python packages at its top: this package, the runtime of a model, and, in the folder
``cloudmask_weights``, the model's weights. The same inputs give the same bytes.
"""

from __future__ import annotations

import ast
import hashlib
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
from openeo_cloudmask.models.registry import get_model
from openeo_cloudmask.models.weights import find_weights
from openeo_cloudmask.openeo.jobs import BUNDLE_FOLDER, runtime_of
from openeo_cloudmask.publish import publish_file

CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
"""Where torch is published without CUDA; pip prefers a build from there to the usual one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What runs a model, as pip is asked for it."""

    requirements: tuple[str, ...] = ()
    with_dependencies: bool = False
    """False where ``requirements`` are all that is needed beside what back ends have."""
    pip_args: tuple[str, ...] = ()


_ONNXRUNTIME = "onnxruntime>=1.19"  # what it depends on is for its tools alone
_TORCH = (
    *("torch>=2.6,<2.14", "threadpoolctl>=3.0", "safetensors>=0.4.5"),
    *("huggingface-hub>=0.26", "pyyaml>=6", "h5py>=3.11"),
)
RUNTIMES: dict[str, Runtime] = {
    "none": Runtime(),
    "onnx": Runtime(requirements=(_ONNXRUNTIME,)),
    "ukis": Runtime(requirements=("ukis-csmask>=1.0", _ONNXRUNTIME)),
    "s2cloudless": Runtime(requirements=("s2cloudless>=1.7", "lightgbm>=4.0", "narwhals>=1.15")),
    "torch": Runtime(
        requirements=_TORCH, with_dependencies=True, pip_args=("--extra-index-url", CPU_WHEELS)
    ),
    "omnicloudmask": Runtime(
        requirements=("omnicloudmask>=1.8.1", *_TORCH),
        with_dependencies=True,
        pip_args=("--extra-index-url", CPU_WHEELS),
    ),
}

_BACKEND_HAS = (
    "numpy pandas xarray scipy shapely pyproj rasterio requests urllib3 certifi idna protobuf "
    "charset-normalizer python-dateutil pytz tzdata six setuptools pip wheel openeo pystac"
)
BACKEND_HAS = frozenset(_BACKEND_HAS.split())
"""Packages of openEO UDF runtimes. A second copy of a compiled one would break both, and one of
protobuf the back end's own reading of pixels."""

_CUDA = re.compile(r"(nvidia|cuda|triton)[-_]?")

WEIGHTS_FOLDER = "cloudmask_weights"
"""Part of ``udf/cloud_mask.py``."""

_OLDEST = (1980, 1, 1, 0, 0, 0)
_NOT_SHIPPED = re.compile(
    r"^bin/|(^|/)__pycache__/|\.py[co]$|\.dist-info/(INSTALLER|REQUESTED|direct_url\.json)$"
)
_IMPORTS = (ast.Import, ast.ImportFrom)
_UDF_IMPORTS = ("datacube", "options")
"""Modules of this package that the UDF imports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """An archive that was written."""

    path: Path
    size_bytes: int
    unpacked_bytes: int
    sha256: str
    runtime: str
    """The key of ``RUNTIMES`` that it holds."""
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
        runtime: a key of ``RUNTIMES``; None for what the model needs, onnx without a model.
        weights: a weights file or folder that replaces the published one; an ``.onnx`` file takes
            the runtime onnx.
        python_version: Python of the back end, e.g. ``3.11``; None for the one running now.
        pip_args: further arguments of ``pip install``, e.g. ``--index-url``.

    Raises:
        OptionError: the runtime is unknown, or pip found no wheels for what was asked, or none
            of torch without CUDA.
        UnknownModelError: no model of that name.
        WeightsError: the weights cannot be found.
        OutputError: the archive cannot be written there.
    """
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} of {path.name} is not there; make it first")
    entry = None if model is None else get_model(model)
    chosen = runtime or ("onnx" if entry is None else runtime_of(entry, weights))
    if chosen not in RUNTIMES:
        raise OptionError(f"runtime is {chosen!r}; expected one of {', '.join(RUNTIMES)}")
    with tempfile.TemporaryDirectory(prefix="cloudmask-bundle-") as folder:
        stage = Path(folder)
        if RUNTIMES[chosen].requirements:
            _install(chosen, stage, python_version, pip_args)
            _remove_known(stage)
        _copy_package(stage, chosen)
        shipped = None if entry is None else _copy_weights(entry, weights, stage)
        return _write_zip(stage, path, chosen, shipped)


_OTHER_RUNTIME = {
    "torch": ("*.onnx",),
    "onnx": ("*.safetensors",),
    "none": ("*.onnx", "*.safetensors"),
}
"""Runtime -> own weights of the package that it cannot run."""


def _copy_package(stage: Path, runtime: str) -> None:
    """Copy the modules that the UDF may come to, and the package's weights for ``runtime``."""
    package = Path(__file__).resolve().parents[1]
    for file in needed_modules(package):
        target = stage / package.name / file.relative_to(package)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    data = Path("models") / "data"
    unused = shutil.ignore_patterns(*_OTHER_RUNTIME.get(runtime, ()))
    shutil.copytree(package / data, stage / package.name / data, ignore=unused)


def needed_modules(package: Path) -> set[Path]:
    """Return the files of ``package`` that the UDF imports, directly or through others.

    All of ``models`` is among them, as detectors are found by name.
    """
    wanted = [package / f"{name}.py" for name in _UDF_IMPORTS]
    wanted += (package / "models").rglob("*.py")
    found: set[Path] = set()
    while wanted:
        file = wanted.pop()
        if file in found or not file.is_file():
            continue
        found.add(file)
        wanted += (folder / "__init__.py" for folder in file.parents if package in folder.parents)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [item.name for item in node.names] if isinstance(node, _IMPORTS) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{name}" for name in names)]
            for name in names:
                head, *rest = name.split(".")
                if head == package.name and rest:
                    place = package.joinpath(*rest)
                    wanted += [place.with_suffix(".py"), place / "__init__.py"]
    return found | {package / "__init__.py"}


def _copy_weights(entry: ModelEntry, given: Path | None, stage: Path) -> str | None:
    """Copy the weights of ``entry`` and return the option that finds them, None if none is needed.

    Published files keep their names, by which they are found. Weights that replace them would be
    refused under such a name, as they are not what was published.
    """
    if given is not None:
        source = find_weights(entry, given)
        target = stage / WEIGHTS_FOLDER / "own" / source.name
    elif entry.weights is not None:
        source = find_weights(entry)
        target = stage / WEIGHTS_FOLDER / entry.weights.repo / entry.weights.file
    else:
        return None  # nothing to add, or they are files of this package or of the runtime's
    target.parent.mkdir(parents=True)
    shutil.copyfile(source, target)
    name = entry.kind.settings_file
    if name is not None and (source.parent / name).is_file():
        shutil.copyfile(source.parent / name, target.parent / name)
    return None if given is None else f"{BUNDLE_FOLDER}/{target.relative_to(stage).as_posix()}"


def _install(
    runtime: str, folder: Path, python_version: str | None, pip_args: Sequence[str]
) -> None:
    wanted = RUNTIMES[runtime]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-compile", "--only-binary=:all:", "--target", str(folder)]
    if not wanted.with_dependencies:
        command.append("--no-deps")
    if python_version is not None:
        if not re.fullmatch(r"3\.\d+", python_version):
            raise OptionError(f"python_version is {python_version!r}; expected e.g. 3.11")
        command += ["--python-version", python_version]
        for tag in ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"):
            command += ["--platform", tag]
    done = subprocess.run(  # noqa: S603 - our own interpreter, no shell
        [*command, *wanted.pip_args, *pip_args, *wanted.requirements],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = lines[-1] if lines else (done.stderr.strip() or "pip gave no reason")
        raise OptionError(
            f"pip could not install {', '.join(wanted.requirements)}: {reason}. Name an index or a "
            "folder of wheels with --pip-arg, or another --python-version"
        )
    cuda = sorted(item.name for item in folder.glob("*.dist-info") if _CUDA.match(item.name))
    if cuda:
        raise OptionError(
            f"pip brought {len(cuda)} packages of CUDA ({cuda[0]} and so on), gigabytes that a CPU "
            f"does not use, because {CPU_WHEELS} did not answer; try again, name a folder with "
            "wheels of torch for CPUs with --pip-arg"
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


def _write_zip(stage: Path, path: Path, runtime: str, weights: str | None) -> Bundle:
    unpacked = 0
    try:
        with (
            publish_file(path) as part,
            zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive,
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
        with path.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
    except OSError as err:
        raise OutputError(f"cannot write the bundle {path}: {err}") from err
    return Bundle(
        path=path,
        size_bytes=path.stat().st_size,
        unpacked_bytes=unpacked,
        sha256=digest,
        runtime=runtime,
        weights=weights,
    )


def _files(stage: Path) -> Iterator[Path]:
    for file in sorted(stage.rglob("*")):
        if file.is_file() and not _NOT_SHIPPED.search(file.relative_to(stage).as_posix()):
            yield file
