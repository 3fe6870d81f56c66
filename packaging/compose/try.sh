#!/bin/sh
# The main job on the running whole: a tenant, a key born in the token, a certificate, a signature by each node, an audit.
set -eu
state=/var/lib/countersign-issuer
tenant=try-$(date +%s)
work=$(mktemp -d)
cd "$work"
mint() { countersign-testkit issuer mint --state "$state" "$@"; }
as() { who=$1; shift; COUNTERSIGN_HOME=$work/$who countersign "$@"; }
login() { # WHO [TENANT]
    mint --sub "$1" --aud countersign --amr mfa >token.jwt
    as "$1" ${2:+--tenant "$2"} login --token-file token.jwt >/dev/null
}
login olga
as olga admin tenant create "$tenant" --admin https://issuer:9444 anna --issuer https://issuer:9444 --audience countersign \
    --issuer-ca-file /run/countersign/public/ca.pem --mfa-amr mfa --allow-software >/dev/null
login anna "$tenant"
# One issuer plays both parts here: people log in with it, and jobs get their tokens from it. A real platform has its own
# (`countersign issuers add --kind pipelines`).
as anna signers create "$tenant/release" --algorithm ec-p256 >/dev/null
key=$(as anna --json keys create "$tenant/release" | python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')
as anna --tenant "$tenant" certificate order "$key" --ca demo --common-name 'Try Inc.' --organization 'Try Inc.' \
    --country US --locality Springfield >/dev/null
as anna grants add "$tenant/release" --issuer https://issuer:9444 --claim repository_id=4711 --claim environment=release \
    --content cms >/dev/null
for node in countersign-1 countersign-2; do
    echo "signed by $node" >"$node.txt"
    token=$(mint --sub repo:any/app:environment:release --aud countersign --claim repository_id=4711 \
        --claim environment=release --claim event_name=push --claim ref=refs/tags/v1)
    # The pin is for the name in the URL: each node is asked by its own.
    COUNTERSIGN_ID_TOKEN=$token COUNTERSIGN_SERVER=https://$node:8443 as "job-$node" sign --signer "$tenant/release" "$node.txt"
done
as anna --tenant "$tenant" log download --key "$key" --out log >/dev/null
as anna log audit log --receipts . --files countersign-1.txt countersign-2.txt
echo "try: both nodes signed with key $key of $tenant, and its log audits"
