#!/bin/sh
# Run once, as root: makes each key, password and certificate that is not there yet, and gives each volume to the one
# user that needs it. Users of images: 10001 is ours, 999 is postgres in Debian's postgres image.
set -eu
umask 077
ours=${OURS:-10001:10001} postgres=${POSTGRES:-999:999}
keys=/run/countersign/keys database=/run/countersign/database public=/run/countersign/public
issuer=/var/lib/countersign-issuer ca=/var/lib/countersign-ca

# made FILE COMMAND… : what the command prints, whole or not at all.
made() {
    file=$1; shift
    [ -e "$file" ] && return
    "$@" >"$file.new"
    mv "$file.new" "$file"
}
made "$keys/sealing.key" head -c 32 /dev/urandom
made "$keys/worker.key" head -c 32 /dev/urandom
made "$keys/database-password" openssl rand -hex 24
made "$database/superuser" openssl rand -hex 24
cp "$keys/database-password" "$database/countersign"

# A CA for this deployment's own TLS, and a certificate for each server. Its key is not kept.
if [ ! -e "$public/ca.pem" ]; then
    work=$(mktemp -d)
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout "$work/ca.key" -out "$work/ca.pem" \
        -days 825 -subj '/CN=Countersign trial' -addext basicConstraints=critical,CA:TRUE \
        -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
    # certificate KEY CERTIFICATE NAME… : for the names and localhost.
    certificate() {
        key=$1 cert=$2; shift 2
        names=DNS:localhost
        for name; do names=$names,DNS:$name; done
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout "$work/key" -out "$work/csr" -subj "/CN=$1" 2>/dev/null
        openssl x509 -req -in "$work/csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -days 825 -out "$work/cert" \
            -extfile /dev/stdin <<TXT 2>/dev/null
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
subjectAltName=$names
TXT
        mv "$work/key" "$key"
        mv "$work/cert" "$cert"
    }
    certificate "$keys/tls.key" "$public/countersign.pem" countersign countersign-1 countersign-2
    certificate "$issuer/server-key.pem" "$issuer/server.pem" issuer
    certificate "$ca/tls.key" "$ca/tls.pem" demo-ca
    cp "$work/ca.pem" "$issuer/ca.pem"
    # Last: it says that all are there.
    mv "$work/ca.pem" "$public/ca.pem"
    rm -rf "$work"
fi

chown -R "$ours" "$keys" "$public" "$issuer" "$ca" /var/lib/countersign-tokens /var/lib/countersign-setup \
    /var/lib/countersign-node-1 /var/lib/countersign-node-2
chmod 700 "$keys" "$database" "$issuer" "$ca" /var/lib/countersign-tokens /var/lib/countersign-setup \
    /var/lib/countersign-node-1 /var/lib/countersign-node-2
chown -R "$postgres" "$database"
chmod 755 "$public"
chmod 644 "$public"/*
