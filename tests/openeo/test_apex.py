"""What `cloudmask apex` writes, by the rules of ESA's APEx algorithm catalogue.

The catalogue's own checks run where APEX_ALGORITHMS names a checkout of ESA-APEx/apex_algorithms
(``pip install`` its ``qa/tools`` first).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from openeo.testing.results import assert_job_results_allclose
from typer.testing import CliRunner

from openeo_cloudmask import assets
from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import InputError, OptionError
from openeo_cloudmask.openeo.apex import EXACT, ApexService, Provider, plan_apex

COMMIT = "0123456789abcdef0123456789abcdef01234567"
UDP = f"https://raw.githubusercontent.com/someone/masks/{COMMIT}/udf/cloud_mask.json"
NEW = Provider(id="someone", admin="@example.org", logo="https://example.org/logo.png")


def _write_results(folder: Path, changed: int = 0) -> Path:
    folder.mkdir()
    mask = np.ones((1, 20, 20), np.uint8)
    mask.flat[:changed] = 2
    place = rasterio.Affine(10, 0, 600000, 0, -10, 5600000)
    with rasterio.open(
        folder / "openEO.tif", "w", driver="GTiff", width=20, height=20, count=1, dtype="uint8",
        nodata=255, crs="EPSG:32631", transform=place,
    ) as file:  # fmt: skip
        file.write(mask)
    (folder / "job-results.json").write_text(
        json.dumps({"assets": {"openEO.tif": {}}, "links": []})
    )
    return folder


def _service(**changes: Any) -> ApexService:
    return ApexService(**{"repository": "someone/masks", "commit": COMMIT} | changes)


def _run(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), ["apex", *map(str, arguments)])


def test_the_files_are_where_the_catalogue_looks(tmp_path: Path) -> None:
    results = _write_results(tmp_path / "results")
    answer = _run(
        tmp_path / "kit", "--repository", "someone/masks", "--provider", "someone", "--commit",
        COMMIT, "--admin", "@example.org", "--logo", "https://example.org/logo.png",
        "--results", results, "--reference-url", "https://example.org/reference/",
    )  # fmt: skip
    assert answer.exit_code == 0, answer.output
    home = tmp_path / "kit" / "algorithm_catalog" / "someone"
    service = home / "cloud_mask"
    record = json.loads((service / "records" / "cloud_mask.json").read_text())
    links = {link["rel"]: link["href"] for link in record["links"]}
    assert links["application"] == UDP
    assert links["provider"] == "../../record.json"
    assert (service / "records" / links["provider"]).resolve() == home / "record.json"
    process = json.loads((service / "openeo_udp" / "cloud_mask.json").read_text())
    assert process == json.loads(assets.path("udf/cloud_mask.json").read_text())
    [scenario] = json.loads((service / "benchmark_scenarios" / "cloud_mask.json").read_text())
    assert scenario["process_graph"]["cloudmask1"]["namespace"] == UDP
    assert scenario["reference_data"] == {
        name: f"https://example.org/reference/{name}" for name in ("job-results.json", "openEO.tif")
    }
    assert scenario["reference_options"] == EXACT


def test_a_single_other_pixel_fails_the_benchmark(tmp_path: Path) -> None:
    expected, same, other = (
        _write_results(tmp_path / name, changed) for name, changed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert_job_results_allclose(actual=same, expected=expected, tmp_path=tmp_path, **EXACT)
    with pytest.raises(AssertionError, match="differ"):
        assert_job_results_allclose(actual=other, expected=expected, tmp_path=tmp_path, **EXACT)


def test_a_known_provider_keeps_its_record(tmp_path: Path) -> None:
    record = tmp_path / "algorithm_catalog" / "someone" / "record.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    answer = _run(
        tmp_path, "--repository", "someone/masks", "--provider", "someone", "--commit", COMMIT
    )
    assert answer.exit_code == 0, answer.output
    assert "no reference data yet" in answer.output
    assert record.read_text() == "{}"


def test_a_new_provider_needs_a_record(tmp_path: Path) -> None:
    answer = _run(tmp_path, "--repository", "a/b", "--provider", "new", "--commit", COMMIT)
    assert "'new' has no record" in str(answer.exception)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"commit": "main"}, "commit is 'main'; expected its 40 digits"),
        ({"repository": "https://example.org/x"}, "expected OWNER/NAME"),
        ({"model": "s2cloudless"}, "does not take sentinel-2-l2a"),
    ],
)
def test_what_does_not_stay_the_same_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        _service(**changes)


def test_half_of_a_jobs_results_is_refused(tmp_path: Path) -> None:
    results = _write_results(tmp_path / "results")
    (results / "openEO.tif").unlink()
    service = _service(reference=(results, "https://example.org"))
    with pytest.raises(InputError, match=r"without openEO.tif; download all"):
        plan_apex(service, "someone", NEW)
    (results / "job-results.json").unlink()
    with pytest.raises(InputError, match="no list of a job's results"):
        plan_apex(service, "someone", NEW)


def test_the_catalogues_own_checks_pass(tmp_path: Path) -> None:
    checkout = os.environ.get("APEX_ALGORITHMS")
    if checkout is None:
        pytest.skip("APEX_ALGORITHMS names no checkout of ESA-APEx/apex_algorithms")
    for part in ("qa", "schemas", "platform_catalog"):
        shutil.copytree(Path(checkout) / part, tmp_path / part)
    results = _write_results(tmp_path / "results")
    service = _service(reference=(results, "https://example.org"))
    for path, text in plan_apex(service, "someone", NEW).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    checks = [f"tests/test_{name}.py" for name in ("records", "openeo_udp", "scenarios")]
    places = (Path(__file__).parent, tmp_path / "qa" / "tools", *map(Path, sys.path))
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "apex_offline", *checks],
        cwd=tmp_path / "qa" / "unittests",
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, places))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
