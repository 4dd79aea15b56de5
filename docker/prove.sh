#!/bin/sh
# Builds the targets of docker/Dockerfile with buildah, which needs no engine, runs server, dask
# scheduler, worker and viewer from them, masks a scene through them, and prints how large they are:
#
#   docker/prove.sh WORKDIR [arguments of buildah bud, e.g. --build-arg DEVICE=none]     # as root
#
# debootstrap makes the base image: Debian bookworm with its Python 3.11.2 or, as the viewer's lock
# needs 3.11.5, the Python 3.11 whose prefix PROVE_PYTHON names. PROVE_SHARE: files and folders,
# separated by blanks, that builds may read here too, such as certificates and /etc/pip.conf.
# STORAGE_DRIVER=vfs where there is no overlay file system; it copies every layer.
set -eu
work=$(mkdir -p "$1" && realpath "$1"); shift
cd "$(dirname "$0")/.."
export BUILDAH_ISOLATION=chroot OPENEO_CLOUDMASK_PASSWORD=prove-$$-secret
store="--storage-driver ${STORAGE_DRIVER:-overlay} --root $work/storage --runroot $work/run"
# shellcheck disable=SC2086  # several words
buildah() { command buildah $store "$@"; }

base=$work/base
if [ ! -e "$base/usr/local/bin/python" ]; then
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm \
        "$base" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"}
    if [ -n "${PROVE_PYTHON:-}" ]; then
        cp "$PROVE_PYTHON/bin/python3.11" "$base/usr/local/bin/python3"
        cp -a "$PROVE_PYTHON/lib/." "$base/usr/local/lib/"
        rm -rf "$base"/usr/local/lib/python3.11/site-packages/*
        chroot "$base" ldconfig
    fi
    ln -sf python3 "$base/usr/local/bin/python"
    [ -e "$base/usr/local/bin/python3" ] || ln -sf /usr/bin/python3 "$base/usr/local/bin/python"
fi
if ! buildah inspect --type image localhost/python-of-debian >/dev/null 2>&1; then
    box=$(buildah from scratch)
    buildah add -q "$box" "$base" /
    buildah commit -q --rm "$box" localhost/python-of-debian
fi

share=$(for path in ${PROVE_SHARE:-}; do echo "--volume $path:$path:ro"; done)
for target in server worker viewer; do
    # shellcheck disable=SC2086  # several words
    buildah bud --layers --quiet --file docker/Dockerfile --target $target --tag cloudmask-$target $share \
        --build-arg PYTHON_IMAGE=localhost/python-of-debian "$@" .
done

server=$(buildah from cloudmask-server) worker=$(buildah from cloudmask-worker)
viewer=$(buildah from cloudmask-viewer)
install -d -m 777 "$work/data"
run() {  # BOX COMMAND...: as the image says, but at ports of ours and in a folder that all see
    box=$1; shift
    buildah run --env "OPENEO_CLOUDMASK_PASSWORD=$OPENEO_CLOUDMASK_PASSWORD" \
        --volume "$work/data:/data" "$box" -- entrypoint "$@"
}
serve() {  # the same, beside this script and until its end, in a process group of its own
    # shellcheck disable=SC2086  # several words
    (box=$1; shift; exec setsid buildah $store run --volume "$work/data:/data" "$box" -- entrypoint "$@") &
    services="${services:-} $!"
}
# shellcheck disable=SC2086
trap 'for group in ${services:-}; do kill -- "-$group" 2>/dev/null; done; wait' EXIT
answers() {  # URL: waits until it does
    for _ in $(seq 120); do
        run "$server" python -c "import urllib.request as u; u.urlopen('$1', timeout=5)" \
            2>/dev/null && echo "$1 answers" && return
        sleep 1
    done
    echo "FAILED: $1 does not answer" >&2; exit 1
}

run "$server" cloudmask simulate scenes --sensor sentinel-2-l1c --size 600 --format geotiff
run "$server" cloudmask users add ann
run "$server" sh -c 'cloudmask ingest scenes/scene_*.tif --collection S2 --sensor sentinel-2-l1c'
serve "$worker" dask scheduler --host 127.0.0.1 --port 18786 --no-dashboard
serve "$worker" dask worker tcp://127.0.0.1:18786 --nthreads 1 --local-directory /tmp/dask \
    --dashboard-address 127.0.0.1:18788
serve "$server" cloudmask serve --port 18080 --scheduler tcp://127.0.0.1:18786
serve "$viewer" cloudmask viewer --host 127.0.0.1 --port 18501 --data /data/viewer
answers http://127.0.0.1:18788/health
answers http://127.0.0.1:18080/health
answers http://127.0.0.1:18501/_stcore/health
install -m 644 docs/examples/pick_a_model.py "$work/data"
run "$server" sh -c 'OPENEO_PASSWORD=$OPENEO_CLOUDMASK_PASSWORD python pick_a_model.py \
    http://127.0.0.1:18080/stac/ --sensor sentinel-2-l1c --backend http://127.0.0.1:18080 \
    --bands B02 B03 B04 B08 B8A B10 B11 B12 --collection S2 --user ann --out masks'
ls -l "$work"/data/masks/*.tif
for box in "$server" "$worker" "$viewer"; do du -sm "$(buildah mount "$box")"; done
