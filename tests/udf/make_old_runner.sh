#!/bin/sh
# Makes .venv/openeo-udf: openeo_udf 1.0.0rc3, which imports pkg_resources (setuptools before 81), and
# what openeo-cloudmask needs beside it. The package itself is read from the checkout.
set -eu
cd "$(dirname "$0")/../.."
"${PYTHON:-python3}" -m venv .venv/openeo-udf
.venv/openeo-udf/bin/python -m pip install --quiet "setuptools<81"
.venv/openeo-udf/bin/python -m pip install --quiet --no-deps "openeo-udf==1.0.0rc3.post1"
.venv/openeo-udf/bin/python -m pip install --quiet numpy xarray pandas geopandas shapely
