"""What is known of SegFormer without torch: its sizes, and the names of its parameters."""

from __future__ import annotations

import re
from typing import Any

#: The published sizes; depth and widths of ``nvidia/mit-b0`` to ``b5``.
SEGFORMER_SIZES: dict[str, dict[str, Any]] = {
    f"nvidia/mit-b{size}": {
        "depths": depths,
        "hidden_sizes": [32, 64, 160, 256] if size == 0 else [64, 128, 320, 512],
        "num_attention_heads": [1, 2, 5, 8],
        "decoder_hidden_size": 256 if size < 2 else 768,
    }
    for size, depths in enumerate(
        ([2, 2, 2, 2], [2, 2, 2, 2], [3, 4, 6, 3], [3, 4, 18, 3], [3, 8, 27, 3], [3, 6, 40, 3])
    )
}

#: Names of transformers 5 -> names of transformers 4, applied in this order.
_RENAMED = tuple(
    (re.compile(pattern), target)
    for pattern, target in (
        (
            r"segformer\.stages\.(\d+)\.patch_embeddings\.",
            r"segformer.encoder.patch_embeddings.\1.",
        ),
        (r"segformer\.stages\.(\d+)\.blocks\.", r"segformer.encoder.block.\1."),
        (r"segformer\.stages\.(\d+)\.layer_norm\.", r"segformer.encoder.layer_norm.\1."),
        (r"attention\.sequence_reduction\.sequence_reduction\.", "attention.self.sr."),
        (r"attention\.sequence_reduction\.layer_norm\.", "attention.self.layer_norm."),
        (r"attention\.q_proj\.", "attention.self.query."),
        (r"attention\.k_proj\.", "attention.self.key."),
        (r"attention\.v_proj\.", "attention.self.value."),
        (r"attention\.o_proj\.", "attention.output.dense."),
        (r"\.mlp\.fc1\.", ".mlp.dense1."),
        (r"\.mlp\.fc2\.", ".mlp.dense2."),
        (r"\.layernorm_before\.", ".layer_norm_1."),
        (r"\.layernorm_after\.", ".layer_norm_2."),
        (r"decode_head\.linear_projections\.", "decode_head.linear_c."),
    )
)


def published_key(key: str) -> str:
    """Return the transformers 4 name of the parameter ``key``; such names come back unchanged."""
    for pattern, target in _RENAMED:
        key = pattern.sub(target, key)
    return key
