"""Cross-validation of ``mini`` by scene: each real scene is masked by weights that never saw it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.evaluation.compare_scenes import ComparedModel
from openeo_cloudmask.evaluation.labelled import read_labelled
from openeo_cloudmask.evaluation.labelled_masks import ModelMasks
from openeo_cloudmask.publish import publish_file
from openeo_cloudmask.training.mini import Report, train_mini
from openeo_cloudmask.training.options import Scenes, TrainOptions

MASKS = "masks"


def split_folds(scenes: Sequence[Path], folds: int) -> list[list[Path]]:
    """Return the scenes held out in each fold: by name, every ``folds``-th one.

    Raises:
        OptionError: fewer than two folds, or more than scenes.
    """
    if not 2 <= folds <= len(scenes):
        raise OptionError(f"folds is {folds}; expected 2 to {len(scenes)}, the number of scenes")
    ordered = sorted(scenes, key=lambda path: path.name)
    return [ordered[fold::folds] for fold in range(folds)]


def cross_validate(
    folder: Path,
    options: TrainOptions,
    *,
    scenes: Scenes,
    folds: int,
    start: Path | None = None,
    report: Callable[[int], Report] | None = None,
    device: str = "cpu",
    workers: int = 1,
) -> Path:
    """Train once for each fold and mask what it held out; return the folder of the masks.

    Every fold goes on from its own checkpoint in ``folder``. ``start`` and the teacher must not
    have seen the scenes. The masks, ``<scene>.npy``, are those that a user would get, and can be
    scored with ``cloudmask evaluate``.

    Raises:
        OptionError: folds do not fit the scenes.
        CloudMaskError: what ``train_mini`` raises.
    """
    masks = folder / MASKS
    for number, held_out in enumerate(split_folds(scenes.labelled, folds)):
        weights = train_mini(
            folder / f"fold-{number}",
            options,
            scenes.without(held_out),
            held_out=held_out,
            start=start,
            report=None if report is None else report(number),
            device=device,
            workers=workers,
        )
        masks.mkdir(exist_ok=True)
        trained = ModelMasks(model=ComparedModel(id="mini", weights=weights, precision="fp32"))
        for path in held_out:
            with publish_file(masks / f"{path.stem}.npy") as part, part.open("wb") as file:
                np.save(file, trained.mask(read_labelled(path)))
    return masks
