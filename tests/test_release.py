"""What is released: one version, current notices, locks, a wheel with all that belongs into it."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import openeo_cloudmask

ROOT = Path(__file__).resolve().parents[1]
ASSETS = (
    "udf/cloud_mask.py",
    "udf/cloud_mask.json",
    "catalog/catalog.json",
    "stac_extension/json-schema/schema.json",
    "viewer/app.py",
    "viewer/server.py",
    "viewer/vendor/leaflet/leaflet.js",
)


def load_notices() -> ModuleType:
    path = ROOT / "docs" / "tools" / "notices.py"
    spec = importlib.util.spec_from_file_location("notices", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_version_comes_from_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "openeo_cloudmask/version.py"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == openeo_cloudmask.__version__
    assert citation["license"] == project["project"]["license"]
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", openeo_cloudmask.__version__)


def test_notices_name_every_library():
    text = (ROOT / "THIRD_PARTY_NOTICES.md").read_text("utf-8").lower()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [*project["dependencies"]]
    for extra, items in project["optional-dependencies"].items():
        if extra not in ("all", "bench", "dev", "docs"):
            asked += items
    for item in asked:
        name = re.split(r"[\s\[<>=!~;]", item, maxsplit=1)[0].lower()
        variants = {name.replace("_", mark).replace("-", mark).replace(".", mark) for mark in "-_."}
        assert any(f"| {each} |" in text for each in {name, *variants}), f"{name} is not named"


def test_bill_of_materials_has_what_is_needed():
    bill = load_notices().build_sbom()
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["version"] == openeo_cloudmask.__version__
    names = {item["name"].lower() for item in bill["components"]}
    assert {"numpy", "xarray", "rasterio", "openeo", "affine"} <= names  # affine: of rasterio
    assert "openeo-cloudmask" not in names
    refs = [item["bom-ref"] for item in bill["components"]]
    assert len(refs) == len(set(refs))


@pytest.mark.parametrize("name", ["build", "server", "viewer"])
def test_locks_have_versions_and_digests_and_no_index(name):
    text = (ROOT / "requirements" / f"{name}.lock").read_text("utf-8")
    entries = re.split(r"\n(?=[a-zA-Z0-9])", text.partition("\n")[2])
    assert len(entries) > 3
    for entry in entries:
        assert re.match(r"[\w.-]+==\S+", entry), entry[:80]
        assert "--hash=sha256:" in entry, entry[:80]
        assert not entry.startswith("torch=="), "a build of torch is chosen by the image"
    assert "://" not in text


def test_server_lock_has_what_the_server_asks_for():
    locked = dict(
        re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements" / "server.lock").read_text(), re.M)  # noqa: FURB167
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    from packaging.requirements import Requirement

    for text in [*project["dependencies"], *extras["server"], *extras["onnx"], *extras["ukis"]]:
        wanted = Requirement(text)
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        assert name in locked, f"{name} is not in server.lock: requirements/lock.sh server"
        assert wanted.specifier.contains(locked[name]), f"{name} {locked[name]} is not {wanted}"


def test_compose_reads_secrets_from_files_and_publishes_little():
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text("utf-8"))
    services = compose["services"]
    assert {"server", "scheduler", "worker-1", "worker-2", "viewer", "postgres", "s3"} <= set(
        services
    )
    published = {name: item["ports"] for name, item in services.items() if "ports" in item}
    assert published == {"server": ["127.0.0.1:8080:8080"], "viewer": ["127.0.0.1:8501:8501"]}
    for name in ("server", "scheduler", "worker-1", "worker-2", "viewer"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
    for secret in compose["secrets"].values():
        assert set(secret) == {"file"}
    for item in services.values():
        for key in item.get("environment", {}):
            secret = re.search(r"PASSWORD|SECRET|ACCESS_KEY", key)
            assert secret is None or key.endswith("_FILE"), f"{key} holds a secret"


def test_health_checks_use_what_their_image_has():
    """Slim images have neither curl nor wget: ours ask with Python, PostgreSQL's with its own."""
    text = (ROOT / "docker" / "Dockerfile").read_text("utf-8")
    checks = re.findall(r"^HEALTHCHECK .*\\\n\s+CMD (\[.*\])$", text, re.MULTILINE)
    assert len(checks) == text.count("HEALTHCHECK") == 3
    assert {json.loads(item)[0] for item in checks} == {"python"}
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text("utf-8"))
    own = {
        name: item["healthcheck"]["test"][:2]
        for name, item in compose["services"].items()
        if "healthcheck" in item
    }
    assert own == {"postgres": ["CMD", "pg_isready"]}


@pytest.mark.skipif(shutil.which("sh") is None, reason="no POSIX shell")
def test_store_gets_its_keys_from_the_secrets(tmp_path):
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text("utf-8"))
    store = compose["services"]["s3"]
    assert store["entrypoint"] == ["/bin/sh", "-c"]
    for name in store["secrets"]:
        (tmp_path / name).write_text(f"the {name}")
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\necho "$ROOT_ACCESS_KEY_ID, $ROOT_SECRET_ACCESS_KEY, $*"\n')
    program.chmod(0o755)
    (script,) = store["command"]
    script = script.replace("$$", "$").replace("/run/secrets", str(tmp_path))
    script = script.replace("/usr/local/bin/versitygw", str(program))
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "the s3_user, the s3_password, --port :9000 posix /objects"


@pytest.mark.skipif(shutil.which("sh") is None, reason="no POSIX shell")
def test_entrypoint_takes_secrets_from_files(tmp_path):
    (tmp_path / "key").write_text("a b'c$\n", encoding="utf-8")
    command = ["sh", str(ROOT / "docker" / "entrypoint.sh"), sys.executable, "-c"]
    command.append("import os; print([os.environ['PGPASSWORD'], 'PGPASSWORD_FILE' in os.environ])")
    env = {"PATH": "/usr/bin:/bin", "PGPASSWORD_FILE": str(tmp_path / "key")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == """["a b'c$", False]"""
    env["PGPASSWORD_FILE"] = str(tmp_path / "none")
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "PGPASSWORD_FILE" in done.stderr


@pytest.mark.slow
def test_wheel_holds_the_package_and_its_files(tmp_path):
    pytest.importorskip("hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    [path] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        for asset in ASSETS:
            assert f"openeo_cloudmask/_assets/{asset}" in names
        packaged = {
            file.relative_to(ROOT).as_posix()
            for file in (ROOT / "openeo_cloudmask").rglob("*.py")
            if "__pycache__" not in file.parts
        }
        assert packaged <= names
        assert "openeo_cloudmask/stac/scores.json" in names
        assert "openeo_cloudmask/py.typed" in names
        strange = [name for name in names if re.search(r"__pycache__|\.pyc$|^tests/|^docs/", name)]
        assert not strange
        metadata = Parser().parsestr(
            wheel.read(
                f"openeo_cloudmask-{openeo_cloudmask.__version__}.dist-info/METADATA"
            ).decode()
        )
        catalog = json.loads(wheel.read("openeo_cloudmask/_assets/catalog/catalog.json"))
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Version"] == openeo_cloudmask.__version__
    assert catalog["type"] == "Catalog"
