#!/bin/sh
# Run before the nodes: makes the schema and the first operator's one-time credential, once.
set -eu
done=/var/lib/countersign-setup/database-made
[ -e "$done" ] && exit 0
countersignd create-database --config /usr/local/lib/countersign/countersignd.toml \
    --credential-file /var/lib/countersign-setup/bootstrap-credential
touch "$done"
