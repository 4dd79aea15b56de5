"""Cloud and cloud-shadow masks as an openEO user-defined function, a catalog and a back end."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.version import __version__

if TYPE_CHECKING:
    from openeo_cloudmask.errors import CloudMaskError
    from openeo_cloudmask.front import list_models, mask
    from openeo_cloudmask.openeo.client import cloud_mask
    from openeo_cloudmask.options import MaskOptions
    from openeo_cloudmask.products.anywhere import mask_product, open_scene
    from openeo_cloudmask.simulator.scene import simulate_scene as simulate

__all__ = [
    "CloudMaskError",
    "MaskOptions",
    "__version__",
    "cloud_mask",
    "list_models",
    "mask",
    "mask_product",
    "open_scene",
    "simulate",
]

_HOMES = {
    "CloudMaskError": ("errors", "CloudMaskError"),
    "MaskOptions": ("options", "MaskOptions"),
    "cloud_mask": ("openeo.client", "cloud_mask"),
    "list_models": ("front", "list_models"),
    "mask": ("front", "mask"),
    "mask_product": ("products.anywhere", "mask_product"),
    "open_scene": ("products.anywhere", "open_scene"),
    "simulate": ("simulator.scene", "simulate_scene"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the type of a module attribute is its own
    """Import a name on first use, so that importing the package stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(f"{__name__}.{module}"), attribute)


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
