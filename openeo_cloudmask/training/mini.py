"""Training of ``mini`` on simulated scenes: seeded, and resumable to the same weights."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openeo_cloudmask.errors import OptionError, OutputError
from openeo_cloudmask.training.checkpoint import (
    read_checkpoint,
    save_checkpoint,
    write_safetensors,
)
from openeo_cloudmask.training.scenes import (
    PLANE_COUNT,
    Example,
    cut_example,
    draw_scene,
    start_chunk,
)

if TYPE_CHECKING:
    import torch

    from openeo_cloudmask.models.networks.mini import MiniNet

CHECKPOINT = "checkpoint.pt"
BEST = "mini.safetensors"
LOG = "log.jsonl"
_VALIDATION_SEED = 900_000_000
"""Seeds from here on are never trained on."""
_CLASS_WEIGHTS = (1.0, 1.0, 1.4, 1.8)
"""Thin cloud and shadow are rarer and harder than clear sky and thick cloud."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """How ``mini`` is trained.

    Raises:
        OptionError: a number is out of range.
    """

    seed: int = 1
    cycles: tuple[int, ...] = (4_000, 2_500)
    """Steps of each cycle of the learning rate; each begins at half the rate of the one before."""
    batch: int = 8
    learning_rate: float = 2e-3
    chunk_scenes: int = 64
    """Scenes drawn at a time; the next chunk is drawn while one is learned."""
    reuse: int = 8
    """Crops from each scene."""
    validate_every: int = 500
    validation_scenes: int = 40
    average: float = 0.998
    """How slowly the averaged weights, which are the ones kept, follow."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not self.cycles or min(self.cycles) < 1:
            raise OptionError(f"cycles is {self.cycles}; expected numbers of steps, each 1 or more")
        for name in ("batch", "chunk_scenes", "reuse", "validate_every"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if self.chunk_scenes * self.reuse % self.batch:
            raise OptionError(
                f"chunk_scenes * reuse is {self.chunk_scenes * self.reuse}; expected a multiple "
                f"of batch ({self.batch}), so that chunks end where steps end"
            )

    @property
    def steps(self) -> int:
        """Steps in all."""
        return sum(self.cycles)

    @property
    def steps_a_chunk(self) -> int:
        """Steps until the next chunk of scenes is needed."""
        return self.chunk_scenes * self.reuse // self.batch


Report = Callable[[int, float, dict[str, float] | None], None]
"""Called with the step, the loss of its batch, and the validation scores where there are any."""


def train_mini(
    folder: Path,
    options: TrainOptions,
    *,
    report: Report | None = None,
    workers: int = 1,
    stop_after: int | None = None,
) -> Path:
    """Train, going on from the folder's checkpoint if there is one; return the best weights' path.

    Scenes, crops and their variations depend on the seed and the step alone, so a run that was
    stopped ends with the weights of one that was not (same machine, same number of threads).

    Args:
        folder: gets the checkpoint, the log and the best weights by simulated validation scenes.
        options: how to train.
        report: told about every step.
        workers: processes that draw scenes; changes speed only.
        stop_after: steps after which this call ends early, its state saved.

    Raises:
        WeightsError: the checkpoint is of other options.
        OutputError: the folder cannot be made.
    """
    import torch

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"cannot make the folder {folder}: {err}") from err
    torch.manual_seed(options.seed)
    state = _State(options)
    if (folder / CHECKPOINT).exists():
        state.restore(folder / CHECKPOINT)
    last = options.steps if stop_after is None else min(options.steps, state.step + stop_after)
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        examples = _Examples(pool, options)
        checks = [
            draw_scene(_VALIDATION_SEED + n, plain_truth=True)
            for n in range(options.validation_scenes)
        ]
        while state.step < last:
            loss = state.learn(examples.batch(state.step))
            scores = None
            if state.step % options.validate_every == 0 or state.step == options.steps:
                scores = validate(state.average, checks)
                state.keep_best(scores, folder)
                _append(folder / LOG, {"step": state.step, "loss": loss, **scores})
                state.save(folder / CHECKPOINT)
            if report is not None:
                report(state.step, loss, scores)
        state.save(folder / CHECKPOINT)
        pool.shutdown(cancel_futures=True)
    return folder / BEST


class _Examples:
    """Batches by step; holds one chunk of scenes and has the next one drawn."""

    def __init__(self, pool: ProcessPoolExecutor, options: TrainOptions) -> None:
        self._pool, self._options = pool, options
        self._chunk = -1
        self._scenes: list[Any] = []
        self._next: list[Any] = []

    def batch(self, step: int) -> list[Example]:
        options = self._options
        chunk, place = divmod(step, options.steps_a_chunk)
        if chunk != self._chunk:
            if chunk != self._chunk + 1 or not self._next:
                self._next = start_chunk(self._pool, options.seed, chunk, options.chunk_scenes)
            self._scenes = [future.result() for future in self._next]
            self._next = start_chunk(self._pool, options.seed, chunk + 1, options.chunk_scenes)
            self._chunk = chunk
        order = np.random.default_rng((options.seed, chunk, 7)).permutation(
            np.tile(np.arange(options.chunk_scenes), options.reuse)
        )
        rng = np.random.default_rng((options.seed, step, 8))
        mine = order[place * options.batch : (place + 1) * options.batch]
        return [cut_example(self._scenes[index], rng) for index in mine]


