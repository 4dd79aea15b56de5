#!/bin/sh
# Makes .venv/stac-check: the linter of the STAC community, which wants another release of
# stac-valid than the back end's stac-validator.
set -eu
cd "$(dirname "$0")/../.."
"${PYTHON:-python3}" -m venv .venv/stac-check
.venv/stac-check/bin/python -m pip install --quiet "stac-check==1.14.0"
