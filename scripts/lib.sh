# What scripts/demo.sh and scripts/bench.sh share: programs in the background, people, a service
# with a CA behind it. Sourced, after `out` (a folder of the script's own) and `bin` are set.
# shellcheck shell=bash

# begin : an empty folder, our programs first in the path, everything stopped at the end.
begin() {
    [ ! -e "$out" ] || clean
    umask 077
    mkdir -p "$out"/{logs,ci,home}
    # Of the service that is set up: a script with several changes these between them.
    service=$out/service homes=$out/home ca_state=$out/ca
    export PATH=$bin:$PATH COUNTERSIGN_BIN_DIR=$bin
    trap finish EXIT
}

# clean : stops what an earlier run left running and removes its folder.
clean() {
    if [ -f "$out/pids" ]; then
        while read -r pid name; do
            # Only what is still the program we started.
            if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "${name:0:15}" ]; then kill "$pid" 2>/dev/null || true; fi
        done <"$out/pids"
    fi
    rm -rf "$out"
}

finish() {
    status=$?
    if [ "${KEEP:-}" != 1 ] && [ -f "$out/pids" ]; then
        while read -r pid _; do kill "$pid" 2>/dev/null || true; done <"$out/pids"
        rm -f "$out/pids"
    fi
    if declare -F at_end >/dev/null; then at_end; fi
    exit $status
}

