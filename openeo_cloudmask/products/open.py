"""Whatever the path is: a scene."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from openeo_cloudmask.errors import OptionError, ProductError, SensorError
from openeo_cloudmask.products.addresses import Address, Source
from openeo_cloudmask.products.eopf import is_eopf, open_eopf_scene
from openeo_cloudmask.products.files import (
    ARCHIVE_SUFFIXES,
    COMPRESSED_TARS,
    ArchiveFiles,
    BucketFiles,
    ProductFiles,
    open_files,
)
from openeo_cloudmask.products.safe import find_product_around
from openeo_cloudmask.products.scene import Scene
from openeo_cloudmask.sensors import Sensor, resolve_sensor

NETCDF_SUFFIXES = (".nc", ".nc4", ".cdf", ".netcdf", ".zarr")


def open_product(
    path: str | Path | Address,
    *,
    sensor: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
    bands: Sequence[str] | None = None,
    granule: str | None = None,
    date: str | None = None,
    layers: Sequence[str] = (),
) -> Scene:
    """Return the scene at ``path``; no pixels are read yet.

    Known are Sentinel-2 SAFE folders and zips (L1C, L2A, and the names before December 2016), EOPF
    Zarr, Landsat Collection 2 Level-1 folders and tars, folders of single bands (HLS, Landsat
    Level-2, DEA, ...; ``products.band_files``), NetCDF and Zarr, GeoTIFF and JPEG 2000.

    Args:
        path: a file or folder; for a product also its main metadata file. What lies elsewhere has
            to be an ``Address``: a text is a path of this machine.
        sensor: id of a sensor, or file that describes one, where the file does not say it.
        scale: reflectance a count, for rasters and NetCDF; None takes what the file says.
        offset: reflectance of count 0, as ``scale``.
        bands: for a raster, a name for each of its bands; for a product, the bands to use.
        granule: part of the name of the granule, where a SAFE has several.
        date: start of the date (``2024-05-01``), where a NetCDF has several.
        layers: quality layers of a product to read after its bands, such as ``SCL``; a single
            raster, NetCDF or Zarr has them among its bands.

    Raises:
        ProductError: nothing readable is there.
        SensorError: the product is of another sensor than asked for.
        OptionError: an option makes no sense for this kind of input.
    """
    where = path if isinstance(path, Address) else Path(path)
    if isinstance(where, Path) and not where.exists():
        raise ProductError(f"{where} is not there; expected a raster file or a product folder")
    if isinstance(where, Path) and not (where.is_file() or where.is_dir()):
        raise ProductError(
            f"{where} is neither a file nor a folder, and a scene is not read from a pipe or a "
            "device; expected a raster file or a product folder"
        )
    for name, number in (("scale", scale), ("offset", offset)):
        if number is not None and (not math.isfinite(number) or (name == "scale" and number <= 0)):
            raise OptionError(f"{name} is {number}; expected a number such as 0.0001 or -0.1")
    wanted = None if sensor is None else resolve_sensor(sensor)
    if isinstance(where, Path) and is_eopf(where):
        _refuse(where, "an EOPF product", scale=scale, offset=offset, granule=granule, date=date)
        return _same_sensor(open_eopf_scene(where, bands=bands), wanted, where)
    if isinstance(where, Path) and where.suffix.lower() in NETCDF_SUFFIXES:
        from openeo_cloudmask.products.netcdf import open_netcdf_scene

        _refuse(where, "a NetCDF or Zarr", granule=granule)
        return open_netcdf_scene(
            where, sensor=wanted, scale=scale, offset=offset, bands=bands, date=date
        )
    files = open_files(where) if isinstance(where, Path) else _open_elsewhere(where)
    if files is None:
        from openeo_cloudmask.products.raster import open_raster_scene

        _refuse(where, "a raster", granule=granule, date=date)
        return open_raster_scene(where, sensor=wanted, scale=scale, offset=offset, bands=bands)
    if scale is None and isinstance(where, Path) and where.is_dir():
        _refuse_part(where)
    scene = _open_bands(files, wanted, scale, offset, bands)
    if scene is not None:
        _refuse(where, "a folder of bands", granule=granule, date=date)
        return _with_layers(scene, files, layers)
    scene = _open_files(files, where, bands, granule)
    _refuse(where, "a product whose metadata gives it", scale=scale, offset=offset, date=date)
    return _with_layers(_same_sensor(scene, wanted, where), files, layers)


def _open_elsewhere(where: Address) -> ProductFiles | None:
    """Return the files of an archive or of a folder of a bucket, or None for a raster's address."""
    name = where.name.lower()
    whole = name.endswith((*NETCDF_SUFFIXES, *COMPRESSED_TARS))
    if name.endswith(ARCHIVE_SUFFIXES) and not whole:
        return ArchiveFiles(where)
    folder = str(where).endswith("/") or name.endswith(".safe")
    folder = folder or (where.in_bucket and not where.suffix)
    if whole or (folder and not where.in_bucket):
        kind = "NetCDF, Zarr and .tar.gz are" if whole else "a folder of a web server is"
        raise ProductError(
            f"{where}: {kind} not read from elsewhere; expected the address of a GeoTIFF or JPEG "
            "2000, of a zip or tar, or of a folder of a bucket (s3://), or a download of it"
        )
    return BucketFiles(where) if folder else None


