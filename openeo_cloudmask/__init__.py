"""Cloud and cloud-shadow masks as an openEO user-defined function, a catalog and a back end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from openeo_cloudmask.openeo.client import cloud_mask

__all__ = ["__version__", "cloud_mask"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the type of a module attribute is its own
    """Import ``cloud_mask`` on first use, so that importing the package stays light."""
    if name == "cloud_mask":
        from openeo_cloudmask.openeo.client import cloud_mask

        return cloud_mask
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
