#!/bin/sh
# Makes the Secret that an evaluation needs, once: a signing key and passwords, all random. With --dry-run it only prints it.
# KUBECTL names another kubectl, or one with a namespace: KUBECTL='kubectl -n shop'.
set -eu
kubectl=${KUBECTL:-kubectl}
name=${NAME:-stockroom}
# Where PostgreSQL is: the Service that the manifests, or a release called stockroom, make.
host=${DATABASE_HOST:-stockroom-postgres}
if [ "${1:-}" != --dry-run ] && $kubectl get secret "$name" > /dev/null 2>&1; then
    echo "the secret $name is there already and stays as it is"
    exit 0
fi
random() { openssl rand -hex 16; }
database_password=$(random)
umask 077
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
openssl ecparam -name prime256v1 -genkey -noout -out "$folder/signing-keys"
printf %s "postgresql://stockroom:$database_password@$host:5432/stockroom" > "$folder/database-url"
printf %s "$database_password" > "$folder/database-password"
random | tr -d '\n' > "$folder/postgres-password"
random | tr -d '\n' > "$folder/admin-password"
if [ "${1:-}" = --dry-run ]; then
    $kubectl create secret generic "$name" --from-file="$folder" --dry-run=client --output=yaml
else
    $kubectl create secret generic "$name" --from-file="$folder"
fi
