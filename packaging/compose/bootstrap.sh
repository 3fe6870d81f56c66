#!/bin/sh
# Run once the first node is up: registers the first operator, and writes down the key that the demo CA pins.
set -eu
setup=/var/lib/countersign-setup
if [ ! -e "$setup/operator-registered" ]; then
    countersign bootstrap --credential-file "$setup/bootstrap-credential" --issuer https://issuer:9444 \
        --issuer-ca-file /run/countersign/public/ca.pem --subject olga --audience countersign --mfa-amr mfa
    touch "$setup/operator-registered"
fi
countersign --json service keys | python3 -c 'import json, sys, textwrap
spki = json.load(sys.stdin)["statement"]["spki"]
print("-----BEGIN PUBLIC KEY-----", *textwrap.wrap(spki, 64), "-----END PUBLIC KEY-----", sep="\n")' >"$setup/service-key.pem.new"
mv "$setup/service-key.pem.new" "$setup/service-key.pem"
