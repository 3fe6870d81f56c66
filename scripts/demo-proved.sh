# The demo's second act: a key whose origin is proved, beside the one whose origin is claimed. Sourced by
# scripts/demo.sh after its first act; sets `proved_files` for the summary.
# shellcheck shell=bash disable=SC2034,SC2154

proved_files=
missing=()
for c in swtpm swtpm_setup tpm2_flushcontext pkcs11-tool dbus-daemon tpm2-abrmd; do
    PATH=$PATH:/usr/sbin command -v "$c" >/dev/null 2>&1 || missing+=("$c")
done
countersign-hsm-worker --version | grep -q tpm2 || missing+=("a worker with the feature tpm (libtss2-dev)")

# ca_says CODE COMMAND… : an order that a CA refuses; prints its reasons.
ca_says() {
    local want=$1 got=0; shift
    "$@" >"$out/logs/refusal.txt" 2>&1 || got=$?
    [ "$got" = "$want" ] || { cat "$out/logs/refusal.txt" >&2; die "expected exit code $want, got $got: $*"; }
    cut -c 1-160 "$out/logs/refusal.txt" | sed 's/^/   │ /'
}
order_at() { # CA TENANT KEY
    as "$2-admin" --tenant "$2" certificate order "$3" --ca "$1" --common-name "Acme Inc." --organization "Acme Inc." \
        --country US --locality Springfield
}

second_act() {
    local software=$key tpm strict request
    printf '\n\033[1m%s\033[0m\n' "══ Second act: proved, not claimed"
    step "9. A TPM, and a CA that believes TPMs of one maker and nobody's word"
    mkdir "$out/tpm"
    tpm=$(start tpm countersign-testkit tpm --dir "$out/tpm")
    field pin <<<"$tpm" | tr -d '\n' >"$out/tpm/pin"
    strict=$(start strict-ca countersign-demo-ca serve --state "$out/strict-ca" --audience strict-ca.example \
        --trust-service-key "$out/service-key.pem" --require-device-evidence \
        --trust-ek-root "$(field maker.0 <<<"$tpm")" "$(field maker.1 <<<"$tpm")")
    python3 - "$service/countersignd.toml" "$out/tpm/pin" "$tpm" "$strict" <<'PY'
import json, sys
config, pin, tpm, strict = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
environment = ", ".join(f'{k} = "{v}"' for k, v in (tpm["environment"] | {"TSS2_LOG": "all+NONE"}).items())
with open(config, "a") as f:
    f.write(f"""
[[cas]]
name = "strict"
url = "{strict['listening']}"
ca_file = "{strict['ca_file']}"
takes_software = true

[[token]]
label = "{tpm['label']}"
module = "{tpm['module']}"
profile = "{tpm['profile_of_a_chip']}"
pin_file = "{pin}"
tenants = ["initech"]
environment = {{ {environment} }}

[attestation]
attestation_key_cas = ["{strict['attestation_ca']}"]
""")
PY
    drain
    serve
    say "swtpm, tpm2-pkcs11 above it, tpm2-abrmd before it. NOTE: this TPM is a program. The demo's profile takes it for a"
    say "chip, so its assurance is none; every step is that of a chip."
    say "strict CA: pins the TPM maker's root, our statement key, and asks for proof"

    step "10. acme's key of the first act, at the CA that asks for proof"
    say "it was born in SoftHSM2 and our statement says so:"
    ca_says 3 order_at strict acme "$software"

    step "11. initech: a key is born in the TPM, and the TPM says so to the CA"
    login operator olga
    make_tenant initech
    as initech-admin --tenant initech policy set --require fresh --require sign-only >/dev/null
    say "initech demands evidence that is fresh, of a key that can only sign"
    make_signer initech release ec-p256
    say "at the CA of the first act, which has no questions to a TPM, there is nothing fresh: no request leaves"
    ca_says 3 order_at demo initech "$key"
    order_at strict initech "$key" >/dev/null
    say "strict CA: the TPM read its challenge, certified key $key with the order's nonce;"
    say "appraised by us, then by the CA; certificate issued, checked and installed:"
    as initech-admin --tenant initech keys evidence show "$key" | sed -n '/^ACCEPT/,/^$/p; /^Proved/,/^$/p; /^Known weak/,/^$/p' | cut -c 1-150 | sed 's/^/   │ /'
    trust_platform initech

    step "12. A CI job signs a Windows executable with the proved key"
    grant initech release authenticode
    cp "$(scripts/third-party.sh)/t64.exe" "$out/ci/proved.exe"
    chmod u+w "$out/ci/proved.exe"
    job_token 4711 >"$out/ci/token"
    COUNTERSIGN_ID_TOKEN=$(cat "$out/ci/token") as ci-proved sign --signer initech/release --timestamp "$tsa" \
        --timestamp-ca-file "$tsa_root" "$out/ci/proved.exe" | sed 's/^/   │ /'
    osslsigncode verify -CAfile "$(field roots <<<"$strict")" -TSA-CAfile "$tsa_root" "$out/ci/proved.exe" \
        >"$out/logs/osslsigncode-proved.txt" 2>&1 || { cat "$out/logs/osslsigncode-proved.txt" >&2; die "osslsigncode refused"; }
    grep -E 'Number of verified|Signature verification' "$out/logs/osslsigncode-proved.txt" | sed 's/^/   │ /'

    step "13. Anybody who holds the CA's record can check the origin again, offline"
    request=$out/strict-ca/reports/$(as initech-admin --json --tenant initech keys show "$key" | field certificate.serial)/request.csr
    as nobody attestation verify --csr "$request" --trust-anchors "$(field attestation_ca <<<"$strict")" \
        --require sign-only --report "$out/proved.html" >"$out/logs/proved.txt" || { cat "$out/logs/proved.txt" >&2; die "not accepted"; }
    sed -n '/^ACCEPT/,/^$/p; /^Proved/,/^$/p; /^Known weak/,/^$/p' "$out/logs/proved.txt" | cut -c 1-150 | sed 's/^/   │ /'
    proved_files="  ci/proved.exe            signed with a key whose origin a TPM proved; proved.html is the page for a CA's record
"
}

if [ ${#missing[@]} -eq 0 ]; then
    second_act
else
    printf '\n\033[1m%s\033[0m\n' "── SKIPPED: the second act, a key whose origin is proved by a TPM. Missing: ${missing[*]} (scripts/need.sh demo)"
fi
