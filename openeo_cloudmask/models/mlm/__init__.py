"""Third-party models, as their STAC items (MLM extension) describe them."""

from openeo_cloudmask.models.mlm.read import is_item, read_item, read_model

__all__ = ["is_item", "read_item", "read_model"]
