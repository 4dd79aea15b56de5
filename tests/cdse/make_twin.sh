#!/bin/sh
# Makes .venv/cdse: the Python packages of a worker on the Copernicus Data Space, in the versions
# that openeo-geopyspark-driver 0.73 pins, and openeo-driver as the package index has it.
# openeo-cloudmask is not installed: it comes in bundles. pyspark alone is a download of 430 MB.
set -eu
cd "$(dirname "$0")/../.."
"${PYTHON:-python3.11}" -m venv .venv/cdse
pip() { .venv/cdse/bin/python -m pip install --quiet --disable-pip-version-check "$@"; }
pip --pre "openeo-driver==0.136.0a4" "xarray==2024.7.0" "rasterio==1.3.11" "pyproj==3.4.1" \
    "protobuf==3.9.2" "numpy>=2.3.3,<2.5" "scipy>=1.8" "geopandas" "pyarrow"
# Their requirements are met above, or are the JVM's.
pip --no-deps "pyspark==4.0.1" "py4j==0.10.9.9" "geopyspark-openeo==0.4.10"
touch .venv/cdse/ready  # the tests skip a twin that is half made
