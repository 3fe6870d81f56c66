#!/usr/bin/env bash
# Signatures a second of the whole service, beside what the token alone can do: on this machine, in
# one run. It prints figures and judges none.
#
#   scripts/bench.sh BIN_DIR    a release build; results also go to target/bench/results.json
#
#   SECONDS_PER_ROW=3  WARM_UP=1  CALLERS="1 16 64"  KEYS="ec-p256 rsa-3072"
#
# Whole service: TLS with keep-alive, a service token, grants, CMS attributes made afresh for each
# request, an Idempotency-Key each (as our own client sends), the durable log, the worker's check,
# C_Sign, the signature verified, the receipt in the answer. The callers run on the same cores.
# Raw: bare C_SignInit + C_Sign, with and without checking each signature, one session per core, on
# the very same token while the service is stopped: before and after the service's rows, as
# a machine's speed drifts. The share is of the mean of the two.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${SECONDS_PER_ROW:-3} warm_up=${WARM_UP:-1}
read -r -a callers <<<"${CALLERS:-1 16 64}"
read -r -a keys <<<"${KEYS:-ec-p256 rsa-3072}"
cores=$(nproc)
out=$PWD/target/bench/run
. scripts/lib.sh
bin=$(cd "${1:-target/release}" && pwd)
begin

load() { # SIGNER CALLERS [ARGUMENTS…] : one row
    local signer=$1 n=$2; shift 2
    job_token 4711 >"$out/ci/token"
    # A worker per token: with one tenant countersignd has one child.
    local worker
    worker=$(cat /proc/"$service_pid"/task/*/children 2>/dev/null | awk 'NF { print $1; exit }') || true
    countersign-testkit load --server "$COUNTERSIGN_SERVER" --ca-file "$COUNTERSIGN_CA_FILE" --tenant bench \
        --signer "$signer" --id-token-file "$out/ci/token" --callers "$n" --seconds "$seconds" --warm-up "$warm_up" \
        --cpu-of "countersignd=$service_pid" --cpu-of "worker=${worker:-0}" "$@"
}
raw() { # WHEN : each kind of key
    local k
    for k in "${keys[@]}"; do
        "$bin/examples/raw_sign" --state "$token" --config "$(dirname "$token")/worker.toml" \
            --algorithm "$k" --threads "$cores" --seconds "$seconds" >"$out/raw-$1-$k.json"
    done
}

[ -d "$bin/examples" ] || die "build with --examples: $bin/examples/raw_sign is missing"
case $bin in */debug) say "a debug build: its figures say nothing of a release" ;; esac

step "Setting up a service, a tenant and a certified key of each kind"
set_up() {
    start_issuers
    start_service
    start_ca
    login operator olga
    make_tenant bench
    trust_platform bench
    for k in "${keys[@]}"; do
        make_signer bench "$k" "$k"
        order_certificate bench "$key"
        grant bench "$k" cms
    done
}
set_up 2>>"$out/logs/set-up.err"
token=$(echo "$out"/service/data/tokens/*/)
drain

step "Measuring: ${seconds} s a row after ${warm_up} s, $cores cores"
raw before
say "raw loops, before"
serve
for k in "${keys[@]}"; do
    for n in "${callers[@]}"; do
        load "$k" "$n" >"$out/load-$k-$n.json"
        say "$k, $n callers"
    done
done
# What remembering answers for retries costs.
load "${keys[0]}" "${callers[-1]}" --no-idempotency-key >"$out/load-${keys[0]}-${callers[-1]}-no-key.json"
drain
raw after
say "raw loops, after"

python3 - "$out" target/bench/results.json "$cores" <<'PY'
import glob, json, os, platform, sys, time

out, results, cores = sys.argv[1], sys.argv[2], int(sys.argv[3])
read = lambda name: json.load(open(os.path.join(out, name)))
raw = {when: [read(os.path.basename(p)) for p in glob.glob(f"{out}/raw-{when}-*.json")] for when in ("before", "after")}
rows = sorted((json.load(open(p)) for p in glob.glob(f"{out}/load-*.json")),
              key=lambda r: (r["signer"], not r["idempotency_key"], r["callers"]))
cpu = next((l.split(":", 1)[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())

def mean(key, what):
    found = [r[what]["per_second"] for when in raw for r in raw[when] if r["algorithm"] == key]
    return sum(found) / len(found)

print(f"\n{cpu}, {cores} cores, {platform.system()} {platform.release()}\n")
head = "{:<10} {:>7} {:>8} {:>8} {:>8} {:>10} {:>12}   {}"
print(head.format("key", "callers", "sign/s", "p50 ms", "p99 ms", "of C_Sign", "of +verify", ""))
print("-" * 110)
for r in rows:
    key = r["signer"]
    r["share_of_raw"] = r["per_second"] / mean(key, "sign")
    r["share_of_raw_verified"] = r["per_second"] / mean(key, "sign_and_verify")
    used = ", ".join(f"{n} {us}" for n, us in r["cpu_us_per_signature"].items())
    note = f"{r['authorisations_per_commit']:g} a commit; CPU µs: {used}"
    if not r["idempotency_key"]:
        note = "no Idempotency-Key; " + note
    print(head.format(key, r["callers"], r["per_second"], f"{r['p50_us'] / 1000:.2f}", f"{r['p99_us'] / 1000:.2f}",
                      f"{r['share_of_raw']:.0%}", f"{r['share_of_raw_verified']:.0%}", note))
print("-" * 110)
for key in dict.fromkeys(r["signer"] for r in rows):
    for what, name in (("sign", "raw C_Sign"), ("sign_and_verify", "raw C_Sign and verify")):
        both = [next(r[what] for r in raw[when] if r["algorithm"] == key) for when in ("before", "after")]
        print("{:<10} {:<24} {}".format(key, name, "; ".join(
            f"{when} {b['per_second']}/s, p50 {b['p50_us'] / 1000:.3f} ms, p99 {b['p99_us'] / 1000:.3f} ms"
            for when, b in zip(("before", "after"), both))))
print("""
"a commit" is how many authorisations shared one commit of the log. Times are a closed loop's. The
callers share the cores with the service: a client elsewhere leaves it more room.""")
with open(results, "w") as f:
    json.dump({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "cpu": cpu, "cores": cores,
               "system": f"{platform.system()} {platform.release()}", "service": rows, "raw": raw}, f, indent=1)
print(f"\nAlso in {results}.")
PY
