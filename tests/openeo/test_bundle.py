"""The archive for back ends: what is in it, and that the UDF runs from it."""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openeo_cloudmask import assets
from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import OptionError, OutputError, UnknownModelError, WeightsError
from openeo_cloudmask.openeo import bundle as module
from openeo_cloudmask.openeo.bundle import BACKEND_HAS, needed_modules, write_bundle

pytestmark = pytest.mark.slow

PACKAGE = Path(module.__file__).parents[1]

RUN_UDF = """
import sys
import numpy, xarray
from openeo.udf import execute_local_udf
bands = ["B01", "B02", "B03", "B05", "B06", "B07", "B8A", "B09", "B10", "B11"]
values = numpy.random.default_rng(0).random((10, 8, 9), numpy.float32)
cube = xarray.DataArray(values, dims=("bands", "y", "x"), coords={"bands": bands})
udf = __import__("openeo").UDF(open(sys.argv[1]).read(), context={"model": "hollstein"})
mask = execute_local_udf(udf, cube).get_datacube_list()[0].get_array()
import openeo_cloudmask
print(openeo_cloudmask.__file__, mask.shape, mask.dtype)
"""


def make_wheel(folder: Path, name: str, version: str) -> None:
    """Write a wheel of one module, as pip takes it from a folder."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in (files | {f"{info}/RECORD": record}).items():
            wheel.writestr(path, text)


def test_udf_runs_from_the_unpacked_archive(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle.zip", model="hollstein")
    job = tmp_path / "job"
    with zipfile.ZipFile(bundle.path) as archive:
        archive.extractall(job / "cloudmask_deps")
    udf = assets.path("udf/cloud_mask.py")
    command = [sys.executable, "-W", "ignore", "-c", RUN_UDF, str(udf)]
    done = subprocess.run(command, cwd=job, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    where, rest = done.stdout.strip().split(" ", 1)
    assert Path(where) == job / "cloudmask_deps" / "openeo_cloudmask" / "__init__.py"
    assert rest == "(1, 8, 9) uint8"


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write_bundle(tmp_path / "a.zip", model="hollstein")
    second = write_bundle(tmp_path / "b.zip", runtime="none")
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.size_bytes < 1e6  # no weights: nothing here could run them
    assert first.sha256 == hashlib.sha256(first.path.read_bytes()).hexdigest()
    assert first.size_bytes == first.path.stat().st_size < first.unpacked_bytes
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "b.zip"]


def test_weights_lie_where_they_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from openeo_cloudmask.models.registry import get_model
    from openeo_cloudmask.models.weights import find_weights

    entry = get_model("dtacs4bands")
    assert entry.weights is not None
    published = tmp_path / "cache" / "weights" / entry.weights.repo / entry.weights.file
    published.parent.mkdir(parents=True)
    published.write_bytes(b"weights")
    monkeypatch.setenv("OPENEO_CLOUDMASK_CACHE", str(tmp_path / "cache"))
    bundle = write_bundle(tmp_path / "bundle.zip", model="dtacs4bands", runtime="none")
    assert bundle.weights is None
    with zipfile.ZipFile(bundle.path) as archive:
        archive.extractall(tmp_path / "deps")
    shipped = tmp_path / "deps" / "cloudmask_weights"
    monkeypatch.setenv("OPENEO_CLOUDMASK_WEIGHTS", str(shipped))
    monkeypatch.setenv("OPENEO_CLOUDMASK_CACHE", str(tmp_path / "other"))
    found = find_weights(entry)
    assert found.is_relative_to(shipped)
    assert found.read_bytes() == b"weights"


def test_own_weights_are_shipped_beside_the_published_ones(tmp_path: Path) -> None:
    own = tmp_path / "mine.pt"
    own.write_bytes(b"my own training")
    bundle = write_bundle(tmp_path / "bundle.zip", model="cloudsen12", runtime="none", weights=own)
    assert bundle.weights == "cloudmask_deps/cloudmask_weights/own/mine.pt"
    with zipfile.ZipFile(bundle.path) as archive:
        assert archive.read(bundle.weights.removeprefix("cloudmask_deps/")) == b"my own training"


def test_pip_brings_wheels_without_what_back_ends_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(tmp_path, "fakeruntime", "1.2")
    make_wheel(tmp_path, "numpy", "9.9")
    assert "numpy" in BACKEND_HAS
    wanted = module.Runtime(requirements=("fakeruntime>=1", "numpy"))
    monkeypatch.setitem(module.RUNTIMES, "onnx", wanted)
    bundle = write_bundle(
        tmp_path / "bundle.zip",
        runtime="onnx",
        python_version="3.11",
        pip_args=["--no-index", "--find-links", str(tmp_path)],
    )
    with zipfile.ZipFile(bundle.path) as archive:
        names = set(archive.namelist())
    assert {"fakeruntime.py", "openeo_cloudmask/datacube.py"} <= names
    assert "numpy.py" not in names
    assert not any("__pycache__" in name or name.endswith("INSTALLER") for name in names)


def test_the_package_in_it_is_what_the_udf_imports_and_no_more(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle.zip", model="hollstein")
    with zipfile.ZipFile(bundle.path) as archive:
        names = {name.removeprefix("openeo_cloudmask/") for name in archive.namelist()}
    rooms = {name.split("/")[0] for name in names}
    assert {"datacube.py", "options.py", "models", "inference", "sensors"} <= rooms
    assert not rooms & {"backend", "cli", "openeo", "products", "stac", "training", "_assets"}
    shipped = [PACKAGE / name for name in names if name.endswith(".py")]
    assert needed_modules(PACKAGE) == set(shipped)
    # Nothing that is imported at the top of a module is left out.
    for path in shipped:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith(
                "openeo_cloudmask."
            ):
                place = str(node.module).removeprefix("openeo_cloudmask.").replace(".", "/")
                assert {f"{place}.py", f"{place}/__init__.py"} & names, (path, node.module)


def test_runtimes_fit_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def pretend(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(module.subprocess, "run", pretend)
    exported = tmp_path / "mini.onnx"
    exported.write_bytes(b"network")
    for model, weights in (("ukis-csmask", None), ("mini", exported), (None, None)):
        write_bundle(tmp_path / "bundle.zip", model=model, weights=weights)
    assert all("onnxruntime>=1.19" in command for command in asked)
    assert all("--no-deps" in command for command in asked)  # no second protobuf beside the JVM's
    assert "ukis-csmask>=1.0" in asked[0]
    write_bundle(tmp_path / "bundle.zip", runtime="torch")
    place = asked[3].index("--extra-index-url")
    assert asked[3][place + 1] == "https://download.pytorch.org/whl/cpu"
    assert "--no-deps" not in asked[3]


def test_cuda_is_not_shipped_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheel(tmp_path, "nvidia_cublas_cu12", "12")
    wanted = module.Runtime(requirements=("nvidia-cublas-cu12",))
    monkeypatch.setitem(module.RUNTIMES, "torch", wanted)
    found = ["--no-index", "--find-links", str(tmp_path)]
    with pytest.raises(OptionError, match=r"1 packages of CUDA \(nvidia_cublas.*--pip-arg"):
        write_bundle(tmp_path / "a.zip", runtime="torch", pip_args=found)
    assert not (tmp_path / "a.zip").exists()


def test_what_cannot_be_bundled_leaves_no_file(tmp_path: Path) -> None:
    out = tmp_path / "bundle.zip"
    with pytest.raises(OptionError, match=r"pip could not install onnxruntime.*--pip-arg"):
        write_bundle(out, runtime="onnx", pip_args=["--no-index"])
    with pytest.raises(OptionError, match="runtime is 'jax'; expected one of none, onnx"):
        write_bundle(out, runtime="jax")
    with pytest.raises(OptionError, match=r"python_version is '3'; expected e\.g\. 3\.11"):
        write_bundle(out, runtime="onnx", python_version="3")
    with pytest.raises(UnknownModelError, match="unknown model 'sky'"):
        write_bundle(out, model="sky")
    with pytest.raises(WeightsError, match=r"missing\.pt"):
        write_bundle(out, model="cloudsen12", runtime="none", weights=tmp_path / "missing.pt")
    with pytest.raises(OutputError, match="is not there"):
        write_bundle(tmp_path / "no" / "bundle.zip")
    assert list(tmp_path.iterdir()) == []


def test_command_prints_size_and_job_options(tmp_path: Path) -> None:
    out = tmp_path / "bundle.zip"
    done = CliRunner().invoke(build_app(), ["bundle", str(out), "--model", "hollstein"])
    assert done.exit_code == 0, done.output
    assert "MB unpacked, sha256" in done.stdout
    assert "bundle.zip#cloudmask_deps" in done.stdout
    assert zipfile.is_zipfile(out)
