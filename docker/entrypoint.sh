#!/bin/sh
# Takes secrets from files: for each NAME_FILE that is set, NAME becomes what the file holds. Secrets
# then stand neither in the image nor in the compose file, nor in `docker inspect`.
set -eu
for name in OPENEO_CLOUDMASK_DATABASE OPENEO_CLOUDMASK_SECRET PGPASSWORD \
    AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY; do
    eval "file=\${${name}_FILE:-}"
    [ -n "$file" ] || continue
    if [ ! -r "$file" ]; then
        echo "${name}_FILE is $file, which cannot be read; expected a file with the secret" >&2
        exit 1
    fi
    export "$name=$(cat "$file")"
    unset "${name}_FILE"
done
exec "$@"
