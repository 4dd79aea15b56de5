"""The U-Net of CloudSEN12: its layers, and what runs them fast."""

from __future__ import annotations

from typing import Any

from torch import nn

from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.models.networks.prepare import Precision
from openeo_cloudmask.models.networks.unet_inference import FastUNet
from openeo_cloudmask.models.networks.unet_layers import UNetLayers


class UNetMobileNetV2(UNetLayers):
    """U-Net over a MobileNetV2 encoder: (n, band, y, x) reflectance -> (n, class, y, x) logits.

    Both sides of the input have to be multiples of 32 pixels.
    """

    def inference_form(self, precision: Precision) -> nn.Module:
        """The same function arranged for speed; see `unet_inference`."""
        return FastUNet(self, precision)


def build(config: dict[str, Any]) -> UNetMobileNetV2:
    """The network of ``{"bands": int, "classes": int}``, with random weights, in eval mode."""
    unknown = sorted(set(config) - {"bands", "classes"})
    if unknown or not all(
        type(config.get(key)) is int and config[key] > 0 for key in ("bands", "classes")
    ):
        raise OptionError(
            f"The configuration of unet-mobilenet-v2 was {config}; "
            'expected {"bands": int, "classes": int} and nothing else.'
        )
    return UNetMobileNetV2(config["bands"], config["classes"]).eval()
