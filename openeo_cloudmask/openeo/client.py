"""The mask as a step of an openEO process graph."""

from __future__ import annotations

from collections.abc import Container
from functools import cache
from typing import TYPE_CHECKING, Any

from openeo_cloudmask import assets
from openeo_cloudmask.classes import NODATA, style_scheme
from openeo_cloudmask.cleaning import plan_cleaning
from openeo_cloudmask.errors import InputError
from openeo_cloudmask.openeo.neighborhood import plan_neighborhood
from openeo_cloudmask.options import MaskOptions, parse_context, takes_options

if TYPE_CHECKING:
    import openeo
    from openeo.metadata import CubeMetadata


_SMALL_PIXEL_M = (10.0, 10.0)
"""The graph does not know the size of pixels: the overlap is enough for these and larger ones."""


@takes_options
def cloud_mask(
    cube: openeo.DataCube,
    *,
    size_px: int | None = None,
    temporal_dimension: str = "t",
    **options: Any,  # noqa: ANN401 - those of MaskOptions, which checks them
) -> openeo.DataCube:
    """Return the mask of ``cube`` as a cube of the same process graph.

    Nothing is computed here: the graph gains an ``apply_neighborhood`` that runs the UDF, with
    the size and overlap that make the result seamless. Where the back end's list of processes has
    none, the UDF gets the whole cube by ``run_udf``.

    Args:
        cube: bands of one sensor; extra bands do no harm.
        size_px: pixels along x and y that one call of the UDF answers for; None for what suits the
            model. ``job_options`` wants the same.
        temporal_dimension: its name, used where ``cube`` has no metadata.
        **options: {options}

    Returns:
        A cube with the band ``mask``, or one band per class; 255 is no-data. Therefore
        ``cube.mask(mask > 0)`` hides clouds, shadows and no-data.

    Raises:
        OptionError: an option has a value that is not allowed, or the model is unknown.
        InputError: ``cube`` is no ``openeo.DataCube``, or the back end runs no UDFs on cubes.
    """
    chosen = parse_context(options)
    return apply_options(cube, chosen, size_px=size_px, temporal_dimension=temporal_dimension)


def apply_options(
    cube: openeo.DataCube,
    options: MaskOptions,
    *,
    size_px: int | None = None,
    temporal_dimension: str = "t",
) -> openeo.DataCube:
    """Return the mask of ``cube`` that ``options`` describe; as ``cloud_mask``."""
    import openeo

    if not isinstance(cube, openeo.DataCube):
        raise InputError(
            f"cube is of type {type(cube).__name__}; expected an openeo.DataCube, as "
            "connection.load_collection(...) gives. Arrays are masked by "
            "openeo_cloudmask.datacube.mask_datacube"
        )
    from openeo_cloudmask.datacube import output_labels
    from openeo_cloudmask.models.registry import get_model

    entry = get_model(options.model)
    scheme = style_scheme(options.output_style, entry.scheme)
    margin_px = plan_cleaning(options, scheme, _SMALL_PIXEL_M).margin_px
    around = plan_neighborhood(entry.window, size_px=size_px, margin_px=margin_px)
    offered = _process_ids(cube.connection)
    if offered is None or "apply_neighborhood" in offered:
        masked = cube.apply_neighborhood(
            process=build_udf(),
            size=around.size_argument(_temporal_name(cube, temporal_dimension)),
            overlap=around.overlap_argument(),
            context={**options.to_context(), "neighborhood": around.to_context()},
        )
    elif "run_udf" in offered:
        arguments = {"data": cube, "udf": udf_text(), "runtime": "Python"}
        masked = cube.process("run_udf", {**arguments, "context": options.to_context()})
    else:
        raise InputError(
            "the back end lists neither apply_neighborhood nor run_udf among its processes; "
            "expected one that runs UDFs on cubes. Arrays are masked by "
            "openeo_cloudmask.datacube.mask_datacube, files by `cloudmask run`"
        )
    known: Any = cube.metadata  # the client's annotation is narrower than what it holds
    masked.metadata = _mask_metadata(known, output_labels(options), temporal_dimension)
    return masked


def to_uint8(mask: openeo.DataCube) -> openeo.DataCube:
    """Return ``mask`` as whole numbers of one byte with 255 as no-data.

    For back ends that hold the answers of UDFs as float32, where 255 is a value like others and
    NaN is no-data beside it (openeo-geopyspark-driver). There, ``linear_scale_range`` to a whole
    range of less than 254 makes the type byte with no-data 255; it would take the value 255 for
    the end of the range, so that is made no-data before.

    Args:
        mask: what ``cloud_mask`` returned: classes or percentages, values 0 to 100.
    """
    nodata: openeo.DataCube = mask == NODATA
    return mask.mask(nodata).apply(lambda x: x.linear_scale_range(0, 253, 0, 253))


@cache
def udf_text() -> str:
    """Return the source of the UDF."""
    return assets.path("udf/cloud_mask.py").read_text(encoding="utf-8")


def build_udf() -> openeo.UDF:
    """Return the UDF; its context is that of the ``apply_neighborhood`` around it."""
    import openeo

    return openeo.UDF(udf_text(), runtime="Python", context={"from_parameter": "context"})


def _process_ids(connection: Any) -> Container[str] | None:  # noqa: ANN401 - one of two classes
    """Return the processes that the back end offers; None without a connection."""
    if connection is None:
        return None
    if hasattr(connection, "list_processes"):
        return {process["id"] for process in connection.list_processes()}
    # The client's LocalConnection has no such list, but runs what is in this registry.
    from openeo.local.processing import PROCESS_REGISTRY

    offered: Container[str] = PROCESS_REGISTRY.store["predefined"]
    return offered


def _temporal_name(cube: openeo.DataCube, default: str) -> str | None:
    """Return the name of the temporal dimension, None where the cube has none."""
    metadata = cube.metadata
    if metadata is None or metadata.dimension_names() is None:
        return default
    return metadata.temporal_dimension.name if metadata.has_temporal_dimension() else None


def _mask_metadata(
    metadata: CubeMetadata | None, labels: tuple[str, ...], temporal_dimension: str
) -> Any:  # noqa: ANN401 - the client's annotation is narrower than what it takes
    """Return what the client should know of the mask: the cube's dimensions, new band labels."""
    from openeo.metadata import Band, BandDimension, CubeMetadata, Dimension, TemporalDimension

    if metadata is not None and metadata.has_band_dimension():
        return metadata.rename_labels(
            dimension=metadata.band_dimension.name, target=list(labels), source=[]
        )
    bands = BandDimension(name="bands", bands=[Band(name=label) for label in labels])
    if metadata is not None and metadata.dimension_names() is not None:
        return CubeMetadata(dimensions=[*(metadata._dimensions or ()), bands])  # noqa: SLF001
    unknown: Any = [None, None]
    return CubeMetadata(
        dimensions=[
            Dimension(type="spatial", name="x"),
            Dimension(type="spatial", name="y"),
            TemporalDimension(name=temporal_dimension, extent=unknown),
            bands,
        ]
    )
