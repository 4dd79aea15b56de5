"""Comparisons: exact numbers, stopping and going on, what is left out, reports."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from sklearn import metrics
from typer.testing import CliRunner

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import OptionError, ReferenceDataError, WeightsError
from openeo_cloudmask.evaluation import compare
from openeo_cloudmask.evaluation.compare import CompareRequest, Comparison, run_comparison
from openeo_cloudmask.evaluation.compare_report import to_dict, write_comparison
from openeo_cloudmask.evaluation.compare_scenes import (
    ComparedModel,
    Effort,
    ProductSource,
    SimulatedSource,
    parse_model,
)
from openeo_cloudmask.evaluation.evaluate import Reference
from openeo_cloudmask.products import Grid, write_cog

MODELS = ("hollstein", "s2cloudless", "ukis-csmask")
WRONG = {"hollstein": 0.05, "s2cloudless": 0.3, "ukis-csmask": 0.15}


@dataclass(frozen=True, kw_only=True)
class FakeSource:
    """A scene of 24 x 24 pixels on which each model errs in its own share of the pixels."""

    seed: int
    broken: tuple[str, ...] = ()
    made: list[str]
    """Pairs that were made, not kept."""

    @property
    def name(self) -> str:
        return f"scene-{self.seed}"

    def fingerprint(self) -> dict[str, int]:
        return {"seed": self.seed}

    def truth(self) -> NDArray[np.uint8]:
        return np.random.default_rng(self.seed).integers(0, 4, (24, 24)).astype(np.uint8)

    def labels(self, model: str) -> NDArray[np.uint8]:
        rng = np.random.default_rng((self.seed, MODELS.index(model)))
        wrong = rng.random((24, 24)) < WRONG[model]
        return np.where(wrong, (self.truth() + 1) % 4, self.truth()).astype(np.uint8)

    def grid(self) -> Grid:
        return Grid(
            shape_yx=(24, 24),
            transform=Affine(10, 0, 500_000, 0, -10, 4_000_000),
            crs=CRS.from_epsg(32631),
        )

    def reference(self) -> Reference:
        return Reference(name=self.name, labels=self.truth(), scheme=FOUR_CLASS, grid=self.grid())

    def write_mask(self, model: ComparedModel, path: Path) -> Effort:
        if model.id in self.broken:
            raise WeightsError(f"no weights for {model.id}. More of it")
        self.made.append(f"{model.id} {self.name}")
        labels = self.labels(model.id)[np.newaxis]
        write_cog(path, [(0, labels)], grid=self.grid(), scheme=FOUR_CLASS)
        return Effort(pixels=24 * 24, seconds=2.0, cpu_seconds=0.5)

    def rgb(self) -> NDArray[np.float32]:
        return np.random.default_rng(self.seed).random((3, 24, 24), np.float32)


RequestFactory = Callable[..., CompareRequest]


@pytest.fixture
def made() -> list[str]:
    return []


@pytest.fixture
def make_request(tmp_path: Path, made: list[str]) -> RequestFactory:
    def make(
        *, scenes: int = 3, broken: dict[int, tuple[str, ...]] | None = None, **options: bool
    ) -> CompareRequest:
        return CompareRequest(
            models=tuple(ComparedModel(id=name) for name in MODELS),
            scenes=tuple(
                FakeSource(seed=seed, made=made, broken=(broken or {}).get(seed, ()))
                for seed in range(scenes)
            ),
            folder=tmp_path / "compare",
            **options,
        )

    return make


def _binary(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.isin(labels, (1, 2)).astype(np.uint8)


def test_numbers_equal_scikit_learn(make_request: RequestFactory) -> None:
    comparison = run_comparison(make_request())
    assert [item.model.id for item in comparison.standings] == [
        "hollstein", "ukis-csmask", "s2cloudless",
    ]  # fmt: skip
    sources = comparison.request.scenes
    truth = np.concatenate([_binary(source.truth()).ravel() for source in sources])
    flat = {
        name: np.concatenate([_binary(source.labels(name)).ravel() for source in sources])
        for name in MODELS
    }
    for standing in comparison.standings:
        cloud = next(p for p in standing.pooled if p.case.name == "cloud-noncloud")
        ours = cloud.confusion.scores().balanced_accuracy
        theirs = metrics.balanced_accuracy_score(truth, flat[standing.model.id])
        assert abs(ours - theirs) < 1e-12
        assert standing.megapixels_per_cpu_second == pytest.approx(24 * 24 / 1e6 / 0.5)
    pairs = {(item.one, item.other): item for item in comparison.agreements}
    assert set(pairs) == set(combinations(MODELS, 2))
    for (one, other), item in pairs.items():
        assert abs(item.share - (flat[one] == flat[other]).mean()) < 1e-12
        assert abs(item.kappa - metrics.cohen_kappa_score(flat[one], flat[other])) < 1e-12
    for dispute in comparison.disputes:
        votes = sum(_binary(dispute.source.labels(name)) for name in MODELS)
        assert dispute.share == pytest.approx(((votes > 0) & (votes < 3)).mean())
    shares = [item.share for item in comparison.disputes]
    assert shares == sorted(shares, reverse=True)


def test_a_stopped_run_goes_on_and_changes_nothing(
    make_request: RequestFactory, made: list[str]
) -> None:
    request = make_request()

    def stop(model: str, scene: str, kept: bool) -> None:  # noqa: FBT001
        if len(made) >= 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_comparison(request, progress=stop)
    first = list(made)
    assert len(first) == 5
    whole = run_comparison(request)
    assert len(made) == 9
    assert len(set(made)) == 9
    again = run_comparison(request)
    assert len(made) == 9
    assert to_dict(again, "", "") == to_dict(whole, "", "")


def test_a_damaged_or_outdated_result_is_made_again(
    make_request: RequestFactory, made: list[str]
) -> None:
    request = make_request(scenes=1)
    run_comparison(request)
    results = request.folder / "results" / "scene-0"
    (results / "hollstein.json").write_text("{cut off")
    content = json.loads((results / "s2cloudless.json").read_text())
    content["fingerprint"]["version"] = "0.0.1"
    (results / "s2cloudless.json").write_text(json.dumps(content))
    compare.mask_path(request.folder, "ukis-csmask", "scene-0").unlink()
    made.clear()
    run_comparison(request)
    assert sorted(made) == [f"{name} scene-0" for name in sorted(MODELS)]


def test_models_and_pairs_that_fail(make_request: RequestFactory) -> None:
    with pytest.raises(WeightsError, match="no weights for ukis-csmask"):
        run_comparison(make_request(broken={0: ("ukis-csmask",)}))
    left = run_comparison(make_request(broken={0: ("ukis-csmask",)}, leave_out_models=True))
    assert [item.name for item in left.left_out] == ["ukis-csmask"]
    assert {item.model.id for item in left.standings} == {"hollstein", "s2cloudless"}
    with pytest.raises(WeightsError, match="no weights for hollstein"):
        run_comparison(make_request(scenes=6, broken={5: ("hollstein",)}))
    going = run_comparison(make_request(scenes=6, broken={5: ("hollstein",)}, keep_going=True))
    assert [item.name for item in going.left_out] == ["hollstein on scene-5"]
    assert {item.model.id: item.scenes for item in going.standings} == {
        "hollstein": 5,
        "s2cloudless": 6,
        "ukis-csmask": 6,
    }


def test_nothing_to_compare_is_told(make_request: RequestFactory) -> None:
    request = make_request(scenes=1, broken={0: MODELS}, leave_out_models=True)
    with pytest.raises(ReferenceDataError, match="could be compared: hollstein: no weights"):
        run_comparison(request)


@pytest.fixture
def comparison(make_request: RequestFactory) -> Comparison:
    return run_comparison(make_request())


def test_reports_hold_the_numbers(comparison: Comparison, tmp_path: Path) -> None:
    paths = write_comparison(
        tmp_path / "out", comparison, title="Three <models>", command="cloudmask compare"
    )
    texts = {path.suffix: path.read_text(encoding="utf-8") for path in paths}
    assert set(texts) == {".html", ".md", ".csv", ".json"}
    best = comparison.standings[0]
    valid = next(p for p in best.pooled if p.case.name == "valid-invalid")
    number = f"{valid.confusion.scores().balanced_accuracy:.3f}"
    assert number in texts[".html"]
    assert f"| 1 | `hollstein` | {number}" in texts[".md"]
    assert "Three &lt;models&gt;" in texts[".html"]
    assert "<models>" not in texts[".html"]
    assert texts[".html"].count("<img") == 3 * 6  # image, reference, three masks, votes
    content = json.loads(texts[".json"])
    assert [item["model"] for item in content["leaderboard"]] == [
        "hollstein", "ukis-csmask", "s2cloudless",
    ]  # fmt: skip
    assert len(content["agreement"]) == 3
    rows = texts[".csv"].splitlines()
    assert any(row.startswith("hollstein,scene-0,cloud-noncloud,cloud,recall,") for row in rows)


def test_simulated_scenes_are_masked_by_a_model_that_runs_here(tmp_path: Path) -> None:
    runner = CliRunner()
    arguments = [
        "compare", "--models", "hollstein", "--simulated", "2", "--size", "64",
        "--output", str(tmp_path / "out"),
    ]  # fmt: skip
    result = runner.invoke(build_app(), arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "hollstein" in result.stdout
    first = (tmp_path / "out" / "compare.json").read_text()
    assert "simulated-sentinel-2-l1c-00002" in (tmp_path / "out" / "compare.md").read_text()
    result = runner.invoke(build_app(), arguments, catch_exceptions=False)
    assert result.stderr.count("kept: ") == 2
    assert (tmp_path / "out" / "compare.json").read_text() == first


def test_simulated_truth_scores_as_perfect(tmp_path: Path) -> None:
    source = SimulatedSource(seed=2, size_px=64)
    reference = source.reference()
    path = write_cog(
        tmp_path / "truth.tif",
        [(0, reference.labels[np.newaxis])],
        grid=reference.grid,
        scheme=FOUR_CLASS,
    )
    from openeo_cloudmask.evaluation.score_files import ScoreRequest, score_files

    report = score_files(ScoreRequest(mask=path, reference=path))
    assert all(item.confusion.scores().overall_accuracy == 1.0 for item in report.pooled)
    assert math.isfinite(report.pooled[0].confusion.scores().cover_reference)
    assert source.rgb().shape == (3, 64, 64)


def test_products_are_masked_and_scored_against_their_reference(tmp_path: Path) -> None:
    from openeo_cloudmask.simulator.scene import simulate_scene

    scene = simulate_scene(4, size=64)
    grid = Grid(shape_yx=(64, 64), transform=scene.transform, crs=CRS.from_string(scene.crs))
    import rasterio

    product = tmp_path / "scene_a.tif"
    with rasterio.open(
        product, "w", driver="GTiff", width=64, height=64, count=13, dtype="float32",
        crs=grid.crs, transform=grid.transform, nodata=np.nan,
    ) as data:  # fmt: skip
        data.write(scene.cube)
        data.descriptions = scene.band_names
    (tmp_path / "references").mkdir()
    truth = [(0, scene.truth[np.newaxis])]
    write_cog(tmp_path / "references" / "scene_a_truth.tif", truth, grid=grid, scheme=FOUR_CLASS)
    source = ProductSource(
        path=product, reference_path=tmp_path / "references", sensor="sentinel-2-l1c"
    )
    comparison = run_comparison(
        CompareRequest(
            models=(parse_model("hollstein"),), scenes=(source,), folder=tmp_path / "out"
        )
    )
    simulated = run_comparison(
        CompareRequest(
            models=(parse_model("hollstein"),),
            scenes=(SimulatedSource(seed=4, size_px=64),),
            folder=tmp_path / "out",
        )
    )
    one, other = (item.standings[0].pooled[0].confusion.counts for item in (comparison, simulated))
    assert np.array_equal(one, other)  # from disk and from memory: the same mask, the same score
    assert np.allclose(source.rgb(), SimulatedSource(seed=4, size_px=64).rgb(), equal_nan=True)


def test_wrong_requests_are_told(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="there are no weights"):
        parse_model(f"mini={tmp_path / 'nothing.safetensors'}")
    with pytest.raises(ReferenceDataError, match="needs a model and a scene"):
        run_comparison(CompareRequest(models=(), scenes=(), folder=tmp_path))
    for arguments, message in (
        (["compare", "--models", "hollstein"], "either scenes with --reference"),
        (["compare", "a.tif", "--models", "hollstein"], "scenes need --reference"),
    ):
        with pytest.raises(OptionError, match=message):
            CliRunner().invoke(build_app(), arguments, catch_exceptions=False)
