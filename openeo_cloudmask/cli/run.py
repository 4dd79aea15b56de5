"""``cloudmask run``: a mask of a product or raster."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openeo_cloudmask.cli import shared_options as shared
from openeo_cloudmask.cli.field_options import with_mask_options
from openeo_cloudmask.cli.progress import Advance
from openeo_cloudmask.cli.scenes import mask_scenes, plan_outputs, summarise_scenes
from openeo_cloudmask.options import MaskOptions

if TYPE_CHECKING:
    from openeo_cloudmask.masking import Masker
    from openeo_cloudmask.products import MaskReport, ReadOptions
    from openeo_cloudmask.products.addresses import Source


Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT...",
        help="Sentinel-2 SAFE (folder or zip), Landsat Level-1 (folder or tar), a folder of "
        "bands, GeoTIFF, COG, NetCDF or Zarr; one or several. Also the https:// or s3:// "
        "address of a raster, zip or tar, or the s3:// address of a folder.",
    ),
]
Output = Annotated[
    Path,
    typer.Argument(
        metavar="OUTPUT",
        show_default=False,
        help="The mask, a cloud optimized GeoTIFF (.tif); or a folder, which gets "
        "NAME_mask.tif for each scene.",
    ),
]
Runtime = Annotated[
    str,
    typer.Option(
        help="What runs the network: torch, onnx, openvino, or auto (`mini` on a CPU and "
        "exported files: openvino where it is installed and faster, else onnx; others: torch)."
    ),
]
Bands = Annotated[
    str | None,
    typer.Option(
        help="Names of a raster's layers in order, or bands of a product to use: B02,B03,..."
    ),
]
Scale = Annotated[float | None, typer.Option(help="Reflectance a count of a raster, e.g. 0.0001.")]
Offset = Annotated[
    float | None, typer.Option(help="Reflectance of count 0 of a raster, e.g. -0.1.")
]
Granule = Annotated[str | None, typer.Option(help="Which granule of a SAFE that has several.")]
Date = Annotated[str | None, typer.Option(help="Which date of a NetCDF that has several.")]
Crs = Annotated[
    str | None,
    typer.Option(
        help="Coordinate reference system of an input that has coordinates and does not say "
        "theirs, e.g. EPSG:32632."
    ),
]
Assume = Annotated[
    list[str] | None,
    typer.Option(
        help="Where --model is a STAC item: what it does not say, e.g. no-data=0, "
        "counts=10000, class:smoke=clear. May be given several times."
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Where --model is a STAC item: run its program (TorchScript, .pt2). It could do "
        "all that you can.",
    ),
]
Ungeoreferenced = Annotated[
    bool,
    typer.Option(
        "--ungeoreferenced", help="Mask an input without georeference; the mask has none too."
    ),
]
SkipErrors = Annotated[
    bool,
    typer.Option("--skip-errors", help="Go on after a scene that fails; the status is then 1."),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(with_mask_options(run, leave_out=("scale", "offset")))


def run(
    sources: Sources = None,
    output: Output = Path(),
    runtime: Runtime = "auto",
    bands: Bands = None,
    scale: Scale = None,
    offset: Offset = None,
    granule: Granule = None,
    date: Date = None,
    crs: Crs = None,
    assume: Assume = None,
    trust: Trust = False,
    ungeoreferenced: Ungeoreferenced = False,
    overwrite: shared.Overwrite = False,
    skip_errors: SkipErrors = False,
    **options: Any,  # noqa: ANN401 - the options of a mask
) -> None:
    """Write a cloud mask of INPUT to OUTPUT, strip by strip, in bounded memory.

    Of several scenes the masks go into the folder OUTPUT. The same command goes on where it was
    stopped: masks that are there, made by the same options, are kept.

    --model takes the name of a model, or the STAC item (file or https address) of a model of
    others that is described with the MLM extension.
    """
    from openeo_cloudmask.errors import OptionError
    from openeo_cloudmask.models import start_early
    from openeo_cloudmask.models.mlm import is_item

    if is_item(str(options.get("model"))):
        options = _adopt(options, assume or (), trust=trust)
    elif assume or trust:
        raise OptionError("--assume and --trust are for a model given as a STAC item (.json)")
    chosen = MaskOptions(**options)
    start_early(chosen, runtime)  # while what reads files is imported
    from openeo_cloudmask.products import ReadOptions
    from openeo_cloudmask.products.addresses import parse_source

    read = ReadOptions(
        bands=_split(bands), scale=scale, offset=offset, granule=granule, date=date, crs=crs,
        ungeoreferenced=ungeoreferenced,
    )  # fmt: skip
    pairs = plan_outputs([parse_source(text) for text in sources or ()], output)
    into_folder = len(pairs) > 1 or output.is_dir()
    work = _Work(chosen, read, runtime, overwrite=overwrite, keep_done=into_folder)
    outcome = mask_scenes(pairs, work.mask, skip_errors=skip_errors)
    if into_folder or not outcome.made:
        summarise_scenes(outcome, output)
    else:
        _summarise(outcome.made[0][1])


class _Work:
    """Masks scenes one after the other with the same options."""

    def __init__(
        self,
        options: MaskOptions,
        read: ReadOptions,
        runtime: str,
        *,
        overwrite: bool,
        keep_done: bool,
    ) -> None:
        self._options, self._read, self._runtime = options, read, runtime
        self._overwrite, self._keep_done = overwrite, keep_done
        self._told: set[str] = set()

    def mask(self, source: Source, target: Path, progress: Advance) -> MaskReport | None:
        """Write the mask of a scene; None where it is there already."""
        from openeo_cloudmask.products import mask_product
        from openeo_cloudmask.products.mask import is_done

        if (
            self._keep_done
            and not self._overwrite
            and is_done(target, source, self._options, self._read)
        ):
            return None
        return mask_product(
            source, target, self._options, read=self._read, runtime=self._runtime,
            overwrite=self._overwrite, progress=progress, opened=self._tell,
        )  # fmt: skip

    def _tell(self, masker: Masker) -> None:
        """Say what runs on what, each once."""
        from openeo_cloudmask.models import licence_notice

        lines = [f"Model {licence_notice(masker.entry)}"]
        if masker.inputs.assumed:
            lines.append(
                f"Assumed {masker.inputs.sensor.id} from the names of the bands; --sensor to change"
            )
        for line in lines:
            if line not in self._told:
                typer.echo(line, err=True)
        self._told.update(lines)


def _adopt(options: dict[str, Any], assume: Iterable[str], *, trust: bool) -> dict[str, Any]:
    """Return the options with the model of a STAC item by its name."""
    from openeo_cloudmask.stac.foreign import adopt_model

    weights = options.get("weights")
    entry = adopt_model(options["model"], weights=weights, assume=assume, trust=trust)
    return {**options, "model": entry.id, "weights": weights if entry.takes_weights else None}


def _split(bands: str | None) -> tuple[str, ...] | None:
    if bands is None:
        return None
    return tuple(name.strip() for name in bands.split(",") if name.strip())


def _summarise(report: MaskReport) -> None:
    if not report.georeferenced:
        typer.secho(
            "Warning: the input has no georeference, so the mask has none either: "
            "row and column of a pixel are those of the input.",
            fg="yellow",
            err=True,
        )
    for warning in report.warnings:
        typer.secho(f"Warning: {warning}.", fg="yellow", err=True)
    width = max(len(item.title) for item in report.scheme.classes)
    for item in report.scheme.classes:
        typer.echo(f"  {item.title:<{width}}  {report.shares[item.name]:7.2%} of the seen pixels")
    typer.echo(f"  {'No data':<{width}}  {report.nodata_share:7.2%} of all pixels")
    typer.echo(f"Wrote {report.path} in {report.seconds:.1f} s")
