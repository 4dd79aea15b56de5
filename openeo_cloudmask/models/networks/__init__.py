"""Networks under the state-dict names of the published weights, built from plain settings.

A module per architecture, each with ``build(config) -> torch.nn.Module``; it is imported only
when its kind is asked for, because it imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.errors import MissingExtraError, OptionError

if TYPE_CHECKING:
    from torch import nn

NETWORK_MODULES: dict[str, str] = {
    "unet-mobilenet-v2": "openeo_cloudmask.models.networks.unet",
    "sensei-segformer": "openeo_cloudmask.models.networks.sensei",
    "sensei-deeplab": "openeo_cloudmask.models.networks.deeplab",
    "mini": "openeo_cloudmask.models.networks.mini",
    "kristollari-cnn": "openeo_cloudmask.models.networks.patch_cnn",
    "segformer": "openeo_cloudmask.models.networks.segformer",
}
"""Network kind -> module with its ``build``."""


def build_network(kind: str, config: Mapping[str, Any]) -> nn.Module:
    """The bare torch module of ``kind``: random weights, eval mode, strict ``load_state_dict``.

    Args:
        kind: A key of ``NETWORK_MODULES``, e.g. ``"unet-mobilenet-v2"``.
        config: The settings of that kind, e.g. ``{"bands": 13, "classes": 4}``.

    Returns:
        A module. Of a U-Net, its call on a tensor (n, band, y, x) gives logits (n, class, y, x);
        of a SegFormer, probabilities; of the SEnSeI kinds too, with one descriptor dictionary per
        band as the second argument.

    Raises:
        OptionError: Unknown kind, no settings, or settings that the kind does not take.
        MissingExtraError: torch is not installed.
    """
    if kind not in NETWORK_MODULES:
        raise OptionError(
            f"No network of kind {kind!r}; there are: {', '.join(sorted(NETWORK_MODULES))}."
        )
    if not isinstance(config, Mapping):
        raise OptionError(
            f"the settings of the network {kind!r} are of type {type(config).__name__}; expected "
            'names with values, e.g. {"bands": 13, "classes": 4}'
        )
    try:
        module = import_module(NETWORK_MODULES[kind])
    except ModuleNotFoundError as err:
        if err.name != "torch":
            raise
        raise MissingExtraError.for_extra("torch", f"The network {kind!r}") from err
    network: nn.Module = module.build(dict(config))
    return network
