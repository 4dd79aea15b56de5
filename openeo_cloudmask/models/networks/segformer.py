"""SegFormer of any size, under the parameter names of transformers 4.

The encoder works on pixels in channels-last memory throughout, so that tokens and images are two
views of the same numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openeo_cloudmask.errors import InputError, OptionError
from openeo_cloudmask.models.networks.segformer_head import DecodeHead
from openeo_cloudmask.models.networks.segformer_names import published_key
from openeo_cloudmask.models.networks.segmenter import (
    FixedChannels,
    convolve_stem,
    read_count,
    read_section,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_STAGES = 4
_PATCH_SIZES = (7, 3, 3, 3)
_STRIDES = (4, 2, 2, 2)
_REDUCTIONS = (8, 4, 2, 1)
_MLP_RATIO = 4
#: The first stage's attention reduces (size - 1) // 4 + 1 values by 8: fewer pixels leave none.
_LEAST_PX = (_REDUCTIONS[0] - 1) * _STRIDES[0] + 1


def _rename_keys(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Give the tensors below ``prefix`` their transformers 4 names, before they are loaded."""
    del module
    for key in [key for key in state if key.startswith(prefix)]:
        state[published_key(key)] = state.pop(key)


def _to_tokens(image: Tensor) -> Tensor:
    """(n, channel, y, x) -> (n, y * x, channel); no copy when ``image`` is channels-last."""
    return image.permute(0, 2, 3, 1).flatten(1, 2)


def _to_image(tokens: Tensor, size_yx: tuple[int, int]) -> Tensor:
    """(n, y * x, channel) -> (n, channel, y, x) in channels-last memory, without a copy."""
    return tokens.reshape(tokens.shape[0], *size_yx, -1).permute(0, 3, 1, 2)


