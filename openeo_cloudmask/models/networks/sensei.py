"""SEnSeIv2: an encoder for any set of bands, in front of a segmenter."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from openeo_cloudmask.errors import BandError, OptionError
from openeo_cloudmask.models.networks import descriptors as describe
from openeo_cloudmask.models.networks.percentiles import band_percentiles
from openeo_cloudmask.models.networks.segmenter import (
    DTYPES,
    in_graph,
    probabilities,
    read_count,
    read_section,
)
from openeo_cloudmask.models.networks.sensei_blocks import (
    Attention,
    FullyConnected,
    GlobalStats,
    PairedFullyConnected,
)
from openeo_cloudmask.models.networks.sensei_merge import (
    BandEmbedding,
    BandMultiplication,
    with_ones,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from openeo_cloudmask.models.networks.prepare import Precision

_DESCRIPTOR_BLOCKS = {
    "GLOBAL_STATS": GlobalStats,
    "FCL": FullyConnected,
    "PERMUTED_FCL": PairedFullyConnected,
    "ATTENTION": Attention,
}
_MERGING_BLOCKS = {"BAND_EMBEDDING": BandEmbedding, "BAND_MULTIPLICATION": BandMultiplication}


class SenseiEncoder(nn.Module):
    """The SEnSeI encoder of a configuration: bands and descriptor vectors -> one image.

    Args:
        config: ``descriptors`` (style and sizes) and ``blocks``, as in the published YAML files.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.descriptor_config = dict(config.get("descriptors") or {})
        size: int = describe.descriptor_size(self.descriptor_config)
        blocks = config.get("blocks")
        if not isinstance(blocks, (list, tuple)) or not blocks:
            raise OptionError("a SEnSeI configuration needs a list of 'blocks'; got none")
        self.blocks = nn.ModuleList()
        for index, block in enumerate(blocks):
            built = _build_block(block, size, index, last=index == len(blocks) - 1)
            self.blocks.append(built)
            size = cast("int", built.output_size)
        self.output_size = size

    @property
    def quantiles(self) -> tuple[float, ...]:
        """Which percentiles of each band its blocks take, fractions 0-1, block after block."""
        blocks = (block for block in self.blocks if isinstance(block, GlobalStats))
        return tuple(quantile for block in blocks for quantile in block.quantiles)

    def statistics(self, bands: Tensor, valid: Tensor | None) -> Tensor:
        """Return the percentiles, (n, band, quantile), of the valid pixels of each window."""
        return band_percentiles(bands, valid, self.quantiles)

    def encode_descriptors(self, vectors: Tensor, stats: Tensor) -> Tensor:
        """Return the vectors, (n, band, feature), after all blocks but the last."""
        vectors = vectors.expand(stats.shape[0], -1, -1)
        for block in self.blocks[:-1]:
            if isinstance(block, GlobalStats):
                count = len(block.quantiles)
                vectors, stats = block(vectors, stats[..., :count]), stats[..., count:]
            else:
                vectors = block(vectors)
        return vectors

    def forward(self, bands: Tensor, vectors: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the embedding, (n, channel, y, x)."""
        vectors = self.encode_descriptors(vectors, self.statistics(bands, valid))
        out: Tensor = self.blocks[-1](bands, vectors)
        return out


class SenseiNetwork(nn.Module):
    """The SEnSeI encoder and a segmenter: any bands in, class probabilities out."""

    def __init__(self, encoder: SenseiEncoder, segmenter: nn.Module) -> None:
        super().__init__()
        self.senseiv2 = encoder
        self.segmenter = segmenter

    def descriptor_vectors(self, descriptors: Sequence[Mapping[str, Any]]) -> Tensor:
        """Return the vectors, (band, feature) float32, of one descriptor dictionary per band.

        Raises:
            SensorError: A descriptor lacks wavelengths or has an unknown band type.
        """
        vectors = describe.descriptor_vectors(descriptors, self.senseiv2.descriptor_config)
        return torch.from_numpy(vectors).to(next(self.senseiv2.parameters()).device)

    def embed(
        self,
        bands: Tensor,
        descriptors: Sequence[Mapping[str, Any]] | Tensor,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Return the encoder's image, (n, channel, y, x), for ``bands``; see ``forward``."""
        out: Tensor = self.senseiv2(bands, self._vectors(bands, descriptors), valid)
        return out

    def forward(
        self,
        bands: Tensor,
        descriptors: Sequence[Mapping[str, Any]] | Tensor,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Return the class probabilities of each pixel.

        Args:
            bands: (n, band, y, x) float32, reflectance 0-1 or normalised brightness temperature.
            descriptors: One dictionary per band, or their vectors, (band, feature).
            valid: (n, y, x) bool, False where a pixel is no-data and its bands are zero; such
                pixels stay out of the statistics of their window. None: all pixels are seen.

        Returns:
            (n, class, y, x) float32, summing to 1 over the classes.

        Raises:
            BandError: There is not one descriptor per band.
        """
        vectors = self._vectors(bands, descriptors)
        return self.classify(bands, vectors, self.senseiv2.statistics(bands, valid))

    def classify(self, bands: Tensor, vectors: Tensor, stats: Tensor) -> Tensor:
        """Return what ``forward`` returns, of bands whose percentiles are known."""
        vectors = self.senseiv2.encode_descriptors(vectors, stats)
        merge = self.senseiv2.blocks[-1]
        if isinstance(merge, BandMultiplication) and not in_graph():
            scores = self.segmenter(with_ones(bands), merge.matrix(vectors))
        else:
            scores = self.segmenter(merge(bands, vectors))
        return probabilities(scores, bands)

    def inference_form(self, precision: Precision) -> SenseiNetwork:
        """Return a copy that computes the same faster, its segmenter in ``precision``.

        Statistics, descriptors and embedding stay in fp32: they are a small part of the work, and
        the sines of the embedding would turn a rounded reflectance into another one.
        """
        arranged = copy.deepcopy(self).eval()
        arranged.segmenter.arrange(DTYPES[precision])  # type: ignore[operator]
        return arranged

    def _vectors(self, bands: Tensor, descriptors: Sequence[Mapping[str, Any]] | Tensor) -> Tensor:
        if not isinstance(descriptors, Tensor):
            descriptors = self.descriptor_vectors(descriptors)
        if bands.ndim != 4 or bands.shape[1] != descriptors.shape[0]:
            raise BandError(
                f"the bands have the shape {tuple(bands.shape)} and there are "
                f"{descriptors.shape[0]} descriptors; expected (n, band, y, x) with one "
                "descriptor per band"
            )
        return descriptors


def build(config: Mapping[str, Any]) -> SenseiNetwork:
    """Return SEnSeI with a SegFormer, random weights, in evaluation mode.

    Args:
        config: ``sensei``, ``segformer`` (their own settings) and ``classes``.

    Raises:
        OptionError: A setting is missing, unknown or does not fit the others.
    """
    from openeo_cloudmask.models.networks.segformer import Segformer

    encoder = SenseiEncoder(read_section(config, "sensei"))
    segmenter = Segformer(
        read_section(config, "segformer"), encoder.output_size, read_count(config, "classes")
    )
    return SenseiNetwork(encoder, segmenter).eval()


def _build_block(config: Mapping[str, Any], size: int, index: int, *, last: bool) -> nn.Module:
    kind = config.get("type")
    table = _MERGING_BLOCKS if last else _DESCRIPTOR_BLOCKS
    if kind not in table:
        place = "the last block" if last else f"block {index}"
        raise OptionError(
            f"{place} of the SEnSeI configuration has the type {kind!r}; expected one of "
            + ", ".join(table)
        )
    try:
        return table[kind](config, size)
    except KeyError as err:
        raise OptionError(
            f"block {index} ({kind}) of the SEnSeI configuration lacks the setting {err}"
        ) from err


class BoundSensei(nn.Module):
    """SEnSeI for certain bands; gives probabilities.

    It takes the percentiles of the bands: sorting takes runtimes of graphs a third of their time.
    """

    vectors: Tensor

    def __init__(self, network: SenseiNetwork, vectors: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("vectors", vectors)

    @property
    def quantiles(self) -> tuple[float, ...]:
        """Which percentiles it takes, fractions 0-1."""
        return self.network.senseiv2.quantiles

    def forward(self, windows: Tensor, percentiles: Tensor) -> Tensor:
        """Return probabilities, (n, class, y, x)."""
        return self.network.classify(windows, self.vectors, percentiles)
