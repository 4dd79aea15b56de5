#!/bin/sh
# Runs the steps of docker/Dockerfile without a container engine, in a bare Debian root:
#
#   docker/prove.sh WORKDIR [TARGET]        # as root; TARGET is server by default
#
# debootstrap makes the root that stands for the base image: Debian bookworm with its Python 3.11,
# or, as the official image has a later one, with the Python 3.11 whose prefix PROVE_PYTHON names
# (built on bookworm, e.g. by pyenv). The viewer's lock needs 3.11.5; Debian's is 3.11.2.
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
# What the image `python` has in /usr/local, and Debian calls otherwise.
local=$work/base/usr/local
rm -rf "$local/bin" "$local/lib"
mkdir -p "$local/bin" "$local/lib"
if [ -n "${PROVE_PYTHON:-}" ]; then
    cp "$PROVE_PYTHON/bin/python3.11" "$local/bin/"
    (cd "$PROVE_PYTHON/lib" && tar cf - --exclude=site-packages --exclude=__pycache__ python3.11) \
        | tar xf - -C "$local/lib"
    find "$PROVE_PYTHON/lib" -maxdepth 1 -name 'libpython3*.so*' -exec cp -P {} "$local/lib/" \;
    chroot "$work/base" ldconfig
    ln -s python3.11 "$local/bin/python"
    ln -s python3.11 "$local/bin/python3"
else
    ln -s /usr/bin/python3 "$local/bin/python"
fi
chroot "$work/base" python --version
cp -L /etc/resolv.conf "$work/base/etc/resolv.conf"
exec python3 "$(dirname "$0")/prove.py" "$work" "$target"
