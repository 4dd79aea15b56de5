#!/bin/sh
# Runs the steps of docker/Dockerfile without a container engine, in a bare Debian root:
#
#   docker/prove.sh WORKDIR [TARGET]        # as root; TARGET is server by default
#
# debootstrap makes the root that stands for the base image (Debian bookworm with its Python 3.11);
# docker/prove.py then runs each ENV, COPY, RUN and USER of the target's stages in it, the target's
# own CMD with its HEALTHCHECK, and the demo. It proves the steps, not an engine: no layers, no
# read-only root, no network of its own.
set -eu
[ $# -ge 1 ] || { echo "usage: docker/prove.sh WORKDIR [TARGET]" >&2; exit 2; }
work=$1
target=${2:-server}
mkdir -p "$work"
if [ ! -e "$work/base/.complete" ]; then
    rm -rf "$work/base"
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm \
        "$work/base" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"}  # else debootstrap's own mirror
    touch "$work/base/.complete"
fi
# What the image `python` has and Debian calls otherwise.
ln -sf /usr/bin/python3 "$work/base/usr/local/bin/python"
cp -L /etc/resolv.conf "$work/base/etc/resolv.conf"
exec python3 "$(dirname "$0")/prove.py" "$work" "$target"
