"""Training of ``mini`` on simulated and on real scenes: seeded, and resumable."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openeo_cloudmask.errors import OptionError, OutputError
from openeo_cloudmask.training.checkpoint import (
    read_checkpoint,
    save_checkpoint,
    write_safetensors,
)
from openeo_cloudmask.training.labelled import LabelledScene, read_labelled
from openeo_cloudmask.training.options import Scenes, TrainOptions, rate_at
from openeo_cloudmask.training.scenes import ANY_CLOUD, CLEAR_OR_SHADOW, SHADOW, UNSEEN

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from openeo_cloudmask.models.networks.mini import MiniNet
    from openeo_cloudmask.training.bank import Bank
    from openeo_cloudmask.training.crops import Crops

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "mini.safetensors"
LOG = "log.jsonl"
_LAST_BIAS = "head.bias"
_NEAR_SHARE = 0.35
"""Share of the examples that are learned without what lies far away."""
_CROP_PX = (256, 384)
"""Sizes of crops, for one step after the other: large ones show what a place sees that lies far
from every border, small ones show more scenes."""
_MOVED_SHARE = 0.3
_ZOOM = 1.7


Report = Callable[[int, float | None, dict[str, float] | None], None]
"""Called with the step and, whenever the log is written, the mean loss since then and the scores of
held-out scenes, if any."""


def train_mini(  # noqa: PLR0913 - what is learned from, and how a run goes on
    folder: Path,
    options: TrainOptions,
    scenes: Scenes,
    *,
    held_out: Sequence[Path] = (),
    start: Path | None = None,
    report: Report | None = None,
    device: str = "cpu",
    workers: int = 1,
    stop_after: int | None = None,
) -> Path:
    """Train, going on from the folder's checkpoint if there is one; return the weights' path.

    Scenes, crops and their variations depend on the seed and the step alone, so a run on a CPU
    that was stopped ends with the weights of one that was not (same machine, same number of
    threads). On a GPU sums are taken in any order.

    Args:
        folder: gets the checkpoint, the log and the weights, averaged over the steps.
        options: how to train.
        scenes: what to learn from.
        held_out: real scenes scored along the way, for the log; nothing is chosen by them.
        start: weights to begin with; inputs that they lack count for nothing at first, other
            parts that do not fit begin anew.
        report: told about every step.
        device: where to train, as torch names it.
        workers: processes that draw simulated scenes; changes speed only.
        stop_after: steps after which this call ends early, its state saved.

    Raises:
        WeightsError: the checkpoint is of other options.
        ReferenceDataError: a labelled scene cannot be read.
        OutputError: the folder cannot be made.
        OptionError: there is no such device.
    """
    import torch

    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = torch.device(device)
        torch.empty(0, device=place)
    except OSError as err:
        raise OutputError(f"cannot make the folder {folder}: {err}") from err
    except (RuntimeError, AssertionError) as err:
        raise OptionError(f"device is {device}; torch has none: {err}") from err
    torch.manual_seed(options.seed)
    learned_from = [path.stem for path in (*scenes.labelled, *scenes.unlabelled)]
    state = _State(options, learned_from, place)
    checks = [read_labelled(path) for path in held_out]
    if (folder / CHECKPOINT).exists():
        state.restore(folder / CHECKPOINT)
    elif start is not None:
        state.begin_with(start)
    last = options.steps if stop_after is None else min(options.steps, state.step + stop_after)
    simulated, real = scenes.banks(options, workers=workers)
    simulated, real = simulated.to(place), None if real is None else real.to(place)
    losses: list[Tensor] = []
    while state.step < last:
        losses.append(state.learn(draw_batch(simulated, real, options, state.step)))
        scores, loss = None, None
        if state.step % options.log_every == 0 or state.step == options.steps:
            scores = score(state.average, checks) if checks else None
            loss = float(torch.stack(losses).mean())
            _append(folder / LOG, {"step": state.step, "loss": loss, **(scores or {})})
            losses = []
            state.save(folder / CHECKPOINT)
            write_weights(state.average, folder / WEIGHTS, options)
        if report is not None:
            report(state.step, loss, scores)
    state.save(folder / CHECKPOINT)
    if options.tail_steps and state.step == options.steps:
        from openeo_cloudmask.training.tail import refit_tail

        loss = refit_tail(state.average, simulated, real, options)
        scores = score(state.average, checks) if checks else None
        _append(folder / LOG, {"tail_step": options.tail_steps, "loss": loss, **(scores or {})})
        if report is not None:
            report(state.step, loss, scores)
    write_weights(state.average, folder / WEIGHTS, options)
    return folder / WEIGHTS


def draw_batch(simulated: Bank, real: Bank | None, options: TrainOptions, step: int) -> Crops:
    """Return the examples of a step; they depend on the seed and the step alone."""
    import torch

    from openeo_cloudmask.training.crops import Chance, cut, join, move_clouds, vary

    generator = torch.Generator(simulated.size.device)
    generator.manual_seed(1_000_003 * options.seed + step)
    chance = Chance(generator)
    size_px = _CROP_PX[step % len(_CROP_PX)]
    count = max(1, round(options.batch * (_CROP_PX[0] / size_px) ** 2))
    parts = []
    from_real = 0 if real is None else round(count * options.real_share)
    if real is not None and from_real:
        parts.append(cut(real, from_real, size_px, chance, zoom=_ZOOM))
    if from_real < count:
        parts.append(cut(simulated, count - from_real, size_px, chance, zoom=1.25))
    return vary(move_clouds(join(parts), chance, _MOVED_SHARE), chance)


class _State:
    """Everything that a step changes."""

    def __init__(
        self, options: TrainOptions, labelled: Sequence[str], device: torch.device
    ) -> None:
        import copy

        import torch

        from openeo_cloudmask.models.networks.mini import PLANES, MiniNet

        self.options = {**asdict(options), "labelled": list(labelled)}
        self._run, self._device = options, device
        self.step = 0
        network = MiniNet(PLANES).train().to(device)
        self.network: MiniNet = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average: MiniNet = copy.deepcopy(self.network).eval().requires_grad_(False)
        self._norms = [m for m in self.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        for norm in self._norms:
            norm.momentum = 0.03
        weights = [value for value in self.network.parameters() if value.dim() > 1]
        rest = [value for value in self.network.parameters() if value.dim() <= 1]
        groups: list[dict[str, Any]] = [
            {"params": weights},
            {"params": rest, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(
            groups, lr=options.learning_rate, weight_decay=options.weight_decay
        )
        self._chance = torch.Generator()

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

    def learn(self, batch: Crops) -> Tensor:
        """Take one step; return its loss, on its device."""
        import torch

        from openeo_cloudmask.training.loss import label_loss

        if self.step >= (1 - self._run.frozen_share) * self._run.steps:
            for norm in self._norms:
                norm.eval()
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate()
        self._chance.manual_seed(self.step)
        far = (torch.rand(len(batch.planes), generator=self._chance) >= _NEAR_SHARE).float()
        half = self._device.type == "cuda"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=half):
            logits = self.network.classify(batch.planes, batch.present, far.to(self._device))
        loss = label_loss(logits.float(), batch.truth, batch.taught, self._trust)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        self.optimiser.step()
        self.step += 1
        self._follow()
        return loss.detach()

    @property
    def _trust(self) -> float:
        return 0.0 if self._run.teacher is None else self._run.trust

    def _rate(self) -> float:
        """Warm up over 300 steps, while it falls."""
        warm = min(1.0, (self.step + 1) / 300)
        return self._run.learning_rate * warm * rate_at(self.step, self._run.steps)

    def _follow(self) -> None:
        import torch

        # Early on, averages over more steps than there were would only hold the first ones.
        keep = min(self._run.average, self.step / (self.step + 10))
        mine = [v for v in self.average.state_dict().values() if v.is_floating_point()]
        theirs = [v for v in self.network.state_dict().values() if v.is_floating_point()]
        with torch.no_grad():
            torch._foreach_lerp_(mine, theirs, 1 - keep)

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


def predict_labels(network: MiniNet, scene: LabelledScene) -> np.ndarray[Any, Any]:
    """Return the (y, x) classes of a whole scene in one call, its borders mirrored."""
    import torch

    from openeo_cloudmask.models.networks.mini import MULTIPLE_PX

    height, width = scene.truth.shape
    device = next(network.parameters()).device
    pad = ((0, 0), (0, -height % MULTIPLE_PX), (0, -width % MULTIPLE_PX))
    planes = torch.from_numpy(np.pad(scene.planes, pad, mode="symmetric"))[None].to(device)
    present = torch.from_numpy(scene.present)[None].to(device)
    with torch.inference_mode():
        logits = network.classify(planes, present)[0]
    return logits.argmax(0)[:height, :width].cpu().numpy().astype(np.uint8)


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


def write_weights(
    network: torch.nn.Module, path: Path, options: TrainOptions | None = None
) -> None:
    """Write weights as float16 safetensors, atomically: half the size, the same masks.

    The last layer's bias gets what ``options`` say that cloud and shadow lean.
    """
    tensors = dict(network.state_dict())
    if options is not None:
        lean = (0.0, options.lean_cloud, options.lean_cloud, options.lean_shadow)
        tensors[_LAST_BIAS] = tensors[_LAST_BIAS] + tensors[_LAST_BIAS].new_tensor(lean)
    stored = {
        name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for name, value in tensors.items()
    }
    write_safetensors(stored, path, {"format": "pt", "model": "mini"})


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**row, "time": round(time.time())}) + "\n")
