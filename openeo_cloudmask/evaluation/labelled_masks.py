"""Masks of labelled scenes, by models or given, and their rates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import OutputStyle, style_probabilities
from openeo_cloudmask.errors import (
    BandError,
    CloudMaskError,
    MissingExtraError,
    ReferenceDataError,
    SensorError,
    WeightsError,
)
from openeo_cloudmask.evaluation.compare_scenes import ComparedModel
from openeo_cloudmask.evaluation.labelled import (
    LabelledScene,
    check_mask,
    list_scenes,
    read_labelled,
)
from openeo_cloudmask.evaluation.rates import Rates, pool_rates, rate_scene
from openeo_cloudmask.evaluation.reference_format import find_scenes
from openeo_cloudmask.masking import Masker

NOT_FOR_IT = (SensorError, BandError)
"""What a model says of a scene that it was not made for."""
NOT_HERE = (MissingExtraError, WeightsError)
"""What a model says that cannot run on this machine."""


class MaskSource(Protocol):
    """Where masks of labelled scenes come from."""

    @property
    def label(self) -> str:
        """Its name in tables and files."""

    def mask(self, scene: LabelledScene) -> NDArray[np.uint8]:
        """Return (y, x) uint8, the four classes, 255 no data."""

    def about(self) -> dict[str, Any]:
        """Return what its masks depend on, as JSON values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMasks:
    """Masks that a model makes."""

    model: ComparedModel

    @property
    def label(self) -> str:
        """The model's name."""
        return self.model.label

    def mask(self, scene: LabelledScene) -> NDArray[np.uint8]:
        """Return the model's mask."""
        masker, cube = self._open(scene)
        mask: NDArray[np.uint8] = masker.mask(cube)[0]
        return mask

    def probabilities(self, scene: LabelledScene, style: OutputStyle) -> NDArray[np.float32]:
        """Return (class, y, x) float32, what it says of a style's classes, NaN where no-data."""
        masker, cube = self._open(scene)
        return style_probabilities(masker.predict(cube), masker.detector.scheme, style)

    def cloud_probability(self, scene: LabelledScene) -> NDArray[np.float32]:
        """Return (y, x) float32, the probability of cloud 0-1, NaN where no-data."""
        cloud: NDArray[np.float32] = np.clip(
            self.probabilities(scene, OutputStyle.CLOUD_NONCLOUD)[1], 0, 1
        )
        return cloud

    def _open(self, scene: LabelledScene) -> tuple[Masker, NDArray[np.float32]]:
        planes = dict(zip(scene.bands, scene.cube, strict=True)) | scene.layers
        options = replace(self.model.options(scene.sensor), output_style=OutputStyle.FOUR_CLASS)
        masker = Masker.open(options, tuple(planes))
        return masker, np.stack([planes[name] for name in masker.inputs.band_names])

    def about(self) -> dict[str, Any]:
        """Return the model, its weights and settings."""
        from openeo_cloudmask.models import get_model

        return {
            "model": self.model.id,
            "weights_sha256": self.model.weights_sha256(),
            "trained_on": list(get_model(self.model.id).trained_on),
            "stride": self.model.stride,
            "precision": self.model.precision,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenMasks:
    """Masks in a folder, ``<scene>.npy`` each."""

    folder: Path

    @property
    def label(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    def mask(self, scene: LabelledScene) -> NDArray[np.uint8]:
        """Return the mask of that name.

        Raises:
            ReferenceDataError: no file is found, or it is no mask of this scene.
        """
        path = self.folder / f"{scene.name}.npy"
        try:
            labels = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as err:
            raise ReferenceDataError(
                f"no mask of {scene.name}: {path} cannot be read ({err}); expected (y, x) uint8 "
                "of the four classes, as numpy.save writes it"
            ) from err
        check_mask(labels, scene.label.shape, f"the mask {path}")
        mask: NDArray[np.uint8] = labels
        return mask

    def about(self) -> dict[str, Any]:
        """Return nothing: where they come from is not known."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedScene:
    """A scene and the rates of its mask."""

    name: str
    group: str
    rates: dict[str, Rates]


@dataclass(slots=True, kw_only=True)
class RatedMasks:
    """The rates of one source of masks."""

    label: str
    about: dict[str, Any]
    scenes: list[RatedScene] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    """Scene -> why it has no mask."""

    def groups(self) -> dict[str, dict[str, Rates]]:
        """Return group -> rates; ``all`` comes first."""
        names = dict.fromkeys(scene.group for scene in self.scenes)
        out = {"all": pool_rates(scene.rates for scene in self.scenes)}
        for name in names:
            out[name] = pool_rates(scene.rates for scene in self.scenes if scene.group == name)
        return out

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "label": self.label,
            **self.about,
            "groups": {
                group: {name: counts.to_dict() for name, counts in rates.items()}
                for group, rates in self.groups().items()
            },
            "scenes": {
                scene.name: {name: counts.to_dict() for name, counts in scene.rates.items()}
                for scene in self.scenes
            },
            "left_out": self.left_out,
        }


OnMask = Callable[[MaskSource, LabelledScene, NDArray[np.uint8], dict[str, Rates]], None]
"""Called with each mask that was made, and its rates."""


def rate_masks(
    folder: Path,
    sources: tuple[MaskSource, ...],
    *,
    lenient: bool = False,
    split: str | None = None,
    on_mask: OnMask,
) -> list[RatedMasks]:
    """Return the rates of each source on the scenes in ``folder``.

    A scene that a model was not made for is left out for that model, with the reason.

    Args:
        folder: labelled scenes, see ``labelled``, or references with images (``formats``).
        sources: where masks come from; their labels differ.
        lenient: leave out, too, what lacks an extra or weights here.
        split: part of the references; None takes the test part where there is one.
        on_mask: called with each mask.

    Raises:
        ReferenceDataError: a scene or a mask cannot be used, or no scene got a mask.
        MissingExtraError: an optional dependency is missing.
        WeightsError: weights are missing or damaged.
    """
    labels = [source.label for source in sources]
    if doubled := sorted({label for label in labels if labels.count(label) > 1}):
        raise ReferenceDataError(f"{', '.join(doubled)} is given twice; names have to differ")
    passed = (*NOT_FOR_IT, *NOT_HERE) if lenient else NOT_FOR_IT
    rated = [RatedMasks(label=source.label, about=source.about()) for source in sources]
    for scene in labelled_scenes(folder, split):
        for source, result in zip(sources, rated, strict=True):
            try:
                mask = source.mask(scene)
            except passed as err:
                result.left_out[scene.name] = str(err)
                continue
            rates = rate_scene(scene, mask)
            result.scenes.append(RatedScene(name=scene.name, group=scene.group, rates=rates))
            on_mask(source, scene, mask, rates)
    if not any(result.scenes for result in rated):
        raise _none(rated)
    return rated


def labelled_scenes(folder: Path, split: str | None = None) -> Iterator[LabelledScene]:
    """Yield the labelled scenes in a folder, or of references that bring their images.

    Raises:
        ReferenceDataError: no scene is found.
    """
    found = None if any(folder.glob("*.npz")) else find_scenes(folder, split=split)
    if found is None:
        for path in list_scenes(folder):
            yield read_labelled(path)
        return
    images = [scene.image for scene in found[1] if scene.image is not None]
    if not images:
        raise ReferenceDataError(
            f"{folder} has {len(found[1])} scenes of {found[0].title} without their images; make "
            "masks with `cloudmask run` and score them with `cloudmask score`"
        )
    for image in images:
        yield image()


def _none(rated: list[RatedMasks]) -> CloudMaskError:
    reasons = {reason for result in rated for reason in result.left_out.values()}
    return ReferenceDataError(f"no model can take these scenes: {' / '.join(sorted(reasons))}")
