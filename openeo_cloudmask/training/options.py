"""How ``mini`` is trained, and on what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.errors import OptionError, OutputError

if TYPE_CHECKING:
    from openeo_cloudmask.training.bank import Bank


def _option(default: Any, help_text: str) -> Any:  # noqa: ANN401 - a dataclass field
    return field(default=default, metadata={"help": " ".join(help_text.split())})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """How ``mini`` is trained.

    Raises:
        OptionError: a number is out of range.
    """

    seed: int = _option(1, "Of crops, their variations and first weights.")
    steps: int = _option(4_900, "Batches to learn.")
    batch: int = _option(
        32, "Crops of 256 x 256 pixels per step, or as many pixels in larger ones."
    )
    learning_rate: float = _option(2e-3, "The highest.")
    weight_decay: float = 0.01
    simulated: int = _option(2_400, "Simulated scenes to choose from.")
    real_share: float = _option(0.6, "Share of examples from real scenes, where there are any.")
    teacher: str | None = _option(
        None,
        """Model that says what labels of real scenes leave open: shadow from clear, and pixels, or
        scenes, without a label.""",
    )
    trust: float = _option(0.8, "Weight of what the teacher says; a label's is 1.")
    frozen_share: float = _option(
        0.35, "Share of the steps, the last, in which batch norms stand still."
    )
    """They keep their statistics: what a user will see, while the statistics of a few crops tell
    how bright the others are."""
    tail_steps: int = _option(600, "Then the layers at full resolution learn alone, so many steps.")
    """See ``tail``."""
    log_every: int = 500
    average: float = _option(
        0.999, "How slowly the averaged weights, which are the ones kept, follow."
    )
    lean_cloud: float = _option(
        0.0, "Added to the logits of cloud in the weights that are written."
    )
    lean_shadow: float = _option(0.0, "The same for shadow.")

    def __post_init__(self) -> None:
        """Check the numbers."""
        least = {"steps": 0, "tail_steps": 0, "batch": 1, "simulated": 1, "log_every": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise OptionError(f"{name} is {getattr(self, name)}; expected {value} or more")
        for name in ("real_share", "trust", "frozen_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"{name} is {getattr(self, name)}; expected 0 to 1")


def rate_at(step: int, steps: int) -> float:
    """Return the learning rate's share of the highest: along a cosine to a hundredth."""
    return 0.505 + 0.495 * math.cos(math.pi * step / steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenes:
    """What is learned from."""

    store: Path
    """Folder of simulated scenes and of what a teacher says; what is missing is made."""
    labelled: tuple[Path, ...] = ()
    """Real scenes with labels."""
    unlabelled: tuple[Path, ...] = ()
    """Real scenes without; only with a teacher."""

    def without(self, held_out: Sequence[Path]) -> Scenes:
        """Return them without some of the labelled ones."""
        return replace(self, labelled=tuple(path for path in self.labelled if path not in held_out))

    def banks(self, options: TrainOptions, *, workers: int) -> tuple[Bank, Bank | None]:
        """Return the simulated and the real scenes, in memory.

        Raises:
            CloudMaskError: a scene cannot be read, or the teacher cannot run.
            OutputError: the folder cannot be made.
        """
        from openeo_cloudmask.training.bank import labelled_bank, simulated_bank, teach
        from openeo_cloudmask.training.labelled import read_labelled
        from openeo_cloudmask.training.scenes import SceneStore

        try:
            self.store.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise OutputError(f"cannot make the folder {self.store}: {err}") from err
        store = SceneStore(folder=self.store, seed=1, count=options.simulated)
        simulated = simulated_bank(store, workers=workers)
        if options.teacher is None:
            if self.unlabelled:
                raise OptionError(
                    f"{len(self.unlabelled)} scenes have no labels and there is no teacher; "
                    "expected --teacher MODEL"
                )
            scenes = [read_labelled(path) for path in self.labelled]
            return simulated, labelled_bank(scenes) if scenes else None
        given = [(path, True) for path in self.labelled]
        given += [(path, False) for path in self.unlabelled]
        scenes = [read_labelled(path, labelled=labelled) for path, labelled in given]
        said = [
            teach(path, options.teacher, self.store, labelled=labelled) for path, labelled in given
        ]
        return simulated, labelled_bank(scenes, said) if scenes else None
