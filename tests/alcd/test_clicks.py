"""How few clicks a reference takes; ``benchmarks/labelling.py`` measures it on whole scenes."""

import argparse
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

VIEW, GOAL, RIM = "cloud-noncloud", 0.98, 1
DRAWS = 4


@pytest.fixture
def bench(monkeypatch):
    """Return the benchmark as a module; its data classes look it up by name."""
    path = Path(__file__).parents[2] / "benchmarks" / "labelling.py"
    spec = importlib.util.spec_from_file_location("labelling_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_places_that_are_proposed_teach_more_than_five_times_as_many_at_random(bench):
    """On a scene with mist over snow, where clouds are a fourteenth of the pixels."""
    oracle = bench.meet(5, 200)
    options = argparse.Namespace(view=VIEW, goal=GOAL, rim=RIM, most=40)
    marks, labels, _ = bench.guided(oracle, options)
    assert oracle.score(labels, VIEW, RIM) >= GOAL
    found = [
        oracle.score(
            bench.classify(
                oracle, bench.at_random(oracle, 5 * len(marks), np.random.default_rng(draw))
            ),
            VIEW,
            RIM,
        )
        for draw in range(DRAWS)
    ]
    assert np.mean(found) < GOAL
