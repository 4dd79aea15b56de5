"""Training of ``mini`` on simulated and on real scenes: seeded, and resumable."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openeo_cloudmask.errors import OptionError, OutputError
from openeo_cloudmask.training.batches import Batch, Source, batches
from openeo_cloudmask.training.checkpoint import (
    read_checkpoint,
    save_checkpoint,
    write_safetensors,
)
from openeo_cloudmask.training.labelled import LabelledScene, read_labelled
from openeo_cloudmask.training.scenes import (
    ANY_CLOUD,
    CLEAR_OR_SHADOW,
    SCENE_PX,
    SHADOW,
    UNSEEN,
    SceneStore,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from openeo_cloudmask.models.networks.mini import MiniNet

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "mini.safetensors"
LOG = "log.jsonl"
_CLASS_WEIGHTS = (1.0, 1.0, 1.2, 3.0, 1.0, 1.0)
"""Of the labels 0-5: thin cloud and shadow are rarer and harder than clear sky and thick cloud."""
_SETS = ((0,), (1,), (2,), (3,), (1, 2), (0, 3))
"""The classes each label leaves open."""
_SMOOTHING = 0.03
_NEAR_SHARE = 0.25
"""Share of the examples that are learned without what lies far away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """How ``mini`` is trained.

    Raises:
        OptionError: a number is out of range.
    """

    seed: int = 1
    steps: int = 4_000
    shapes: tuple[tuple[int, int], ...] = ((8, 256), (4, 384))
    """Examples and pixels a side, for one step after the other: large crops show what a place
    sees that lies far from every border, small ones show more scenes."""
    learning_rate: float = 2e-3
    simulated: int = 2_400
    """Simulated scenes to choose from."""
    real_share: float = 0.5
    """Share of examples from real scenes, where there are any."""
    frozen_norms: bool = False
    """Whether batch norms keep their statistics: a step then sees what a user will see, while the
    statistics of a few crops tell how bright the others are."""
    log_every: int = 100
    average: float = 0.998
    """How slowly the averaged weights, which are the ones kept, follow."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("steps", "simulated", "log_every"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if not self.shapes or any(
            count < 1 or size < 32 or size % 32 or size > SCENE_PX for count, size in self.shapes
        ):
            raise OptionError(
                f"shapes is {self.shapes}; expected pairs of a number of examples and their size, "
                f"a multiple of 32 up to {SCENE_PX} pixels"
            )
        if not 0 <= self.real_share <= 1:
            raise OptionError(f"real_share is {self.real_share}; expected 0 to 1")


Report = Callable[[int, float, dict[str, float] | None], None]
"""Called with the step, the loss of its batch, and the scores of held-out scenes, if any."""


def train_mini(  # noqa: PLR0913 - what is learned from, and how a run goes on
    folder: Path,
    options: TrainOptions,
    *,
    store: Path | None = None,
    labelled: Sequence[Path] = (),
    held_out: Sequence[Path] = (),
    start: Path | None = None,
    report: Report | None = None,
    workers: int = 1,
    stop_after: int | None = None,
) -> Path:
    """Train, going on from the folder's checkpoint if there is one; return the weights' path.

    Scenes, crops and their variations depend on the seed and the step alone, so a run that was
    stopped ends with the weights of one that was not (same machine, same number of threads).

    Args:
        folder: gets the checkpoint, the log and the weights, averaged over the steps.
        options: how to train.
        store: folder of simulated scenes; those that are missing are drawn. None: in ``folder``.
        labelled: real scenes to learn from.
        held_out: real scenes scored along the way, for the log; nothing is chosen by them.
        start: weights to begin with; inputs that they lack count for nothing at first, other
            parts that do not fit begin anew.
        report: told about every step.
        workers: processes that make batches; changes speed only.
        stop_after: steps after which this call ends early, its state saved.

    Raises:
        WeightsError: the checkpoint is of other options.
        ReferenceDataError: a labelled scene cannot be read.
        OutputError: the folder cannot be made.
    """
    import torch

    scenes = SceneStore(folder=store or folder / "simulated", seed=1, count=options.simulated)
    try:
        scenes.folder.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"cannot make the folder {folder}: {err}") from err
    torch.manual_seed(options.seed)
    state = _State(options, [path.stem for path in labelled])
    checks = [read_labelled(path) for path in held_out]
    if (folder / CHECKPOINT).exists():
        state.restore(folder / CHECKPOINT)
    elif start is not None:
        state.begin_with(start)
    last = options.steps if stop_after is None else min(options.steps, state.step + stop_after)
    source = Source(
        seed=options.seed,
        shapes=options.shapes,
        store=scenes,
        labelled=tuple(labelled),
        real_share=options.real_share,
    )
    losses: list[float] = []
    for batch in batches(source, state.step, last, workers=workers):
        losses.append(state.learn(batch))
        scores = None
        if state.step % options.log_every == 0 or state.step == options.steps:
            scores = score(state.average, checks) if checks else None
            row = {"step": state.step, "loss": float(np.mean(losses)), **(scores or {})}
            _append(folder / LOG, row)
            losses = []
            state.save(folder / CHECKPOINT)
            write_weights(state.average, folder / WEIGHTS)
        if report is not None:
            report(state.step, losses[-1] if losses else row["loss"], scores)
    state.save(folder / CHECKPOINT)
    write_weights(state.average, folder / WEIGHTS)
    return folder / WEIGHTS


class _State:
    """Everything that a step changes."""

    def __init__(self, options: TrainOptions, labelled: Sequence[str]) -> None:
        import copy

        import torch

        from openeo_cloudmask.models.networks.mini import PLANES, MiniNet

        self.options = {**asdict(options), "labelled": list(labelled)}
        self._steps, self._peak, self._keep = options.steps, options.learning_rate, options.average
        self.step = 0
        self.network: MiniNet = MiniNet(PLANES).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average: MiniNet = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=options.learning_rate, weight_decay=1e-3
        )
        self._chance = torch.Generator()
        if options.frozen_norms:
            for module in self.network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.eval()

    def begin_with(self, path: Path) -> None:
        """Take those weights of a file that fit."""
        from safetensors.torch import load_file

        own = self.network.state_dict()
        given = {name: value for name, value in load_file(path).items() if name in own}
        for name, value in given.items():
            if value.shape == own[name].shape:
                own[name] = value.to(own[name].dtype)
            elif value.dim() == 4 and value.shape[::2] == own[name].shape[::2]:
                own[name].zero_()[:, : value.shape[1]] = value.to(own[name].dtype)
        self.network.load_state_dict(own)
        self.average.load_state_dict(own)

    def learn(self, batch: Batch) -> float:
        """Take one step; return its loss."""
        import torch

        for group in self.optimiser.param_groups:
            group["lr"] = self._rate()
        self._chance.manual_seed(self.step)
        far = (torch.rand(len(batch.planes), generator=self._chance) >= _NEAR_SHARE).float()
        logits = self.network.classify(
            torch.from_numpy(batch.planes), torch.from_numpy(batch.present), far
        )
        loss = label_loss(logits, torch.from_numpy(batch.truth).long())
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        self.optimiser.step()
        self.step += 1
        self._follow()
        return float(loss.detach())

    def _rate(self) -> float:
        """Warm up over 100 steps, then fall along a cosine to a hundredth."""
        warm = min(1.0, (self.step + 1) / 100)
        fall = 0.505 + 0.495 * math.cos(math.pi * self.step / self._steps)
        return self._peak * warm * fall

    def _follow(self) -> None:
        import torch

        # Early on, averages over more steps than there were would only hold the first ones.
        keep = min(self._keep, self.step / (self.step + 10))
        with torch.no_grad():
            for mine, theirs in zip(
                self.average.state_dict().values(), self.network.state_dict().values(), strict=True
            ):
                if mine.dtype.is_floating_point:
                    mine.lerp_(theirs, 1 - keep)
                else:
                    mine.copy_(theirs)

    def save(self, path: Path) -> None:
        """Write the checkpoint, atomically."""
        content = {
            "options": self.options,
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        save_checkpoint(content, path)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            WeightsError: it cannot be read, or was made with other options.
        """
        content = read_checkpoint(path, self.options)
        self.step = content["step"]
        self.network.load_state_dict(content["network"])
        self.average.load_state_dict(content["average"])
        self.optimiser.load_state_dict(content["optimiser"])