class _State:
    """Everything that a step changes."""

    def __init__(self, options: TrainOptions) -> None:
        import copy

        import torch

        from openeo_cloudmask.models.networks.mini import PLANES, MiniNet
        from openeo_cloudmask.models.networks.prepare import cpu_has_bf16

        self.options = options
        self.half = cpu_has_bf16()
        self.step = 0
        self.best = -1.0
        self.network: MiniNet = MiniNet(PLANES).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average: MiniNet = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=options.learning_rate, weight_decay=1e-3
        )

    def learn(self, examples: list[Example]) -> float:
        """Take one step; return its loss."""
        import torch
        import torch.nn.functional as F

        planes = torch.from_numpy(np.stack([item.planes for item in examples]))
        present = torch.from_numpy(np.stack([item.present for item in examples]))
        truth = torch.from_numpy(np.stack([item.truth for item in examples]))
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate()
        # bf16 is twice as fast where the CPU has it, and as good: weights and sums stay fp32.
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            logits = self.network.classify(planes, present).float()
        loss = F.cross_entropy(
            logits,
            truth,
            weight=torch.tensor(_CLASS_WEIGHTS),
            ignore_index=255,
            label_smoothing=0.02,
        )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        self.optimiser.step()
        self.step += 1
        self._follow()
        return float(loss.detach())

    def _rate(self) -> float:
        """In each cycle, warm up over 200 steps, then fall along a cosine to a hundredth."""
        place, peak = self.step, self.options.learning_rate
        for length in self.options.cycles:
            if place < length:
                break
            place, peak = place - length, peak / 2
        warm = min(1.0, (place + 1) / 200)
        return peak * warm * (0.505 + 0.495 * math.cos(math.pi * place / length))

    def _follow(self) -> None:
        import torch

        # Early on, averages over more steps than there were would only hold the first ones.
        keep = min(self.options.average, self.step / (self.step + 10))
        with torch.no_grad():
            for mine, theirs in zip(
                self.average.state_dict().values(), self.network.state_dict().values(), strict=True
            ):
                if mine.dtype.is_floating_point:
                    mine.lerp_(theirs, 1 - keep)
                else:
                    mine.copy_(theirs)

    def keep_best(self, scores: dict[str, float], folder: Path) -> None:
        """Write the averaged weights where they score best so far."""
        if scores["mean"] > self.best:
            self.best = scores["mean"]
            write_weights(self.average, folder / BEST)

    def save(self, path: Path) -> None:
        """Write the checkpoint, atomically."""
        import torch

        content = {
            "options": asdict(self.options),
            "step": self.step,
            "best": self.best,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "torch_rng": torch.get_rng_state(),
        }
        save_checkpoint(content, path)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            WeightsError: it cannot be read, or was made with other options.
        """
        import torch

        content = read_checkpoint(path, asdict(self.options))
        self.step, self.best = content["step"], content["best"]
        self.network.load_state_dict(content["network"])
        self.average.load_state_dict(content["average"])
        self.optimiser.load_state_dict(content["optimiser"])
        torch.set_rng_state(content["torch_rng"])


def validate(network: MiniNet, scenes: list[Any]) -> dict[str, float]:
    """Return balanced accuracies on simulated scenes: all planes, and without the cirrus plane.

    ``cloud``, ``shadow`` and ``invalid`` are (recall + specificity) / 2 over all pixels pooled;
    ``mean`` is the mean of the three.
    """
    import torch

    counts = np.zeros((4, 4), np.int64)
    present = torch.ones((1, PLANE_COUNT))
    without = present.clone()
    without[:, 4] = 0
    for number, (cube, truth) in enumerate(scenes):
        flags = without if number % 2 or not cube[4].any() else present
        planes = torch.from_numpy(cube.astype(np.float32))[None] * flags[:, :, None, None]
        with torch.inference_mode():
            guess = network.classify(planes, flags).argmax(1)[0].numpy()
        counts += np.bincount(4 * truth.ravel().astype(int) + guess.ravel(), minlength=16).reshape(
            4, 4
        )
    scores = {
        "cloud": _balanced(counts, (1, 2)),
        "shadow": _balanced(counts, (3,)),
        "invalid": _balanced(counts, (1, 2, 3)),
    }
    scores["mean"] = sum(scores.values()) / 3
    for value, name in enumerate(("clear", "thick", "thin", "shadow")):
        total = counts[value].sum() + counts[:, value].sum() - counts[value, value]
        scores[f"iou_{name}"] = float(counts[value, value] / max(total, 1))
    return scores


def _balanced(counts: Any, positive: tuple[int, ...]) -> float:  # noqa: ANN401
    mask = np.isin(np.arange(4), positive)
    recall = counts[mask][:, mask].sum() / max(counts[mask].sum(), 1)
    specificity = counts[~mask][:, ~mask].sum() / max(counts[~mask].sum(), 1)
    return float(recall + specificity) / 2


def write_weights(network: torch.nn.Module, path: Path) -> None:
    """Write weights as float16 safetensors, atomically: half the size, the same masks."""
    tensors = {
        name: (value.half() if value.dtype.is_floating_point else value).contiguous()
        for name, value in network.state_dict().items()
    }
    write_safetensors(tensors, path, {"format": "pt", "model": "mini"})


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**row, "time": round(time.time())}) + "\n")
