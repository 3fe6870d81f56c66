#!/usr/bin/env bash
# The main job, end to end, on real parts. Every step is a command you could type.
#
#   scripts/demo.sh BIN_DIR    run it (KEEP=1: leave the service running)
#   scripts/demo.sh --clean    stop what was left running and remove the folder
set -euo pipefail
cd "$(dirname "$0")/.."

out=${DEMO_OUT:-$PWD/demo-out}
if [ "${1:-}" = --clean ]; then
    if [ -f "$out/pids" ]; then
        while read -r pid name; do
            # Only what is still the program we started.
            if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "${name:0:15}" ]; then kill "$pid" 2>/dev/null || true; fi
        done <"$out/pids"
    fi
    rm -rf "$out"
    echo "demo: removed $out"
    exit 0
fi
bin=$(cd "${1:-target/debug}" && pwd)
[ ! -e "$out" ] || "$0" --clean
umask 077
mkdir -p "$out"/{logs,ci,home}
export PATH=$bin:$PATH COUNTERSIGN_BIN_DIR=$bin
started=$(date +%s)

step() { printf '\n\033[1m%s\033[0m\n' "── $*"; }
say() { printf '   %s\n' "$*"; }
die() { printf 'demo: %s\n' "$*" >&2; tail -n 20 "$out"/logs/*.err >&2 || true; exit 1; }
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
finish() {
    status=$?
    if [ "${KEEP:-}" != 1 ] && [ -f "$out/pids" ]; then
        while read -r pid _; do kill "$pid" 2>/dev/null || true; done <"$out/pids"
        rm -f "$out/pids"
    fi
    exit $status
}
trap finish EXIT

# refused CODE COMMAND… : the command must end with exactly this exit code.
refused() {
    local want=$1 got=0; shift
    "$@" >"$out/logs/refusal.txt" 2>&1 || got=$?
    [ "$got" = "$want" ] || { cat "$out/logs/refusal.txt" >&2; die "expected exit code $want, got $got: $*"; }
    sed 's/^/   │ /' "$out/logs/refusal.txt"
}

# Each person and each CI job has a folder of its own for tokens and pins.
as() { local who=$1; shift; COUNTERSIGN_HOME="$out/home/$who" countersign "$@"; }
login() { # WHO SUBJECT [TENANT]
    countersign-testkit issuer mint --state "$out/issuer" --sub "$2" --aud countersign --amr mfa >"$out/home/$1.jwt"
    as "$1" ${3:+--tenant "$3"} login --token-file "$out/home/$1.jwt" >/dev/null
    rm "$out/home/$1.jwt"
}
# What a CI platform hands its job: a token about the job, nothing else.
job_token() { # REPOSITORY_ID
    countersign-testkit issuer mint --state "$out/platform" --aud https://sign.demo --sub "repo:any/app:environment:release" \
        --claim "repository_id=$1" --claim environment=release --claim event_name=push \
        --claim ref=refs/tags/v1.0 --claim run_id=42
}

step "1. The service and its surroundings"
port=$(python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])')
issuer_ready=$(start issuer countersign-testkit issuer serve --state "$out/issuer")
issuer=$(field url <<<"$issuer_ready") issuer_ca=$(field ca_file <<<"$issuer_ready")
platform_ready=$(start platform countersign-testkit issuer serve --state "$out/platform")
platform=$(field url <<<"$platform_ready") platform_ca=$(field ca_file <<<"$platform_ready")
tsa_ready=$(start tsa countersign-testkit tsa serve --state "$out/tsa")
tsa=$(field url <<<"$tsa_ready") tsa_root=$(field root_file <<<"$tsa_ready")
countersignd init --dev --dir "$out/service" --listen "127.0.0.1:$port" >"$out/logs/init.txt"
start countersignd countersignd serve --config "$out/service/countersignd.toml" >/dev/null
export COUNTERSIGN_SERVER=https://localhost:$port COUNTERSIGN_CA_FILE=$out/service/tls/cert.pem
say "countersignd at $COUNTERSIGN_SERVER"
say "an OIDC issuer for people, one that plays a CI platform, a timestamp authority on openssl ts"
as operator bootstrap --credential-file "$out/service/bootstrap-credential" --issuer "$issuer" \
    --issuer-ca-file "$issuer_ca" --subject olga --audience countersign --mfa-amr mfa >/dev/null
say "olga is the operator: the one-time credential is used up"

step "2. A CA that pins our statement key, and nothing else of us"
as operator service keys --json >"$out/service-keys.json"
python3 - "$out" <<'PY'
import base64, json, sys, textwrap
out = sys.argv[1]
spki = json.load(open(out + "/service-keys.json"))["statement"]["spki"]
with open(out + "/service-key.pem", "w") as f:
    f.write("-----BEGIN PUBLIC KEY-----\n" + "\n".join(textwrap.wrap(spki, 64)) + "\n-----END PUBLIC KEY-----\n")
PY
ca_ready=$(start demo-ca countersign-demo-ca serve --state "$out/ca" --audience demo-ca.example \
    --trust-service-key "$out/service-key.pem" --allow-software)
ca=$(field listening <<<"$ca_ready") ca_tls=$(field ca_file <<<"$ca_ready") ca_roots=$(field roots <<<"$ca_ready")
cat >>"$out/service/countersignd.toml" <<TOML

[[cas]]
name = "demo"
url = "$ca"
ca_file = "$ca_tls"
takes_software = true
TOML
pid=$(sed -n 's/ countersignd$//p' "$out/pids" | tail -n 1)
kill "$pid"; wait "$pid" 2>/dev/null || die "countersignd did not drain"
: >"$out/logs/countersignd.out"
start countersignd countersignd serve --config "$out/service/countersignd.toml" >/dev/null
say "demo CA at $ca; countersignd drained and came back with the connector"

step "3. Two subscribers, each with a token and a process of its own"
login operator olga
for t in acme globex; do
    as operator admin tenant create $t --admin "$issuer" "$t-admin" --issuer "$issuer" --audience countersign \
        --issuer-ca-file "$issuer_ca" --mfa-amr mfa --allow-software >/dev/null
    login $t-admin $t-admin $t
    say "$t: token made in SoftHSM2, worker process started"
done

step "4. acme: a key is born in the HSM, a CA checks what we state about it"
as acme-admin signers create acme/release --algorithm ec-p256 >/dev/null
key=$(as acme-admin --json keys create acme/release | field id)
say "key $key generated in the token, attributes read back"
as acme-admin --tenant acme certificate order "$key" --ca demo --common-name "Acme Inc." --organization "Acme Inc." \
    --country US --locality Springfield >/dev/null
say "statement signed, CSR signed by the HSM, certificate issued, checked and installed:"
as acme-admin certificate show acme/release --out "$out/acme-chain.pem" >/dev/null
openssl x509 -in "$out/acme-chain.pem" -noout -subject -issuer -enddate -ext extendedKeyUsage | sed 's/^/   │ /'

step "5. acme lets its release pipeline sign, and nobody else"
as acme-admin --tenant acme issuers add --kind pipelines --issuer "$platform" --audience https://sign.demo \
    --issuer-ca-file "$platform_ca" >/dev/null
as acme-admin grants add acme/release --issuer "$platform" --claim repository_id=4711 --claim environment=release \
    --content authenticode >/dev/null
say "grant: tokens of $platform with repository_id=4711 and environment=release"

step "6. A CI job with nothing but its platform's token signs a real Windows executable"
cp "$(scripts/third-party.sh)/t64.exe" "$out/ci/app.exe"
chmod u+w "$out/ci/app.exe"
job_token 4711 >"$out/ci/token"
COUNTERSIGN_ID_TOKEN=$(cat "$out/ci/token") as ci sign --signer acme/release --timestamp "$tsa" \
    --timestamp-ca-file "$tsa_root" "$out/ci/app.exe" | sed 's/^/   │ /'
verify="osslsigncode verify -CAfile $ca_roots -TSA-CAfile $tsa_root $out/ci/app.exe"
$verify >"$out/logs/osslsigncode.txt" 2>&1 || { cat "$out/logs/osslsigncode.txt" >&2; die "osslsigncode refused"; }
grep -E 'Number of verified|Signature verification|Timestamp time|Calculated message digest' "$out/logs/osslsigncode.txt" | sed 's/^/   │ /'

step "7. What is refused"
say "another repository of the same platform:"
cp "$(scripts/third-party.sh)/t32.exe" "$out/ci/evil.exe"; chmod u+w "$out/ci/evil.exe"
before=$(sha256sum <"$out/ci/evil.exe")
COUNTERSIGN_ID_TOKEN=$(job_token 666) refused 3 as stranger sign --signer acme/release "$out/ci/evil.exe"
say "another subscriber, who has learned the id of acme's key:"
refused 4 as globex-admin --tenant globex keys show "$key"
refused 4 as globex-admin --tenant globex log download --key "$key" --out "$out/stolen-log"
say "the job's token a second time, from another machine:"
COUNTERSIGN_ID_TOKEN=$(cat "$out/ci/token") refused 3 as thief sign --signer acme/release "$out/ci/evil.exe"
say "acme's own pipeline, after acme suspended the key:"
as acme-admin --tenant acme keys suspend "$key" --reason "demo" >/dev/null
COUNTERSIGN_ID_TOKEN=$(job_token 4711) refused 3 as ci2 sign --signer acme/release "$out/ci/evil.exe"
as acme-admin --tenant acme keys resume "$key" --reason "demo" >/dev/null
[ "$before" = "$(sha256sum <"$out/ci/evil.exe")" ] || die "a refused file was changed"

step "8. acme downloads the key's log and checks it without us"
as acme-admin --tenant acme log download --all --out "$out/log" >/dev/null
as acme-admin log audit "$out/log/$key" --receipts "$out/ci" --files "$out/ci/app.exe" | sed 's/^/   │ /'
as acme-admin receipt verify "$out/ci/app.exe" "$out/ci/app.exe.tlog-proof" --log-dir "$out/log/$key" | sed 's/^/   │ /'
python3 tests/verify_log.py "$out/log/$key" | sed 's/^/   │ /'

seconds=$(($(date +%s) - started))
cat <<TXT

$(printf '\033[1m')Done in $seconds s.$(printf '\033[0m') What was made lies in $out:

  ci/app.exe               signed and timestamped; ci/app.exe.tlog-proof is its receipt
  acme-chain.pem           the certificate acme's key got from the demo CA
  log/$key   the key's log: every use of the key
  service/                 countersignd's configuration, database, and a token folder per subscriber

Refused, with a reason: a stranger's repository (no grant), another subscriber (nothing there for
them), a token used twice (replay), a suspended key. Each stands in acme's own log:

  countersign log show $out/log/<tenant log>

Check the signature yourself:

  $verify

TXT
if [ "${KEEP:-}" = 1 ]; then
    cat <<TXT
The service is still running. Try next:

  export PATH=$bin:\$PATH COUNTERSIGN_SERVER=$COUNTERSIGN_SERVER COUNTERSIGN_CA_FILE=$COUNTERSIGN_CA_FILE
  export COUNTERSIGN_HOME=$out/home/acme-admin
  countersign --tenant acme keys list
  countersign --tenant acme log list
  countersign --tenant acme grants list

Sessions live five minutes; a new one for acme's administrator:

  countersign-testkit issuer mint --state $out/issuer --sub acme-admin --aud countersign --amr mfa > /tmp/token
  countersign --tenant acme login --token-file /tmp/token

make demo-clean stops and removes everything.
TXT
else
    echo "make demo KEEP=1 leaves the service running; make demo-clean removes the folder."
fi
