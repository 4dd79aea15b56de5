"""Scenes of this machine and from elsewhere, for a person at their own machine."""

from openeo_cloudmask.products.addresses import takes_addresses
from openeo_cloudmask.products.mask import mask_product as _mask_product
from openeo_cloudmask.products.open import open_product

open_scene = takes_addresses(open_product)
mask_product = takes_addresses(_mask_product)
