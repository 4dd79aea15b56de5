"""``cloud_mask``: the mask as one process."""

from __future__ import annotations

from typing import Any

import xarray as xr

from openeo_cloudmask.backend.cubes.masking import mask_cube, parse_client_options
from openeo_cloudmask.backend.graph.process import Spec, openeo_process
from openeo_cloudmask.backend.jobs.runtime import current_run
from openeo_cloudmask.openeo.udp import build_udp
from openeo_cloudmask.options import takes_options


def _describe_cloud_mask(_: Spec) -> Spec:
    spec = build_udp()
    del spec["process_graph"]
    return {**spec, "experimental": False, "links": []}


@openeo_process(describe=_describe_cloud_mask)
@takes_options
def cloud_mask(data: xr.DataArray, **options: Any) -> xr.DataArray:  # noqa: ANN401
    """Return the mask of a cube; what is None takes its default."""
    run = current_run().spec
    return mask_cube(data, parse_client_options(options, run), run)
