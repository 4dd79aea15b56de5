"""What is known about a model before any of it is loaded."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.classes import SCHEMES, ClassScheme
from openeo_cloudmask.errors import MissingExtraError, OptionError, WeightsError
from openeo_cloudmask.inference import Detector, Window
from openeo_cloudmask.sensors import SENSORS, BandKind, CommonBands, Sensor

if TYPE_CHECKING:
    from torch import nn

    from openeo_cloudmask.models.networks.exported import ExportedForm

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
"""A part of a path on a host; no ``..``, backslash or percent sign."""

WEIGHTS_URLS = {
    "huggingface": "https://huggingface.co/{repo}/resolve/{revision}/{file}",
    "github": "https://raw.githubusercontent.com/{repo}/{revision}/{file}",
}
"""Host of weights -> where a file of it can be downloaded."""


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
    """A published weights file on the Hugging Face hub or GitHub.

    Raises:
        WeightsError: a part is no plain name, such as one that leads out of the cache folder, or
            the host is not known.
    """

    repo: str
    file: str
    """Path in the repository; its last part is the published file name."""
    revision: str
    """Commit, or a branch where no commit is known; then the digest is what pins the file."""
    sha256: str | None = None
    """None where none is published: the first download's digest is recorded and kept to."""
    size_bytes: int | None = None
    host: str = "huggingface"
    """A key of ``WEIGHTS_URLS``."""
    also_named: tuple[str, ...] = field(default=(), compare=False)
    """Other names by which the file was published; in folders they are found too."""

    def __post_init__(self) -> None:
        """Check that the parts are names, since they become paths of the cache."""
        if self.host not in WEIGHTS_URLS:
            raise WeightsError(
                f"the weights are on the host {self.host!r}; expected one of "
                f"{', '.join(WEIGHTS_URLS)}"
            )
        parts = [*self.repo.split("/"), *self.file.split("/"), self.revision, *self.also_named]
        if self.repo.count("/") != 1 or not all(map(_NAME.fullmatch, parts)):
            raise WeightsError(
                f"the weights are {self.repo!r}, {self.revision!r}, {self.file!r}; expected an "
                "owner/repository, a revision and a file whose names have letters, digits and "
                "._- only and do not begin with a dot"
            )

    @property
    def url(self) -> str:
        """Where the file can be downloaded by hand."""
        template = WEIGHTS_URLS[self.host]
        return template.format(repo=self.repo, revision=self.revision, file=self.file)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput:
    """What a model is fed with."""

    sensor: Sensor
    """Gives the aliases of the band names."""
    band_names: tuple[str, ...]
    """Bands in the order the model takes them, as the sensor calls them."""
    assumed: bool = field(default=False, compare=False)
    """Whether the sensor is concluded from the names of the bands alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """All that decides which detector is loaded; equal requests share one."""

    entry: ModelEntry
    model_input: ModelInput
    weights: Path | None
    """The file, found and verified; None where the model has none of its own."""
    weights_state: tuple[int, int] | None = None
    """Its size and time, so that a changed file is loaded anew."""
    device: str = "cpu"
    precision: str = "fp32"
    runtime: str = "auto"

    @property
    def weights_file(self) -> Path:
        """The file of a model that needs one.

        Raises:
            OptionError: The model's entry names no source of weights.
        """
        if self.weights is None:
            raise OptionError(f"model {self.entry.id!r} has no weights source in its entry")
        return self.weights


@dataclass(frozen=True, slots=True, kw_only=True)
class TiledFile:
    """How a published file is fed and read that takes smaller tiles than our windows."""

    input_name: str
    """What the file calls its pixels."""
    tile_px: int
    step_px: int
    """How far apart tiles begin in a window."""
    mean: tuple[float, ...]
    """Reflectance, one for each band; subtracted, then divided by ``std``."""
    std: tuple[float, ...]
    classes: tuple[str, ...]
    """Names of its planes, which are logits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKind:
    """How models of a kind are loaded, built, exported and described.

    Its functions import what they need when they are called: reading the registry loads no torch.
    """

    id: str
    """Its name in catalogs (``mlm:hyperparameters``)."""
    architecture: str
    """What the literature calls it."""
    load: Callable[[LoadRequest], Detector]
    network: Callable[[Mapping[str, Any]], nn.Module] | None = None
    """The bare network of a model's ``config``: random weights, eval mode, published names."""
    export: Callable[[LoadRequest], ExportedForm] | None = None
    """The network with its weights as ``cloudmask export`` writes it; None: it is not exported."""
    int8_form: bool = False
    """Whether ``export`` gives another form for the precision int8, which is then made int8."""
    framework: str = "PyTorch"
    """What it runs on, as the MLM extension calls it."""
    extra: str | None = "torch"
    """The extra of this package that is needed to run it."""
    accelerator: str = "cuda"
    """The hardware it is made for, as the MLM extension calls it."""
    artifact: str | None = None
    """How its file was written, as the MLM extension calls it; None: its suffix tells."""
    any_bands: CommonBands | None = None
    """Set where one exported file serves all sensors: the bands that it takes. Such a file comes
    with the package and runs where torch is not installed."""
    own_weights: bool = False
    """True where weights come with the package, or from the user's own training."""
    asset_title: str = "Weights, which do not come as a file of their own"
    """What the model is in a catalog, where no file of weights can be downloaded."""
    brought: WeightsSource | None = None
    """The file that another package brings along, where its authors published it."""
    tiled: TiledFile | None = None
    """How that file is fed and read, where it does not take windows and give probabilities."""
    settings_file: str | None = None
    """Name of a file that may lie beside the weights and belongs to them."""

    def build(self, config: Mapping[str, Any]) -> nn.Module:
        """Return the bare torch module for these settings.

        Args:
            config: The settings, e.g. ``{"bands": 13, "classes": 4}``.

        Raises:
            OptionError: The kind has no network, or does not take these settings.
            MissingExtraError: torch is not installed.
        """
        if self.network is None:
            raise OptionError(f"models of the kind {self.id!r} have no network to build")
        if not isinstance(config, Mapping):
            raise OptionError(
                f"the settings of the network {self.id!r} are of type {type(config).__name__}; "
                'expected names with values, e.g. {"bands": 13, "classes": 4}'
            )
        try:
            return self.network(dict(config))
        except ModuleNotFoundError as err:
            if err.name != "torch":
                raise
            raise MissingExtraError.for_extra("torch", f"The network {self.id!r}") from err


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
    kind: ModelKind = field(repr=False)
    """How it is loaded, built, exported and described."""
    summary: str
    """What it is and what it is not, in a few sentences."""
    inputs: Mapping[str, tuple[str, ...]] = field(hash=False)
    """Sensor id -> the bands it takes, in their order; the first sensor is the model's own."""
    alternatives: Mapping[str, tuple[tuple[str, ...], ...]] = field(
        default_factory=dict, hash=False
    )
    """Sensor id -> other sets of bands it can do with, best first; those with other bands last."""
    sensor_independent: bool = False
    """True where any bands of any described sensor will do; ``inputs`` are then examples."""
    min_bands: int = 1
    """Fewest bands a sensor-independent model takes."""
    scheme_name: str = "4-class"
    window: Window = field(default_factory=Window)
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Settings of the kind's network."""
    weights: WeightsSource | None = None
    """None where there are no weights, or where they come with another package."""
    licence: Licence
    citation: str
    doi: str | None = None
    source_url: str
    trained_on: tuple[str, ...] = ()
    """Data sets with labels it has seen: its scores on them say little."""
    untold: tuple[str, ...] = ()
    """Names of classes of its scheme to which it always gives probability 0."""
    scores: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Scores published by its authors; empty where none could be read at the source."""

    def __post_init__(self) -> None:
        """Check what other parts rely on."""
        if self.scheme_name not in SCHEMES:
            raise OptionError(f"model {self.id!r} has unknown classes {self.scheme_name!r}")
        if not self.inputs:
            raise OptionError(f"model {self.id!r} names no sensor; expected at least one")
        if strange := set(self.untold) - set(self.scheme.names):
            raise OptionError(
                f"model {self.id!r} cannot tell {', '.join(sorted(strange))}; expected some of "
                f"its classes: {', '.join(self.scheme.names)}"
            )

    @property
    def scheme(self) -> ClassScheme:
        """Its own classes, in the order of its probability planes."""
        return SCHEMES[self.scheme_name]

    @property
    def levels(self) -> tuple[str, ...]:
        """Processing levels of the data it was made for, e.g. ``L1C``."""
        found = [SENSORS[sensor].level for sensor in self.inputs if sensor in SENSORS]
        return tuple(dict.fromkeys(found))

    @property
    def layers(self) -> tuple[str, ...]:
        """Quality layers it reads, which products give only when they are asked for."""
        sensor, names = next(iter(self.inputs.items()))
        if sensor not in SENSORS:
            return ()
        bands = (SENSORS[sensor].band(name) for name in names)
        return tuple(band.name for band in bands if band.kind is BandKind.QUALITY)

    @property
    def extra(self) -> str | None:
        """The extra of this package that is needed to run it."""
        return self.kind.extra

    @property
    def takes_weights(self) -> bool:
        """Whether it needs a file of weights: a published one, the package's or the user's."""
        return self.weights is not None or self.kind.own_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What a file in ``models/families`` adds to the registry, as its ``FAMILY``."""

    models: tuple[ModelEntry, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other names: short name -> name of a model."""
    order: int = 100
    """Its place in lists; lower comes first."""
