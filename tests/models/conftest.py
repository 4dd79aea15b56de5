"""Golden cases and a published folder in miniature, for the tests of networks and detectors."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from openeo_cloudmask.models import build_network

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "data" / "golden"

TINY_SEGFORMER = {
    "depths": [1, 2, 1, 1],
    "hidden_sizes": [16, 32, 48, 64],
    "num_attention_heads": [1, 2, 3, 4],
    "decoder_hidden_size": 48,
}


def import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fill() -> ModuleType:
    """Return the module that makes deterministic weights and inputs."""
    return import_file(GOLDEN / "fill.py")


@pytest.fixture(scope="session")
def published() -> ModuleType:
    """Return the published arithmetic, operation for operation."""
    return import_file(ROOT / "benchmarks" / "published.py")


@dataclass(frozen=True)
class GoldenCase:
    network: Any
    config: dict[str, Any]
    answers: dict[str, NDArray]
    bands: Any

    @property
    def descriptors(self) -> list[dict[str, Any]]:
        return self.config["descriptors"]

    @property
    def arguments(self) -> tuple[Any, ...]:
        return (self.bands, self.descriptors) if "descriptors" in self.config else (self.bands,)


def kind_of(config: dict[str, Any]) -> str:
    if "deeplab" in config:
        return "sensei-deeplab"
    return "sensei-segformer" if "sensei" in config else "segformer"


@pytest.fixture(scope="session")
def golden_case(fill: ModuleType) -> Callable[[str], GoldenCase]:
    """Return the factory of a case: its network with its weights, its input and its answers."""
    cases: dict[str, GoldenCase] = {}

    def make(name: str) -> GoldenCase:
        import torch

        if name not in cases:
            config = json.loads((GOLDEN / f"{name}.json").read_text())
            with np.load(GOLDEN / f"{name}.npz") as file:
                answers = dict(file)
            network = build_network(kind_of(config), config)
            fill.fill_state_dict(network)
            for key, layer in (
                ("classifier_bias", "decode_head.classifier"),
                ("head_bias", "segmentation_head.0"),
            ):
                if key in answers:
                    module = network.segmenter.get_submodule(layer)
                    with torch.no_grad():
                        module.bias.copy_(torch.from_numpy(answers[key]))
            bands = fill.reflectance(int(answers["seed"]), tuple(answers["shape"]))
            cases[name] = GoldenCase(network, config, answers, torch.from_numpy(bands)[None])
        return cases[name]

    return make


@pytest.fixture
def hub_folder(tmp_path: Path, fill: ModuleType) -> Callable[..., Path]:
    """Return the factory of a local folder in the published shape, with a tiny network."""

    def make(
        name: str = "SEnSeIv2-SegFormerB2-alldata-ambiguous",
        *,
        blocks: list[dict[str, Any]] | None = None,
        **changes: Any,
    ) -> Path:
        import torch
        import yaml

        from openeo_cloudmask.models.sensei_hub import SENSEI_CONFIGS, parse_config

        sensei = SENSEI_CONFIGS["senseiv2-medium.yaml"]
        (tmp_path / "sensei-configs").mkdir(exist_ok=True)
        text = yaml.safe_dump(sensei | ({"blocks": blocks} if blocks else {}))
        (tmp_path / "sensei-configs" / "own.yaml").write_text(text)
        folder = tmp_path / "full-models" / name
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "NAME": name,
            "PATCH_SIZE": 512,
            "SEnSeIv2": "some/published/path/own.yaml",
            "MODEL_TYPE": "Segformer",
            "SEGFORMER_CONFIG": TINY_SEGFORMER,
            "CLASSES": 7,
            "NUM_CHANNELS": None,
        } | changes
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        if blocks is None:
            network = build_network(*parse_config(config, folder / "config.yaml"))
            fill.fill_state_dict(network)
            torch.save(network.state_dict(), folder / "weights.pt")
        else:
            torch.save({"a": torch.zeros(1)}, folder / "weights.pt")
        return tmp_path

    return make


@pytest.fixture(scope="session")
def golden_unet(fill: ModuleType) -> Callable[[int], Any]:
    """Return the factory of the U-Net with the golden weights for a number of bands."""
    made: dict[int, Any] = {}

    def make(bands: int) -> Any:
        import torch

        if bands not in made:
            network = build_network("unet-mobilenet-v2", {"bands": bands, "classes": 4})
            fill.fill_state_dict(network)
            with np.load(GOLDEN / f"unet_mobilenet_v2_{bands}bands.npz") as file:
                bias = torch.from_numpy(file["head_bias"])
            with torch.no_grad():
                network.segmentation_head[0].bias.copy_(bias)
            made[bands] = network
        return made[bands]

    return make


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache folder; no weights variable, and no way to the internet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("OPENEO_CLOUDMASK_CACHE", str(folder))
    monkeypatch.delenv("OPENEO_CLOUDMASK_WEIGHTS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return folder
