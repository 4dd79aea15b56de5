#!/bin/sh
# Makes .venv/stac-readers: packages of others that read model items and catalogs.
set -eu
cd "$(dirname "$0")/../.."
"${PYTHON:-python3}" -m venv .venv/stac-readers
.venv/stac-readers/bin/python -m pip install --quiet "mlstac==0.4.9" "openeo-core==0.3.0" \
    "rustac==0.9.18" onnxruntime
