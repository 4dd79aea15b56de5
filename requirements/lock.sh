#!/bin/sh
# Writes the lock files of the images: requirements/lock.sh [server|viewer|build ...]
#
# Needs pip-tools (`pip install pip-tools`). Versions and hashes come from the index that pip is set
# up for; the index is not written down. torch stands in no lock: a CPU build and a CUDA build of
# one version are different files. What torch needs is in the lock, so that installing it adds
# nothing else.
set -eu
cd "$(dirname "$0")/.."
COMPILER=${COMPILER:-pip-compile}

compile() { # name, then arguments of pip-compile
    name=$1
    shift
    part=requirements/.$name.part
    "$COMPILER" --quiet --strip-extras --generate-hashes --allow-unsafe --no-header --no-annotate \
        --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options \
        --output-file "$part" "$@"
    {
        echo "# Python 3.11, Linux x86-64. Written by requirements/lock.sh; do not edit."
        # Leave out the entry of torch: from its line to the next that is not indented.
        awk '/^[^ ]/ { skip = /^torch==/ } !skip' "$part"
    } > "$part.2"
    mv "$part.2" "requirements/$name.lock"
    rm -f "$part"
}

[ $# -gt 0 ] || set -- build server viewer
for what in "$@"; do
    case $what in
        build)
            printf 'hatchling>=1.27\n' > requirements/.build.in
            compile build requirements/.build.in
            rm requirements/.build.in
            ;;
        server)
            compile server --extra server --extra torch --extra onnx --extra netcdf --extra ukis \
                --extra s2cloudless --extra postgresql pyproject.toml
            ;;
        viewer)
            # What both images have is the same in both.
            compile viewer --extra server --extra torch --extra onnx --extra netcdf --extra ukis \
                --extra s2cloudless --extra postgresql --extra viewer \
                --constraint requirements/server.lock pyproject.toml
            ;;
        *)
            echo "unknown lock '$what'; expected build, server or viewer" >&2
            exit 1
            ;;
    esac
done
