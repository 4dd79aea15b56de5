"""The published SEnSeIv2 arithmetic, operation for operation, on our modules' weights.

The oracle of the tests and the reference of the benchmarks: ``torch.quantile`` in a loop, a
transformer encoder layer that attends over the batch axis, sines band by band in full-size planes,
attention by explicit softmax, a decode head at full width. Slow on purpose.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openeo_cloudmask.models.networks.sensei import SenseiNetwork
from openeo_cloudmask.models.networks.sensei_blocks import (
    Attention,
    FullyConnected,
    GlobalStats,
    PairedFullyConnected,
)
from openeo_cloudmask.models.networks.sensei_merge import BandEmbedding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def published_forward(
    network: nn.Module, bands: Tensor, descriptors: Sequence[Mapping[str, Any]] | None = None
) -> Tensor:
    """Return the probabilities, (n, class, y, x), as the published code computes them."""
    image = bands
    if isinstance(network, SenseiNetwork):
        image = published_embedding(network, bands, descriptors)
    segmenter = network.segmenter
    if hasattr(segmenter, "decode_head"):
        scores = _decode(segmenter.decode_head, _encode(segmenter.segformer.encoder, image))
    else:
        fine, coarse = segmenter.encoder(image.contiguous(), None)
        scores = segmenter.segmentation_head(segmenter.decoder(fine, coarse))
    full = F.interpolate(scores, image.shape[-2:], mode="bilinear", align_corners=False)
    return F.softmax(full, dim=1)


def published_embedding(
    network: SenseiNetwork, bands: Tensor, descriptors: Sequence[Mapping[str, Any]]
) -> Tensor:
    """Return SEnSeI's image, (n, channel, y, x)."""
    vectors = network.descriptor_vectors(descriptors).repeat(bands.shape[0], 1, 1)
    for block in network.senseiv2.blocks[:-1]:
        vectors = _descriptor_block(block, vectors, bands)
    merge = network.senseiv2.blocks[-1]
    out = torch.zeros(bands.shape[0], merge.output_size, *bands.shape[-2:], device=bands.device)
    planes = bands[:, :, None]
    if isinstance(merge, BandEmbedding):
        frequency, phase, gain = (
            _fully_connected(head, vectors)[..., None, None]
            for head in (merge.frequency_head, merge.phase_offset_head, merge.gain_head)
        )
        for b in range(bands.shape[1]):
            out += gain[:, b] * torch.sin(frequency[:, b] * (planes[:, b] + phase[:, b]))
    else:
        for b in range(bands.shape[1]):
            out += vectors[:, b, :, None, None] * (planes[:, b] + 0.5)
    return out if merge.norm is None else merge.norm(out)


def _descriptor_block(block: nn.Module, vectors: Tensor, bands: Tensor) -> Tensor:
    if isinstance(block, GlobalStats):
        stats = torch.zeros(*bands.shape[:2], len(block.quantiles), device=bands.device)
        pixels = bands.reshape(*bands.shape[:2], -1)
        for index, quantile in enumerate(torch.tensor(block.quantiles, device=bands.device)):
            stats[:, :, index] = torch.quantile(pixels, quantile, dim=2)
        return torch.cat((vectors, stats), dim=2)
    if isinstance(block, Attention):
        for layer in block.layers:
            vectors = _transformer_layer(layer)(vectors)
        return vectors
    if isinstance(block, PairedFullyConnected):
        count = vectors.shape[1]
        pairs = torch.cat(
            (vectors.repeat(1, count, 1), torch.repeat_interleave(vectors, count, dim=1)), dim=2
        )
        for layer in block.layers:
            pairs = layer(pairs)
        return pairs.reshape(-1, count, count, pairs.shape[2]).mean(dim=2)
    return _fully_connected(block, vectors)


def _fully_connected(block: FullyConnected, vectors: Tensor) -> Tensor:
    rows = vectors.reshape(-1, vectors.shape[2])
    for layer in block.layers:
        new = layer(rows)
        rows = new + rows if isinstance(layer, nn.Identity) and block.skips else new
    return rows.reshape(*vectors.shape[:2], -1)


def _transformer_layer(layer: nn.Module) -> nn.TransformerEncoderLayer:
    """Return torch's own layer with the weights of ours; it attends over the first axis."""
    size = layer.linear1.in_features
    twin = nn.TransformerEncoderLayer(size, 4, layer.linear1.out_features, dropout=0.0)
    twin.load_state_dict(layer.state_dict(), strict=True)
    return twin.eval().to(layer.linear1.weight.device)


def _encode(encoder: nn.Module, image: Tensor) -> list[Tensor]:
    features = []
    for stage, embedding in enumerate(encoder.patch_embeddings):
        image = embedding.proj(image)
        height, width = image.shape[-2:]
        tokens = embedding.layer_norm(image.flatten(2).transpose(1, 2))
        for block in encoder.block[stage]:
            tokens = tokens + _attend(block.attention, block.layer_norm_1(tokens), height, width)
            tokens = tokens + _feed(block.mlp, block.layer_norm_2(tokens), height, width)
        tokens = encoder.layer_norm[stage](tokens)
        image = tokens.reshape(-1, height, width, tokens.shape[2]).permute(0, 3, 1, 2).contiguous()
        features.append(image)
    return features


def _attend(attention: nn.Module, tokens: Tensor, height: int, width: int) -> Tensor:
    own = attention.get_submodule("self")
    count, _, size = tokens.shape
    source = tokens
    if own.reduction > 1:
        image = own.sr(tokens.permute(0, 2, 1).reshape(count, size, height, width))
        source = own.layer_norm(image.reshape(count, size, -1).permute(0, 2, 1))
    query, key, value = (
        linear(part).view(count, -1, own.heads, size // own.heads).transpose(1, 2)
        for linear, part in ((own.query, tokens), (own.key, source), (own.value, source))
    )
    weights = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(size // own.heads)
    mixed = torch.matmul(F.softmax(weights, dim=-1), value)
    return attention.output.dense(mixed.permute(0, 2, 1, 3).contiguous().view(count, -1, size))


def _feed(mlp: nn.Module, tokens: Tensor, height: int, width: int) -> Tensor:
    hidden = mlp.dense1(tokens)
    count, _, size = hidden.shape
    image = mlp.dwconv.dwconv(hidden.transpose(1, 2).view(count, size, height, width))
    return mlp.dense2(F.gelu(image.flatten(2).transpose(1, 2)))


def _decode(head: nn.Module, features: list[Tensor]) -> Tensor:
    size_yx = features[0].shape[2:]
    planes = []
    for feature, stage in zip(features, head.linear_c, strict=True):
        count, _, height, width = feature.shape
        tokens = stage.proj(feature.flatten(2).transpose(1, 2))
        image = tokens.permute(0, 2, 1).reshape(count, -1, height, width)
        planes.append(F.interpolate(image, size=size_yx, mode="bilinear", align_corners=False))
    fused = head.linear_fuse(torch.cat(planes[::-1], dim=1))
    return head.classifier(F.relu(head.batch_norm(fused)))