step() { printf '\n\033[1m%s\033[0m\n' "── $*"; }
say() { printf '   %s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; tail -n 20 "$out"/logs/*.err >&2 || true; exit 1; }
field() { python3 -c 'import json,sys
v = json.load(sys.stdin)
for k in sys.argv[1].split("."): v = v[int(k)] if k.isdigit() else v[k]
print(v)' "$1"; }

# start NAME COMMAND… : runs it in the background and prints its ready line.
start() {
    local name=$1; shift
    "$@" >"$out/logs/$name.out" 2>>"$out/logs/$name.err" </dev/null &
    local pid=$!
    echo "$pid $(basename "$1")" >>"$out/pids"
    for _ in $(seq 300); do
        [ -s "$out/logs/$name.out" ] && { head -n 1 "$out/logs/$name.out"; return; }
        kill -0 "$pid" 2>/dev/null || die "$name did not start"
        sleep 0.1
    done
    die "$name did not become ready"
}

# Each person and each CI job has a folder of its own for tokens and pins.
as() { local who=$1; shift; COUNTERSIGN_HOME="$homes/$who" countersign "$@"; }
login() { # WHO SUBJECT [TENANT]
    countersign-testkit issuer mint --state "$out/issuer" --sub "$2" --aud countersign --amr mfa >"$homes/$1.jwt"
    as "$1" ${3:+--tenant "$3"} login --token-file "$homes/$1.jwt" >/dev/null
    rm "$homes/$1.jwt"
}
# What a CI platform hands its job: a token about the job, nothing else.
job_token() { # REPOSITORY_ID
    countersign-testkit issuer mint --state "$out/platform" --aud https://sign.demo --sub "repo:any/app:environment:release" \
        --claim "repository_id=$1" --claim environment=release --claim event_name=push \
        --claim ref=refs/tags/v1.0 --claim run_id=42
}

# start_issuers : one for people, one that plays a CI platform.
start_issuers() {
    local ready
    ready=$(start issuer countersign-testkit issuer serve --state "$out/issuer")
    issuer=$(field url <<<"$ready") issuer_ca=$(field ca_file <<<"$ready")
    ready=$(start platform countersign-testkit issuer serve --state "$out/platform")
    platform=$(field url <<<"$ready") platform_ca=$(field ca_file <<<"$ready")
}

# start_service [URL OWNER_URL] : a new deployment with olga as its operator; rows in a SQLite file, or
# in a PostgreSQL database.
start_service() {
    local port
    port=$(python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])')
    countersignd init --dev --dir "$service" --listen "127.0.0.1:$port" >"$out/logs/init.txt"
    [ $# -eq 0 ] || move_to_postgres "$@"
    serve
    export COUNTERSIGN_SERVER=https://localhost:$port COUNTERSIGN_CA_FILE=$service/tls/cert.pem
    as operator bootstrap --credential-file "$service/bootstrap-credential" --issuer "$issuer" \
        --issuer-ca-file "$issuer_ca" --subject olga --audience countersign --mfa-amr mfa >/dev/null
}
move_to_postgres() { # URL OWNER_URL
    rm -f "$service"/data/countersign.db* "$service/bootstrap-credential"
    python3 - "$service/countersignd.toml" "$1" <<'PY'
import sys
config, url = sys.argv[1:]
text = open(config).read()
assert "\n[log]\n" in text
open(config, "w").write(text.replace("\n[log]\n", f'\n[database]\nurl = "{url}"\n\n[log]\n', 1))
PY
    countersignd create-database --config "$service/countersignd.toml" --owner-url "$2" \
        --credential-file "$service/bootstrap-credential" >>"$out/logs/init.txt"
}

# serve, drain : countersignd alone, started again and stopped.
serve() {
    rm -f "$out/logs/countersignd.out"
    start countersignd countersignd serve --config "$service/countersignd.toml" >/dev/null
    service_pid=$(sed -n 's/ countersignd$//p' "$out/pids" | tail -n 1)
}
drain() { kill "$service_pid"; wait "$service_pid" 2>/dev/null || die "countersignd did not drain"; }

# start_ca : a CA that pins the service's statement key, and the service with a connector to it.
start_ca() {
    local ready url tls
    as operator service keys --json >"$out/service-keys.json"
    python3 - "$out" <<'PY'
import json, sys, textwrap
out = sys.argv[1]
spki = json.load(open(out + "/service-keys.json"))["statement"]["spki"]
with open(out + "/service-key.pem", "w") as f:
    f.write("-----BEGIN PUBLIC KEY-----\n" + "\n".join(textwrap.wrap(spki, 64)) + "\n-----END PUBLIC KEY-----\n")
PY
    ready=$(start "$(basename "$ca_state")" countersign-demo-ca serve --state "$ca_state" --audience demo-ca.example \
        --trust-service-key "$out/service-key.pem" --allow-software)
    url=$(field listening <<<"$ready") tls=$(field ca_file <<<"$ready") ca_roots=$(field roots <<<"$ready")
    ca=$url
    cat >>"$service/countersignd.toml" <<TOML

[[cas]]
name = "demo"
url = "$url"
ca_file = "$tls"
takes_software = true
TOML
    drain
    serve
}

# make_tenant NAME : a subscriber with an administrator of its own, logged in as NAME-admin.
make_tenant() {
    as operator admin tenant create "$1" --admin "$issuer" "$1-admin" --issuer "$issuer" --audience countersign \
        --issuer-ca-file "$issuer_ca" --mfa-amr mfa --allow-software >/dev/null
    login "$1-admin" "$1-admin" "$1"
}

# make_signer TENANT SIGNER ALGORITHM : with a key made in the token; sets `key`.
make_signer() {
    as "$1-admin" signers create "$1/$2" --algorithm "$3" >/dev/null
    key=$(as "$1-admin" --json keys create "$1/$2" | field id)
}

# order_certificate TENANT KEY : from the demo CA.
order_certificate() {
    as "$1-admin" --tenant "$1" certificate order "$2" --ca demo --common-name "Acme Inc." --organization "Acme Inc." \
        --country US --locality Springfield >/dev/null
}

# trust_platform TENANT ; grant TENANT SIGNER CONTENT : what the CI platform's jobs may sign.
trust_platform() {
    as "$1-admin" --tenant "$1" issuers add --kind pipelines --issuer "$platform" --audience https://sign.demo \
        --issuer-ca-file "$platform_ca" >/dev/null
}
grant() {
    as "$1-admin" grants add "$1/$2" --issuer "$platform" --claim repository_id=4711 --claim environment=release \
        --content "$3" >/dev/null
}
