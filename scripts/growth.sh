#!/usr/bin/env bash
# What a signature costs as a deployment grows: two services on one machine, one small, one with many
# tenants, keys and leaves, asked in turns. It prints the ratio of each pair, and judges none.
#
#   scripts/growth.sh BIN_DIR   a release build; results also go to target/bench/growth.json
#
#   TENANTS_GROWN=1000  KEYS_GROWN=500  KEYS_ELSEWHERE=10000  KEYS_TENANTS=100  LEAVES_GROWN=1000000
#   OUT=target/bench/growth (a folder in memory makes thousands of keys in minutes)
#   DATABASE=sqlite  PAIRS=5  SECONDS_PER_ROW=3  WARM_UP=1  LOADS="16x1 64x100"     callers x signatures in one request
#
# The grown service grows in steps: tenants; keys of the one tenant that is measured, in its one token (SoftHSM
# looks at all of a token's objects to make one more, so thousands in one take hours); keys of KEYS_TENANTS of the new
# tenants, in tokens of their own; leaves of the one key. After each step all pairs are measured, so that a cost can be
# told from its cause.
set -euo pipefail
cd "$(dirname "$0")/.."

keys_grown=${KEYS_GROWN:-500} tenants_grown=${TENANTS_GROWN:-1000} leaves_grown=${LEAVES_GROWN:-1000000}
keys_elsewhere=${KEYS_ELSEWHERE:-10000} keys_tenants=${KEYS_TENANTS:-100}
database=${DATABASE:-sqlite} pairs=${PAIRS:-5} seconds=${SECONDS_PER_ROW:-3} warm_up=${WARM_UP:-1}
read -r -a loads <<<"${LOADS:-16x1 64x100}"
keys=(ec-p256)
out=${OUT:-$PWD/target/bench/growth}
. scripts/lib.sh
. scripts/bench-lib.sh
bin=$(cd "${1:-target/release}" && pwd)
begin

pairs_of() { # STEP : small and grown in turns, which of them first in turns too
    local pair l who order
    for l in "${loads[@]}"; do
        for pair in $(seq "$pairs"); do
            order="small grown"
            [ $((pair % 2)) = 1 ] || order="grown small"
            for who in $order; do
                of "$who"
                serve
                load "${keys[0]}" "${l%x*}" "${l#*x}" >"$out/pair-$1-$l-$pair-$who.json"
                drain
            done
        done
    done
    say "$1: ${#loads[@]} × $pairs pairs"
}
# in_parallel COUNT COMMAND… : runs it with 1 to COUNT as its last argument, so many at once: what is made here waits for
# the disk, not for a core.
at_once=$(nproc)
in_parallel() {
    local count=$1; shift
    seq "$count" | xargs -P "$at_once" -I {} "$@" {} >/dev/null
}

step "Setting up two services on $database"
start_issuers 2>>"$out/logs/set-up.err"
set_up small "$database" 2>>"$out/logs/set-up.err"
[ "$database" = sqlite ] || die "one PostgreSQL server holds one database here: sqlite for now"
set_up grown "$database" 2>>"$out/logs/set-up.err"

step "Before anything grew"
pairs_of same

step "$tenants_grown tenants more, each with an administrator and an issuer"
of grown
serve
export COUNTERSIGN_HOME=$homes/operator issuer issuer_ca
login operator olga
in_parallel "$tenants_grown" sh -c 'exec countersign admin tenant create "grown$1" --admin "$issuer" "admin$1" \
    --issuer "$issuer" --audience countersign --issuer-ca-file "$issuer_ca" --mfa-amr mfa --allow-software' sh
unset COUNTERSIGN_HOME
drain
pairs_of tenants

step "$keys_grown keys more of the tenant that is measured, in its one token"
of grown
serve
login bench-admin bench-admin bench
as bench-admin signers create bench/spare --algorithm ec-p256 >/dev/null
made=0
while [ "$made" -lt "$keys_grown" ]; do
    # A person's session is short: a part of the keys for each.
    part=$((keys_grown - made < 200 ? keys_grown - made : 200))
    login bench-admin bench-admin bench
    export COUNTERSIGN_HOME=$homes/bench-admin
    in_parallel "$part" sh -c 'exec countersign keys create bench/spare # "$1"' sh
    unset COUNTERSIGN_HOME
    made=$((made + part))
done
drain
pairs_of keys

step "$keys_elsewhere keys more, of $keys_tenants of the new tenants, in a token each"
[ "$keys_tenants" -le "$tenants_grown" ] || die "KEYS_TENANTS: only $tenants_grown tenants were made"
of grown
serve
export issuers=$out/issuer homes each=$((keys_elsewhere / keys_tenants))
at_once=24 in_parallel "$keys_tenants" sh -euc 'export COUNTERSIGN_HOME=$homes/grown$1
    mkdir -p "$COUNTERSIGN_HOME"
    countersign-testkit issuer mint --state "$issuers" --sub "admin$1" --aud countersign --amr mfa >"$COUNTERSIGN_HOME.jwt"
    countersign --tenant "grown$1" login --token-file "$COUNTERSIGN_HOME.jwt"
    countersign signers create "grown$1/spare" --algorithm ec-p256
    # Over one connection: a process for each key would be most of the time.
    scripts/make-keys.py "$COUNTERSIGN_SERVER" "$COUNTERSIGN_CA_FILE" "$COUNTERSIGN_HOME"/tokens/* "grown$1" spare "$each"
    ' sh
drain
pairs_of elsewhere

step "$leaves_grown leaves more in the log of the key that is measured"
of grown
serve
# An authorisation and an outcome each.
signed=0
while [ $((2 * signed)) -lt "$leaves_grown" ]; do
    more=$(seconds=20 warm_up=0 load "${keys[0]}" 64 100 | field signatures)
    signed=$((signed + more))
done
drain
pairs_of leaves

python3 scripts/growth-table.py "$out" target/bench/growth.json "$tenants_grown" "$keys_grown" \
    "$((each * keys_tenants))" "$((2 * signed))"
