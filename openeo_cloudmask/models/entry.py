"""What is known about a model before any of it is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from openeo_cloudmask.classes import SCHEMES, ClassScheme
from openeo_cloudmask.errors import OptionError, WeightsError
from openeo_cloudmask.inference import Window

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
"""A part of a path on the hub; no ``..``, backslash or percent sign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """The terms under which a model's weights (or rules) may be used."""

    spdx: str
    """SPDX identifier, e.g. ``CC-BY-NC-4.0``."""
    url: str
    non_commercial: bool = False
    """True where commercial use is not allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsSource:
    """A published weights file on the Hugging Face hub.

    Raises:
        WeightsError: a part is no plain name, such as one that leads out of the cache folder.
    """

    repo: str
    file: str
    """Path in the repository; its last part is the published file name."""
    revision: str
    """Commit, or a branch where no commit is known; then the digest is what pins the file."""
    sha256: str | None = None
    """None where none is published: the first download's digest is recorded and kept to."""
    size_bytes: int | None = None

    def __post_init__(self) -> None:
        """Check that the parts are names, since they become paths of the cache."""
        parts = [*self.repo.split("/"), *self.file.split("/"), self.revision]
        if self.repo.count("/") != 1 or not all(map(_NAME.fullmatch, parts)):
            raise WeightsError(
                f"the weights are {self.repo!r}, {self.revision!r}, {self.file!r}; expected an "
                "owner/repository, a revision and a file whose names have letters, digits and "
                "._- only and do not begin with a dot"
            )

    @property
    def url(self) -> str:
        """Where the file can be downloaded by hand."""
        return f"https://huggingface.co/{self.repo}/resolve/{self.revision}/{self.file}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One model of the registry.

    Raises:
        OptionError: the class scheme is unknown, or no input is named.
    """

    id: str
    title: str
    family: str
    """Models that belong together, e.g. ``CloudSEN12``."""
    kind: str
    """A network kind of ``build_network``, or ``torchscript``, ``rule`` or ``adapter``."""
    summary: str
    """What it is and what it is not, in a few sentences."""
    inputs: Mapping[str, tuple[str, ...]] = field(hash=False)
    """Sensor id -> the bands it takes, in their order; the first sensor is the model's own."""
    alternatives: Mapping[str, tuple[tuple[str, ...], ...]] = field(
        default_factory=dict, hash=False
    )
    """Sensor id -> smaller sets of bands it can do with, best first."""
    sensor_independent: bool = False
    """True where any bands of any described sensor will do; ``inputs`` are then examples."""
    min_bands: int = 1
    """Fewest bands a sensor-independent model takes."""
    scheme_name: str = "4-class"
    window: Window = field(default_factory=Window)
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Settings of ``build_network``."""
    weights: WeightsSource | None = None
    """None where there are no weights, or where they come with another package."""
    extra: str | None = "torch"
    """The extra of this package that is needed to run it."""
    licence: Licence
    citation: str
    doi: str | None = None
    source_url: str
    trained_on: tuple[str, ...] = ()
    """Data sets with labels it has seen: its scores on them say little."""
    scores: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Scores published by its authors; empty where none could be read at the source."""

    def __post_init__(self) -> None:
        """Check what other parts rely on."""
        if self.scheme_name not in SCHEMES:
            raise OptionError(f"model {self.id!r} has unknown classes {self.scheme_name!r}")
        if not self.inputs:
            raise OptionError(f"model {self.id!r} names no sensor; expected at least one")

    @property
    def scheme(self) -> ClassScheme:
        """Its own classes, in the order of its probability planes."""
        return SCHEMES[self.scheme_name]

    @property
    def levels(self) -> tuple[str, ...]:
        """Processing levels of the data it was made for, e.g. ``L1C``."""
        from openeo_cloudmask.sensors import SENSORS

        found = [SENSORS[sensor].level for sensor in self.inputs if sensor in SENSORS]
        return tuple(dict.fromkeys(found))
