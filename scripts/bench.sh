#!/usr/bin/env bash
# Signatures a second of the whole service, on both databases, beside what the token alone can do: on
# this machine, in one run. It prints figures and judges none.
#
#   scripts/bench.sh BIN_DIR    a release build; results also go to target/bench/results.json
#
#   SECONDS_PER_ROW=3  WARM_UP=1  ROUNDS=1  DATABASES="sqlite postgres"  KEYS="ec-p256 rsa-3072"
#   LOADS="1x1 16x1 64x1 1x100 8x100 64x100"     callers x signatures in one request
#
# Whole service: TLS with keep-alive, a service token, grants, CMS attributes made afresh for each
# signature, an Idempotency-Key each (as our own client sends), the durable log, the worker's check,
# C_Sign, the signature verified, the receipt in the answer. The callers run on the same cores.
# Raw: bare C_SignInit + C_Sign, with and without checking each signature, one session per core, on
# the very same token while the service is stopped: before and after the service's rows, as
# a machine's speed drifts. The share is of the mean of the two. The databases take turns, row by row.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${SECONDS_PER_ROW:-3} warm_up=${WARM_UP:-1} rounds=${ROUNDS:-1}
read -r -a databases <<<"${DATABASES:-sqlite postgres}"
read -r -a loads <<<"${LOADS:-1x1 16x1 64x1 1x100 8x100 64x100}"
read -r -a keys <<<"${KEYS:-ec-p256 rsa-3072}"
cores=$(nproc)
out=$PWD/target/bench/run
. scripts/lib.sh
. scripts/bench-lib.sh
bin=$(cd "${1:-target/release}" && pwd)
begin

raw() { # WHEN : each kind of key, on the first database's token
    local k
    for k in "${keys[@]}"; do
        "$bin/examples/raw_sign" --state "$token" --config "$(dirname "$token")/worker.toml" \
            --algorithm "$k" --threads "$cores" --seconds "$seconds" >"$out/raw-$1-$k.json"
    done
}

[ -d "$bin/examples" ] || die "build with --examples: $bin/examples/raw_sign is missing"
case $bin in */debug) say "a debug build: its figures say nothing of a release" ;; esac

step "Setting up, for each database: a service, a tenant, a certified key of each kind"
start_issuers 2>>"$out/logs/set-up.err"
for d in "${databases[@]}"; do
    set_up "$d" 2>>"$out/logs/set-up.err"
    say "$d"
done
of "${databases[0]}"
token=$(echo "$service"/data/tokens/*/)

step "Measuring: ${seconds} s a row after ${warm_up} s, $cores cores"
raw before
say "raw loops, before"
for round in $(seq "$rounds"); do
    for k in "${keys[@]}"; do
        for l in "${loads[@]}"; do
            # A slow key under more than `[limits] signatures` at once: the last of them would wait
            # longer than a caller does, and a row of refusals measures nothing.
            case $k in rsa*) [ "$((${l%x*} * ${l#*x}))" -le 1024 ] || continue ;; esac
            for d in "${databases[@]}"; do
                of "$d"
                serve
                load "$k" "${l%x*}" "${l#*x}" >"$out/load-$d-$k-$l-$round.json"
                drain
            done
            say "$k, ${l%x*} callers, ${l#*x} in a request"
        done
    done
    # What remembering answers for retries costs.
    of "${databases[0]}"
    serve
    load "${keys[0]}" 64 1 --no-idempotency-key >"$out/load-${databases[0]}-${keys[0]}-64x1-$round-no-key.json"
    drain
done
of "${databases[0]}"
raw after
say "raw loops, after"

python3 scripts/bench-table.py "$out" target/bench/results.json "$cores" "$seconds"
