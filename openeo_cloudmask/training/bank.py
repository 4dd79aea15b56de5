"""The scenes that ``mini`` learns from, side by side in one tensor, on any device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from openeo_cloudmask.classes import FOUR_CLASS, OutputStyle
from openeo_cloudmask.evaluation.compare_scenes import ComparedModel
from openeo_cloudmask.evaluation.labelled import read_labelled
from openeo_cloudmask.evaluation.labelled_masks import ModelMasks
from openeo_cloudmask.publish import publish_file
from openeo_cloudmask.training.scenes import ASK_TEACHER, PLANE_COUNT, UNSEEN, SceneStore

if TYPE_CHECKING:
    from torch import Tensor

    from openeo_cloudmask.training.labelled import LabelledScene

LABEL, TAUGHT = PLANE_COUNT, slice(PLANE_COUNT + 1, PLANE_COUNT + 3)
"""Layers behind the planes: the label, and a teacher's probabilities of cloud and of shadow."""

_SHADED = 0.3
"""What is brighter than this in blue is not believed to be shadow: ukis-csmask says so of polar
snow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bank:
    """Scenes of any size."""

    layers: Tensor
    """(scene, y, x, 8 or 10) float16: seven planes of reflectance, 0 where no-data or not given;
    the label (see ``scenes``); where there is a teacher, what it says (see ``teach``)."""
    size: Tensor
    """(scene, 2) int64, rows and columns that belong to each scene."""
    present: Tensor
    """(scene, 7) float32, 1 where a plane is given."""
    share: Tensor
    """(scene,) float32, how often each is shown."""
    corrected: Tensor
    """(scene,) bool, whether it is corrected to the ground."""

    @property
    def count(self) -> int:
        """Number of scenes."""
        return len(self.size)

    @property
    def taught(self) -> bool:
        """Whether a teacher has masked the scenes."""
        return self.layers.shape[-1] > TAUGHT.start

    def to(self, device: torch.device) -> Bank:
        """Return the same scenes on a device."""
        return Bank(
            layers=self.layers.to(device),
            size=self.size.to(device),
            present=self.present.to(device),
            share=self.share.to(device),
            corrected=self.corrected.to(device),
        )


def simulated_bank(store: SceneStore, *, workers: int = 1) -> Bank:
    """Return the scenes of a store, drawn by ``workers`` processes where they are missing."""
    layers = torch.from_numpy(store.layers(workers=workers))
    count, height, width, _ = layers.shape
    cirrus = layers[:, ::16, ::16, 4].flatten(1).any(dim=1)
    present = torch.ones(count, PLANE_COUNT)
    present[~cirrus, 4] = 0
    return Bank(
        layers=layers,
        size=torch.tensor([[height, width]]).repeat(count, 1),
        present=present,
        share=torch.ones(count),
        corrected=~cirrus,
    )


def labelled_bank(
    scenes: Sequence[LabelledScene], taught: Sequence[NDArray[np.float32]] | None = None
) -> Bank:
    """Return real scenes.

    Args:
        scenes: labelled by hand, or with the label that leaves all to the teacher.
        taught: (2, y, x) probabilities of cloud and shadow for each scene; None: no teacher.
    """
    height, width = (max(scene.truth.shape[axis] for scene in scenes) for axis in (0, 1))
    depth = LABEL + 1 if taught is None else TAUGHT.stop
    layers = np.zeros((len(scenes), height, width, depth), np.float16)
    layers[..., LABEL] = UNSEEN
    for number, scene in enumerate(scenes):
        rows, columns = scene.truth.shape
        own = layers[number, :rows, :columns]
        own[..., :PLANE_COUNT] = np.moveaxis(scene.planes, 0, -1)
        own[..., LABEL] = scene.truth
        if taught is not None:
            cloud, shadow = taught[number]
            own[..., TAUGHT.start] = cloud
            own[..., TAUGHT.start + 1] = shadow * (scene.planes[0] < _SHADED)
            own[(scene.truth == UNSEEN) & (scene.planes[0] != 0), LABEL] = ASK_TEACHER
    # Scenes of a group are much alike: it counts by the root of their number.
    groups = Counter(scene.group for scene in scenes)
    return Bank(
        layers=torch.from_numpy(layers),
        size=torch.tensor([scene.truth.shape for scene in scenes]),
        present=torch.from_numpy(np.stack([scene.present for scene in scenes])),
        share=torch.tensor([groups[scene.group] ** -0.5 for scene in scenes]),
        corrected=torch.tensor([scene.corrected for scene in scenes]),
    )


def teach(path: Path, teacher: str, folder: Path, *, labelled: bool = True) -> NDArray[np.float32]:
    """Return what a model of the registry says of a real scene, kept in ``folder``.

    Args:
        path: the scene.
        teacher: the model's id.
        folder: keeps what was said, one file per teacher and scene.
        labelled: whether the scene's file holds labels.

    Returns:
        (2, y, x) float32, the probabilities of cloud and of shadow, 0 where no-data.

    Raises:
        CloudMaskError: the scene or the model cannot be read.
    """
    kept = folder / f"{teacher}-{path.stem}.npy"
    if not kept.exists():
        model = ModelMasks(model=ComparedModel(id=teacher))
        scene = read_labelled(path, labelled=labelled)
        share = np.nan_to_num(model.probabilities(scene, OutputStyle.FOUR_CLASS))
        thick, thin, shadow = (
            share[FOUR_CLASS.index(name)] for name in ("thick-cloud", "thin-cloud", "cloud-shadow")
        )
        with publish_file(kept) as temporary, temporary.open("wb") as file:
            np.save(file, np.stack([thick + thin, shadow]).astype(np.float16))
    said: NDArray[np.float32] = np.load(kept).astype(np.float32)
    return said
