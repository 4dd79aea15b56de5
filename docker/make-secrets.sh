#!/bin/sh
# Writes random secrets for compose.yaml into docker/secrets/, once; what is there stays.
set -eu
cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets
for name in signing_key postgres_password s3_user s3_password; do
    [ -e "secrets/$name" ] && continue
    # 32 hexadecimal digits; readable in the container, whose user has another number.
    od -An -N16 -tx1 /dev/urandom | tr -d ' \n' > "secrets/.$name"
    chmod 444 "secrets/.$name"
    mv "secrets/.$name" "secrets/$name"
done
echo "secrets are in $(pwd)/secrets; keep them, and keep them out of version control"
