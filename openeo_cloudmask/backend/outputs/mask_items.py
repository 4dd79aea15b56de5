"""STAC items beside the rasters of batch jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.backend.graph.own_masks import with_own_masks
from openeo_cloudmask.backend.jobs import runtime
from openeo_cloudmask.backend.jobs.clock import now_s
from openeo_cloudmask.backend.jobs.runtime import InputItem, Run
from openeo_cloudmask.backend.outputs.beside import IMAGE_ROLE, PERCENTAGES_ROLE
from openeo_cloudmask.grid import footprint
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.publish import publish_text
from openeo_cloudmask.stac.fields import PROJECTION_URI

if TYPE_CHECKING:
    import pystac

ITEM_TYPE = "application/geo+json"
_BESIDE = {
    PERCENTAGES_ROLE: ("percentages", "Percentages that the classes were chosen from"),
    IMAGE_ROLE: ("image", "Image that was masked"),
}
"""Role of a file beside a mask -> name and title of its asset."""


def add_mask_items(run: Run, graph: Mapping[str, Any]) -> None:
    """Write an item for each GeoTIFF of ``run``, and note it as a file of the run.

    One of no date is of the days of all that was loaded. Where nothing was, there is no item: it
    has to say when.

    Args:
        run: its GeoTIFFs say in ``about`` what they are of.
        graph: the process graph that made them.
    """
    for file in list(run.files):
        if not file["type"].startswith("image/tiff") or "beside" in file["about"]:
            continue
        mask, times = file["about"].get("mask"), _times(file["about"]) or _loaded_times(run)
        if times is None:
            runtime.log(run.spec, "info", f"{file['name']} has no date, so it gets no STAC item")
        elif mask is not None:
            _write_item(run, file, _describe_mask(run, file, _options(mask), times, graph))
        elif file["about"].get("bbox") is not None:
            _write_item(run, file, _describe_raster(run, file, times))


def _describe_raster(
    run: Run, file: Mapping[str, Any], times: tuple[datetime, datetime]
) -> dict[str, Any]:
    """Return a raster that is no mask as an item; its asset is named after its only band."""
    import pystac

    from openeo_cloudmask.products.drivers import open_raster

    with open_raster(run.spec.output_dir / file["name"]) as dataset:
        epsg = dataset.crs.to_epsg() if dataset.crs else None
        grid = {
            "proj:code": None if epsg is None else f"EPSG:{epsg}",
            "proj:shape": [dataset.height, dataset.width],
            "proj:transform": list(dataset.transform)[:6],
        } | ({} if epsg or not dataset.crs else {"proj:wkt2": dataset.crs.to_wkt()})
    bbox, bands = list(file["about"]["bbox"]), list(file["about"]["bands"])
    start, end = (time.replace(tzinfo=None) for time in times)
    item = pystac.Item(
        id=f"{run.spec.job_id}-{Path(file['name']).stem}",
        geometry=footprint(bbox),
        bbox=bbox,
        datetime=start,
        start_datetime=start if start != end else None,
        end_datetime=end if start != end else None,
        properties=grid,
        stac_extensions=[PROJECTION_URI],
    )
    asset = pystac.Asset(
        href=f"./{file['name']}", media_type=file["type"], roles=["data"],
        extra_fields={"bands": [{"name": name} for name in bands]},
    )  # fmt: skip
    item.add_asset(bands[0] if len(bands) == 1 else "data", asset)
    return item.to_dict(include_self_link=False, transform_hrefs=False)


def _describe_mask(
    run: Run,
    file: Mapping[str, Any],
    options: MaskOptions,
    times: tuple[datetime, datetime],
    graph: Mapping[str, Any],
) -> dict[str, Any]:
    from openeo_cloudmask.stac.mask_item import MaskOrigin, describe_mask

    path = run.spec.output_dir / file["name"]
    inputs = _inputs(run, times)
    item = describe_mask(
        path,
        options,
        item_id=f"{run.spec.job_id}-{path.stem}",
        time=times,
        href=f"./{path.name}",
        origin=MaskOrigin(
            model_href=_model_href(run, options.model),
            input_hrefs=tuple(given.href for given in inputs if given.href is not None),
            platform=_platform(inputs),
            process_graph=with_own_masks({"process_graph": graph})["process_graph"],
            created=datetime.fromtimestamp(now_s(), UTC),
            warnings=tuple(file["about"].get("warnings", ())),
        ),
    )
    for other in run.files:
        if other["about"].get("beside") == file["name"]:
            _add_beside(item, other)
    return item.to_dict(include_self_link=False)


def _add_beside(item: pystac.Item, file: Mapping[str, Any]) -> None:
    """Add an asset for what was saved beside a mask: its percentages or the image it is of."""
    import pystac

    (role,) = file["roles"]
    name, title = _BESIDE[role]
    asset = pystac.Asset(
        href=f"./{file['name']}", title=title, media_type=file["type"], roles=[role],
        extra_fields={"file:size": file["size"]},
    )  # fmt: skip
    item.add_asset(name, asset)


def _write_item(run: Run, file: Mapping[str, Any], content: dict[str, Any]) -> None:
    path = run.spec.output_dir / file["name"]
    target = path.with_suffix(".json")
    publish_text(target, json.dumps(content, indent=2))
    run.files.append(
        {
            "name": target.name,
            "type": ITEM_TYPE,
            "size": target.stat().st_size,
            "roles": ["metadata"],
            "about": {},
        }
    )


def _inputs(run: Run, times: tuple[datetime, datetime]) -> list[InputItem]:
    """Return the loaded items that were taken on the days of a mask, each once."""
    first, last = (str(time.date()) for time in times)
    return list(dict.fromkeys(item for item in run.inputs if first <= item.day <= last))


def _platform(inputs: Sequence[InputItem]) -> str | None:
    """Return the satellite that took all inputs; None where it is not known, or not one."""
    found = {item.platform for item in inputs}
    return found.pop() if len(found) == 1 else None


def _model_href(run: Run, model: str) -> str | None:
    """Return where the server's catalog describes the model, if its address is known."""
    from openeo_cloudmask.models import get_model

    if run.spec.public_url is None:
        return None
    entry = get_model(model)
    return f"{run.spec.public_url.rstrip('/')}/stac/collections/{entry.family}/items/{entry.id}"


def _times(about: Mapping[str, Any]) -> tuple[datetime, datetime] | None:
    found = [about["datetime"]] if "datetime" in about else sorted(about.get("dates", ()))
    if not found:
        return None
    return datetime.fromisoformat(found[0]), datetime.fromisoformat(found[-1])


def _loaded_times(run: Run) -> tuple[datetime, datetime] | None:
    days = sorted(item.day for item in run.inputs)
    if not days:
        return None
    first, last = (datetime.fromisoformat(f"{day}T00:00:00+00:00") for day in (days[0], days[-1]))
    return first, last


def _options(mask: Mapping[str, Any]) -> MaskOptions:
    return MaskOptions(
        model=mask["model"],
        output_style=mask["style"],
        stride=mask["stride"],
        categorise=mask["categorise"],
        precision=mask["precision"],
        sensor=mask["sensor"],
        **mask["cleaning"],
    )