class _PatchEmbedding(nn.Module):
    def __init__(self, inputs: int, size: int, stage: int) -> None:
        super().__init__()
        patch = _PATCH_SIZES[stage]
        self.proj = nn.Conv2d(inputs, size, patch, _STRIDES[stage], patch // 2)
        self.layer_norm = nn.LayerNorm(size)

    def forward(self, image: Tensor, mixing: Tensor | None) -> Tensor:
        tokens = convolve_stem(self.proj, image, mixing).permute(0, 2, 3, 1)
        out: Tensor = self.layer_norm(tokens)
        return out.permute(0, 3, 1, 2)


class _SelfAttention(nn.Module):
    """Attention whose keys and values come from a coarser image."""

    def __init__(self, size: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        if reduction > 1:
            self.sr = nn.Conv2d(size, size, reduction, reduction)
            self.layer_norm = nn.LayerNorm(size)
        self.reduction = reduction

    def forward(self, tokens: Tensor, size_yx: tuple[int, int]) -> Tensor:
        source = tokens
        if self.reduction > 1:
            source = self.layer_norm(_to_tokens(self.sr(_to_image(tokens, size_yx))))
        query, key, value = (
            linear(part).reshape(*part.shape[:2], self.heads, -1).transpose(1, 2)
            for linear, part in ((self.query, tokens), (self.key, source), (self.value, source))
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return mixed.transpose(1, 2).flatten(2)


class _Output(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(size, size)


class _Attention(nn.Module):
    def __init__(self, size: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.add_module("self", _SelfAttention(size, heads, reduction))
        self.output = _Output(size)

    def forward(self, tokens: Tensor, size_yx: tuple[int, int]) -> Tensor:
        out: Tensor = self.output.dense(self.get_submodule("self")(tokens, size_yx))
        return out


class _DepthwiseConv(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(size, size, 3, 1, 1, groups=size)


class _MixFeedForward(nn.Module):
    """Linear map, depthwise 3 x 3 convolution, GELU, linear map."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.dense1 = nn.Linear(size, _MLP_RATIO * size)
        self.dwconv = _DepthwiseConv(_MLP_RATIO * size)
        self.dense2 = nn.Linear(_MLP_RATIO * size, size)

    def forward(self, tokens: Tensor, size_yx: tuple[int, int]) -> Tensor:
        hidden = self.dwconv.dwconv(_to_image(self.dense1(tokens), size_yx))
        out: Tensor = self.dense2(F.gelu(_to_tokens(hidden)))
        return out


class _Block(nn.Module):
    def __init__(self, size: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.layer_norm_1 = nn.LayerNorm(size)
        self.attention = _Attention(size, heads, reduction)
        self.layer_norm_2 = nn.LayerNorm(size)
        self.mlp = _MixFeedForward(size)

    def forward(self, tokens: Tensor, size_yx: tuple[int, int]) -> Tensor:
        # In bf16 the parts are computed in it, but their sum, which grows, stays in float32.
        dtype = self.mlp.dense1.weight.dtype
        tokens = tokens + self.attention(self.layer_norm_1(tokens).to(dtype), size_yx)
        out: Tensor = tokens + self.mlp(self.layer_norm_2(tokens).to(dtype), size_yx)
        return out


class _Encoder(nn.Module):
    def __init__(self, config: Mapping[str, Any], channels: int) -> None:
        super().__init__()
        sizes, heads = config["hidden_sizes"], config["num_attention_heads"]
        inputs = [channels, *sizes[:-1]]
        self.patch_embeddings = nn.ModuleList(
            _PatchEmbedding(inputs[stage], sizes[stage], stage) for stage in range(_STAGES)
        )
        self.block = nn.ModuleList(
            nn.ModuleList(
                _Block(sizes[stage], heads[stage], _REDUCTIONS[stage])
                for _ in range(config["depths"][stage])
            )
            for stage in range(_STAGES)
        )
        self.layer_norm = nn.ModuleList(nn.LayerNorm(size) for size in sizes)

    def forward(self, image: Tensor, mixing: Tensor | None) -> list[Tensor]:
        """Return the four stages' features, (n, channel, y, x) each."""
        features = []
        stages = zip(self.patch_embeddings, self.block, self.layer_norm, strict=True)
        for embedding, blocks, norm in stages:
            image, mixing = embedding(image, mixing), None
            size_yx = (image.shape[2], image.shape[3])
            tokens = _to_tokens(image)
            for block in cast("nn.ModuleList", blocks):
                tokens = block(tokens, size_yx)
            image = _to_image(norm(tokens), size_yx)
            features.append(image)
        return features


class _SegformerModel(nn.Module):
    def __init__(self, config: Mapping[str, Any], channels: int) -> None:
        super().__init__()
        self.encoder = _Encoder(config, channels)


class Segformer(nn.Module):
    """A SegFormer with its decode head: image in, class scores at a quarter of the size out.

    Args:
        config: ``depths``, ``hidden_sizes``, ``num_attention_heads`` (four each) and
            ``decoder_hidden_size``.
        channels: Planes of the input.
        classes: Classes of the output.
    """

    def __init__(self, config: Mapping[str, Any], channels: int, classes: int) -> None:
        super().__init__()
        _check_config(config)
        self.segformer = _SegformerModel(config, channels)
        self.decode_head = DecodeHead(
            config["hidden_sizes"], config["decoder_hidden_size"], classes
        )
        self.register_load_state_dict_pre_hook(_rename_keys)  # type: ignore[no-untyped-call]

    def forward(self, image: Tensor, mixing: Tensor | None = None) -> Tensor:
        """Return the scores, (n, class, y / 4, x / 4), of ``image``, (n, channel, y, x).

        ``mixing``, (n, channel, plane), is a linear map to apply to the planes of ``image``
        first; it becomes part of the first convolution.

        Raises:
            InputError: The image is smaller than the network can take.
        """
        height, width = image.shape[2:]
        if height < _LEAST_PX or width < _LEAST_PX:
            raise InputError(
                f"the image has {height} x {width} pixels; a SegFormer takes at least {_LEAST_PX} "
                "along both sides. Mirror its borders and cut the result"
            )
        image = image.contiguous(memory_format=torch.channels_last)
        scores: Tensor = self.decode_head(self.segformer.encoder(image, mixing))
        return scores

    def arrange(self, dtype: torch.dtype) -> None:
        """Turn in place into the same function, arranged for speed, computing in ``dtype``."""
        self.decode_head.freeze(dtype)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for module in self.segformer.encoder.block.modules():
            if isinstance(module, (_Attention, _MixFeedForward)):
                module.to(dtype)


def build(config: Mapping[str, Any]) -> FixedChannels:
    """Return a SegFormer on fixed bands, random weights, in evaluation mode.

    Args:
        config: ``segformer`` (its own settings), ``channels`` and ``classes``.

    Raises:
        OptionError: A setting is missing or unknown.
    """
    channels = read_count(config, "channels")
    settings = read_section(config, "segformer")
    segmenter = Segformer(settings, channels, read_count(config, "classes"))
    return FixedChannels(segmenter, channels).eval()


def _check_config(config: Mapping[str, Any]) -> None:
    for key in ("depths", "hidden_sizes", "num_attention_heads"):
        values = config.get(key)
        if not isinstance(values, (list, tuple)) or len(values) != _STAGES:
            raise OptionError(
                f"segformer.{key} is {values!r}; expected a list of {_STAGES} numbers"
            )
    if not isinstance(config.get("decoder_hidden_size"), int):
        raise OptionError(
            f"segformer.decoder_hidden_size is {config.get('decoder_hidden_size')!r}; "
            "expected a whole number"
        )
