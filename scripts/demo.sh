#!/usr/bin/env bash
# The main job, end to end, on real parts, in two acts: a key in a token that says `software`, and one whose
# origin a TPM proves (scripts/demo-proved.sh). Every step is a command you could type.
#
#   scripts/demo.sh BIN_DIR    run it (KEEP=1: leave the service running)
#   scripts/demo.sh --clean    stop what was left running and remove the folder
set -euo pipefail
cd "$(dirname "$0")/.."

out=${DEMO_OUT:-$PWD/demo-out}
. scripts/lib.sh
if [ "${1:-}" = --clean ]; then
    clean
    echo "demo: removed $out"
    exit 0
fi
bin=$(cd "${1:-target/debug}" && pwd)
started=$(date +%s)
begin

# refused CODE COMMAND… : the command must end with exactly this exit code.
refused() {
    local want=$1 got=0; shift
    "$@" >"$out/logs/refusal.txt" 2>&1 || got=$?
    [ "$got" = "$want" ] || { cat "$out/logs/refusal.txt" >&2; die "expected exit code $want, got $got: $*"; }
    sed 's/^/   │ /' "$out/logs/refusal.txt"
}

step "1. The service and its surroundings"
start_issuers
tsa_ready=$(start tsa countersign-testkit tsa serve --state "$out/tsa")
tsa=$(field url <<<"$tsa_ready") tsa_root=$(field root_file <<<"$tsa_ready")
start_service
say "countersignd at $COUNTERSIGN_SERVER"
say "an OIDC issuer for people, one that plays a CI platform, a timestamp authority on openssl ts"
say "olga is the operator: the one-time credential is used up"

step "2. A CA that pins our statement key, and nothing else of us"
start_ca
say "demo CA at $ca; countersignd drained and came back with the connector"

step "3. Two subscribers, each with a token and a process of its own"
login operator olga
for t in acme globex; do
    make_tenant $t
    say "$t: token made in SoftHSM2, worker process started"
done

step "4. acme: a key is born in the HSM, a CA checks what we state about it"
make_signer acme release ec-p256
say "key $key generated in the token, attributes read back"
order_certificate acme "$key"
say "statement signed, CSR signed by the HSM, certificate issued, checked and installed:"
as acme-admin certificate show acme/release --out "$out/acme-chain.pem" >/dev/null
openssl x509 -in "$out/acme-chain.pem" -noout -subject -issuer -enddate -ext extendedKeyUsage | sed 's/^/   │ /'

step "5. acme lets its release pipeline sign, and nobody else"
trust_platform acme
grant acme release authenticode
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

first=$key
. scripts/demo-proved.sh

seconds=$(($(date +%s) - started))
cat <<TXT

$(printf '\033[1m')Done in $seconds s.$(printf '\033[0m') What was made lies in $out:

  ci/app.exe               signed and timestamped; ci/app.exe.tlog-proof is its receipt
  acme-chain.pem           the certificate acme's key got from the demo CA
  log/$first   the key's log: every use of the key
$proved_files  service/                 countersignd's configuration, database, and a token folder per subscriber

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