def label_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the mean cross entropy of (n, 4, y, x) logits with labels that may leave classes open.

    Args:
        logits: of the four classes.
        truth: (n, y, x) int64, labels 0-5, or 255 where unseen.
    """
    import torch
    import torch.nn.functional as F

    chance = F.log_softmax(logits, dim=1)
    parts = torch.stack([chance[:, list(open_)].logsumexp(1) for open_ in _SETS[4:]], dim=1)
    every = torch.cat([chance, parts], dim=1)
    seen = truth != UNSEEN
    label = torch.where(seen, truth, 0)
    hit = every.gather(1, label[:, None])[:, 0]
    weight = torch.tensor(_CLASS_WEIGHTS)[label] * seen
    each = -(1 - _SMOOTHING) * hit - _SMOOTHING * chance.mean(dim=1)
    return (each * weight).sum() / weight.sum().clamp(min=1)


def predict_labels(network: MiniNet, scene: LabelledScene) -> np.ndarray[Any, Any]:
    """Return the (y, x) classes of a whole scene in one call, its borders mirrored."""
    import torch

    from openeo_cloudmask.models.networks.mini import MULTIPLE_PX

    height, width = scene.truth.shape
    pad = ((0, 0), (0, -height % MULTIPLE_PX), (0, -width % MULTIPLE_PX))
    planes = torch.from_numpy(np.pad(scene.planes, pad, mode="symmetric"))[None]
    with torch.inference_mode():
        logits = network.classify(planes, torch.from_numpy(scene.present)[None])[0]
    return logits.argmax(0)[:height, :width].numpy().astype(np.uint8)


def score(network: MiniNet, scenes: Sequence[LabelledScene]) -> dict[str, float]:
    """Return what is found and kept of real scenes, pooled over their pixels.

    ``found`` is the share of cloud found, ``kept`` the share of cloud-free pixels kept,
    ``overcast`` the first in scenes of more than 95 % cloud; ``shadow`` the mean of both for
    shadow, where it is labelled.
    """
    counts = np.zeros((3, 4))
    for scene in scenes:
        guess, truth = predict_labels(network, scene), scene.truth
        seen = truth != UNSEEN
        cloud, masked = np.isin(truth, (1, 2, ANY_CLOUD))[seen], np.isin(guess, (1, 2))[seen]
        counts[0] += _counts(cloud, masked)
        if cloud.mean() > 0.95:
            counts[1] += _counts(cloud, masked)
        if not (truth == CLEAR_OR_SHADOW).any():
            counts[2] += _counts((truth == SHADOW)[seen], (guess == SHADOW)[seen])
    share = counts[:, ::2] / np.maximum(counts[:, 1::2], 1)
    return {
        "found": float(share[0, 0]),
        "kept": float(share[0, 1]),
        "overcast": float(share[1, 0]),
        "shadow": float(share[2].mean()),
    }


def _counts(truth: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> tuple[int, ...]:
    return (
        int((truth & found).sum()),
        int(truth.sum()),
        int((~truth & ~found).sum()),
        int((~truth).sum()),
    )


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
