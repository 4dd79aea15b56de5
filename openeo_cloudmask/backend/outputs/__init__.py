"""Result files: GeoTIFF (COG), netCDF, Zarr, PNG and JSON, written strip by strip."""
