"""``cloud_mask``: the mask as one process."""

from __future__ import annotations

from typing import Any

import xarray as xr

from openeo_cloudmask.backend.cubes.masking import mask_lazily, parse_client_options
from openeo_cloudmask.backend.jobs.runtime import current_run


def cloud_mask(  # noqa: PLR0913, PLR0917 - the process has these parameters
    data: xr.DataArray,
    model: Any = None,  # noqa: ANN401 - checked by the options
    output_style: Any = None,  # noqa: ANN401
    stride: Any = None,  # noqa: ANN401
    categorise: Any = None,  # noqa: ANN401
    scale: Any = None,  # noqa: ANN401
    offset: Any = None,  # noqa: ANN401
    sensor: Any = None,  # noqa: ANN401
    weights: Any = None,  # noqa: ANN401
    device: Any = None,  # noqa: ANN401
    precision: Any = None,  # noqa: ANN401
) -> xr.DataArray:
    """Return the mask of a cube; what is None takes its default."""
    run = current_run().spec
    context = {
        "model": model, "output_style": output_style, "stride": stride, "categorise": categorise,
        "scale": scale, "offset": offset, "sensor": sensor, "weights": weights,
        "device": device, "precision": precision,
    }  # fmt: skip
    return mask_lazily(data, parse_client_options(context, run), run)
