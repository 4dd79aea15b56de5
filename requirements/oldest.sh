#!/bin/sh
# Writes the lowest versions that pyproject.toml allows: requirements/oldest.sh OUTPUT [EXTRA ...]
#
# Each direct dependency gets its lower bound (or, where that release has no wheel or does not go
# with the others, the next that does), what they depend on the newest that fits: a constraints
# file for pip. pyproject.toml is the only place where bounds stand. Needs uv (`pip install uv`),
# which takes its index from UV_* variables. OLDEST_CONSTRAINTS raises some, e.g. to the builds of
# torch available: OLDEST_CONSTRAINTS="torch==2.13.0+cpu".
set -eu
[ $# -ge 1 ] || { echo "usage: requirements/oldest.sh OUTPUT [EXTRA ...]" >&2; exit 2; }
output=$1
shift
root=$(cd "$(dirname "$0")/.." && pwd)
raised=$(mktemp)
trap 'rm -f "$raised"' EXIT
printf '%s\n' ${OLDEST_CONSTRAINTS:-} > "$raised"
for extra in "$@"; do
    shift
    set -- "$@" --extra "$extra"
done
uv pip compile --quiet --resolution lowest-direct --only-binary :all: --python-version 3.11 \
    --constraint "$raised" --no-header --no-annotate --output-file "$output" \
    "$root/pyproject.toml" "$@"
