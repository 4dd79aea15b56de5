"""An openEO back end for one machine or a dask cluster; ``app.create_app`` builds it."""

from openeo_cloudmask.backend.graph.local import run_local

__all__ = ["run_local"]
