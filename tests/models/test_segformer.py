"""SegFormer alone: golden vectors, sizes, batches, names of both transformers generations."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from openeo_cloudmask.errors import InputError, OptionError
from openeo_cloudmask.models import build_network
from openeo_cloudmask.models.networks.segformer_names import SEGFORMER_SIZES, published_key

#: Parameters of a block and of the decode head as transformers 5 names them -> transformers 4.
NAMES = {
    "segformer.stages.2.patch_embeddings.proj.weight": (
        "segformer.encoder.patch_embeddings.2.proj.weight"
    ),
    "segformer.stages.0.blocks.1.attention.q_proj.bias": (
        "segformer.encoder.block.0.1.attention.self.query.bias"
    ),
    "segformer.stages.0.blocks.1.attention.k_proj.bias": (
        "segformer.encoder.block.0.1.attention.self.key.bias"
    ),
    "segformer.stages.0.blocks.1.attention.v_proj.bias": (
        "segformer.encoder.block.0.1.attention.self.value.bias"
    ),
    "segformer.stages.3.blocks.0.attention.o_proj.weight": (
        "segformer.encoder.block.3.0.attention.output.dense.weight"
    ),
    "segformer.stages.1.blocks.0.attention.sequence_reduction.sequence_reduction.weight": (
        "segformer.encoder.block.1.0.attention.self.sr.weight"
    ),
    "segformer.stages.1.blocks.0.attention.sequence_reduction.layer_norm.bias": (
        "segformer.encoder.block.1.0.attention.self.layer_norm.bias"
    ),
    "segformer.stages.1.blocks.0.mlp.fc1.weight": "segformer.encoder.block.1.0.mlp.dense1.weight",
    "segformer.stages.1.blocks.0.mlp.fc2.weight": "segformer.encoder.block.1.0.mlp.dense2.weight",
    "segformer.stages.1.blocks.0.mlp.dwconv.dwconv.bias": (
        "segformer.encoder.block.1.0.mlp.dwconv.dwconv.bias"
    ),
    "segformer.stages.1.blocks.0.layernorm_before.bias": (
        "segformer.encoder.block.1.0.layer_norm_1.bias"
    ),
    "segformer.stages.1.blocks.0.layernorm_after.bias": (
        "segformer.encoder.block.1.0.layer_norm_2.bias"
    ),
    "segformer.stages.1.layer_norm.weight": "segformer.encoder.layer_norm.1.weight",
    "decode_head.linear_projections.3.proj.weight": "decode_head.linear_c.3.proj.weight",
}


@torch.inference_mode()
def test_network_gives_the_published_numbers(golden_case):
    case = golden_case("segformer_tiny_s2")
    probabilities = case.network(case.bands)[0].numpy()
    np.testing.assert_allclose(probabilities, case.answers["softmax"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("size_yx", [(64, 64), (40, 72), (33, 57)])
@torch.inference_mode()
def test_decode_head_is_exact_at_any_size(golden_case, published, fill, size_yx):
    network = golden_case("segformer_tiny_s2").network
    bands = torch.from_numpy(fill.reflectance(8, (13, *size_yx)))[None]
    wanted = published.published_forward(network, bands)
    torch.testing.assert_close(network(bands), wanted, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_windows_do_not_see_each_other(golden_case, fill):
    network = golden_case("segformer_tiny_s2").network.inference_form("fp32")
    windows = torch.from_numpy(np.stack([fill.reflectance(s, (13, 64, 64)) for s in range(3)]))
    together = network(windows)
    alone = torch.cat([network(window[None]) for window in windows])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_names_of_transformers_5_load(golden_case):
    case = golden_case("segformer_tiny_s2")
    back = {old: new for new, old in NAMES.items()}
    assert all(published_key(new) == old for new, old in NAMES.items())
    assert all(published_key(old) == old for old in back)
    state = case.network.state_dict()
    renamed = {}
    for key, tensor in state.items():
        old = key.removeprefix("segmenter.")
        renamed["segmenter." + back.get(old, old)] = tensor
    assert len(set(renamed) - set(state)) >= 10
    other = build_network("segformer", case.config)
    other.load_state_dict(renamed, strict=True)
    with torch.inference_mode():
        assert torch.equal(other(case.bands), case.network(case.bands))


def test_unknown_and_missing_names_do_not_load(golden_case):
    case = golden_case("segformer_tiny_s2")
    other = build_network("segformer", case.config)
    state = case.network.state_dict()
    with pytest.raises(RuntimeError, match="Unexpected key"):
        other.load_state_dict(state | {"segmenter.extra": torch.zeros(1)}, strict=True)
    state.popitem()
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict(state, strict=True)


def test_wrong_number_of_bands_is_refused(golden_case):
    case = golden_case("segformer_tiny_s2")
    with pytest.raises(InputError, match=r"\(n, 13, y, x\)"):
        case.network(case.bands[:, :4])


@pytest.mark.parametrize("name", ["segformer_tiny_s2", "sensei_small_tiny_rgbn"])
def test_images_that_leave_nothing_to_attend_to_are_refused(golden_case, name):
    case = golden_case(name)
    _, *others = case.arguments
    for shape in ((28, 64), (64, 28), (1, 1)):
        bands = case.bands[:, :, : shape[0], : shape[1]]
        with pytest.raises(InputError, match=rf"{shape[0]} x {shape[1]} pixels; .* at least 29"):
            case.network(bands, *others)
    with torch.inference_mode():
        assert case.network(case.bands[:, :, :29, :29], *others).shape[2:] == (29, 29)


def test_network_needs_its_number_of_channels():
    with pytest.raises(OptionError, match="'channels' is None"):
        build_network("segformer", {"segformer": SEGFORMER_SIZES["nvidia/mit-b0"], "classes": 4})


@pytest.mark.parametrize("size", sorted(SEGFORMER_SIZES))
def test_every_published_size_can_be_built(size):
    config = {"segformer": SEGFORMER_SIZES[size], "channels": 3, "classes": 2}
    with torch.device("meta"):
        network = build_network("segformer", config)
    assert sum(SEGFORMER_SIZES[size]["depths"]) == sum(
        len(stage) for stage in network.segmenter.segformer.encoder.block
    )
