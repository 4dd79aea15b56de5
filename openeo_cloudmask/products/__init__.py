"""Satellite products and rasters in, masks as cloud optimized GeoTIFFs out."""

from openeo_cloudmask.grid import Grid
from openeo_cloudmask.products.cog import check_output, write_cog
from openeo_cloudmask.products.mask import MaskReport, ReadOptions, mask_product
from openeo_cloudmask.products.open import open_product
from openeo_cloudmask.products.scene import PixelSource, Scene, SceneCube

__all__ = [
    "Grid",
    "MaskReport",
    "PixelSource",
    "ReadOptions",
    "Scene",
    "SceneCube",
    "check_output",
    "mask_product",
    "open_product",
    "write_cog",
]