def _refuse_part(folder: Path) -> None:
    """Make sure that a folder is not one inside a SAFE, whose metadata lie further up.

    Raises:
        ProductError: it is; its counts would be read without the product's offset.
    """
    if (product := find_product_around(folder)) is not None:
        raise ProductError(
            f"{folder} is a part of the product {product}, whose metadata say how counts become "
            f"reflectance; expected the whole product: {product}"
        )


def _with_layers(scene: Scene, files: ProductFiles, layers: Sequence[str]) -> Scene:
    from openeo_cloudmask.products.layers import add_layers

    if not layers:
        return scene
    granule = scene.metadata.get("granule")
    within = next((name for name in files.names if granule and f"/{granule}/" in f"/{name}"), "")
    folder = within[: within.index(granule) + len(granule)] if granule and within else ""
    try:
        return add_layers(scene, files, layers, within=folder)
    except BaseException:
        scene.close()
        raise


def _same_sensor(scene: Scene, wanted: Sensor | None, where: Source) -> Scene:
    if wanted is not None and scene.sensor is not None and wanted.id != scene.sensor.id:
        scene.close()
        raise SensorError(
            f"{where} is a product of {scene.sensor.id}, but the sensor asked for is {wanted.id}; "
            "leave the sensor out"
        )
    return scene


def _open_bands(
    files: ProductFiles,
    sensor: Sensor | None,
    scale: float | None,
    offset: float | None,
    bands: Sequence[str] | None,
) -> Scene | None:
    """Return a folder of single bands as a scene, or None where it is a product of another kind."""
    from openeo_cloudmask.products.band_files import find_band_files, open_band_files
    from openeo_cloudmask.products.landsat import find_mtl
    from openeo_cloudmask.products.safe import find_safe_metadata

    if find_safe_metadata(files) is not None:
        return None
    found = find_band_files(files)
    # The folder of a Landsat Level-1 product has files named by their bands, too.
    if found is None or (found.names.sensor is None and find_mtl(files) is not None):
        return None
    return open_band_files(files, found, sensor=sensor, scale=scale, offset=offset, bands=bands)


def _open_files(
    files: ProductFiles, where: Source, bands: Sequence[str] | None, granule: str | None
) -> Scene:
    from openeo_cloudmask.products.landsat import find_mtl, open_landsat_scene
    from openeo_cloudmask.products.safe import find_safe_metadata, open_safe_scene

    if find_safe_metadata(files) is not None:
        return open_safe_scene(files, bands=bands, granule=granule)
    if find_mtl(files) is not None:
        _refuse(where, "a Landsat product", granule=granule)
        return open_landsat_scene(files, bands=bands)
    raise ProductError(
        f"{where} is no product this package knows: it has neither a MTD_MSIL1C.xml or "
        "MTD_MSIL2A.xml (Sentinel-2 SAFE), nor a *_MTL.txt, .json or .xml (Landsat Level-1), nor "
        f"files named by their bands (B02.tif, ..._SR_B2.TIF, red.tif){_what_it_is(files)}"
    )


def _what_it_is(files: ProductFiles) -> str:
    """Return what is said of a folder or archive that is no product."""
    for name in files.names:
        if name.endswith((".zgroup", "zarr.json")):
            return ". It holds a Zarr: unpack it, and pass the folder"
        if name.lower().endswith(ARCHIVE_SUFFIXES):
            return f". It holds the archive {name}: unpack it"
    scenes = [name for name in files.names if name.lower().endswith((".tif", ".tiff", ".jp2"))]
    if not scenes:
        return ""
    return f". If each raster in it is a scene, pass the rasters: {scenes[0]} ..."


def _refuse(where: Source, what: str, **options: object) -> None:
    if given := [name for name, value in options.items() if value is not None]:
        raise OptionError(f"{where} is {what}: {' and '.join(given)} cannot be given; leave it out")
