"""Training and evaluation of the patch CNN of Kristollari and Karathanassi (2020).

A step learns all windows of one random row of one random scene, as published; which ones depends
on the seed and the step alone, so a run that was stopped ends with the weights of one that was
not.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.publish import publish_file
from openeo_cloudmask.training.checkpoint import (
    read_checkpoint,
    save_checkpoint,
    write_safetensors,
)
from openeo_cloudmask.training.patch_scenes import PatchScene

if TYPE_CHECKING:
    from torch import Tensor

    from openeo_cloudmask.models.networks.patch_cnn import PatchCnn

WEIGHTS = "kristollari-cnn.safetensors"
CHECKPOINT = "checkpoint.pt"
HISTORY = "history.csv"
THRESHOLD = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchTrainOptions:
    """How the patch CNN is trained; the defaults are the published ones.

    Raises:
        OptionError: a number is out of range.
    """

    seed: int = 1
    epochs: int = 30
    steps: int = 10_000
    """Rows per epoch."""
    learning_rate: float = 1e-3
    validation_share: float = 0.25
    """Share of the scenes that is only scored."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.epochs < 1 or self.steps < 1:
            raise OptionError(
                f"epochs is {self.epochs}, steps is {self.steps}; expected 1 or more of each"
            )
        if not 0 < self.validation_share < 1:
            raise OptionError(
                f"validation_share is {self.validation_share}; expected between 0 and 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """A line of the history."""

    epoch: int
    loss: float
    validation_loss: float
    validation_accuracy: float
    validation_f1: float


def train_patch_cnn(
    folder: Path,
    training: Sequence[PatchScene],
    validation: Sequence[PatchScene],
    options: PatchTrainOptions,
    *,
    report: Callable[[Epoch], None] | None = None,
    stop_after: int | None = None,
) -> Path:
    """Train, going on from the folder's checkpoint if there is one; return the weights' path.

    Args:
        folder: gets a checkpoint after every epoch, the history, and the weights of the epoch
            with the lowest validation loss.
        training: scenes to learn.
        validation: scenes to score.
        options: how to train.
        report: told about every epoch.
        stop_after: epochs after which this call ends early.

    Raises:
        WeightsError: the checkpoint is of other options.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    state = _State(options)
    if (folder / CHECKPOINT).exists():
        state.restore(folder / CHECKPOINT)
    last = options.epochs if stop_after is None else state.epoch + stop_after
    while state.epoch < min(last, options.epochs):
        row = state.learn_epoch(training, validation)
        if row.validation_loss <= min(item.validation_loss for item in state.history):
            write_patch_weights(state.network, folder / WEIGHTS)
        write_history(state.history, folder / HISTORY)
        state.save(folder / CHECKPOINT)
        if report is not None:
            report(row)
    return folder / WEIGHTS


class _State:
    """Everything that an epoch changes."""

    def __init__(self, options: PatchTrainOptions) -> None:
        import torch

        from openeo_cloudmask.models.networks.patch_cnn import PatchCnn

        self.options = options
        self.epoch = 0
        self.history: list[Epoch] = []
        self.network = PatchCnn()
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=options.learning_rate, eps=1e-7
        )

    def learn_epoch(
        self, training: Sequence[PatchScene], validation: Sequence[PatchScene]
    ) -> Epoch:
        """Take the steps of one epoch and score."""
        import torch
        import torch.nn.functional as F

        self.network.train()
        padded = [pad_scene(scene.cube) for scene in training]
        losses = []
        for step in range(self.options.steps):
            # Dropout draws from torch's own generator.
            key = (self.options.seed, self.epoch * self.options.steps + step)
            torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
            rng = np.random.default_rng(key)
            place = int(rng.integers(len(training)))
            scene = training[place]
            rows = np.flatnonzero(scene.seen.any(axis=1))
            if not rows.size:
                continue
            row = int(rng.choice(rows))
            seen = torch.from_numpy(scene.seen[row])
            target = torch.from_numpy(scene.cloud[row].astype(np.float32))[seen]
            logits = self.network(row_patches(padded[place], row)[seen])[:, 0]
            loss = F.binary_cross_entropy_with_logits(logits, target)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            losses.append(float(loss.detach()))
        self.epoch += 1
        row_ = self._score(validation, float(np.mean(losses)) if losses else float("nan"))
        self.history.append(row_)
        return row_

    def _score(self, validation: Sequence[PatchScene], loss: float) -> Epoch:
        counts = np.zeros((2, 2), np.int64)
        total = 0.0
        for scene in validation:
            chance = predict_scene(self.network, scene.cube)[scene.seen]
            truth = scene.cloud[scene.seen]
            right = np.where(truth, chance, 1 - chance)
            total -= float(np.log(np.clip(right, 1e-7, 1)).sum())
            counts += confusion(truth, chance > THRESHOLD)
        numbers = patch_metrics(counts)
        return Epoch(
            epoch=self.epoch,
            loss=loss,
            validation_loss=total / max(int(counts.sum()), 1),
            validation_accuracy=numbers["accuracy"],
            validation_f1=numbers["f1"],
        )

    def save(self, path: Path) -> None:
        """Write the checkpoint, atomically."""
        content = {
            "options": asdict(self.options),
            "epoch": self.epoch,
            "history": [asdict(item) for item in self.history],
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        save_checkpoint(content, path)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            WeightsError: it cannot be read, or was made with other options.
        """
        # More epochs may follow; anything else would be another run.
        content = read_checkpoint(path, asdict(self.options), may_differ=("epochs",))
        self.epoch = content["epoch"]
        self.history = [Epoch(**item) for item in content["history"]]
        self.network.load_state_dict(content["network"])
        self.optimiser.load_state_dict(content["optimiser"])


def pad_scene(cube: NDArray[np.float32]) -> Tensor:
    """Return (1, band, y + 15, x + 15): zeros around, so that every pixel has its patch."""
    import torch
    import torch.nn.functional as F

    from openeo_cloudmask.models.networks.patch_cnn import AFTER_PX, BEFORE_PX

    image = torch.from_numpy(np.ascontiguousarray(cube))[None]
    return F.pad(image, (BEFORE_PX, AFTER_PX, BEFORE_PX, AFTER_PX))


def row_patches(padded: Tensor, row: int) -> Tensor:
    """Return (x, band, 16, 16): the patches of all pixels of a row."""
    from openeo_cloudmask.models.networks.patch_cnn import PATCH_PX

    strip = padded[0, :, row : row + PATCH_PX]
    return strip.unfold(2, PATCH_PX, 1).permute(2, 0, 1, 3).contiguous()


def predict_scene(network: PatchCnn, cube: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (y, x) float32 probabilities of cloud: those of the patches, much faster."""
    import torch

    network.eval()
    with torch.inference_mode():
        logits = network.dense(pad_scene(cube))[0, 0]
        chance: NDArray[np.float32] = torch.sigmoid(logits).numpy()
    return chance


def confusion(truth: NDArray[np.bool_], guess: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return (truth, guess) counts, not cloud first."""
    flat = 2 * truth.ravel().astype(np.int64) + guess.ravel()
    return np.bincount(flat, minlength=4).reshape(2, 2).astype(np.int64)


def patch_metrics(counts: NDArray[np.int64]) -> dict[str, float]:
    """Return accuracy, precision, recall, specificity and F1 of cloud; 0 where undefined."""
    (kept, false), (missed, hit) = counts.tolist()

    def share(part: int, whole: int) -> float:
        return part / whole if whole else 0.0

    return {
        "accuracy": share(hit + kept, hit + kept + false + missed),
        "precision": share(hit, hit + false),
        "recall": share(hit, hit + missed),
        "specificity": share(kept, kept + false),
        "f1": share(2 * hit, 2 * hit + false + missed),
    }


def write_patch_weights(network: PatchCnn, path: Path) -> None:
    """Write the weights as safetensors, atomically."""
    write_safetensors(network.state_dict(), path, {"model": "kristollari-cnn"})


def write_history(history: Sequence[Epoch], path: Path) -> None:
    """Write one line per epoch as CSV, atomically."""
    write_rows([asdict(item) for item in history], path)


def read_history(folder: Path) -> list[Epoch]:
    """Return the history that training wrote into ``folder``."""
    with (folder / HISTORY).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        Epoch(epoch=int(row.pop("epoch")), **{key: float(value) for key, value in row.items()})
        for row in rows
    ]


def write_rows(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write rows with equal keys as CSV, atomically."""
    with publish_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
