"""``cloud_mask``: the mask as one process."""

from __future__ import annotations

from typing import Any

import xarray as xr

from openeo_cloudmask.backend.cubes.masking import mask_cube, parse_client_options
from openeo_cloudmask.backend.jobs.runtime import current_run
from openeo_cloudmask.options import takes_options


@takes_options
def cloud_mask(data: xr.DataArray, **options: Any) -> xr.DataArray:  # noqa: ANN401
    """Return the mask of a cube; what is None takes its default."""
    run = current_run().spec
    return mask_cube(data, parse_client_options(options, run), run)
